"""How sure a share is: intervals at 95 %, without numpy."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist, fmean, stdev

from orchestrion.report.facts import Estimate

CONFIDENCE = 0.95
FEW = 30
"""Below so many pairs the normal approximation of a difference is not to be relied on."""

Z = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)


def share(scores: Sequence[float]) -> Estimate | None:
    """The mean of scores in [0, 1] with Wilson's score interval; None without any.

    E. B. Wilson (1927), "Probable inference, the law of succession, and statistical inference", JASA 22; recommended for
    small n by Brown, Cai and DasGupta (2001), Statistical Science 16. For scores between 0 and 1 it is wider than
    need be: their variance is at most that of right-or-wrong scores with the same mean.
    """
    n = len(scores)
    if not n:
        return None
    mean, z2 = fmean(scores), Z * Z
    middle = (mean + z2 / (2 * n)) / (1 + z2 / n)
    half = Z / (1 + z2 / n) * math.sqrt(mean * (1 - mean) / n + z2 / (4 * n * n))
    low, high = max(0.0, middle - half), min(1.0, middle + half)
    return Estimate(mean=mean, low=min(low, mean), high=max(high, mean), n=n)


def difference(ours: Sequence[float], theirs: Sequence[float]) -> Estimate | None:
    """The mean of ours − theirs, task by task, with the normal interval of paired differences; None below 30 pairs.

    Newcombe (1998), Statistics in Medicine 17, compares it with others: at some hundreds of pairs it is good enough.
    """
    pairs = [mine - other for mine, other in zip(ours, theirs, strict=True)]
    if len(pairs) < FEW:
        return None
    mean, half = fmean(pairs), Z * stdev(pairs) / math.sqrt(len(pairs))
    return Estimate(mean=mean, low=mean - half, high=mean + half, n=len(pairs))


def labels_for(half: float, *, mean: float) -> int:
    """How many labels make the interval around a share about ± ``half``."""
    worst = min(max(mean, 0.1), 0.9)
    return math.ceil(Z * Z * worst * (1 - worst) / (half * half))
