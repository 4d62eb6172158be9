"""The exact test of a promise about the mean: is a policy worth at least ρ of the frontier, on tasks like these?

Each labelled task is one of four kinds: both right, a harm (frontier right, policy wrong), a gain (policy right, frontier wrong), both wrong. With
probabilities q11, q10, q01 of the first three, "g with probability p, else the frontier" keeps ρ of the frontier's mean score iff

    (1 − ρ)(q11 + q10) + p (q01 − q10) ≥ 0,   that is, with r = (1 − ρ)/p:   r·q11 − (1 − r)·q10 + q01 ≥ 0.

So target and dilution enter through r alone. r is the relative loss of quality that g itself may have, 1 − E Q_g/E Q_f ≤ r, and one upper
bound on this loss (``loss_bound``) answers every target and every p at once: p may go up to (1 − ρ)/bound.

The test of "the loss is at least r": tasks that both got wrong say nothing and are left out, which leaves m. On the null's boundary, with γ the share of
gains, harms have the share b = r + γ(1 − r), both-right 1 − b − γ; γ is not known. The statistic is r·n11 − (1 − r)·n10 + n01, over its null standard
deviation at γ = (n01 + ½)/(m + 1). For each number of gains k it exceeds its observed value iff there are at most c(k) harms, so its tail
probability is a sum of binomials over k, and the p-value is its maximum over γ in a 99.9 % interval (Clopper and Pearson 1934), plus .001 for the
interval (Berger and Boos 1994, "P values maximized over a confidence set for the nuisance parameter", JASA 89). A null that is not on
the boundary has fewer gains or more harms, and a smaller tail.

It is a fixed-n test about the population: of tasks drawn independently, looked at once. For sequential looks: betting.py.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

Floats = NDArray[np.float64]

NUISANCE_MISS = 0.001  # how often the interval of γ may miss; added to the p-value
NUISANCE_POINTS = 25  # of γ over that interval; 400 raise a p-value by less than .5 % of itself
WINDOW = 4.5  # standard deviations of the number of gains that are summed; what lies outside counts as extreme
ROUNDING = 1e-9  # a count of harms this close to the boundary is on it


class Counts(NamedTuple):
    """What labelled tasks say about a policy beside the frontier. Tasks that both got wrong are in none."""

    both: int
    harms: int
    gains: int


def count(policy: ArrayLike, frontier: ArrayLike, uniform: ArrayLike | None = None) -> Counts:
    """Counts from scores in [0, 1], each of shape (tasks,).

    Graded scores become right or wrong by ``uniform``, one number in [0, 1) a task for policy and frontier alike (a hash of seed and
    task, never of a score): P(score > U) = score, so both means stay what they are. Without it scores must be 0 or 1.
    Raises ValueError for shapes that differ, for scores outside [0, 1] or not numbers, and for graded scores without ``uniform``.
    """
    q, f = np.asarray(policy, float), np.asarray(frontier, float)
    if q.ndim != 1 or q.shape != f.shape:
        raise ValueError(
            f"scores of policy and frontier must be two lists of one length, not of shapes {q.shape} and {f.shape}"
        )
    if not (((q >= 0) & (q <= 1)).all() and ((f >= 0) & (f <= 1)).all()):
        raise ValueError("scores must lie between 0 and 1")
    if uniform is None:
        if not (np.isin(q, (0, 1)).all() and np.isin(f, (0, 1)).all()):
            raise ValueError("graded scores need one uniform number a task")
        right, wanted = q > 0, f > 0
    else:
        u = np.asarray(uniform, float)
        if u.shape != q.shape or not ((u >= 0) & (u < 1)).all():
            raise ValueError("uniform must be one number in [0, 1) for each task")
        right, wanted = q > u, f > u
    return Counts(int((right & wanted).sum()), int((~right & wanted).sum()), int((right & ~wanted).sum()))


def p_value(counts: Counts, *, rho: float, p: ArrayLike = 1.0) -> Floats:
    """p-values of "g with probability p, else the frontier, keeps less than ``rho`` of the frontier's mean score".

    ``p`` in (0, 1], a number or an array; the result has its shape. p ≤ 1 − rho is 0: it keeps rho whatever g does. No task that
    anyone got right is 1, unless p is free. Raises ValueError for counts below 0, rho outside (0, 1], p outside (0, 1].
    """
    if not 0 < rho <= 1:
        raise ValueError(f"the target must be above 0 and at most 1, not {rho!r}")
    share = np.asarray(p, float)
    if not ((share > 0) & (share <= 1)).all():
        raise ValueError("the share p of a diluted policy must be above 0 and at most 1")
    return loss_p_value(counts, (1 - rho) / share)


def loss_p_value(counts: Counts, loss: ArrayLike) -> Floats:
    """p-values of "g loses more than ``loss`` of the frontier's mean score": E Q_g < (1 − loss)·E Q_f.

    ``loss`` at least 0, a number or an array; the result has its shape. A loss of 1 or more has p-value 0.
    """
    if min(counts) < 0 or any(int(n) != n for n in counts):
        raise ValueError(f"counts must be whole and not below 0, not {tuple(counts)}")
    r = np.asarray(loss, float)
    if not (r >= 0).all():
        raise ValueError("a loss must be at least 0")
    values = np.array([0.0 if one >= 1 - ROUNDING else _tail(counts, one) for one in r.ravel()])
    return values.reshape(r.shape)


def loss_bound(counts: Counts, delta: float) -> float:
    """The least loss that can be promised: with confidence 1 − ``delta``, E Q_g ≥ (1 − bound)·E Q_f. In [0, 1]; 1 says nothing.

    Found by bisection, to a ten-thousandth of itself; ``loss_p_value`` at the bound is at most ``delta``. p-values fall with the loss but for
    small steps (the region is a set of whole counts); the level of the bound as it is found here was enumerated (test_certificates).
    """
    low, high = 0.0, 1.0
    if loss_p_value(counts, low) <= delta:
        return low
    while high - low > 1e-4 * high:
        middle = (low + high) / 2
        low, high = (low, middle) if loss_p_value(counts, middle) <= delta else (middle, high)
    return high


def largest_share(counts: Counts, *, rho: float, delta: float, steps: int = 96) -> float:
    """The largest certified p of ``steps`` equal steps from 1 − rho (free) to 1, where p rises until the first failure.

    The first failure is found by bisection, as in ``loss_bound``. In [1 − rho, 1]; 0 where rho is 1 and nothing passes.
    """
    grid = np.linspace(1 - rho, 1, steps)
    passed, failed = 0, steps
    while failed - passed > 1:
        middle = (passed + failed) // 2
        passed, failed = (middle, failed) if p_value(counts, rho=rho, p=grid[middle]) <= delta else (passed, middle)
    return float(grid[passed])


def _tail(counts: Counts, r: float) -> float:
    """The p-value at one loss r in [0, 1)."""
    m = sum(counts)
    if m == 0:
        return 1.0
    gammas = _nuisance(counts.gains, m, r)
    observed = (r * counts.both - (1 - r) * counts.harms + counts.gains) / _deviation(np.float64(counts.gains), m, r)
    half = np.ceil(WINDOW * np.sqrt(m * gammas * (1 - gammas)).max()) + 5
    k = np.clip(np.round(m * gammas)[:, None] + np.arange(-half, half + 1), -1, m + 1)  # (gammas, gains)
    possible = (k >= 0) & (k <= m)
    k = np.where(possible, k, 0)
    most = np.floor(r * (m - k) + k - observed * _deviation(k, m, r) + ROUNDING)  # harms that are still as extreme
    weight = np.where(possible, binomial(k, m, gammas[:, None]), 0)
    harmful = np.minimum((r + gammas * (1 - r)) / (1 - gammas), 1)[:, None]  # P(harm | not a gain)
    inside = (weight * at_most(most, m - k, harmful)).sum(1)
    return min(1.0, float((inside + 1 - weight.sum(1)).max()) + NUISANCE_MISS)


def _nuisance(gains: int, m: int, r: float) -> Floats:
    """Shares of gains to try: the interval of what was seen, cut where the null has no room for more."""
    low = special.betaincinv(gains, m - gains + 1, NUISANCE_MISS / 2) if gains else 0.0
    high = special.betaincinv(gains + 1, m - gains, 1 - NUISANCE_MISS / 2) if gains < m else 1.0
    most = (1 - r) / (2 - r)
    return over_interval(min(low, most), min(high, most), NUISANCE_POINTS)


def _deviation(k: Floats | np.float64, m: int, r: float) -> Floats:
    """Standard deviation of r·n11 − (1 − r)·n10 + n01 under the null, where k of m tasks are gains."""
    g = (k + 0.5) / (m + 1)
    b = r + g * (1 - r)
    return np.sqrt(m * (r**2 * np.maximum(1 - b - g, 0) + (1 - r) ** 2 * b + g))


def over_interval(low: float, high: float, points: int) -> Floats:
    """Shares from low to high, evenly on the scale of arcsin √share, on which tails of binomials are about equally smooth everywhere."""
    ends = np.arcsin(np.sqrt([low, high]))
    return np.sin(np.linspace(ends[0], ends[1], points)) ** 2


def binomial(k: Floats, n: int, share: Floats) -> Floats:
    """P(Bin(n, share) = k)."""
    ways = special.gammaln(n + 1) - special.gammaln(k + 1) - special.gammaln(n - k + 1)
    log: Floats = ways + special.xlogy(k, share) + special.xlog1py(n - k, -share)
    return np.exp(log)


def at_most(k: Floats, n: Floats, share: Floats) -> Floats:
    """P(Bin(n, share) ≤ k); 0 for k below 0, 1 for k at least n."""
    inner = (k >= 0) & (k < n)
    tail = special.betainc(np.where(inner, n - k, 1), np.where(inner, k + 1, 1), 1 - share)
    return np.where(inner, tail, k >= n)
