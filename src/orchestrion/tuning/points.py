"""The points of a tuning's plot: every policy tried, the workers, the frontier, the promised policies and the oracle, all on the same tasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from msgspec import structs

from orchestrion.tuning.facts import Point, PointKind, WorkerFacts
from orchestrion.tuning.learn import Floats
from orchestrion.tuning.promise import Made, Spot
from orchestrion.tuning.space import Path, Space, Structure
from orchestrion.tuning.table import scored

MOST = 2000
"""So many points are kept, those of the hull and of all that is no plain policy among them."""

ON_THE_LINE = 1e-12


def points(
    space: Space, found: Sequence[Path], workers: Sequence[str], oracle: WorkerFacts, made: Sequence[Made], *, seed: int
) -> tuple[Point, ...]:
    """What was looked at, on the fit half; the upper hull of all but the oracle is marked."""
    promised = [_promised(space, one.spot, one.promise.words) for one in made if one.spot and one.promise.certified]
    fixed = [*_workers(space, workers), *dict.fromkeys(promised)]
    tried = dict.fromkeys(point for path in found for point in _of_path(space, path))
    marked = _marked([*fixed, *tried])
    rare = [point for point in marked if point.hull or point.kind != "policy"]
    plain = [point for point in marked if not point.hull and point.kind == "policy"]
    room = max(MOST - len(rare) - 1, 0)
    kept = np.sort(np.random.default_rng(seed).permutation(len(plain))[:room])
    top = Point(name=oracle.name, kind="oracle", quality=oracle.quality, cost=oracle.cost)
    return (*rare, *(plain[i] for i in kept), top)


def named(structure: Structure, frontier: str) -> str:
    """A structure in a few signs: each stage with what is new in it."""
    stages: list[str] = []
    before: Mapping[str, int] = {}
    for stage in structure:
        new = [_often(worker, n) for worker, n in stage if n > before.get(worker, 0)]
        stages.append(" + ".join(new))
        before = dict(stage)
    return " → ".join([*stages, frontier])


def _often(worker: str, n: int) -> str:
    return worker if n == 1 else f"{worker} ×{n}"


def _workers(space: Space, workers: Sequence[str]) -> list[Point]:
    cases = [space.cases[i] for i in space.fit]
    return [
        Point(
            name=worker,
            kind="frontier" if worker == space.frontier else "worker",
            quality=float(np.mean([scored(case, worker) for case in cases])),
            cost=float(np.mean([case.attempts[worker, 0].spent for case in cases])) / 1e9,
        )
        for worker in workers
    ]


def _promised(space: Space, spot: Spot, words: str) -> Point:
    gain, cost = spot.path.gain[space.fit, spot.column], spot.path.cost[space.fit, spot.column]
    own = space.frontier_cost[space.fit]
    return _point(space, words, "chosen", spot.share * gain, spot.share * cost + (1 - spot.share) * own)


def _of_path(space: Space, path: Path) -> list[Point]:
    name = named(path.structure, space.frontier)
    return [
        _point(space, name, "policy", gain, cost)
        for gain, cost in zip(path.gain[space.fit].T, path.cost[space.fit].T, strict=True)
    ]


def _point(space: Space, name: str, kind: PointKind, gain: Floats, cost: Floats) -> Point:
    quality = float(space.frontier_quality[space.fit].mean() + gain.mean())
    return Point(name=name, kind=kind, quality=quality, cost=float(cost.mean()) * space.unit / 1e9)


def _marked(found: Sequence[Point]) -> list[Point]:
    """The points, with those of the upper hull marked: from the cheapest to the best, nothing lies above the line between two neighbours."""
    spots = {(point.cost, point.quality): i for i, point in reversed(list(enumerate(found)))}  # of equals the first
    hull: list[tuple[float, float]] = []
    for spot in sorted(spots, key=lambda spot: (spot[0], -spot[1])):
        if hull and spot[1] <= hull[-1][1]:
            continue
        while len(hull) > 1 and _below(hull[-2], hull[-1], spot):
            hull.pop()
        hull.append(spot)
    on_it = {spots[spot] for spot in hull}
    return [structs.replace(point, hull=True) if i in on_it else point for i, point in enumerate(found)]


def _below(left: tuple[float, float], middle: tuple[float, float], right: tuple[float, float]) -> bool:
    """Whether a mix of the outer two is as good as the middle one at its cost."""
    rise = (middle[1] - left[1]) * (right[0] - left[0])
    return rise <= (right[1] - left[1]) * (middle[0] - left[0]) + ON_THE_LINE * (right[0] - left[0])
