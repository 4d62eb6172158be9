"""Resamples of a workload, and how a method's decisions did on the tasks that it had no labels of."""

from __future__ import annotations

import time
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean

import numpy as np

from benchmarks.quality.methods import Decision, Method, Rng, Sample, oracle
from benchmarks.quality.workloads import Floats, Workload

MOST = 2 / 3  # of a workload's tasks are labelled: the rest must be enough to judge on


@dataclass(frozen=True, slots=True)
class Ratios:
    """Against the frontier. ``rest``: on the remaining tasks; without it, on the whole population."""

    quality_rest: float
    cost_rest: float
    cost: float
    broken_rest: bool
    broken: bool
    certified: bool


@dataclass(frozen=True, slots=True)
class Figures:
    """A method on a workload: cost ratios and mean quality ratio on the remaining tasks.

    ``broken`` is the share of resamples whose policy truly keeps less than was promised (on all tasks; ``broken_rest`` on the remaining ones),
    ``error`` its standard error. ``labels`` were asked for, ``used`` at most two thirds of the workload. ``captured`` is the share of
    the hindsight oracle's saving, ``oracle`` its cost ratio.
    """

    workload: str
    method: str
    labels: int
    used: int
    resamples: int
    target: float
    delta: float
    median: float
    mean: float
    low: float
    high: float
    quality: float
    broken_rest: float
    broken: float
    error: float
    certified: float
    captured: float
    oracle: float
    seconds: float

    def asdict(self) -> dict[str, object]:
        return asdict(self)


def resamples(workload: Workload, labels: int, times: int, seed: int, *, unlabelled: bool = False) -> Iterator[Sample]:
    """Labelled tasks drawn without replacement, at most two thirds of the workload; the same draws for every method."""
    n = min(labels, int(MOST * len(workload)))
    for i in range(times):
        order = stream(seed, workload.name, n, i).permutation(len(workload))
        yield Sample(workload, order[:n], order[n:] if unlabelled else order[:0])


def redrawn(workload: Workload, labels: int, times: int, seed: int) -> Iterator[Sample]:
    """Labelled tasks drawn with replacement: independent draws from the workload as the population, which the promise is about."""
    for i in range(times):
        drawn = stream(seed, workload.name, labels, i, "redrawn").integers(len(workload), size=labels)
        yield Sample(workload, drawn, drawn[:0])


def stream(*parts: object) -> Rng:
    """Random numbers that depend on the parts alone."""
    return np.random.default_rng([zlib.crc32(str(part).encode()) for part in parts])


def judged(sample: Sample, decision: Decision, target: float) -> Ratios:
    w = sample.workload
    rest = np.ones(len(w), bool)
    rest[sample.labelled] = False
    q, c = w.quality(w.frontier), w.cost(w.frontier)
    value, yardstick = (decision.quality, q) if decision.kept is None else (decision.kept, np.ones(len(w)))
    least = (decision.promised or target) - 1e-9
    return Ratios(
        quality_rest=_ratio(decision.quality[rest], q[rest]),
        cost_rest=_ratio(decision.cost[rest], c[rest]),
        cost=_ratio(decision.cost, c),
        broken_rest=_ratio(value[rest], yardstick[rest]) < least,
        broken=_ratio(value, yardstick) < least,
        certified=decision.certified,
    )


def run(
    name: str, method: Method, samples: Sequence[Sample], labels: int, target: float, delta: float, seed: int = 0
) -> Figures:
    """All samples through a method."""
    started = time.perf_counter()
    found = [
        judged(sample, method(sample, stream("method", seed, i, name), target, delta), target)
        for i, sample in enumerate(samples)
    ]
    seconds = (time.perf_counter() - started) / len(samples)
    best = judged(samples[0], oracle(samples[0], stream(), target, delta), target).cost
    cost = np.array([one.cost_rest for one in found])
    broken = fmean(one.broken for one in found)
    low, median, high = np.quantile(cost, [0.1, 0.5, 0.9])
    return Figures(
        workload=samples[0].workload.name,
        method=name,
        labels=labels,
        used=len(samples[0].labelled),
        resamples=len(found),
        target=target,
        delta=delta,
        median=float(median),
        mean=float(cost.mean()),
        low=float(low),
        high=float(high),
        quality=fmean(one.quality_rest for one in found),
        broken_rest=fmean(one.broken_rest for one in found),
        broken=broken,
        error=float(np.sqrt(broken * (1 - broken) / len(found))),
        certified=fmean(one.certified for one in found),
        captured=float((1 - cost.mean()) / (1 - best)) if best < 1 else 0.0,
        oracle=best,
        seconds=seconds,
    )


def _ratio(some: Floats, whole: Floats) -> float:
    return float(some.sum() / whole.sum()) if whole.size else float("nan")
