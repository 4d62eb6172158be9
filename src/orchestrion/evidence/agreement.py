"""How well a judge agrees with people, with 95 % intervals, in plain Python.

Every figure is a function of how often each cell (label, what the judge said, which answer is longer) occurs.
Proportions of independent tasks have Wilson's interval (Wilson 1927; Brown, Cai and DasGupta 2001). Where a question has
several labels, and for differences and kappa, the interval is the percentile bootstrap over whole questions (Efron and
Tibshirani 1993; clusters: Field and Welsh 2007), 1,000 draws from a fixed seed.
"""

from __future__ import annotations

import math
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from statistics import fmean, median
from typing import Any, TypeAlias

import msgspec

from orchestrion.domain import Money
from orchestrion.evidence.labelled import Pair, Scored

DRAWS = 1000
FEW = 30
"""With fewer labels, nothing is concluded."""
Z = 1.959964
Cell: TypeAlias = tuple[Any, ...]
Cells: TypeAlias = Counter[Cell]
Statistic: TypeAlias = Callable[[Cells], float | None]
Hit: TypeAlias = Callable[[Cell], bool | None]
"""Whether a cell counts as a hit; None: it does not count at all."""


class Estimate(msgspec.Struct, frozen=True):
    """A figure, its 95 % interval, and how many labels it is made of."""

    value: float
    low: float
    high: float
    n: int

    def beside(self, value: float) -> int:
        """1 where the whole interval is above a value, -1 where it is below, 0 where it is not told."""
        return (self.low > value) - (self.high < value)


class Agreement(msgspec.Struct, frozen=True, kw_only=True):
    """A judge beside people's labels. None where the labels do not tell.

    - ``gain``: the agreement above always saying what people say most often; for pairs with a tie counted half, above the
      best of always saying the same.
    - ``sensitivity``: of answers that people accept (pairs: at least as good as the other) the share that passes.
    - ``specificity``: of answers that they do not accept (pairs: worse than the other) the share that is refused.
    - ``length_bias``: how much oftener longer answers pass than shorter ones that people say the same of; for pairs, how
      much oftener than half the longer one is preferred, were it right in half of them.
    - ``saving``: how many times fewer labels of people an estimate needs at best that also uses the judge: 1/(1 − r²),
      r the correlation of judge and people (prediction-powered inference with unlimited judgements, Angelopoulos et al.
      2023, arXiv 2311.01453).
    - ``cost``: the mean of a judgement, nano-dollars.

    Of pairs only: ``decided``, the share with one winner in both orders; ``right_if_decided``; ``one_order``, the agreement of a
    single asking; ``flips``, the share where the orders disagree; ``first``, of single askings with a winner the share that
    prefers what is shown first; ``ties``, the share of single askings that are one.
    """

    kind: str
    labels: int
    questions: int
    unanswered: int
    agreement: Estimate
    majority: float
    majority_says: str
    gain: Estimate
    kappa: Estimate | None
    sensitivity: Estimate | None
    specificity: Estimate | None
    longer_favoured: Estimate | None
    longer_right: Estimate | None
    length_bias: Estimate | None
    saving: float | None
    cost: Money | None
    decided: Estimate | None = None
    right_if_decided: Estimate | None = None
    one_order: Estimate | None = None
    flips: Estimate | None = None
    first: Estimate | None = None
    ties: Estimate | None = None

    @property
    def better(self) -> bool:
        """Whether it is shown to be better than always saying what people say most often."""
        return self.gain.low > 0


class Table:
    """Cells in their clusters, and the bootstrap's draws of them."""

    def __init__(self, rows: Iterable[tuple[str, Cell]], *, seed: int = 7) -> None:
        clusters: dict[str, list[Cell]] = defaultdict(list)
        for cluster, cell in rows:
            clusters[cluster].append(cell)
        self.cells: Cells = Counter(cell for cells in clusters.values() for cell in cells)
        self.clusters = len(clusters)
        self.independent = all(len(cells) == 1 for cells in clusters.values())
        # Clusters that look the same are one kind, so a draw is a handful of counts: ten thousand labels take seconds.
        kinds: dict[tuple[Cell, ...], int] = {}
        kind_of = [kinds.setdefault(tuple(sorted(cells, key=repr)), len(kinds)) for cells in clusters.values()]
        rng = random.Random(seed)  # noqa: S311  # statistics, not secrets
        drawn = (Counter(rng.choices(kind_of, k=self.clusters)) for _ in range(DRAWS))
        self._draws = [_spread(draw, list(kinds)) for draw in drawn]

    def estimate(self, statistic: Statistic, *, n: int | None = None) -> Estimate | None:
        """A statistic with its bootstrap interval; None where the labels do not tell."""
        value = statistic(self.cells)
        if value is None:
            return None
        values = sorted(v for draw in self._draws if (v := statistic(draw)) is not None)
        low, high = values[int(0.025 * len(values))], values[math.ceil(0.975 * len(values)) - 1]
        return Estimate(value, low, high, self.cells.total() if n is None else n)

    def share(self, hit: Hit) -> Estimate | None:
        """A proportion with its interval; None where nothing counts."""
        k, n = _count(self.cells, hit)
        if not n:
            return None
        if self.independent:
            return Estimate(k / n, *wilson(k, n), n)
        found = self.estimate(lambda cells: _share(cells, hit), n=n)
        if found and found.low == found.high:  # all or none: the bootstrap knows of nothing else
            clusters = min(n, self.clusters)
            return Estimate(k / n, *wilson(k / n * clusters, clusters), n)
        return found


def of_scored(rows: Sequence[Scored]) -> Agreement:
    """Agreement of a judge that scores one answer. Cells: (people accept, judge passes or None, longer than the median).

    Raises ValueError without any row.
    """
    middle = median(len(row.output or "") for row in rows)
    table = Table((row.cluster, (row.accepted, row.passed, len(row.output or "") > middle)) for row in rows)
    common = _common(table.cells)
    unlike = len({len(row.output or "") for row in rows}) > 1
    return Agreement(
        kind="pointwise",
        labels=len(rows),
        questions=table.clusters,
        unanswered=sum(row.passed is None for row in rows),
        agreement=_certain(table.share(lambda c: c[0] == c[1])),
        majority=_majority(table.cells),
        majority_says="accepted" if common else "refused",
        gain=_certain(table.estimate(lambda cells: _agreed(cells, lambda c: c[1]) - _majority(cells))),
        kappa=table.estimate(lambda cells: _kappa(cells, lambda c: c[1])),
        sensitivity=table.share(lambda c: c[1] is True if c[0] else None),
        specificity=table.share(lambda c: c[1] is not True if not c[0] else None),
        longer_favoured=table.share(lambda c: c[1] is True if c[2] else None) if unlike else None,
        longer_right=table.share(lambda c: c[0] if c[2] else None) if unlike else None,
        length_bias=table.estimate(_length_bias_of_scores) if unlike else None,
        saving=_saving(table.cells, lambda c: (float(c[0]), float(c[1] is True))),
        cost=_cost(rows),
    )


def of_pairs(rows: Sequence[Pair]) -> Agreement:
    """Agreement of a judge that compares. Cells: (label, said with A first, said with B first, which is longer).

    What it says in the end is what both orders say; where they differ, a tie. Raises ValueError without any row.
    """
    table = Table((row.cluster, (row.label, *row.decisions, _longer(row))) for row in rows)
    steady = _best(table.cells)
    return Agreement(
        kind="pairwise",
        labels=len(rows),
        questions=table.clusters,
        unanswered=sum(None in row.decisions for row in rows),
        agreement=_certain(table.share(lambda c: _both(c) == c[0])),
        majority=_constant(table.cells, steady),
        majority_says=steady,
        gain=_certain(table.estimate(lambda cells: _half(cells) - _constant(cells, _best(cells)))),
        kappa=table.estimate(lambda cells: _kappa(cells, _both)),
        sensitivity=table.share(lambda c: None if c[0] == "A=B" else _both(c) in (c[0], "A=B")),
        specificity=table.share(lambda c: None if c[0] == "A=B" else _both(c) in (c[0], None)),
        longer_favoured=table.share(lambda c: _both(c) == c[3] if c[3] and _both(c) in WINNERS else None),
        longer_right=table.share(lambda c: c[0] == c[3] if c[3] and c[0] in WINNERS else None),
        length_bias=table.estimate(_length_bias_of_pairs),
        saving=_saving(table.cells, lambda c: (_VALUE[c[0]], _VALUE[_both(c) or "A=B"])),
        cost=_cost(rows),
        decided=table.share(lambda c: _both(c) in WINNERS),
        right_if_decided=table.share(lambda c: _both(c) == c[0] if _both(c) in WINNERS else None),
        one_order=table.estimate(_one_order),
        flips=table.share(lambda c: None if None in c[1:3] else c[1] != c[2]),
        first=table.estimate(_first),
        ties=table.estimate(lambda cells: _mean(cells, lambda c: [said == "A=B" for said in c[1:3] if said])),
    )


WINNERS = ("A>B", "B>A")
_VALUE = {"A>B": 1.0, "A=B": 0.5, "B>A": 0.0}


def wilson(k: float, n: int) -> tuple[float, float]:
    """Wilson's 95 % score interval of k hits in n."""
    p, z2 = k / n, Z * Z
    middle = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = Z / (1 + z2 / n) * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n))
    return (0.0 if k == 0 else max(0.0, middle - half)), (1.0 if k == n else min(1.0, middle + half))


def _spread(draw: Counter[int], kinds: Sequence[tuple[Cell, ...]]) -> Cells:
    """How often each cell is in a draw of kinds of clusters."""
    cells: Cells = Counter()
    for kind, times in draw.items():
        for cell in kinds[kind]:
            cells[cell] += times
    return cells


def _certain(found: Estimate | None) -> Estimate:
    if found is None:
        raise ValueError("there are no labels")
    return found


def _count(cells: Cells, hit: Hit) -> tuple[int, int]:
    """Hits, and how many count."""
    k = n = 0
    for cell, times in cells.items():
        counted = hit(cell)
        if counted is not None:
            n += times
            k += times * counted
    return k, n


def _share(cells: Cells, hit: Hit) -> float | None:
    k, n = _count(cells, hit)
    return k / n if n else None


def _mean(cells: Cells, values: Callable[[Cell], Sequence[float]]) -> float | None:
    """The mean of all values of all cells."""
    k, n = 0.0, 0
    for cell, times in cells.items():
        found = values(cell)
        k += times * sum(found)
        n += times * len(found)
    return k / n if n else None


def _common(cells: Cells) -> Any:
    """What people say most often."""
    labels: Counter[Any] = Counter()
    for cell, times in cells.items():
        labels[cell[0]] += times
    return max(labels, key=lambda label: (labels[label], str(label)))


def _majority(cells: Cells) -> float:
    common = _common(cells)
    return _share(cells, lambda c: c[0] == common) or 0.0


def _agreed(cells: Cells, said: Callable[[Cell], Any]) -> float:
    return _share(cells, lambda c: said(c) == c[0]) or 0.0


def _kappa(cells: Cells, said: Callable[[Cell], Any]) -> float | None:
    """Cohen's kappa (1960): agreement beyond chance; None where chance alone agrees always."""
    n = cells.total()
    people: Counter[Any] = Counter()
    judge: Counter[Any] = Counter()
    for cell, times in cells.items():
        people[cell[0]] += times
        judge[said(cell)] += times
    chance = sum(people[label] * judge[label] for label in people) / (n * n)
    return None if chance == 1 else (_agreed(cells, said) - chance) / (1 - chance)


def _saving(cells: Cells, values: Callable[[Cell], tuple[float, float]]) -> float | None:
    """1/(1 − r²); None where one side never varies, or r is 1."""
    n = cells.total()
    pairs = [(*values(cell), times) for cell, times in cells.items()]
    x_mean, y_mean = (sum(pair[i] * pair[2] for pair in pairs) / n for i in (0, 1))
    xx = sum((x - x_mean) ** 2 * times for x, _, times in pairs)
    yy = sum((y - y_mean) ** 2 * times for _, y, times in pairs)
    xy = sum((x - x_mean) * (y - y_mean) * times for x, y, times in pairs)
    if not xx or not yy or xy * xy >= xx * yy * (1 - 1e-12):
        return None
    return 1 / (1 - xy * xy / (xx * yy)) if xy > 0 else 1.0


def _cost(rows: Sequence[Scored] | Sequence[Pair]) -> Money | None:
    """The mean cost of a judgement, rounded up; None where no cost is known."""
    known = [row.cost for row in rows if row.cost is not None]
    return math.ceil(fmean(known)) if known else None


def _length_bias_of_scores(cells: Cells) -> float | None:
    """How much oftener longer answers pass than shorter ones that people say the same of (Mantel and Haenszel's weights)."""
    total = weights = 0.0
    for label in (True, False):
        same = Counter({cell: times for cell, times in cells.items() if cell[0] is label})
        longer, n_longer = _count(same, lambda c: (c[1] is True) if c[2] else None)
        shorter, n_shorter = _count(same, lambda c: None if c[2] else c[1] is True)
        if n_longer and n_shorter:
            weight = n_longer * n_shorter / (n_longer + n_shorter)
            total += weight * (longer / n_longer - shorter / n_shorter)
            weights += weight
    return total / weights if weights else None


def _length_bias_of_pairs(cells: Cells) -> float | None:
    """How often the longer one is preferred above one half, if it were right in half of the pairs."""

    def decided(cell: Cell) -> bool:
        return bool(cell[3]) and cell[0] in WINNERS and _both(cell) in WINNERS

    right = _share(cells, lambda c: _both(c) == c[3] if decided(c) and c[0] == c[3] else None)
    wrong = _share(cells, lambda c: _both(c) == c[3] if decided(c) and c[0] != c[3] else None)
    return None if right is None or wrong is None else (right + wrong) / 2 - 0.5


def _both(cell: Cell) -> str | None:
    """What the two orders say together; None where one gave no usable answer."""
    one, two = cell[1:3]
    return None if one is None or two is None else one if one == two else "A=B"


def _half(cells: Cells) -> float:
    """Agreement where a tie, which commits to nothing, is worth half of what a winner is."""
    return _mean(cells, lambda c: [_worth(_both(c), c[0])]) or 0.0


def _worth(said: str | None, label: str) -> float:
    return 1.0 if said == label else 0.5 if said == "A=B" else 0.0


def _constant(cells: Cells, said: str) -> float:
    """What always saying the same is worth by the same measure: with ties among the labels, always a tie may be worth most."""
    return _mean(cells, lambda c: [_worth(said, c[0])]) or 0.0


def _best(cells: Cells) -> str:
    """What is best said by whoever always says the same."""
    return max(("B>A", "A>B", "A=B"), key=lambda said: _constant(cells, said))


def _one_order(cells: Cells) -> float | None:
    return _mean(cells, lambda c: [said == c[0] for said in c[1:3]])


def _first(cells: Cells) -> float | None:
    """A is shown first in the first order, B in the second."""
    return _mean(
        cells, lambda c: [said == first for said, first in zip(c[1:3], WINNERS, strict=True) if said in WINNERS]
    )


def _longer(row: Pair) -> str | None:
    a, b = len(row.a), len(row.b)
    return None if a == b else "A>B" if a > b else "B>A"
