"""The test of a promise about the mean where many tasks have answers and few have labels.

Where policy and frontier give the same answer their scores are the same, whatever they are. So of N tasks with answers, K of them with answers that
differ, labels are worth most among the K. Two random samples are labelled: k of the K, and, for the frontier's level, n of the N − K. With
600 answers of which a quarter differ, 120 + 30 labels certify a policy of loss .013 for ρ = .95 twice as often as 150 at random do (80 % against 41 %).
Labels that were all drawn at random gain nothing from more answers: for those take exact.py, and settle which before looking at scores.

Per task that differs, with shares h of harms, g of gains, b of both right; a: how often the frontier is right where answers are the same; o = (1 − d)/d
such tasks for each one that differs. The loss of quality is at least r (as in exact.py; r = (1 − ρ)/p for a diluted policy) iff

    g − h + r·(h + b + o·a) ≤ 0,        estimated, k times, by     T = n01 − n10 + r·(n10 + n11 + k·ô·â).

Harms and gains are the noise that matters; they are summed exactly, as in exact.py: for each number of gains, at most c harms are as extreme as what was
seen, by T over its null standard deviation. The slack has noise too: of â (binomial, summed over a few nodes of its exact distribution), and of ô and n11
(small, taken as normal, three nodes of Gauss and Hermite). The p-value is the maximum over g in a 99.9 % interval and over a in another, plus .002. b and o are
put in as estimated, for which the tail is taken a tenth higher. So the level is not exact as in exact.py, but simulated: at or below δ at the boundary.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from orchestrion.tuning.bounds import clopper_pearson
from orchestrion.tuning.exact import NUISANCE_MISS, ROUNDING, WINDOW, Counts, at_most, binomial, over_interval

Floats = NDArray[np.float64]

PLUGGED_IN = 1.1  # simulated at the boundary, what is put in as estimated raises the level by up to a tenth of itself
GAIN_POINTS = 9
RIGHT_POINTS = 3
RIGHT_NODES = 5
HERMITE = ((-np.sqrt(3.0), 1 / 6), (0.0, 2 / 3), (np.sqrt(3.0), 1 / 6))  # nodes and weights of a standard normal


class Sparse(NamedTuple):
    """What is known: of ``tasks`` with answers ``differ`` have different ones.

    ``labelled`` of those that differ, drawn at random, gave ``counts``; ``checked`` of those with the same answer, drawn at random, were labelled, and
    ``right`` of these answers are right. "Differ" is between this policy and the frontier: where labels were drawn for several policies' differences, take
    ``checked`` from those that were drawn from all tasks alone.
    """

    tasks: int
    differ: int
    labelled: int
    counts: Counts
    checked: int
    right: int


def loss_p_value(seen: Sparse, loss: float) -> float:
    """p-value of "g loses more than ``loss`` of the frontier's mean score". 0 for a loss of 1; 1 where no differing task is labelled.

    Raises ValueError for counts that cannot be, or a loss below 0.
    """
    both, harms, gains = seen.counts
    if not (0 <= both + harms + gains <= seen.labelled <= seen.differ <= seen.tasks) or min(seen.counts) < 0:
        raise ValueError(f"these counts cannot be: {seen}")
    if not 0 <= seen.right <= seen.checked <= seen.tasks - seen.differ:
        raise ValueError(f"these counts cannot be: {seen}")
    if not loss >= 0:
        raise ValueError("a loss must be at least 0")
    if loss >= 1 - ROUNDING:
        return 0.0
    if not seen.labelled:
        return 1.0 if seen.differ or not seen.right else 0.0
    return _Test(seen, loss).p_value()


def loss_bound(seen: Sparse, delta: float) -> float:
    """The least loss that can be promised with confidence 1 − ``delta``, by bisection as in ``exact.loss_bound``."""
    low, high = 0.0, 1.0
    if loss_p_value(seen, low) <= delta:
        return low
    while high - low > 1e-3 * high:
        middle = (low + high) / 2
        low, high = (low, middle) if loss_p_value(seen, middle) <= delta else (middle, high)
    return high


class _Test:
    """One p-value: what was seen, at one loss."""

    def __init__(self, seen: Sparse, loss: float) -> None:
        self.r, self.k, self.seen = loss, seen.labelled, seen
        rest = self.k - seen.counts.harms - seen.counts.gains
        self.beta = (seen.counts.both + 0.5) / (rest + 1)  # both right, of the labelled that are neither harm nor gain
        self.odds = (seen.tasks - seen.differ) / seen.differ
        d = seen.differ / seen.tasks
        self.odds_variance = (1 - d) / (d**3 * seen.tasks)
        self.rest_variance = rest * self.beta * (1 - self.beta)

    def p_value(self) -> float:
        both, harms, gains = self.seen.counts
        n, right = self.seen.checked, self.seen.right
        a_hat = (right + 0.5) / (n + 1)
        slack = np.array(both + self.k * self.odds * (right / n if n else 0.0))
        observed = float(
            (gains - harms + self.r * (harms + slack)) / self._deviation(np.array(float(gains)), np.array(a_hat))
        )
        tails = [self._tail(observed, a) for a in self._rights()]
        return min(1.0, PLUGGED_IN * max(tails) + 2 * NUISANCE_MISS)

    def _rights(self) -> Floats:
        n, right = self.seen.checked, self.seen.right
        ends = clopper_pearson(right, n, NUISANCE_MISS / 2)
        return over_interval(ends.low, ends.high, RIGHT_POINTS) if n else np.array([0.0])

    def _harm(self, g: Floats, a: Floats) -> Floats:
        """Share of harms on the boundary, where g are gains and β of the rest are both right."""
        r, beta = self.r, self.beta
        return (g + r * (self.odds * a + (1 - g) * beta)) / (1 - r + r * beta)

    def _deviation(self, k: Floats, a: Floats) -> Floats:
        """Standard deviation of T on the boundary, where k of the labelled are gains."""
        r, g = self.r, (k + 0.5) / (self.k + 1)
        h = np.minimum(self._harm(g, a), 1 - g)
        b = (1 - g - h) * self.beta
        mean = g - (1 - r) * h + r * b
        inner = self.k * np.maximum(g + (1 - r) ** 2 * h + r**2 * b - mean**2, 0)
        level = self.odds**2 * a * (1 - a) / max(self.seen.checked, 1) + a**2 * self.odds_variance
        return np.sqrt(inner + (r * self.k) ** 2 * level)

    def _tail(self, observed: float, a: float) -> float:
        """The largest tail over shares of gains, for one level of the frontier where answers are the same; 0 where no null has it."""
        n, gains = self.k, self.seen.counts.gains
        most = self._most_gains(a)
        if most < 0:
            return 0.0
        ends = clopper_pearson(gains, n, NUISANCE_MISS / 2)
        g = over_interval(min(ends.low, most), min(ends.high, most), GAIN_POINTS)
        half = np.ceil(WINDOW * np.sqrt(n * g * (1 - g)).max()) + 5
        k = np.clip(np.round(n * g)[:, None] + np.arange(-half, half + 1), -1, n + 1)
        possible = (k >= 0) & (k <= n)
        k = np.where(possible, k, 0)
        weight = np.where(possible, binomial(k, n, g[:, None]), 0)
        harmful = np.minimum(self._harm(g, np.array(a)) / (1 - g), 1)[:, None]
        inside = np.zeros_like(weight)
        for right, chance in self._levels(a):
            a_seen = np.array((right * self.seen.checked + 0.5) / (self.seen.checked + 1))
            spread = np.sqrt(self.rest_variance + (self.k * right) ** 2 * self.odds_variance)
            limit = observed * self._deviation(k, a_seen)
            for z, part in HERMITE:
                slack = self.k * self.odds * right + spread * z
                c = (k + self.r * (slack + (n - k) * self.beta) - limit) / (1 - self.r + self.r * self.beta)
                inside += chance * part * at_most(np.floor(c + ROUNDING), n - k, harmful)
        return float(((weight * inside).sum(1) + 1 - weight.sum(1)).max())

    def _most_gains(self, a: float) -> float:
        """The g at which harms and gains fill all, h(g) = 1 − g; below 0 where harms alone could not use up the slack."""
        r, beta = self.r, self.beta
        scale = 1 - r + r * beta
        return (scale - r * (self.odds * a + beta)) / (scale + 1 - r * beta)

    def _levels(self, a: float) -> list[tuple[float, float]]:
        """Nodes of â: the binomial's values in about equal parts, each at its mean."""
        n = self.seen.checked
        if not n:
            return [(0.0, 1.0)]
        s = np.arange(n + 1.0)
        chance = binomial(s, n, np.array(a))
        part = np.minimum((np.cumsum(chance) - chance / 2) * RIGHT_NODES, RIGHT_NODES - 1e-9).astype(int)
        weight = np.bincount(part, chance, RIGHT_NODES)
        mean = np.bincount(part, chance * s, RIGHT_NODES)
        return [(m / w / n, w) for m, w in zip(mean, weight, strict=True) if w > 1e-12]
