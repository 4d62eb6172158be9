"""Ours, by the same clock: a cascade's cheap worker, one check, a metered ask, an outcome kept a step."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from measure import Engine, Node, Peer, main

from orchestrion.app import Orchestrion
from orchestrion.domain import Money, Price, Reply, Request, Usage, nanos
from orchestrion.engine.execution import House
from orchestrion.engine.step import Step
from orchestrion.engine.workflow import Run, Runner, Start, Workflow, workflow
from orchestrion.journal.memory import MemoryJournal
from orchestrion.ledger.memory import MemoryLedger
from orchestrion.policy.combinators import cascade
from orchestrion.settings import Settings
from orchestrion.telemetry import Tracing


class Model:
    """Answers what the node makes of the step's input."""

    def __init__(self, name: str, node: Node) -> None:
        self.name = name
        self.price: Price | None = Price(nanos(1), nanos(2))
        self._node = node

    def bound(self, request: Request) -> Money:
        return 300_000

    async def reply(self, request: Request, on_delta: Any = None) -> Reply:
        return Reply(str(await self._node(request.value)), usage=Usage(100, 10))


def is_number(text: str) -> bool:
    return text.isdigit()


add = Step("add", "Add one to the number.", policy=cascade("cheap", "frontier"), checks=[is_number])


def chain(steps: int) -> Workflow[int]:
    @workflow
    async def adding(value: int) -> int:
        for _ in range(steps):
            value = int(await add(value))
        return value

    return adding


@asynccontextmanager
async def opened(node: Node, steps: int, folder: Path | None) -> AsyncIterator[Engine]:
    workers, flow = [Model("cheap", node), Model("frontier", node)], chain(steps)

    def value(run: Run) -> int:
        return int(run.result)

    if folder is None:
        house = House({worker.name: worker for worker in workers}, MemoryLedger(), Tracing())
        runner = Runner(MemoryJournal(), house)

        async def run(id: str) -> int:
            return value(await runner.run(flow, Start(id=id, task_id=id, input=0)))

        yield Engine(run)
        return
    async with Orchestrion.open(Settings(database=f"sqlite:///{folder}/bench.db"), workers=workers) as o:

        async def run_durably(id: str) -> int:
            return value(await o.run(flow, 0, id=id))

        async def stored() -> int:
            return int(o.database.read("select count(*) from attempt")[0][0])

        names = ("journal_mode", "synchronous")
        yield Engine(run_durably, stored, {name: o.database.reader.pragma(name) for name in names})


START = "from orchestrion import Orchestrion, Step, cascade, workflow"

if __name__ == "__main__":
    main(Peer("Orchestrion", ("orchestrion", "apsw"), START, opened, runs_durably=True))
