"""Resamples of a workload, and how a method's decisions did on the tasks that it had no labels of."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from benchmarks.quality.methods import Decision, Method, Rng, Sample, oracle
from benchmarks.quality.workloads import Floats, Workload

MOST = 2 / 3  # of a workload's tasks are labelled: the rest must be enough to judge on


@dataclass(frozen=True, slots=True)
class Ratios:
    """Against the frontier, on the remaining tasks and on the whole population."""

    quality_rest: float
    cost_rest: float
    quality: float
    cost: float
    certified: bool


@dataclass(frozen=True, slots=True)
class Figures:
    """A method on a workload. Broken: the share of resamples whose true
    quality ratio is below the target; ``error`` is its standard error. ``labels`` were asked for, ``used`` at most two thirds of the workload."""

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
    broken_rest: float
    broken: float
    error: float
    certified: float
    captured: float
    oracle: float

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


def judged(sample: Sample, decision: Decision) -> Ratios:
    w = sample.workload
    rest = np.ones(len(w), bool)
    rest[sample.labelled] = False
    q, c = w.quality(w.frontier), w.cost(w.frontier)
    return Ratios(
        _ratio(decision.quality[rest], q[rest]),
        _ratio(decision.cost[rest], c[rest]),
        _ratio(decision.quality, q),
        _ratio(decision.cost, c),
        decision.certified,
    )


def run(
    name: str, method: Method, samples: Sequence[Sample], labels: int, target: float, delta: float, seed: int = 0
) -> tuple[Figures, list[Ratios]]:
    """All samples through a method."""
    found = [
        judged(sample, method(sample, stream("method", seed, i, name), target, delta))
        for i, sample in enumerate(samples)
    ]
    return figures(samples[0], name, labels, found, target, delta), found


def figures(sample: Sample, name: str, labels: int, found: Sequence[Ratios], target: float, delta: float) -> Figures:
    cost = np.array([one.cost_rest for one in found])
    broken = float(np.mean([one.quality < target - 1e-9 for one in found]))
    best = judged(sample, oracle(sample, stream(), target, delta)).cost
    low, median, high = np.quantile(cost, [0.1, 0.5, 0.9])
    return Figures(
        workload=sample.workload.name,
        method=name,
        labels=labels,
        used=len(sample.labelled),
        resamples=len(found),
        target=target,
        delta=delta,
        median=float(median),
        mean=float(cost.mean()),
        low=float(low),
        high=float(high),
        broken_rest=float(np.mean([one.quality_rest < target - 1e-9 for one in found])),
        broken=broken,
        error=float(np.sqrt(broken * (1 - broken) / len(found))),
        certified=float(np.mean([one.certified for one in found])),
        captured=float((1 - cost.mean()) / (1 - best)) if best < 1 else 0.0,
        oracle=best,
    )


def _ratio(some: Floats, whole: Floats) -> float:
    return float(some.sum() / whole.sum()) if whole.size else float("nan")
