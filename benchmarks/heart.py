"""The heart's figures beside its peers': python -m benchmarks.heart all|memory|durable|runs|start … [--peer NAME …]

Every figure comes from a fresh process of one of the scripts in benchmarks/peers. Rounds are interleaved: ours, the bare floor,
each peer, and again. On stdout: a table for benchmarks/RESULTS.md; on stderr: how far it is.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.peers.setup import NAMES, environment

HERE = Path(__file__).parent
OURS = "orchestrion"
ROUNDS = 5
LONG_S = 20  # a measurement that takes longer is not repeated
LIMIT_S = 120  # the scripts give up by themselves before


@dataclass(frozen=True)
class Measure:
    """What a script is asked for, and which of its figures stand in the table: title and unit by key."""

    arguments: tuple[str, ...]
    figures: dict[str, tuple[str, str]]
    ours_only: bool = False


def many_runs(n: int) -> Measure:
    wall = (f"{n:,} runs of 3 × 200 ms at once", "s")
    return Measure(("runs", "--n", str(n)), {"wall_s": wall, "kb_per_run": (f"memory a run, {n:,} at once", "KB")})


STEP = "us_per_step"
MEASURES = {
    "memory": [Measure(("memory",), {STEP: ("a step in memory", "µs")})],
    "durable": [
        Measure(("durable", "--concurrency", "1"), {STEP: ("a durable step, 1 at once", "µs")}),
        Measure(("durable", "--concurrency", "100"), {STEP: ("a durable step, 100 at once", "µs")}),
    ],
    "runs": [many_runs(1000), many_runs(10_000)],
    "start": [
        Measure(("start",), {"start_ms": ("start: the imports of a small program", "ms")}),
        Measure(("start", "-c", "import orchestrion"), {"start_ms": ("`import orchestrion`", "ms")}, ours_only=True),
        Measure(("start", "-m", "orchestrion", "--help"), {"start_ms": ("`orchestrion --help`", "ms")}, ours_only=True),
    ],
}
QUICK = {"memory": ("--seconds", "0.2"), "durable": ("--seconds", "0.2"), "runs": ("--n", "100"), "start": ()}


class Missing(Exception):
    """Why there is no figure."""


@dataclass
class Row:
    """One engine's figures of one measure, round by round, or the reason why there are none."""

    values: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    missing: str | None = None
    long: bool = False


@dataclass
class Contender:
    """A script of benchmarks/peers, the interpreter that runs it, and what it says about itself."""

    name: str
    python: Path
    about: dict[str, Any] = field(default_factory=dict)

    def ask(self, *arguments: str) -> dict[str, Any]:
        """One measurement in a fresh process. Raises Missing."""
        if arguments[0] == "start":
            return {"start_ms": self._start_ms(*arguments[1:])}
        done = self._run(str(HERE / "peers" / f"{self.name}_peer.py"), *arguments)
        figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        if "cannot" in figures:
            raise Missing(figures["cannot"])
        return figures

    def _start_ms(self, *arguments: str) -> float:
        started = time.perf_counter()
        self._run(*(arguments or ("-c", self.about["start"])))
        return (time.perf_counter() - started) * 1000

    def _run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        if not self.python.exists():
            raise Missing(f"no environment: python -m benchmarks.peers.setup {self.name}")
        paths = {} if self.python == Path(sys.executable) else {"PYTHONPATH": ""}
        try:
            return subprocess.run(
                [self.python, *arguments],
                capture_output=True,
                text=True,
                check=True,
                timeout=LIMIT_S,
                env=os.environ | paths,
            )
        except subprocess.TimeoutExpired:
            raise Missing(f"not done after {LIMIT_S} s") from None
        except subprocess.CalledProcessError as failed:
            raise Missing(f"failed: {failed.stderr.strip().splitlines()[-1:]}") from None


def contenders(peers: Iterable[str]) -> list[Contender]:
    """Ours, the floor, and these peers."""
    here = Path(sys.executable)
    found = [Contender(OURS, here), Contender("bare", here)]
    found += [Contender(name, environment(name) / "bin" / "python") for name in peers]
    for contender in found:
        try:
            contender.about = contender.ask("about")
        except Missing as reason:
            sys.exit(f"{contender.name}: {reason}")
    return found


def measured(measure: Measure, asked: Sequence[str], field: list[Contender], rounds: int) -> list[Row]:
    """The figures of every contender, round by round."""
    rows = [Row() for _ in field]
    for round_no in range(rounds):
        for contender, row in zip(field, rows, strict=True):
            if row.missing or row.long:
                continue
            print(
                f"\r{' '.join(asked):<30} round {round_no + 1}/{rounds} {contender.name:<20}", end="", file=sys.stderr
            )
            started = time.perf_counter()
            try:
                figures = contender.ask(*asked)
            except Missing as reason:
                row.missing = str(reason)
                continue
            row.long = time.perf_counter() - started > LONG_S
            for key in measure.figures:
                row.values[key].append(figures[key])
    print(file=sys.stderr)
    return rows


def table(measure: Measure, field: list[Contender], rows: list[Row]) -> Iterable[str]:
    """Lines of Markdown: min / median / max, and how many times ours."""
    for key, (title, unit) in measure.figures.items():
        ours = median(rows[0].values[key])
        for contender, row in zip(field, rows, strict=True):
            name = contender.about["peer"]
            if row.missing:
                yield f"| {title} | {name} | {row.missing} | |"
            else:
                yield f"| {title} | {name} | {spread(row.values[key])} {unit} | {median(row.values[key]) / ours:.1f} |"
            title = ""  # noqa: PLW2901  # a title stands once


def spread(values: list[float]) -> str:
    """min / median / max, or the one value."""
    said = [
        f"{value:,.{2 if value < 10 else 1 if value < 100 else 0}f}"
        for value in (min(values), median(values), max(values))
    ]
    return " / ".join(said) if len(values) > 1 else f"once: {said[0]}"


def heading(field: list[Contender], rounds: int) -> str:
    """Where and with what it was measured."""
    versions = "; ".join(
        f"{contender.about['peer']} ({', '.join(f'{name} {number}' for name, number in contender.about['versions'].items())})"
        for contender in field
        if contender.about["versions"]
    )
    about = field[0].about
    return (
        f"## {datetime.date.today()} · Python {about['python']}, {os.cpu_count()} CPUs\n\n"
        f"{versions}. Rounds interleaved; min / median / max of {rounds}.\n\n"
        "| | | min / median / max | × ours |\n|---|---|---|---|"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("measures", nargs="*", choices=["all", *MEASURES], default="all", metavar="MEASURE")
    parser.add_argument("--peer", action="append", choices=NAMES, help="may be given again; default: all of them")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument(
        "--quick", action="store_true", help="one short round, to see that it works; no figures to keep"
    )
    arguments = parser.parse_args()
    rounds = 1 if arguments.quick else arguments.rounds
    field = contenders(arguments.peer or NAMES)
    print(heading(field, rounds))
    if arguments.quick:
        print("| a quick trial, with smaller counts than the titles say: no figures to keep | | | |")
    for name in MEASURES if "all" in arguments.measures else arguments.measures:
        for measure in MEASURES[name]:
            asked = (*measure.arguments, *(QUICK[name] if arguments.quick else ()))
            asks = field[:1] if measure.ours_only else field
            for line in table(measure, asks, measured(measure, asked, asks, rounds)):
                print(line, flush=True)


if __name__ == "__main__":
    main()
