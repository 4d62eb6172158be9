"""Ours under the cap: a run for each call, on an account with a limit; the ledger in a file, as always."""

import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count

from cap import DOLLARS_PER_TOKEN, LIMIT, MODEL, PROMPT, Asked, main

from orchestrion import Orchestrion, Step
from orchestrion.settings import Settings

ask_once = Step("ask", policy=MODEL)


@asynccontextmanager
async def limited(base_url: str, cap: float) -> AsyncIterator[Asked]:
    price = {"input": 0, "output": DOLLARS_PER_TOKEN * 1e6}
    model = {
        "model": f"openai-chat:{MODEL}",
        "base_url": base_url,
        "price": price,
        "max_output": LIMIT,
        "concurrency": 1000,
    }
    ids = count()
    with tempfile.TemporaryDirectory() as folder:
        budgets = {"co": {"limit": round(cap, 6), "period": "day"}}
        settings = Settings(database=f"sqlite:///{folder}/o.db", models={MODEL: model}, budgets=budgets, account="co")
        async with Orchestrion.open(settings) as o:

            async def ask() -> None:
                run = await o.run(ask_once, PROMPT, id=f"r{next(ids)}")
                _ = run.result  # raises where it was not paid

            yield ask


if __name__ == "__main__":
    main({"Orchestrion": limited}, "orchestrion")
