"""Quality against cost: the axes, the names beside the points, and the drawing of a replay.

Up is better, left is cheaper. Where the dearest costs far more than the cheapest, the axis of cost is logarithmic.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from markupsafe import Markup

from orchestrion.domain import NANOS_PER_DOLLAR, dollars
from orchestrion.report.facts import Estimate, Way
from orchestrion.report.plots import WIDTH, clip, figure, wide
from orchestrion.report.words import NBSP, percent, places, short

LEFT, RIGHT, TOP, BOTTOM = 46, 14, 14, 44
LINE = 14
LETTER = 7.4
"""The height of a line, and the width of a letter."""

FAR = 8
"""Where the dearest costs so many times the cheapest, the axis of cost is logarithmic."""


@dataclass(frozen=True, slots=True)
class Axes:
    """Where a cost (nano-dollars, from ``cheapest`` to ``dearest``) and a share (``low`` to ``high``) lie in a drawing."""

    cheapest: float
    dearest: float
    low: float
    high: float
    width: float = WIDTH
    height: float = 340

    @classmethod
    def around(
        cls, costs: Sequence[float], shares: Sequence[float], *, width: float = WIDTH, height: float = 340
    ) -> Axes:
        """Axes that hold all of these, and a little more."""
        low, high = _range(min(shares), max(shares))
        return cls(min(costs), max(costs), low, high, width, height)

    @property
    def far(self) -> bool:
        """Whether the axis of cost is logarithmic."""
        return self.cheapest > 0 and self.dearest > FAR * self.cheapest

    def x(self, cost: float) -> float:
        """The place of a cost."""
        scale = math.log10 if self.far else float
        low, high = (scale(self.cheapest), scale(self.dearest)) if self.far else (0.0, self.dearest or 1.0)
        room = (high - low) * 0.06 or 1.0
        return LEFT + (scale(cost) - low + room) / (high - low + 2 * room) * (self.width - LEFT - RIGHT)

    def y(self, share: float) -> float:
        """The place of a share."""
        return TOP + (self.high - share) / (self.high - self.low) * (self.height - TOP - BOTTOM)

    def draw(self, cost: str) -> Markup:
        """The lines of the shares, and the marks of the costs. ``cost`` says what the cost is of."""
        name = Markup('<text class="axis" x="{x}" y="{y}" text-anchor="end">{name} →</text>').format(
            x=self.width - RIGHT, y=self.height - 6, name=cost
        )
        return Markup().join([*self._shares(), *self._costs(), name])

    def _shares(self) -> Iterator[Markup]:
        span = self.high - self.low
        step = 0.05 if span <= 0.3 else 0.1 if span <= 0.6 else 0.2
        line = Markup(
            '<path class="tick" d="M{left} {y:.1f}H{right}"/><text class="axis" x="{x}" y="{ty:.1f}" text-anchor="end">{share}</text>'
        )
        for i in range(int(span / step + 1e-9) + 1):
            share = self.low + i * step
            y, said = self.y(share), f"{share * 100:.0f}{NBSP}%"
            yield line.format(left=LEFT, right=self.width - RIGHT, y=y, ty=y + 4, x=LEFT - 6, share=said)

    def _costs(self) -> Iterator[Markup]:
        bottom = self.height - BOTTOM
        mark = Markup(
            '<path class="tick" d="M{x:.1f} {y}v5"/><text class="axis" x="{x:.1f}" y="{ty}" text-anchor="middle">{cost}</text>'
        )
        most = int((self.width - LEFT - RIGHT) / 64)
        for cost in _logarithmic(self, most) if self.far else _linear(self, most):
            yield mark.format(x=self.x(cost), y=bottom, ty=bottom + 18, cost=_round(cost))


def _linear(axes: Axes, most: int) -> list[float]:
    """Round costs, at even distances, from nothing on."""
    if not axes.dearest:
        return [0.0]
    step = next(step for step in _rounds(axes.dearest / most) if axes.dearest / step <= most - 1)
    return [i * step for i in range(int(axes.dearest / step + 1e-9) + 1)]


def _logarithmic(axes: Axes, most: int) -> list[float]:
    """Round costs between the cheapest and the dearest: 1, 2 and 5 of each power of ten, or fewer."""
    first, last = math.floor(math.log10(axes.cheapest)), math.floor(math.log10(axes.dearest))
    for digits, apart in (((1, 2, 5), 1), ((1, 3), 1), ((1,), 1), ((1,), 2), ((1,), 3)):
        marks = [digit * 10.0**power for power in range(first, last + 1, apart) for digit in digits]
        marks = [mark for mark in marks if axes.cheapest * 0.99 <= mark <= axes.dearest * 1.01]
        if len(marks) <= most:
            break
    return marks


def _rounds(least: float) -> Iterator[float]:
    power = math.floor(math.log10(least))
    while True:
        yield from (digit * 10.0**power for digit in (1, 2, 5))
        power += 1


def _round(cost: float) -> str:
    """A round cost without needless zeros."""
    value = cost / NANOS_PER_DOLLAR
    said = f"{value:,.9f}".rstrip("0").rstrip(".")
    return f"${said}" if value < 10**4 else f"${value / 1000:,.0f}k"


def _range(low: float, high: float) -> tuple[float, float]:
    """Whole twentieths around both, at least a fifth apart, within [0, 1]."""
    bottom, top = math.floor(low * 20) / 20, math.ceil(high * 20) / 20
    if top - bottom < 0.2:
        bottom, top = max(0.0, top - 0.2), max(top, min(1.0, bottom + 0.2))
    return bottom, top


# Names --------------------------------------------------------------------------------------------------------------


class Box(NamedTuple):
    """Where a text or a mark stands: one line high."""

    left: float
    middle: float
    width: float

    def meets(self, other: Box) -> bool:
        """Whether they overlap."""
        return (
            abs(self.middle - other.middle) < LINE
            and self.left < other.left + other.width
            and other.left < self.left + self.width
        )

    def meets_any(self, others: Iterable[Box]) -> bool:
        """Whether it overlaps one of them."""
        return any(self.meets(other) for other in others)


class Named(NamedTuple):
    """A point and the name that stands beside it."""

    name: str
    x: float
    y: float


def names(axes: Axes, points: Sequence[Named], *, taken: Sequence[Box] = (), better: Sequence[Box] = ()) -> Markup:
    """A name beside each point, right or left of it, moved up or down where something stands there already.

    The first find their place first. No name stands on what is ``taken``, or, where there is room elsewhere, on ``better`` left free. A name
    for which there is no room is left out: the page has a table beside the drawing.
    """
    standing = [*taken, *(Box(point.x - 8, point.y, 16) for point in points)]
    room = int(((axes.width - LEFT - RIGHT) / 2 - 11) / LETTER)
    found = []
    for name, x, y in points:
        shown = clip(name, min(28, room))
        width = LETTER * wide(shown)
        free = [box for box in _places(axes, x, y, width) if not box.meets_any(standing)]
        place = next((box for box in free if not box.meets_any(better)), next(iter(free), None))
        if place is None:
            continue
        standing.append(place)
        right = place.left > x
        end = place.left if right else place.left + width
        if place.middle != y:
            lead = Markup('<path class="lead" d="M{x:.1f} {y:.1f}L{end:.1f} {middle:.1f}"/>')
            found.append(lead.format(x=x, y=y, end=end, middle=place.middle))
        mark = Markup('<text class="label" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{name}</text>')
        found.append(mark.format(x=end, y=place.middle + 4, anchor="start" if right else "end", name=shown))
    return Markup().join(found)


def _places(axes: Axes, x: float, y: float, width: float) -> Iterator[Box]:
    """Boxes beside a point, the nearest first, within the drawing."""
    for shift in sorted(range(-70, 71, 7), key=abs):
        for left in (x + 11, x - 11 - width):
            inside = left >= LEFT - 4 and left + width <= axes.width
            if inside and TOP <= y + shift <= axes.height - BOTTOM - 6:
                yield Box(left, y + shift, width)


# A replay -----------------------------------------------------------------------------------------------------------


def quality_against_cost(ways: Sequence[Way]) -> Markup:
    """A point for each way with a known quality: policies are diamonds, single workers circles."""
    known = [(way, way.quality) for way in ways if way.quality and way.tasks]
    if not known:
        return Markup()
    shares = [share for _, quality in known for share in (quality.low, quality.high)]
    axes = Axes.around([way.cost / way.tasks for way, _ in known], shares)
    at = [Named(short(way.name), axes.x(way.cost / way.tasks), axes.y(quality.mean)) for way, quality in known]
    marks = [_point(way, quality, axes) for way, quality in known]
    spoken = "; ".join(
        f"{short(way.name)}: {percent(q.mean, places(q))} right at {dollars(way.cost // way.tasks)} a task"
        for way, q in known
    )
    log = " The axis of cost is logarithmic." if axes.far else ""
    return figure(
        axes.height,
        "Quality against cost",
        f"Up is better, left is cheaper. Diamonds are policies, circles single workers; lines are 95 % intervals.{log} {spoken}.",
        Markup().join([axes.draw("cost of a task"), names(axes, sorted(at, key=lambda one: one.y)), *marks]),
        kind="points",
    )


def _point(way: Way, quality: Estimate, axes: Axes) -> Markup:
    x, middle = axes.x(way.cost / way.tasks), axes.y(quality.mean)
    whisker = Markup('<path class="whisker" d="M{x:.1f} {high:.1f}V{low:.1f}"/>').format(
        x=x, high=axes.y(quality.high), low=axes.y(quality.low)
    )
    if way.kind == "policy":
        return whisker + diamond(x, middle, 7)
    return whisker + Markup('<circle class="worker" cx="{x:.1f}" cy="{y:.1f}" r="4.5"/>').format(x=x, y=middle)


def diamond(x: float, y: float, size: float, kind: str = "policy") -> Markup:
    """A policy's mark."""
    return Markup('<path class="{kind}" d="M{x:.1f} {top:.1f}l{s} {s}l-{s} {s}l-{s}-{s}z"/>').format(
        kind=kind, x=x, top=y - size, s=size
    )
