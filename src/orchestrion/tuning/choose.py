"""Which policy to try to certify: the one whose certificate is expected to save most, judged by the fit half alone."""

from __future__ import annotations

from statistics import NormalDist
from typing import NamedTuple

import numpy as np

from orchestrion.tuning.learn import Floats
from orchestrion.tuning.space import CHEAP, MANY, MOST_WORKERS, Path, Space, Structure

TRUST = 100.0
"""The models' own expectation of a policy's loss counts as much as so many labelled tasks."""

DOUBT = 0.5
"""So much is added to the sum of squares of the fit half: a policy that was never seen to fail may."""

LUCK = 0.35
"""Of many policies the one that looks best had luck: so much of what the luckiest of as many standard normals as there are paths is
expected to be, √(2 ln n), is added to the loss, in standard errors of the fit half."""

CAUTION = (0.0, 0.1, 0.3)
"""And so many more, by the width of the models: the more they may look at, the more they find that is not there."""


A_WORKER, A_WIDTH = 20, 50
"""So many labels of the fit half let one more worker be combined, and the models of combinations look at one width more."""


class Aim(NamedTuple):
    """What a certificate is to say: of the frontier's mean quality at most ``loss`` is lost, with confidence 1 − ``delta``, as
    tested on ``certify`` labelled tasks.

    ``worth``: instead, on at most ``loss`` of the tasks the answer is worth less than this share of the frontier's. ``within``: the
    least loss is looked for at this cost (frontier's: 1), and not the least cost at this loss. ``tried`` paths are chosen from.
    """

    loss: float
    delta: float
    certify: int
    worth: float | None = None
    within: float | None = None
    tried: int = 1


class Choice(NamedTuple):
    """The policy to certify. ``share`` is how much of the traffic it is expected to get beside the frontier, ``value`` what is then
    expected: the cost, or with ``Aim.within`` the loss."""

    path: Path
    column: int
    share: float
    value: float


def paths(space: Space, aim: Aim) -> list[Path]:
    """The paths of all structures worth a look; none where no worker is cheaper than the frontier.

    The fewer labels there are to choose by, the fewer workers are combined, and the less the models of combinations look at.
    """
    alone = [space.path(structure, width) for structure in space.singles() for width in space.widths]
    ranked = sorted(alone, key=lambda path: _best(space, aim, path).value)
    best = list(dict.fromkeys(path.structure[0][0][0] for path in ranked))[: _most_workers(space)]
    combined = [structure for structure in space.combined(best) if _cheap(space, structure)]
    widths = space.widths if len(space.fit) > MANY else range(min(1 + len(space.fit) // A_WIDTH, len(space.widths)))
    return [*alone, *(space.path(structure, width) for structure in combined for width in widths)]


def _most_workers(space: Space) -> int:
    return min(max(1 + len(space.fit) // A_WORKER, 3), MOST_WORKERS)


def choose(space: Space, aim: Aim, found: list[Path]) -> Choice:
    """The most promising policy of all; of equals the first. Raises ValueError without any path."""
    among = aim._replace(tried=len(found))
    return min((_best(space, among, path) for path in found), key=lambda choice: choice.value)


def _cheap(space: Space, structure: Structure) -> bool:
    return space.mean_cost(structure[-1]) < CHEAP


def _best(space: Space, aim: Aim, path: Path) -> Choice:
    """The best of one path. ``need`` is the loss that is likely to be certified: what the fit half shows, and what its and the
    certify half's sizes leave open."""
    need = _needed(space, aim, path)
    if aim.within is None:
        cost = path.cost[space.fit].mean(axis=0)
        share = np.clip(np.divide(aim.loss, need, out=np.ones_like(need), where=need > aim.loss), aim.loss, 1.0)
        value = 1 - share * (1 - cost)
    else:
        cost = path.cost.mean(axis=0)  # of all tasks: what is asked for is a cost, and costs are no labels
        share = np.divide(1 - aim.within, 1 - cost, out=np.full_like(cost, np.inf), where=cost < 1)
        value = np.where(share <= 1 + 1e-9, share * need, np.inf)
    column = int(np.argmin(value))
    return Choice(path, column, float(min(share[column], 1.0)), float(value[column]))


def _needed(space: Space, aim: Aim, path: Path) -> Floats:
    """For each policy of a path the relative loss to reckon with."""
    n, z = len(space.fit), NormalDist().inv_cdf(1 - aim.delta)
    doubt = LUCK * np.sqrt(2 * np.log(max(aim.tried, 2))) + CAUTION[path.width]
    mean, variance = losses(space, path, aim)
    need: Floats = mean + np.sqrt(variance) * (z / np.sqrt(max(aim.certify, 1)) + doubt / np.sqrt(n))
    return np.maximum(need, 1e-9)


def losses(space: Space, path: Path, aim: Aim) -> tuple[Floats, Floats]:
    """Mean and variance of each policy's relative loss, as the fit half shows them: each of shape (policies,)."""
    fit = space.fit
    n, quality = len(fit), space.frontier_quality[fit]
    if aim.worth is None:
        loss, scale = -path.gain[fit], max(float(quality.mean()), 1e-9)
        hoped = -path.hoped[fit].mean(axis=0)
    else:
        loss, scale = (quality[:, None] + path.gain[fit] < aim.worth * quality[:, None] - 1e-12).astype(float), 1.0
        hoped = np.maximum(-path.hoped[fit], 0).mean(axis=0)
    mean = (n * loss.mean(axis=0) + TRUST * hoped) / (n + TRUST)
    variance = np.maximum((loss**2).mean(axis=0) - mean**2, 0) + DOUBT / n
    return mean / scale, variance / scale**2
