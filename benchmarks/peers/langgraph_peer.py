"""LangGraph's side of our benchmarks: run by its own environment's python (see README.md), one JSON line on stdout.

    benchmarks/.peers/bin/python benchmarks/peers/langgraph_peer.py memory
    benchmarks/.peers/bin/python benchmarks/peers/langgraph_peer.py durable --concurrency 100 --dir /var/tmp
    benchmarks/.peers/bin/python benchmarks/peers/langgraph_peer.py runs --n 1000

A step is one node of a compiled StateGraph: one superstep of its engine, the smallest thing that it can make durable.
"""

import argparse
import asyncio
import gc
import json
import os
import platform
import resource
import sqlite3
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import Any, TypedDict

os.environ["LANGSMITH_TRACING"] = "false"  # before the imports below: its tracing is no part of what is measured

import aiosqlite
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph

PACKAGES = ("langgraph", "langgraph-checkpoint", "langgraph-checkpoint-sqlite", "langchain-core", "aiosqlite")
Figures = dict[str, Any]


class State(TypedDict):
    value: int


Node = Callable[[State], Awaitable[State]]


async def increment(state: State) -> State:
    return {"value": state["value"] + 1}


async def call_model(state: State) -> State:
    await asyncio.sleep(0.2)
    return {"value": state["value"] + 1}


def chain(node: Node, steps: int, checkpointer: AsyncSqliteSaver | None = None) -> CompiledStateGraph:
    """`steps` nodes one after another, compiled once: a graph is meant to be used for many runs."""
    builder = StateGraph(State)
    names = [START, *(f"step{i}" for i in range(steps)), END]
    for name in names[1:-1]:
        builder.add_node(name, node)
    for before, after in pairwise(names):
        builder.add_edge(before, after)
    return builder.compile(checkpointer=checkpointer)


async def memory(*, steps: int, seconds: float = 2.0) -> Figures:
    """µs a step with no checkpointer, one run at a time; `us_per_step` spreads a run's start over `steps`."""
    return {
        "us_per_step": await sequential(chain(increment, steps), steps, seconds),
        "us_per_step_in_runs_of_1": await sequential(chain(increment, 1), 1, seconds),
    }


async def sequential(graph: CompiledStateGraph, steps: int, seconds: float) -> float:
    for _ in range(200):
        await graph.ainvoke({"value": 0})
    started, runs = time.perf_counter(), 0
    while time.perf_counter() - started < seconds:
        state = await graph.ainvoke({"value": 0})
        assert state["value"] == steps
        runs += 1
    return round((time.perf_counter() - started) / (runs * steps) * 1e6, 1)


async def durable(*, concurrency: int, runs: int, steps: int, directory: Path) -> Figures:
    """Wall µs a step where each is on disk before the next starts (durability="sync", WAL, synchronous FULL)."""
    with tempfile.TemporaryDirectory(dir=directory) as folder:
        async with aiosqlite.connect(Path(folder) / "checkpoints.db") as connection:
            saver = AsyncSqliteSaver(connection)
            await saver.setup()
            await connection.execute("PRAGMA synchronous=FULL")
            graph = chain(increment, steps, saver)
            ids = iter(range(10**9))

            async def one_after_another(count: int) -> None:
                for _ in range(count):
                    config = {"configurable": {"thread_id": f"run-{next(ids)}"}}
                    state = await graph.ainvoke({"value": 0}, config, durability="sync")
                    assert state["value"] == steps

            await one_after_another(10)
            before, started = await written(connection), time.perf_counter()
            await asyncio.gather(*(one_after_another(runs) for _ in range(concurrency)))
            elapsed, after = time.perf_counter() - started, await written(connection)
            pragmas = {name: await pragma(connection, name) for name in ("journal_mode", "synchronous")}
        done = concurrency * runs * steps
        return {
            "us_per_step": round(elapsed / done * 1e6, 1),
            "bare_commit_us": bare_commit(Path(folder) / "floor.db"),
            "steps": done,
            "checkpoints_per_step": round((after - before) / done, 2),
            "durability": "sync",
            **pragmas,
        }


async def pragma(connection: aiosqlite.Connection, name: str) -> Any:
    async with connection.execute(f"PRAGMA {name}") as cursor:
        (value,) = await cursor.fetchone()
        return value


async def written(connection: aiosqlite.Connection) -> int:
    async with connection.execute("SELECT count(*) FROM checkpoints") as cursor:
        (count,) = await cursor.fetchone()
        return count


def bare_commit(path: Path, *, commits: int = 500) -> float:
    """The floor on the same disk: µs for one small row and its commit, WAL, synchronous FULL, no thread between."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.executescript("PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; CREATE TABLE t (v BLOB)")
    started = time.perf_counter()
    for _ in range(commits):
        connection.execute("INSERT INTO t VALUES (?)", (b"x" * 200,))
    elapsed = time.perf_counter() - started
    connection.close()
    return round(elapsed / commits * 1e6, 1)


async def runs(*, n: int, steps: int = 3) -> Figures:
    """Wall seconds and peak memory of n runs at once, in memory, each of 3 steps that wait 200 ms (ideal: 0.6 s)."""
    graph = chain(call_model, steps)
    await asyncio.gather(*(graph.ainvoke({"value": 0}) for _ in range(10)))
    gc.collect()
    before, started = peak_rss(), time.perf_counter()
    states = await asyncio.gather(*(graph.ainvoke({"value": 0}) for _ in range(n)))
    elapsed = time.perf_counter() - started
    assert all(state["value"] == steps for state in states)
    return {"wall_s": round(elapsed, 2), "peak_rss_kb_per_run": round((peak_rss() - before) / n / 1024, 1)}


def peak_rss() -> int:
    """Bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("memory")
    command.add_argument("--steps", type=int, default=10)
    command = commands.add_parser("durable")
    command.add_argument("--concurrency", type=int, default=100)
    command.add_argument("--runs", type=int, help="runs one after another in each slot; default 4, alone 100")
    command.add_argument("--steps", type=int, default=5)
    command.add_argument(
        "--dir", type=Path, dest="directory", help="on the disk to measure; default: the system's temporary folder"
    )
    command = commands.add_parser("runs")
    command.add_argument("--n", type=int, default=1000)
    arguments = vars(parser.parse_args())

    measure = {"memory": memory, "durable": durable, "runs": runs}[arguments.pop("command")]
    if measure is durable and arguments["runs"] is None:
        arguments["runs"] = 100 if arguments["concurrency"] == 1 else 4
    figures = asyncio.run(measure(**arguments))
    about = {
        "peer": "langgraph",
        "measure": measure.__name__,
        "arguments": {name: value if value is None else str(value) for name, value in arguments.items()},
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "versions": {name: version(name) for name in PACKAGES},
    }
    print(json.dumps(figures | about))


if __name__ == "__main__":
    main()
