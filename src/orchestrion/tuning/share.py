"""The exact test of a promise about the share of tasks: on at least ``share`` of them the answer is worth ρ of the frontier's.

A policy that keeps to the frontier with probability 1 − p fails there never, so it fails on p·P(g is worse than ρ of the frontier) of the tasks, and the
number of tasks on which g is worse is binomial. The bound is the one of Clopper and Pearson (1934).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from orchestrion.tuning.bounds import clopper_pearson


def count_worse(policy: ArrayLike, frontier: ArrayLike, *, rho: float) -> int:
    """Tasks on which the policy's score is below ``rho`` times the frontier's; scores of shape (tasks,), in [0, 1]."""
    q, f = np.asarray(policy, float), np.asarray(frontier, float)
    if q.ndim != 1 or q.shape != f.shape:
        raise ValueError(
            f"scores of policy and frontier must be two lists of one length, not of shapes {q.shape} and {f.shape}"
        )
    return int((q < rho * f - 1e-12).sum())  # .95 · 1 and .95 are equal, whatever their last bits


def p_value(worse: int, tasks: int, *, share: float, p: ArrayLike = 1.0) -> NDArray[np.float64]:
    """p-values of "g with probability p, else the frontier, fails on more than 1 − ``share`` of the tasks".

    ``worse`` of ``tasks`` independent tasks were worse under g. ``p`` in (0, 1], a number or an array; the result has its shape; p ≤ 1 − share is 0.
    Raises ValueError for counts that cannot be, share outside (0, 1], p outside (0, 1].
    """
    if not 0 <= worse <= tasks:
        raise ValueError(f"{worse} of {tasks} tasks cannot be")
    if not 0 < share <= 1:
        raise ValueError(f"the share must be above 0 and at most 1, not {share!r}")
    mixed = np.asarray(p, float)
    if not ((mixed > 0) & (mixed <= 1)).all():
        raise ValueError("the share p of a diluted policy must be above 0 and at most 1")
    allowed = (1 - share) / mixed  # of g's failures
    if worse == tasks:  # also where there are none: nothing speaks against g failing always
        return np.where(allowed >= 1 - 1e-9, 0.0, 1.0)
    tail = special.betainc(tasks - worse, worse + 1, 1 - np.minimum(allowed, 1))
    return np.where(allowed >= 1 - 1e-9, 0.0, tail)


def largest_share(worse: int, tasks: int, *, share: float, delta: float) -> float:
    """The largest certified p, in [1 − share, 1]: every smaller one passes too, since p-values rise with p."""
    bound = clopper_pearson(worse, tasks, delta)[1]
    return min(1.0, (1 - share) / bound) if bound > 0 else 1.0
