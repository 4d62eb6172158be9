"""What runs cost that wait for a person: `python -m benchmarks.parked [RUNS]`.

Prints seconds, the growth of this process's memory, and the size of the database, for runs of one step whose policy is a
person; then what the same command takes again, a decision, and going on with a thousand of them.
"""

from __future__ import annotations

import asyncio
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from orchestrion import Orchestrion, Step
from orchestrion.domain import nanos
from orchestrion.engine.workflow import Start
from orchestrion.settings import Settings
from orchestrion.workers.people import Person

DECIDED = 1000
ask = Step("ask", "May this refund be paid?", policy="team")


def starts(n: int) -> Iterator[Start]:
    return (Start(id=f"r{i}", task_id=f"t{i}", input=f"refund {i}", batch="b") for i in range(n))


def memory_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


async def visit(o: Orchestrion, n: int) -> tuple[float, list[str]]:
    """Seconds for all runs, and how they ended."""
    began = time.perf_counter()
    statuses = [run.status async for run in o.run_all(ask, starts(n))]
    return time.perf_counter() - began, statuses


async def main(n: int, folder: Path) -> None:
    file = folder / "parked.db"
    team = Person("team", wage=nanos(60))
    async with Orchestrion.open(Settings(database=f"sqlite:///{file}"), workers=[team]) as o:
        await visit(o, 1)
        before = memory_mb()
        seconds, statuses = await visit(o, n)
        assert set(statuses) == {"waiting"}
        print(f"{n:,} runs parked: {seconds:.2f} s, {memory_mb() - before:.1f} MB of memory more at the most")
        seconds, _ = await visit(o, n)
        print(f"the same again, nothing decided: {seconds:.2f} s")
        began = time.perf_counter()
        for request in o.reviews()[:DECIDED]:
            await o.decide(request.id, "modify", value="yes", seen=request.digest, by="ana")
        print(f"a decision, one by one: {(time.perf_counter() - began) / DECIDED * 1e3:.2f} ms")
        seconds, statuses = await visit(o, DECIDED)
        assert set(statuses) == {"done"}
        print(f"{DECIDED:,} of them gone on with: {seconds:.2f} s")
    print(f"database: {file.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 10_000, Path(scratch)))
