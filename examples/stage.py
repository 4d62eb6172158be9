"""Where the examples play: offline, with answers that are written down; with --live, by real models.

`play(main)` opens an Orchestrion and awaits `main(o)`, which returns what it cost. In a program of your own that is

    async with Orchestrion.open("orchestrion.yaml") as o:
        await main(o)
"""

import argparse
import asyncio
import json
import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

import yaml

from orchestrion import Orchestrion, OrchestrionError
from orchestrion.domain import Money, Price, Reply, Request, Usage, dollars, nanos
from orchestrion.limits import BudgetSettings
from orchestrion.settings import Settings, find_settings, read_settings
from orchestrion.testing import ScriptedWorker

HERE = Path(__file__).parent
CHEAP, DEAR = Price(nanos(0.15), nanos(0.60)), Price(nanos(2.50), nanos(10.00))


NONE: Mapping[str, BudgetSettings] = {}


def play(main: Callable[[Orchestrion], Awaitable[Money]], *, budgets: Mapping[str, BudgetSettings] = NONE) -> None:
    parser = argparse.ArgumentParser(description=sys.modules["__main__"].__doc__)
    parser.add_argument(
        "--live", action="store_true", help="real models: of orchestrion.yaml here, else of the examples' own"
    )
    live = parser.parse_args().live
    name = Path(sys.argv[0]).stem
    workers = [] if live else _rehearsed(HERE / "answers" / f"{name}.yaml")
    try:
        cost = asyncio.run(_open_and_play(main, workers, budgets))
    except OrchestrionError as error:
        sys.exit(f"{name}: {error}")
    print(f"cost: {dollars(cost)}{'' if live else ' (simulated)'}")


async def _open_and_play(
    main: Callable[[Orchestrion], Awaitable[Money]],
    workers: list[ScriptedWorker],
    budgets: Mapping[str, BudgetSettings],
) -> Money:
    settings = Settings(database=":memory:") if workers else read_settings(find_settings() or HERE / "orchestrion.yaml")
    if budgets:
        settings = settings.model_copy(update={"budgets": {**settings.budgets, **budgets}})
    async with Orchestrion.open(settings, workers=workers) as o:
        return await main(o)


def _rehearsed(answers: Path) -> list[ScriptedWorker]:
    return [_worker(name, said) for name, said in yaml.safe_load(answers.read_text(encoding="utf-8")).items()]


def _worker(name: str, said: dict[str, list[object]]) -> ScriptedWorker:
    """Answers each step of a task with the next text that is written down for it, at an assumed price."""
    times: Counter[str] = Counter()

    def answer(request: Request) -> Reply:
        key = f"{request.step} {request.task_id.split('#')[0]}"
        texts = said[key]
        text = texts[min(times[key], len(texts) - 1)]
        times[key] += 1
        text = text if isinstance(text, str) else json.dumps(text)
        read = sum(len(str(message["content"])) for message in request.messages)
        return Reply(text, usage=Usage(read // 4, -(-len(text) // 4), estimated=True), finish_reason="stop")

    return ScriptedWorker(name, answer, price=CHEAP if name == "cheap" else DEAR, max_output=1000)
