"""The two tests of METHODS §2, written independently of orchestrion.tuning: the exact one and the betting one.

Both are about "g with probability p, else the frontier" on tasks drawn like the certify half, and the promise that its mean
quality is at least rho times the frontier's.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from scipy.special import bdtr, betaincinv, gammaln

from benchmarks.quality.workloads import Floats

STEPS = 96
GAMMAS = 25
REACH = 0.001  # what the Clopper-Pearson interval of the gains may miss; added to the p-value
BETS = np.arange(0.02, 0.99, 0.04)


def counts(quality: Floats, frontier: Floats, u: Floats) -> tuple[int, int, int]:
    """(both right, harms, gains); a graded score is right where it exceeds the task's own uniform number u."""
    g, f = quality > u, frontier > u
    return int((g & f).sum()), int((f & ~g).sum()), int((g & ~f).sum())


@lru_cache(maxsize=200_000)
def p_value(n11: int, n10: int, n01: int, p: float, rho: float, delta: float | None = None) -> float:
    """P-value of the null that the diluted policy's mean quality is below rho times the frontier's; p is g's share.

    With a ``delta``, only which side of it the value is on counts: where the first look, at one share of gains, already exceeds it, or
    is below a quarter of it, that look is returned.
    """
    e, m = 1 - rho, n11 + n10 + n01
    if m == 0:
        return 1.0
    if p <= e:
        return 0.0
    v1, v2, v3 = e, p - e, p
    k = np.arange(m + 1)
    guess = (k + 0.5) / (m + 1)
    b = np.maximum(v1 * (1 - guess) + v3 * guess, 0) / (v1 + v2)
    sd = np.sqrt(m * (v1**2 * np.maximum(1 - b - guess, 0) + v2**2 * b + v3**2 * guess))
    seen = (v1 * n11 - v2 * n10 + v3 * n01) / sd[n01]
    most = np.floor((v1 * m + (v3 - v1) * k - seen * sd) / (v1 + v2) + 1e-9)  # harms that are as extreme, given k gains
    end = v2 / (v2 + v3)
    low = 0.0 if n01 == 0 else float(betaincinv(n01, m - n01 + 1, REACH / 2))
    high = 1.0 if n01 == m else float(betaincinv(n01 + 1, m - n01, 1 - REACH / 2))
    first = _at(np.array([min((n01 + 0.5) / (m + 1), end)]), m, most, v1, v3)
    if delta is not None and not delta / 4 < first + REACH <= delta:
        return min(1.0, first + REACH)
    gammas = np.append(np.linspace(min(low, end), min(high, end), GAMMAS), [end] if low <= end <= high else [])
    return min(1.0, max(first, _at(gammas, m, most, v1, v3)) + REACH)


def _at(gammas: Floats, m: int, most: Floats, v1: float, v3: float) -> float:
    """The largest probability of the region, over shares of gains; v1 + v2 = v3 = p. Counts beyond 5 deviations are left out."""
    gamma = np.clip(gammas, 1e-12, 1 - 1e-12)[:, None]
    reach = 5 * np.sqrt(m * gamma * (1 - gamma)) + 8
    k = np.floor(m * gamma - reach) + np.arange(int(2 * reach.max()) + 2)
    inside = (k >= 0) & (k <= m)
    k = np.clip(k, 0, m).astype(np.int64)
    logs = _log_factorials(m)
    chance = np.exp(logs[m] - logs[k] - logs[m - k] + k * np.log(gamma) + (m - k) * np.log1p(-gamma)) * inside
    harm = np.minimum((v1 * (1 - gamma) + v3 * gamma) / v3 / (1 - gamma), 1.0)
    c = most[k]
    below = bdtr(np.clip(c, 0, m - k), m - k, np.broadcast_to(harm, c.shape))
    return float((chance * np.where(c < 0, 0.0, np.where(c >= m - k, 1.0, below))).sum(axis=1).max())


@lru_cache(maxsize=64)
def _log_factorials(m: int) -> Floats:
    logs: Floats = gammaln(np.arange(m + 1) + 1.0)
    return logs


def shares(rho: float) -> Floats:
    """The path of g's share: 96 equal steps from 1 - rho, which is free, to 1."""
    return np.linspace(1 - rho, 1, STEPS)


def exact_share(n: tuple[int, int, int], rho: float, delta: float) -> float:
    """The last share of g before the first p-value above delta."""
    passed = 1 - rho
    for p in shares(rho)[1:]:
        if p_value(*n, float(p), rho, delta) > delta:
            break
        passed = float(p)
    return passed


def betting(quality: Floats, frontier: Floats, p: Floats, rho: float) -> Floats:
    """For each share p the largest capital, over the tasks in order, of a mixture of bets against the null."""
    m = rho / (1 + rho)
    diluted = frontier[None, :] + p[:, None] * (quality - frontier)[None, :]
    x = (diluted - rho * frontier[None, :] + rho) / (1 + rho)
    logs = np.cumsum(np.log1p((BETS[None, :, None] / m) * (x - m)[:, None, :]), axis=2)
    capital: Floats = np.exp(logs).mean(axis=1).max(axis=1)
    return capital


def betting_share(quality: Floats, frontier: Floats, rho: float, delta: float) -> float:
    """The last share of g before the first whose capital stays below 1 / delta."""
    path = shares(rho)[1:]
    failed = np.flatnonzero(betting(quality, frontier, path, rho) < 1 / delta)
    passed = int(failed[0]) if failed.size else len(path)
    return float(path[passed - 1]) if passed else 1 - rho
