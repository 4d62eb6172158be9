"""How many labels a promise takes: the fewest that could do, and how many are likely to."""

from __future__ import annotations

import math
from statistics import NormalDist

from orchestrion.policy.certificate import Target
from orchestrion.tuning.bounds import fewest_labels
from orchestrion.tuning.choose import Aim, losses
from orchestrion.tuning.halves import FIT, MOST_FIT
from orchestrion.tuning.space import Path, Space

WORTH_IT = 0.5
"""A promise is of use where at least this share of the traffic may go to the policy."""

SAVES = 0.9
"""… and where the policy costs at most this share of the frontier's."""

ENDLESS = 20_000
"""Where it would take more labels than this, it takes another worker."""

LIKELY = 0.5
"""The bound is to clear what is allowed by so many standard errors: seven in ten times it then does."""

TELLING = 25
"""With fewer tasks in the fit half, a policy that looks too bad for any number of labels may only have been unlucky."""

AT_THE_COST = 0.5
"""Where the best quality at a cost is asked for: enough labels to promise at least this much of the frontier's."""


def fewest(target: Target, delta: float, level: float) -> int:
    """The fewest labelled tasks in the certify half that could certify a target. ``level`` is the frontier's mean score."""
    if target.kind == "share":
        return fewest_labels(min(target.share or 0.9, 0.999), delta, 1.0)
    return fewest_labels(min(target.quality or AT_THE_COST, 0.999), delta, max(level, 0.01))


def in_all(certify: int) -> int:
    """Labelled tasks in all, for so many in the certify half."""
    return certify + min(math.ceil(certify * FIT / (1 - FIT)), MOST_FIT)


def labels_needed(space: Space, paths: list[Path], aim: Aim, *, least: int = 0) -> int | None:
    """Labelled tasks in all with which a policy of some use would probably be certified: always more than there are.

    As many as it takes until the loss to reckon with, as the fit half shows it, falls so low that WORTH_IT of the traffic
    may go to the policy. None where the loss itself is above that for every policy: more labels do not help.
    """
    z = NormalDist().inv_cdf(1 - aim.delta) + LIKELY
    found = math.inf
    for path in paths:
        mean, variance = losses(space, path, aim)
        room = aim.loss / WORTH_IT - mean
        use = (room > 0) & (path.cost[space.fit].mean(axis=0) <= SAVES)
        if use.any():
            found = min(found, float((variance[use] * (z / room[use]) ** 2).min()))
    have = len(space.fit) + aim.certify
    if found > ENDLESS:
        return None if len(space.fit) >= TELLING else max(in_all(2 * least), 2 * have)
    return max(in_all(max(math.ceil(found), least)), have + 1)


def least_loss(space: Space, paths: list[Path], aim: Aim) -> float:
    """The smallest loss of a policy that saves anything worth while, as the fit half shows it; 1 where none does."""
    found = 1.0
    for path in paths:
        use = path.cost[space.fit].mean(axis=0) <= SAVES
        if use.any():
            found = min(found, float(losses(space, path, aim)[0][use].min()))
    return found
