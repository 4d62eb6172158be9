"""Small bounds: of a share, of a ratio of means, of how many labels are needed at least, of a fixed batch, of many promises at once."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

Name = TypeVar("Name", bound=Hashable)


class Ends(NamedTuple):
    """The two ends of an interval."""

    low: float
    high: float


def clopper_pearson(count: int, n: int, delta: float) -> Ends:
    """Exact bounds of a share that was seen ``count`` times in ``n``; each end by itself fails with probability at most ``delta``.

    For a two-sided interval of level 1 − δ give δ/2. n = 0 gives (0, 1). Source: Clopper and Pearson 1934, Biometrika 26.
    """
    if not 0 <= count <= n:
        raise ValueError(f"{count} of {n} cannot be")
    if not 0 < delta < 1:
        raise ValueError(f"delta must be between 0 and 1, not {delta!r}")
    low = float(special.betaincinv(count, n - count + 1, delta)) if count else 0.0
    high = float(special.betaincinv(count + 1, n - count, 1 - delta)) if count < n else 1.0
    return Ends(low, high)


def fewest_labels(rho: float, delta: float, frontier: float) -> int:
    """Fewest labelled tasks with which a policy without a single harm could be certified: ⌈ln(1/δ)/(q·ln(1/ρ))⌉ (METHODS §2).

    ``frontier`` is its mean score q, in (0, 1]. That many labels certify a policy like the frontier itself; expect to need 2 to 4 times as many.
    Raises ValueError for rho or delta outside (0, 1), since no number of labels would do.
    """
    if not (0 < rho < 1 and 0 < delta < 1 and 0 < frontier <= 1):
        raise ValueError(
            f"need target and delta between 0 and 1 and a frontier that is right at times, not {rho}, {delta}, {frontier}"
        )
    return math.ceil(math.log(1 / delta) / (frontier * math.log(1 / rho)) - 1e-9)


def batch_delta(delta: float, tasks: int, batch: float) -> float:
    """The level at which to test where the promise is about one fixed batch of ``batch`` tasks, not about the population.

    The batch's own mean has noise too: δ' = Φ̄(Φ̄⁻¹(δ)·√(1 + tasks/batch)), with ``tasks`` in the certify half. Equal to δ for an endless batch. Holds for
    δ < ½, by the normal approximation. Raises ValueError otherwise.
    """
    if not (0 < delta < 0.5 and tasks >= 0 and batch > 0):
        raise ValueError(f"need delta below one half and a batch of at least one task, not {delta}, {tasks}, {batch}")
    return float(special.ndtr(special.ndtri(delta) * math.sqrt(1 + tasks / batch)))


def bootstrap_ratio(
    over: ArrayLike,
    under: ArrayLike,
    *,
    groups: Sequence[Hashable] | None = None,
    seed: int = 0,
    draws: int = 2000,
    level: float = 0.95,
) -> Ends:
    """Percentile interval of mean(over)/mean(under), paired: whole tasks are drawn, or whole groups (a user's tasks) where given.

    Both of shape (tasks,). Draws whose denominator is 0 are left out; (0, inf) where all are. The same for a seed. Raises
    ValueError for no tasks or lengths that differ. Source: Efron and Tibshirani 1993, chapters 8 and 13.
    """
    top, bottom = np.asarray(over, float), np.asarray(under, float)
    if top.ndim != 1 or top.shape != bottom.shape or not top.size or (groups is not None and len(groups) != top.size):
        raise ValueError("need two lists of one length, with at least one task, and a group for each")
    if groups is not None:
        index: dict[Hashable, int] = {}
        place = np.array([index.setdefault(group, len(index)) for group in groups])
        top, bottom = np.bincount(place, top), np.bincount(place, bottom)
    rng = np.random.default_rng(seed)
    n = top.size
    block = max(1, 2_000_000 // n)  # draws at once, for memory
    ratios: list[NDArray[np.float64]] = []
    for start in range(0, draws, block):
        drawn = rng.integers(0, n, (min(block, draws - start), n))
        sums = bottom[drawn].sum(1)
        ratios.append(top[drawn].sum(1)[sums > 0] / sums[sums > 0])
    all_ratios = np.concatenate(ratios)
    if not all_ratios.size:
        return Ends(0.0, math.inf)
    low, high = np.quantile(all_ratios, [(1 - level) / 2, (1 + level) / 2])
    return Ends(float(low), float(high))


def holm(p_values: Mapping[Name, float]) -> dict[Name, float]:
    """Adjusted p-values of a family: those at most δ hold all at once with confidence 1 − δ, however they depend on each other.

    Step down from the smallest: the i-th of n times n − i + 1, never falling. Keeps the order of the mapping.
    Source: Holm 1979, "A simple sequentially rejective multiple test procedure".
    """
    adjusted: dict[Name, float] = {}
    least = 0.0
    for place, name in enumerate(sorted(p_values, key=lambda name: p_values[name])):
        least = max(least, min(1.0, p_values[name] * (len(p_values) - place)))
        adjusted[name] = least
    return {name: adjusted[name] for name in p_values}
