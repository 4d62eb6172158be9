"""How often a promise is broken: python -m benchmarks.quality.promises [--resamples 1000] [--deltas .05,.1,.2] [--labels 150] [--methods exact] [--on …]

Each workload is taken as the whole population, and so are synthetic ones exactly at the boundary (nulls.py). Labelled tasks are
drawn from it independently, with replacement; a promise is broken where the policy's expected quality on the population is below what was
promised. On stdout: the share of broken promises and its standard error, a column for each delta; ! where it is above delta by more than two.
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

from benchmarks.quality.__main__ import EVERY
from benchmarks.quality.judge import Figures, redrawn, run
from benchmarks.quality.nulls import NULLS, null
from benchmarks.quality.versions import among, versions
from benchmarks.quality.workloads import DATA, SPECS, load


def main(argv: Sequence[str] | None = None) -> int:
    wanted = _parsed(argv)
    started = time.perf_counter()
    print(
        f"Broken promises, target {wanted.target}, {wanted.labels} labels, {wanted.resamples} resamples, seed {wanted.seed}"
    )
    print(versions())
    print(f"{'':18}{'':20}" + "".join(f"{f'delta {delta}':>22}" for delta in wanted.deltas) + f"{'mean cost':>11}")
    cells = [(name, method) for method in wanted.methods for name in wanted.on]
    rows: list[Figures] = []
    with ProcessPoolExecutor(wanted.jobs) as pool:
        for found in pool.map(_cell, cells, repeat(wanted)):
            rows += found
            print(_line(found), flush=True)
    print(f"\n{time.perf_counter() - started:.0f} s")
    if wanted.json:
        wanted.json.write_text(json.dumps([row.asdict() for row in rows], indent=1))
    return 0


def _cell(cell: tuple[str, str], wanted: argparse.Namespace) -> list[Figures]:
    """One method on one population, for every delta."""
    name, method = cell
    population = null(name, wanted.target) if name in NULLS else load([name], wanted.data, most=wanted.tasks)[name]
    samples = list(redrawn(population, wanted.labels, wanted.resamples, wanted.seed))
    return [
        run(method, EVERY[method], samples, wanted.labels, wanted.target, delta, wanted.seed) for delta in wanted.deltas
    ]


def _line(rows: Sequence[Figures]) -> str:
    shares = [
        f"{row.broken:.1%} ± {row.error:.1%}{' !' if row.broken > row.delta + 2 * row.error else '  '}" for row in rows
    ]
    return (
        f"{rows[0].workload:18}{rows[0].method:20}"
        + "".join(f"{share:>22}" for share in shares)
        + f"{rows[0].mean:11.3f}"
    )


def _parsed(argv: Sequence[str] | None) -> argparse.Namespace:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.quality.promises", description=__doc__, formatter_class=raw
    )
    populations = [*NULLS, *(SPECS if DATA.is_dir() else [])]
    parser.add_argument("--on", type=among([*NULLS, *SPECS]), default=populations, help=", ".join([*NULLS, *SPECS]))
    parser.add_argument("--methods", type=among(EVERY), default=["exact"], help=", ".join(EVERY))
    parser.add_argument("--deltas", type=lambda text: [float(one) for one in text.split(",")], default=[0.05, 0.1, 0.2])
    parser.add_argument("--labels", type=int, default=150)
    parser.add_argument("--resamples", type=int, default=1000)
    parser.add_argument("--target", type=float, default=0.95)
    parser.add_argument(
        "--tasks", type=int, default=3000, help="a random part of so many tasks stands for a larger workload (0: all)"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--data", type=Path, default=DATA, help="folder of the recorded outcomes")
    parser.add_argument("--json", type=Path, help="file for all figures")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
