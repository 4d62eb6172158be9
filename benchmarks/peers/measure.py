"""The same work for every engine, and the one clock. Standard library only: each script of this folder runs it in its own environment.

    PYTHON SCRIPT.py about|memory|durable|runs [--concurrency 100] [--n 1000] [--seconds 1]

A script gives `main` what it imports and a way to open its engine; one JSON line comes out, with the versions.
"""

import argparse
import asyncio
import gc
import json
import logging
import platform
import resource
import sqlite3
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from importlib.metadata import version
from itertools import count
from pathlib import Path
from typing import Any

STEPS = 10  # in a run: a run's start and end are part of what a step costs
LIMIT_S = 60  # after which a measurement is given up
Node = Callable[[int], Awaitable[int]]
Figures = dict[str, Any]


class Cannot(Exception):
    """What an engine does not offer, in words."""


@dataclass
class Engine:
    """A chain of steps, opened and ready for many runs.

    ``run``: performs one run under an id and returns its value, which each step has raised by one. ``stored``: how many
    steps are in its store by now. ``settings``: what was read back from the store.
    """

    run: Callable[[str], Awaitable[int]]
    stored: Callable[[], Awaitable[int]] | None = None
    settings: Figures = field(default_factory=dict)


@dataclass(frozen=True)
class Peer:
    """``start`` is what a program imports. ``opened(node, steps, folder)``: the engine, durable in a folder or, without
    one, in memory; raises Cannot. ``runs_durably``: its runs are durable in the measure of many runs, too."""

    name: str
    packages: tuple[str, ...]
    start: str
    opened: Callable[[Node, int, Path | None], AbstractAsyncContextManager[Engine]]
    runs_durably: bool = False


async def increment(value: int) -> int:
    return value + 1


async def call_model(value: int) -> int:
    await asyncio.sleep(0.2)
    return value + 1


async def memory(peer: Peer, *, seconds: float) -> Figures:
    """µs a step in memory, one run after another."""
    async with peer.opened(increment, STEPS, None) as engine:
        return await in_slots(engine, 1, seconds)


async def durable(peer: Peer, *, concurrency: int, seconds: float) -> Figures:
    """Wall µs a step where each is in the store before the next one starts."""
    with tempfile.TemporaryDirectory() as folder:
        async with peer.opened(increment, STEPS, Path(folder)) as engine:
            return await in_slots(engine, concurrency, seconds) | engine.settings


async def in_slots(engine: Engine, concurrency: int, seconds: float) -> Figures:
    """Run after run in each slot until the time is over; one in each slot before, to warm up."""
    ids = count()

    async def slot(until: float) -> int:
        done = 0
        while not done or time.perf_counter() < until:
            assert await engine.run(f"run-{next(ids)}") == STEPS
            done += STEPS
        return done

    await asyncio.gather(*(slot(0) for _ in range(max(concurrency, 10))))
    before = await engine.stored() if engine.stored else 0
    started = time.perf_counter()
    steps = sum(await asyncio.gather(*(slot(started + seconds) for _ in range(concurrency))))
    elapsed = time.perf_counter() - started
    figures = {"us_per_step": elapsed / steps * 1e6, "steps": steps}
    if engine.stored:
        stored = await engine.stored() - before
        assert stored >= steps, f"{steps} steps were done, and only {stored} are in the store"
        figures["stored_per_step"] = round(stored / steps, 2)
    return figures


async def runs(peer: Peer, *, n: int) -> Figures:
    """Wall seconds and peak memory of n runs at once, each of 3 steps that wait 200 ms (ideal: 0.6 s)."""
    with tempfile.TemporaryDirectory() as folder:
        async with peer.opened(call_model, 3, Path(folder) if peer.runs_durably else None) as engine:
            await asyncio.gather(*(engine.run(f"warm-{i}") for i in range(10)))
            gc.collect()
            before, started = peak_rss(), time.perf_counter()
            values = await asyncio.gather(*(engine.run(f"run-{i}") for i in range(n)))
            elapsed = time.perf_counter() - started
            assert values == [3] * n
            return {"wall_s": elapsed, "kb_per_run": (peak_rss() - before) / n / 1024}


async def limited(figures: Awaitable[Figures]) -> Figures:
    """The figures, unless they take too long. The engine closes either way: Postgres must not be left running."""
    try:
        async with asyncio.timeout(LIMIT_S):
            return await figures
    except TimeoutError:
        raise Cannot(f"not done after {LIMIT_S} s") from None


def peak_rss() -> int:
    """Bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def main(peer: Peer) -> None:
    gc.set_threshold(50_000, 20, 50)  # as our command line does; it helps them all
    parser = argparse.ArgumentParser()
    commands = parser.add_subparsers(dest="measure", required=True)
    commands.add_parser("about")
    for name, options in {"memory": ("seconds",), "durable": ("concurrency", "seconds"), "runs": ("n",)}.items():
        command = commands.add_parser(name)
        for option in options:
            kind, default = {"seconds": (float, 1.0), "concurrency": (int, 100), "n": (int, 1000)}[option]
            command.add_argument(f"--{option}", type=kind, default=default)
    arguments = vars(parser.parse_args())
    measure = arguments.pop("measure")
    logging.disable(logging.WARNING)
    about = {
        "peer": peer.name,
        "versions": {name: version(name) for name in peer.packages},
        "start": peer.start,
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
    }
    try:
        figures = {} if measure == "about" else asyncio.run(limited(globals()[measure](peer, **arguments)))
    except Cannot as reason:
        figures = {"cannot": str(reason)}
    print(json.dumps(figures | about))
