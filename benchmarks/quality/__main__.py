"""python -m benchmarks.quality [--workloads A,B] [--labels 150,400] [--resamples 200] [--target .95] [--delta .1] [--methods …] [--json FILE]

Each method decides from the labels of a random sample of tasks, and is judged on the remaining ones: cost and quality against the
frontier. On stdout: a table a workload, and the macro average, for benchmarks/RESULTS.md.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import repeat
from pathlib import Path
from statistics import fmean

from benchmarks.quality.judge import Figures, resamples, run
from benchmarks.quality.methods import METHODS
from benchmarks.quality.picked import PICKED
from benchmarks.quality.tuned import TUNED
from benchmarks.quality.versions import among, versions
from benchmarks.quality.workloads import DATA, SPECS, load

EVERY = {**METHODS, **TUNED, **PICKED}
WORTH = 0.8
COLUMNS = f"{'':18}{'median':>8}{'mean':>8}{'10 %':>8}{'90 %':>8}{'quality':>9}{'captured':>10}{'certified':>11}{'broken':>8}{'on rest':>9}{'s':>7}"


def main(argv: Sequence[str] | None = None) -> int:
    wanted = _parsed(argv)
    if not wanted.data.is_dir():
        print(
            f"{wanted.data} is not there: recorded outcomes are not shipped (--data names another folder).",
            file=sys.stderr,
        )
        return 2
    started = time.perf_counter()
    print(_heading(wanted))
    cells = [(n, name) for n in wanted.labels for name in wanted.workloads]
    rows: list[Figures] = []
    with ProcessPoolExecutor(wanted.jobs) as pool:
        for found in pool.map(_cell, cells, repeat(wanted)):
            rows += found
            print(_table(found), flush=True)
    for n in wanted.labels:
        print(_macro([row for row in rows if row.labels == n]))
    print(f"\n{time.perf_counter() - started:.0f} s")
    if wanted.json:
        wanted.json.write_text(json.dumps([row.asdict() for row in rows], indent=1))
    return 0


def _cell(cell: tuple[int, str], wanted: argparse.Namespace) -> list[Figures]:
    """All methods on one workload with one number of labels."""
    n, name = cell
    workload = load([name], wanted.data, most=wanted.tasks)[name]
    samples = list(resamples(workload, n, wanted.resamples, wanted.seed, unlabelled=wanted.unlabelled))
    return [
        run(method, EVERY[method], samples, n, wanted.target, wanted.delta, wanted.seed) for method in wanted.methods
    ]


def _heading(wanted: argparse.Namespace) -> str:
    return (
        f"Mean quality >= {wanted.target} of the frontier's, delta {wanted.delta}, {wanted.resamples} resamples, seed {wanted.seed}"
        f"{', with unlabelled rows' if wanted.unlabelled else ''}. Cost: ratio to the frontier's, on the remaining tasks.\n"
        "Broken: truly below what was promised, on all tasks of the workload / on the remaining ones; s: seconds a decision, judged.\n"
        + versions()
    )


def _table(rows: Sequence[Figures]) -> str:
    return "\n".join([f"\n{rows[0].workload}, {rows[0].used} labels\n{COLUMNS}", *map(_line, rows)])


def _line(row: Figures) -> str:
    return (
        f"{row.method:18}{row.median:8.3f}{row.mean:8.3f}{row.low:8.3f}{row.high:8.3f}{row.quality:9.3f}{row.captured:10.0%}"
        f"{row.certified:11.0%}{row.broken:8.1%}{row.broken_rest:9.1%}{row.seconds:7.2f}"
    )


def _macro(rows: Sequence[Figures]) -> str:
    """In Markdown: mean cost ratios over workloads, and over those where much can be saved; the worst of the broken promises."""
    workloads = list(dict.fromkeys(row.workload for row in rows))
    worth = [name for name in workloads if next(row.oracle for row in rows if row.workload == name) <= WORTH]
    short = [name.removeprefix("routellm_").removeprefix("mot_") + "*" * (name in worth) for name in workloads]
    lines = [
        f"\nMean cost, {rows[0].labels} labels. *: hindsight costs at most {WORTH} of the frontier. "
        "Broken: at worst, on the population.\n",
        f"| | mean of * | all | broken | {' | '.join(short)} |",
        f"|---|{'---|' * (3 + len(short))}",
    ]
    for method in dict.fromkeys(row.method for row in rows):
        own = {row.workload: row for row in rows if row.method == method}
        means = [fmean(own[name].mean for name in some) if some else 1.0 for some in (worth, workloads)]
        figures = [f"{mean:.3f}" for mean in means] + [f"{max(row.broken for row in own.values()):.1%}"]
        lines.append(f"| {' | '.join([method, *figures, *(f'{own[name].mean:.3f}' for name in workloads)])} |")
    return "\n".join(lines)


def _parsed(argv: Sequence[str] | None) -> argparse.Namespace:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quality", description=__doc__, formatter_class=raw)
    parser.add_argument("--workloads", type=among(SPECS), default=list(SPECS), help=", ".join(SPECS))
    parser.add_argument("--methods", type=among(EVERY), default=list(METHODS), help=", ".join(EVERY))
    parser.add_argument("--labels", type=lambda text: [int(n) for n in text.split(",")], default=[150, 400])
    parser.add_argument("--resamples", type=int, default=200)
    parser.add_argument("--target", type=float, default=0.95)
    parser.add_argument("--delta", type=float, default=0.1)
    parser.add_argument(
        "--tasks", type=int, default=3000, help="a random part of so many tasks stands for a larger workload (0: all)"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--unlabelled", action="store_true", help="give the remaining tasks' answers, without scores")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--data", type=Path, default=DATA, help="folder of the recorded outcomes")
    parser.add_argument("--json", type=Path, help="file for all figures")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
