"""The betting test of a promise about the mean: valid at every look, for graded, weighted and clustered scores.

Every design here comes down to *bets*: one value Z a task (or cluster), of conditional mean at most 0 where the promise is broken, and never below
−worst. The wealth of a gambler who stakes the fraction l of it on each,

    K_t(l) = Π_{i ≤ t} (1 + l·Z_i/worst),    K_t = mean of K_t(l) over l in .02, .04, …, .98,

is then a nonnegative supermartingale: each factor is at least 1 − l > 0, and has conditional mean 1 + l·E[Z_i | past]/worst ≤ 1; a mean of
supermartingales is one. So P(max_t K_t ≥ 1/δ) ≤ δ (Ville 1939), and 1/max K is a p-value at any time. No upper bound of Z is needed, and tasks with
Z = 0 change nothing. Source: Waudby-Smith and Ramdas 2024, "Estimating means of bounded random variables by betting", JRSS B 86.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

STAKES: Floats = np.linspace(0.02, 0.98, 49)


class Bets(NamedTuple):
    """Values in the order in which tasks were drawn, shape (tasks,), and how far below 0 one can fall."""

    values: Floats
    worst: float


def paired(policy: ArrayLike, frontier: ArrayLike, *, rho: float, p: float = 1.0) -> Bets:
    """Every task labelled: Z = (1 − ρ)·Q_f + p·(Q_g − Q_f), the promise's own difference for "g with probability p, else the frontier".

    Scores of shape (tasks,), in [0, 1]. Never below −(p − (1 − ρ)), which is reached where the frontier is right and g is wrong.
    """
    q, f = _scores(policy, frontier)
    return Bets((1 - rho) * f + p * (q - f), p - (1 - rho))


def weighted(bets: Bets, weights: ArrayLike, *, cap: float) -> Bets:
    """Tasks that were labelled with known probabilities π: each value times its weight 1/π. Unlabelled tasks may be left out (Z = 0).

    Z = (ξ/π)·D, with ξ = 1 where labelled, has the mean of D since E[ξ | past, task] = π, and is at least −cap·worst. ``cap`` is the largest
    weight that the design allows, fixed before drawing. Raises ValueError for a weight below 1 or above it.
    """
    w = np.asarray(weights, float)
    if w.shape != bets.values.shape or not ((w >= 1) & (w <= cap)).all():
        raise ValueError(f"weights must be one number for each task, from 1 to the stated cap of {cap}")
    return Bets(w * bets.values, cap * bets.worst)


def clustered(bets: Bets, clusters: Sequence[Hashable], *, largest: int | None = None) -> Bets:
    """One bet for each cluster (a user's tasks), in order of first appearance: the sum of its values.

    Clusters, not tasks, are the independent draws; a sum of at most ``largest`` values is at least −largest·worst, and its mean is ≤ 0 where the promise
    is broken over all tasks. ``largest`` ought to be known before drawing; without it the largest cluster seen is taken, which is valid only as
    far as the sizes are taken as given. Raises ValueError for a larger cluster.
    """
    if len(clusters) != bets.values.size:
        raise ValueError(f"{bets.values.size} tasks need as many clusters, not {len(clusters)}")
    index: dict[Hashable, int] = {}
    place = np.array([index.setdefault(cluster, len(index)) for cluster in clusters], dtype=np.intp)
    seen = int(np.bincount(place).max(initial=0))
    if largest is not None and seen > largest:
        raise ValueError(f"a cluster has {seen} tasks, more than the {largest} that were stated")
    return Bets(np.bincount(place, bets.values).astype(float), (largest or max(seen, 1)) * bets.worst)


def where_different(
    policy: ArrayLike,
    frontier: ArrayLike,
    *,
    same: ArrayLike,
    probability: ArrayLike,
    rho: float,
    p: float = 1.0,
    guess: float = 0.0,
    least: float,
) -> Bets:
    """Labels mostly where the answers differ. Score NaN: not labelled; task i is labelled with the known ``probability`` π_i ≥ ``least``.

    Split Q_p − ρQ_f = p(Q_g − Q_f) + (1 − ρ)Q_f: where answers are the same the first term is 0 and only the second is unknown. With ξ = 1 where labelled:

        differ   Z = (ξ/π)·[(1 − ρ)Q_f + p(Q_g − Q_f)]        ≥ −(p − (1 − ρ))/π
        same     Z = (1 − ρ)·[guess + (ξ/π)(Q_f − guess)]     ≥ −(1 − ρ)·guess·(1/π − 1)

    Since E[ξ | past, answers] = π, the mean of Z given the past is that of Q_p − ρQ_f for any ``guess`` of Q_f made beforehand (on the fit half; it only
    lowers the variance). Z is at least −worst, the larger of both bounds over what the design allows, so the wealth is a supermartingale where the
    promise is broken. ``least`` is the smallest probability on tasks that differ; where answers are the same it is the smallest of those given.
    """
    alike, pi = np.asarray(same, bool), np.asarray(probability, float)
    q, f = np.asarray(policy, float), np.asarray(frontier, float)
    if not q.shape == f.shape == alike.shape == pi.shape or q.ndim != 1:
        raise ValueError("policy, frontier, same and probability must be lists of one length")
    if not ((pi > 0) & (pi <= 1)).all() or (pi[~alike] < least).any() or not 0 <= guess <= 1:
        raise ValueError(
            "probabilities must be above 0, at most 1, and at least the stated least; the guess is a score in [0, 1]"
        )
    labelled = ~(np.isnan(f) | (np.isnan(q) & ~alike))
    f = np.where(labelled, f, 0.0)
    q = np.where(labelled & ~alike, q, f)
    _scores(q, f)
    weight = labelled / pi
    differ = weight * ((1 - rho) * f + p * (q - f))
    agree = (1 - rho) * (guess + weight * (f - guess))
    rarest = float(pi[alike].min(initial=1.0))
    worst = max((p - (1 - rho)) / least, (1 - rho) * guess * (1 / rarest - 1))
    return Bets(np.where(alike, agree, differ), worst)


def log_wealth(bets: Bets) -> Floats:
    """ln K_t after each bet, shape (bets,). Raises ValueError for a value below −worst, and where worst is not above 0 and a value is not 0."""
    if bets.worst <= 0:
        raise ValueError("a policy that cannot fall below its promise needs no test")
    if not (bets.values >= -bets.worst * (1 + 1e-9)).all():
        raise ValueError(f"a value is below the stated {-bets.worst}, or not a number")
    logs = np.cumsum(np.log1p(np.outer(STAKES, np.maximum(bets.values / bets.worst, -1))), axis=1)
    top = logs.max(0, initial=-np.inf)
    return top + np.log(np.mean(np.exp(logs - top), axis=0)) if logs.size else np.zeros(0)


def p_value(bets: Bets) -> float:
    """min(1, 1/max K_t): p-value of "the promise is broken", valid whenever one looks. 0 where the values cannot fall below 0."""
    if bets.worst <= 1e-9:
        return 0.0
    return min(1.0, float(np.exp(-log_wealth(bets).max(initial=0.0))))


def _scores(policy: ArrayLike, frontier: ArrayLike) -> tuple[Floats, Floats]:
    q, f = np.asarray(policy, float), np.asarray(frontier, float)
    if q.ndim != 1 or q.shape != f.shape:
        raise ValueError(
            f"scores of policy and frontier must be two lists of one length, not of shapes {q.shape} and {f.shape}"
        )
    if not (((q >= 0) & (q <= 1)).all() and ((f >= 0) & (f <= 1)).all()):
        raise ValueError("scores must lie between 0 and 1")
    return q, f
