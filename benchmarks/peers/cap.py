"""The same cap for everyone: it pays for 20 calls, and 200 are asked. Standard library only: each script of this folder runs it in its own environment.

    PYTHON SCRIPT.py about
    PYTHON SCRIPT.py at_once|in_turn CONTENDER BASE_URL

A model's answers have 300 tokens and may have 500, at $10 a million; what it reads costs nothing, so that everybody's bound of
a call is the same number. The cap is what nineteen calls cost and what a twentieth may cost at most: whoever sets aside a call's
bound before it starts and gives back what is left over can serve 20, whoever looks at what is spent should stop at 21.
What was served is counted by the provider (tests/acceptance/stub_server.py), not here. One JSON line comes out.
"""

import asyncio
import json
import logging
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from importlib.metadata import version

PAID, ASKED = 20, 200
MODEL, PROMPT = "metered", "How many?"
OUTPUT, LIMIT = 300, 500  # tokens that an answer has, and may have
DOLLARS_PER_TOKEN = 10 / 1_000_000
COST, BOUND = OUTPUT * DOLLARS_PER_TOKEN, LIMIT * DOLLARS_PER_TOKEN
CAP = (PAID - 1) * COST + BOUND
MESSAGES = [{"role": "user", "content": PROMPT}]
RECORD = {
    "worker": MODEL,
    "prompt": PROMPT,
    "sample": 0,
    "output": "A few. " * 40,
    "input_tokens": 1000,
    "output_tokens": OUTPUT,
}

Asked = Callable[[], Awaitable[None]]
Opened = Callable[[str, float], AbstractAsyncContextManager[Asked]]


async def asked(opened: Opened, base_url: str, *, at_once: bool) -> dict[str, object]:
    """200 calls under one cap: how many came back with an answer, why the others did not, and the seconds it took."""
    async with opened(base_url, CAP) as ask:

        async def outcome() -> str:
            try:
                await ask()
            except Exception as refused:
                return f"{type(refused).__name__}: {refused}"[:120]
            return ""

        started = time.perf_counter()
        if at_once:
            said = await asyncio.gather(*(outcome() for _ in range(ASKED)))
        else:
            said = [await outcome() for _ in range(ASKED)]
        seconds = time.perf_counter() - started
    refusals = Counter(filter(None, said)).most_common(1)
    return {"answered": said.count(""), "seconds": seconds, "why": refusals[0][0] if refusals else ""}


def main(contenders: Mapping[str, Opened], *packages: str) -> None:
    """``contenders``: for each, how to open it with a base URL and a cap in dollars; what it gives asks once, or raises."""
    logging.disable(logging.CRITICAL)
    if sys.argv[1] == "about":
        print(json.dumps({"contenders": list(contenders), "versions": {name: version(name) for name in packages}}))
        return
    mode, name, base_url = sys.argv[1:]
    print(json.dumps(asyncio.run(asked(contenders[name], base_url, at_once=mode == "at_once"))))
