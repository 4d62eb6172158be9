"""The drawing of a tuning: quality against cost for every policy that was tried, and where the promised ones stand."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

from markupsafe import Markup
from msgspec.structs import replace

from orchestrion.domain import NANOS_PER_DOLLAR
from orchestrion.report import promised
from orchestrion.report.plots import figure
from orchestrion.report.scatter import BOTTOM, LEFT, RIGHT, TOP, Axes, Box, Named, diamond, names
from orchestrion.tuning.facts import Interval, Point, Promise, Tuned

MOST_DOTS = 1500
"""So many policies are drawn besides the hull's."""


class Size(NamedTuple):
    """One drawing is made for a desk and for paper, another for a phone: the letters keep their size."""

    name: str
    width: float
    height: float


SIZES = (Size("wide", 720, 440), Size("narrow", 350, 420))


class Tried(NamedTuple):
    """What is drawn. ``dots`` are a sample of the ``tried`` policies where there are very many."""

    hull: Sequence[Point]
    dots: Sequence[Point]
    tried: int
    workers: Sequence[Point]
    frontier: Point
    oracle: Point
    promises: Sequence[tuple[Promise, Point]]

    @property
    def sampled(self) -> bool:
        """Whether only some are drawn."""
        return len(self.dots) == MOST_DOTS

    @property
    def all(self) -> list[Point]:
        """Every point."""
        return [
            *self.hull,
            *self.dots,
            *self.workers,
            self.frontier,
            self.oracle,
            *(point for _, point in self.promises),
        ]


def tried(tuned: Tuned) -> Tried:
    """The points of a tuning, sorted out and thinned."""
    points = [one for one in tuned.points if _known(one)]
    found = {kind: [one for one in points if one.kind == kind] for kind in ("worker", "policy", "chosen")}
    policies = [one for one in (*found["policy"], *found["chosen"]) if not one.hull]
    few = len(policies) < MOST_DOTS
    alone = Point(name=tuned.frontier.name, kind="frontier", quality=tuned.frontier.quality, cost=tuned.frontier.cost)
    oracle = Point(name=tuned.oracle.name, kind="oracle", quality=tuned.oracle.quality, cost=tuned.oracle.cost)
    return Tried(
        hull=sorted(
            (one for one in points if one.hull and one.kind != "oracle"), key=lambda one: (one.cost, one.quality)
        ),
        dots=policies if few else random.Random(tuned.seed).sample(policies, MOST_DOTS),  # noqa: S311 - a drawing, not a secret
        tried=len(found["policy"]) + len(found["chosen"]),
        workers=found["worker"],
        frontier=next((one for one in points if one.kind == "frontier"), alone),
        oracle=next((one for one in points if one.kind == "oracle"), oracle),
        promises=[(one, point) for one in tuned.promises if one.certified and _known(point := _where(one, points))],
    )


def _known(point: Point) -> bool:
    return math.isfinite(point.quality) and math.isfinite(point.cost)


def _where(promise: Promise, points: Sequence[Point]) -> Point:
    """Where a promised policy stands: among the others, or else where replay found it."""
    quality, cost = promise.realised
    found = Point(name=promise.words, kind="chosen", quality=quality, cost=cost)
    chosen = next((one for one in points if one.kind == "chosen" and one.name == promise.words), found)
    return replace(chosen, hull=False)


def drawings(tuned: Tuned, shown: Tried) -> list[Markup]:
    """The same drawing for each size; empty where no figures are known."""
    if not all(map(_known, (shown.frontier, shown.oracle))):
        return []
    return [_drawing(tuned, shown, size) for size in SIZES]


def _drawing(tuned: Tuned, shown: Tried, size: Size) -> Markup:
    intervals = [_interval(promise, point) for promise, point in shown.promises[:1]]
    least = _least(tuned, shown)
    shares = [*(one.quality for one in shown.all), *(at for one in intervals for at in (one.low, one.high)), *least]
    axes = Axes.around(
        [one.cost * NANOS_PER_DOLLAR * 1000 for one in shown.all],
        [min(max(one, 0.0), 1.0) for one in shares],
        width=size.width,
        height=size.height,
    )
    marks = [
        axes.draw("cost of 1,000 tasks"),
        *(_floor(axes, share) for share in least),
        _dots(axes, shown.dots),
        _hull(axes, shown.hull),
        *(_mark(axes, one, "worker") for one in shown.workers),
        _mark(axes, shown.frontier, "best"),
        _oracle(axes, shown.oracle),
    ]
    taken: list[Box] = []
    for (promise, point), interval in zip(shown.promises, [*intervals, *[None] * len(shown.promises)], strict=False):
        if interval:
            cross, boxes = _cross(axes, promise, point, interval)
            marks.append(cross)
            taken += boxes
        marks.append(diamond(*_at(axes, point), *((8, "policy") if interval else (6, "open"))))
    named = [Named(name, *_at(axes, point)) for name, point in _named(tuned, shown)]
    marks.append(names(axes, named, taken=taken))
    return figure(
        size.height,
        "Quality against cost",
        _spoken(tuned, shown, axes),
        Markup().join(marks),
        kind=f"points {size.name}",
        width=size.width,
        name=f"tried-{size.name}",
    )


def _at(axes: Axes, point: Point) -> tuple[float, float]:
    return axes.x(point.cost * NANOS_PER_DOLLAR * 1000), axes.y(point.quality)


def _named(tuned: Tuned, shown: Tried) -> Iterator[tuple[str, Point]]:
    """Names in the order in which they find room: what matters most first."""
    for i, (promise, point) in enumerate(shown.promises):
        chosen = promise is tuned.promises[0] and not i
        yield f"{'chosen: ' if chosen else ''}{promised.title(promise.target)}", point
    yield shown.frontier.name, shown.frontier
    yield "hindsight oracle", shown.oracle
    yield from ((one.name, one) for one in sorted(shown.workers, key=lambda one: (not one.hull, -one.quality)))


def _least(tuned: Tuned, shown: Tried) -> list[float]:
    """The mean quality that is asked for, where it is a mean that is asked for."""
    target = tuned.promises[0].target
    return [target.quality * shown.frontier.quality] if target.kind == "mean" else []


def _floor(axes: Axes, share: float) -> Markup:
    return Markup('<path class="least" d="M{left} {y:.1f}H{right}"/>').format(
        left=LEFT, y=axes.y(share), right=axes.width - RIGHT
    )


def _dots(axes: Axes, points: Sequence[Point]) -> Markup:
    """All of them as one line with round ends: a few bytes each. Two on one spot are one."""
    spots = sorted({(round(x * 2) / 2, round(y * 2) / 2) for x, y in (_at(axes, point) for point in points)})
    return Markup('<path class="dots" d="{line}"/>').format(line="".join(f"M{x:g} {y:g}h.01" for x, y in spots))


def _hull(axes: Axes, points: Sequence[Point]) -> Markup:
    """What mixes of two reach between them: straight where the axis of cost is, else bent."""
    if not points:
        return Markup()
    corners = [_at(axes, one) for one in points]
    line = [corners[0]]
    for one, other in pairwise(points):
        parts = 12 if axes.far else 1
        for i in range(1, parts + 1):
            cost = one.cost + (other.cost - one.cost) * i / parts
            quality = one.quality + (other.quality - one.quality) * i / parts
            line.append(_at(axes, replace(one, cost=cost, quality=quality)))
    return Markup('<path class="hull" d="M{line}"/><path class="corners" d="{corners}"/>').format(
        line="L".join(f"{x:.1f} {y:.1f}" for x, y in line), corners="".join(f"M{x:.1f} {y:.1f}h.01" for x, y in corners)
    )


def _mark(axes: Axes, point: Point, kind: str) -> Markup:
    x, y = _at(axes, point)
    return Markup('<circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="5"/>').format(kind=kind, x=x, y=y)


def _oracle(axes: Axes, point: Point) -> Markup:
    x, y = _at(axes, point)
    return Markup('<path class="open" d="M{x:.1f} {y:.1f}l6 11h-12z"/>').format(x=x, y=y - 7)


def _interval(promise: Promise, point: Point) -> Interval:
    """The interval of the ratio, around the point: relative to it as the ratio's is to the ratio."""
    return _around(promise.quality_ratio, point.quality)


def _around(ratio: Interval, value: float) -> Interval:
    known = ratio.value > 0 and math.isfinite(ratio.low) and math.isfinite(ratio.high)
    low, high = (value * ratio.low / ratio.value, value * ratio.high / ratio.value) if known else (value, value)
    return Interval(value, low, high)


def _cross(axes: Axes, promise: Promise, point: Point, quality: Interval) -> tuple[Markup, list[Box]]:
    """The intervals of quality and cost, and where they stand in the way of names."""
    cost = _around(promise.cost_ratio, point.cost)
    x, y = _at(axes, point)
    left, right = (
        min(max(_at(axes, replace(point, cost=max(at, 0.0) or point.cost))[0], LEFT), axes.width)
        for at in (cost.low, cost.high)
    )
    top, bottom = (min(max(axes.y(at), TOP), axes.height - BOTTOM) for at in (quality.high, quality.low))
    cross = Markup(
        '<path class="whisker" d="M{left:.1f} {y:.1f}H{right:.1f}M{left:.1f} {a:.1f}v6M{right:.1f} {a:.1f}v6'
        'M{x:.1f} {top:.1f}V{bottom:.1f}M{b:.1f} {top:.1f}h6M{b:.1f} {bottom:.1f}h6"/>'
    ).format(left=left, right=right, top=top, bottom=bottom, x=x, y=y, a=y - 3, b=x - 3)
    steps = range(int(top), int(bottom) + 1, 7)
    return cross, [Box(left, y, right - left), *(Box(x - 4, at, 8) for at in steps)]


def _spoken(tuned: Tuned, shown: Tried, axes: Axes) -> str:
    """The drawing for those who hear the page."""
    marked = [*_named(tuned, shown)]
    log = " The axis of cost is logarithmic." if axes.far else ""
    spoken = "; ".join(
        f"{name}: {promised.share(one.quality)} at {promised.thousand(one.cost)}" for name, one in marked
    )
    return f"Up is better, left is cheaper; the cost is of 1,000 tasks.{log} {spoken}. {shown.tried:,} policies were tried; the table has those that no mix beats."
