"""The heart's figures beside LangGraph's, in one run: python -m benchmarks.heart [memory|durable|runs|start …]

Each figure is repeated, interleaved with its peer's, and printed as min / median / max and as the ratio of medians. The
peer runs in an environment of its own: see benchmarks/peers/README.md.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import apsw

from orchestrion.app import Orchestrion
from orchestrion.domain import Money, Price, Reply, Request, Usage, nanos
from orchestrion.engine.execution import House
from orchestrion.engine.step import Step
from orchestrion.engine.workflow import Runner, Start, Workflow, workflow
from orchestrion.journal.memory import MemoryJournal
from orchestrion.ledger.memory import MemoryLedger
from orchestrion.policy.combinators import cascade
from orchestrion.settings import Settings
from orchestrion.telemetry import Tracing

HERE = Path(__file__).parent
PEER = HERE / "peers" / "langgraph_peer.py"
ROUNDS = 5


class Instant:
    """Answers at once, or after ``seconds``."""

    def __init__(self, name: str, seconds: float = 0.0) -> None:
        self.name = name
        self.price: Price | None = Price(nanos(1), nanos(2))
        self._seconds = seconds

    def bound(self, request: Request) -> Money:
        return 300_000

    async def reply(self, request: Request, on_delta: Any = None) -> Reply:
        if self._seconds:
            await asyncio.sleep(self._seconds)
        return Reply("42", usage=Usage(100, 10))


def is_number(text: str) -> bool:
    """The check of every step."""
    return text.isdigit()


extract = Step("extract", "Find the number.", policy=cascade("cheap", "frontier"), checks=[is_number])


def steps(n: int) -> Workflow[str]:
    """A workflow of n steps, one after the other."""

    @workflow
    async def chain(text: str) -> str:
        answer = ""
        for _ in range(n):
            answer = await extract(text)
        return answer

    return chain


def starts(n: int) -> list[Start]:
    return [Start(id=f"r{i}", task_id=f"t{i}", input="what?") for i in range(n)]


async def memory(n: int = 2000) -> float:
    """µs a step, one after the other: cascade, one check, metered ask, outcome kept in memory."""
    house = House({name: Instant(name) for name in ("cheap", "frontier")}, MemoryLedger(), Tracing())
    runner = Runner(MemoryJournal(), house)
    flow = steps(n)
    started = time.perf_counter()
    await runner.run(flow, starts(1)[0])
    return (time.perf_counter() - started) / n * 1e6


async def durable(concurrency: int, n: int) -> float:
    """µs a step through SQLite, synchronous FULL, with the hold committed before the call."""
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(database=f"sqlite:///{folder}/bench.db")
        async with Orchestrion.open(settings, workers=[Instant("cheap"), Instant("frontier")]) as o:
            async for _ in o.run_all(
                steps(5), [Start(id=f"w{i}", task_id="warm", input="x") for i in range(concurrency)]
            ):
                pass
            flow = steps(n)
            started = time.perf_counter()
            async for run in o.run_all(flow, starts(concurrency), concurrency=concurrency):
                assert run.status == "done", run.error
            return (time.perf_counter() - started) / (concurrency * n) * 1e6


async def runs(n: int) -> tuple[float, float]:
    """Wall seconds, and KB of memory a run in flight, of n durable runs of three 200 ms calls, all at once."""
    gc.set_threshold(50_000, 20, 50)  # as the command line does
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(database=f"sqlite:///{folder}/bench.db")
        async with Orchestrion.open(settings, workers=[Instant("cheap", 0.2), Instant("frontier", 0.2)]) as o:
            flow = steps(3)
            async for _ in o.run_all(flow, [Start(id="warm", task_id="warm", input="x")], concurrency=1):
                pass
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            started = time.perf_counter()
            async for run in o.run_all(flow, starts(n), concurrency=n):
                assert run.status == "done", run.error
            wall = time.perf_counter() - started
            grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
            return wall, grown / n


def bare_commits(n: int = 500) -> float:
    """µs of one bare SQLite commit on the same disk: the floor."""
    with tempfile.TemporaryDirectory() as folder:
        connection = apsw.Connection(f"{folder}/bare.db")
        connection.pragma("journal_mode", "wal")
        connection.pragma("synchronous", "full")
        connection.execute("create table t (x)")
        started = time.perf_counter()
        for _ in range(n):
            connection.execute("begin immediate; insert into t values (1); commit")
        return (time.perf_counter() - started) / n * 1e6


def peer(*arguments: str) -> dict[str, Any] | None:
    """LangGraph's figure, or None where its environment is missing."""
    python = Path(os.environ.get("ORCHESTRION_PEERS", str(HERE / ".peers"))) / "bin" / "python"
    if not python.exists():
        return None
    done = subprocess.run([str(python), str(PEER), *arguments], capture_output=True, text=True, check=True)
    figures: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return figures


def fresh(function: str, *arguments: int) -> Any:
    """Call one of the functions above in a process of its own: memory is measured from the start."""
    code = f"import asyncio, json; from benchmarks import heart; print(json.dumps(asyncio.run(heart.{function}({', '.join(map(str, arguments))}))))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=HERE.parent)
    return json.loads(done.stdout)


def said(values: list[float], unit: str) -> str:
    return f"{min(values):8.2f} / {median(values):8.2f} / {max(values):8.2f} {unit}"


def compare(title: str, ours: Callable[[], float], theirs: Callable[[], float | None], unit: str, *, name: str) -> None:
    """Interleaved rounds of ours and theirs."""
    mine, others = [], []
    for _ in range(ROUNDS):
        mine.append(ours())
        other = theirs()
        if other is not None:
            others.append(other)
    print(f"{title}\n  orchestrion  {said(mine, unit)}")
    if others:
        print(f"  {name:<11}  {said(others, unit)}   ratio of medians {median(others) / median(mine):.1f}")
    else:
        print(f"  {name}: no environment (benchmarks/peers/README.md)")


def from_peer(key: str, *arguments: str) -> Callable[[], float | None]:
    def ask() -> float | None:
        figures = peer(*arguments)
        return float(figures[key]) if figures else None

    return ask


def one_peer(key: str, n: int, wall: float) -> None:
    other = peer("runs", "--n", str(n))
    if other:
        print(
            f"  LangGraph, in memory, once: {other[key]:.1f} s, {other['peak_rss_kb_per_run']:.1f} KB a run; ratio {other[key] / wall:.1f}"
        )


def bench_memory() -> None:
    compare("a step in memory", lambda: fresh("memory"), from_peer("us_per_step", "memory"), "µs", name="LangGraph")


def bench_durable() -> None:
    for concurrency, n in ((100, 100), (1, 300)):
        ours = partial(fresh, "durable", concurrency, n)
        theirs = from_peer("us_per_step", "durable", "--concurrency", str(concurrency))
        compare(f"a durable step, {concurrency} at once", ours, theirs, "µs", name="LangGraph")
    compare("a durable step, 1 at once", partial(fresh, "durable", 1, 300), bare_commits, "µs", name="bare commit")


def bench_runs() -> None:
    for n in (1000, 10_000):
        figures = [fresh("runs", n) for _ in range(ROUNDS)]
        walls = [wall for wall, _ in figures]
        print(f"{n} durable runs of 3 calls of 200 ms (ideal 0.6 s)")
        print(f"  wall    {said(walls, 's')}\n  memory  {said([kb for _, kb in figures], 'KB a run')}")
        one_peer("wall_s", n, median(walls))


def bench_start() -> None:
    for title, arguments in (
        ("import orchestrion", ["-c", "import orchestrion"]),
        ("from orchestrion import *", ["-c", "from orchestrion import *"]),
        ("orchestrion --help", ["-m", "orchestrion", "--help"]),
        ("python -c pass", ["-c", "pass"]),
    ):
        times = []
        for _ in range(2 * ROUNDS):
            started = time.perf_counter()
            subprocess.run([sys.executable, *arguments], capture_output=True, check=True)
            times.append((time.perf_counter() - started) * 1000)
        print(f"{title:<26} {said(times, 'ms')}")


BENCHES = {"memory": bench_memory, "durable": bench_durable, "runs": bench_runs, "start": bench_start}


def main() -> None:
    """Run the benches named on the command line, or all of them."""
    versions = peer("memory")
    print(f"Python {sys.version.split()[0]}, SQLite {apsw.sqlite_lib_version()}; min / median / max of {ROUNDS}")
    print(f"peer: {versions.get('versions') if versions else 'no environment (benchmarks/peers/README.md)'}")
    for name in sys.argv[1:] or BENCHES:
        BENCHES[name]()


if __name__ == "__main__":
    main()
