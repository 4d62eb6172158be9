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
from orchestrion.policy.certificate import Target
from orchestrion.report import promised
from orchestrion.report.plots import figure
from orchestrion.report.scatter import LEFT, LINE, RIGHT, Axes, Box, Named, diamond, names
from orchestrion.tuning.facts import Interval, Point, PointKind, Promise, Tuned, WorkerFacts

MOST_DOTS = 1500
"""So many policies are drawn besides the hull's."""


UNIT = NANOS_PER_DOLLAR * 1000
"""The drawing's costs are nano-dollars of 1,000 tasks."""

PARTS = 16
"""So many straight pieces make a bent one."""


class Size(NamedTuple):
    """One drawing is made for a desk and for paper, another for a phone: the letters keep their size."""

    name: str
    width: float
    height: float


SIZES = (Size("wide", 720, 440), Size("narrow", 350, 420))


class Chosen(NamedTuple):
    """Where the promised policy stands, with its intervals: those of the ratios to the frontier, put around the point."""

    point: Point
    quality: Interval
    cost: Interval


class Tried(NamedTuple):
    """What is drawn. ``dots`` are those below the hull, or a sample of them; ``others`` the promises made for comparison, by their names."""

    tried: int
    hull: Sequence[Point]
    dots: Sequence[Point]
    workers: Sequence[Point]
    frontier: Point
    oracle: Point
    chosen: Chosen | None
    others: Sequence[tuple[str, Point]]

    @property
    def sampled(self) -> bool:
        """Whether only some of the policies are drawn."""
        return len(self.dots) + sum(one.kind in ("policy", "chosen") for one in self.hull) < self.tried

    @property
    def drawn(self) -> list[Point]:
        """Every point of the drawing."""
        chosen = [self.chosen.point] if self.chosen else []
        others = [point for _, point in self.others]
        return [*self.hull, *self.dots, *self.workers, self.frontier, self.oracle, *chosen, *others]

    def named(self) -> Iterator[tuple[str, Point]]:
        """What has a name in the drawing, what matters most first."""
        if self.chosen:
            yield "chosen", self.chosen.point
        yield from self.others
        yield self.frontier.name, self.frontier
        yield "hindsight oracle", self.oracle
        yield from ((one.name, one) for one in sorted(self.workers, key=lambda one: (not one.hull, -one.quality)))


def tried(tuned: Tuned) -> Tried:
    """The points of a tuning, sorted out and thinned."""
    points = [one for one in tuned.points if _known(one)]
    policies = [one for one in points if one.kind in ("policy", "chosen")]
    below = [one for one in policies if not one.hull]
    if len(below) > MOST_DOTS:
        below = random.Random(tuned.seed).sample(below, MOST_DOTS)  # noqa: S311 - a drawing, not a secret
    hull = (one for one in points if one.hull and one.kind != "oracle")
    alone = [_alone(one, "worker") for one in tuned.workers if one.name != tuned.frontier.name]
    asked, *others = tuned.promises
    return Tried(
        tried=max(tuned.tried, len(policies)),
        hull=sorted(hull, key=lambda one: (one.cost, one.quality)),
        dots=below,
        workers=[one for one in points if one.kind == "worker"] or alone,
        frontier=next((one for one in points if one.kind == "frontier"), _alone(tuned.frontier, "frontier")),
        oracle=next((one for one in points if one.kind == "oracle"), _alone(tuned.oracle, "oracle")),
        chosen=_chosen(asked, points),
        others=[(promised.label(one.target), found.point) for one in others if (found := _chosen(one, points))],
    )


def _chosen(promise: Promise, points: Sequence[Point]) -> Chosen | None:
    """A certified policy where it stands among the others, or else where replay found it; None where there is nothing to show."""
    quality, cost = promise.realised
    replayed = Point(name=promise.words, kind="chosen", quality=quality, cost=cost)
    point = next((one for one in points if one.kind == "chosen" and one.name == promise.words), replayed)
    if not promise.certified or not _known(point):
        return None
    return Chosen(point, _around(promise.quality_ratio, point.quality), _around(promise.cost_ratio, point.cost))


def _around(ratio: Interval, value: float) -> Interval:
    if not (ratio.value > 0 and math.isfinite(ratio.low) and math.isfinite(ratio.high)):
        return Interval(value, value, value)
    return Interval(value, value * ratio.low / ratio.value, value * ratio.high / ratio.value)


def _alone(one: WorkerFacts, kind: PointKind) -> Point:
    return Point(name=one.name, kind=kind, quality=one.quality, cost=one.cost)


def _known(point: Point) -> bool:
    return math.isfinite(point.quality) and math.isfinite(point.cost)


def drawings(tuned: Tuned, shown: Tried) -> list[Markup]:
    """The same drawing for each size; none where no figures are known."""
    if not all(map(_known, (shown.frontier, shown.oracle, *shown.workers))):
        return []
    return [_drawing(tuned.promises[0].target, shown, size) for size in SIZES]


def _drawing(target: Target, shown: Tried, size: Size) -> Markup:
    chosen, least = shown.chosen, _least(target, shown)
    shares = [*(one.quality for one in shown.drawn), *least]
    costs = [one.cost for one in shown.drawn]
    if chosen:
        shares += [chosen.quality.low, chosen.quality.high]
        costs += [chosen.cost.low, chosen.cost.high]
    axes = Axes.around(
        [max(cost, 0.0) * UNIT for cost in costs],
        [min(max(share, 0.0), 1.0) for share in shares],
        width=size.width,
        height=size.height,
    )
    line = _line(axes, shown.hull)
    cross, taken = _cross(axes, chosen) if chosen else (Markup(), [])
    named = [Named(name, *_at(axes, point)) for name, point in shown.named()]
    marks = [
        axes.draw("cost of 1,000 tasks"),
        *(_floor(axes, share) for share in least),
        _dots(axes, shown.dots),
        _hull(axes, shown.hull, line),
        *(_circle(axes, one, "worker") for one in shown.workers),
        _circle(axes, shown.frontier, "best"),
        _triangle(axes, shown.oracle),
        *(diamond(*_at(axes, point), 6, "open") for _, point in shown.others),
        cross,
        diamond(*_at(axes, chosen.point), 8) if chosen else "",
        names(axes, named, taken=taken, better=[Box(x - 4, y, 8) for x, y in line]),
    ]
    return figure(
        size.height,
        "Quality against cost",
        _spoken(shown, axes),
        Markup().join(marks),
        kind=f"points {size.name}",
        width=size.width,
        name=f"tried-{size.name}",
    )


def _at(axes: Axes, point: Point) -> tuple[float, float]:
    return axes.x(point.cost * UNIT), axes.y(point.quality)


def _least(target: Target, shown: Tried) -> list[float]:
    """The mean quality that is asked for, where it is a mean that is asked for."""
    return [target.quality * shown.frontier.quality] if target.kind == "mean" and target.quality else []


def _floor(axes: Axes, share: float) -> Markup:
    return Markup('<path class="least" d="M{left} {y:.1f}H{right}"/>').format(
        left=LEFT, y=axes.y(share), right=axes.width - RIGHT
    )


def _dots(axes: Axes, points: Sequence[Point]) -> Markup:
    """All of them as one line with round ends: a few bytes each. Two on one spot are one."""
    spots = sorted({(round(x * 2) / 2, round(y * 2) / 2) for x, y in (_at(axes, point) for point in points)})
    return Markup('<path class="dots" d="{line}"/>').format(line="".join(f"M{x:g} {y:g}h.01" for x, y in spots))


def _line(axes: Axes, points: Sequence[Point]) -> list[tuple[float, float]]:
    """What mixes of two neighbours reach: straight where the axis of cost is, else bent."""
    parts = PARTS if axes.far else 1
    between = [
        replace(
            one,
            cost=one.cost + (other.cost - one.cost) * i / parts,
            quality=one.quality + (other.quality - one.quality) * i / parts,
        )
        for one, other in pairwise(points)
        for i in range(parts)
    ]
    return [_at(axes, one) for one in (*between, *points[-1:])]


def _hull(axes: Axes, points: Sequence[Point], line: Sequence[tuple[float, float]]) -> Markup:
    if not points:
        return Markup()
    return Markup('<path class="hull" d="M{line}"/><path class="corners" d="{corners}"/>').format(
        line="L".join(f"{x:.1f} {y:.1f}" for x, y in line),
        corners="".join(f"M{x:.1f} {y:.1f}h.01" for x, y in (_at(axes, one) for one in points)),
    )


def _circle(axes: Axes, point: Point, kind: str) -> Markup:
    x, y = _at(axes, point)
    return Markup('<circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="5"/>').format(kind=kind, x=x, y=y)


def _triangle(axes: Axes, point: Point) -> Markup:
    x, y = _at(axes, point)
    return Markup('<path class="open" d="M{x:.1f} {y:.1f}l6 11h-12z"/>').format(x=x, y=y - 7)


def _cross(axes: Axes, chosen: Chosen) -> tuple[Markup, list[Box]]:
    """The intervals of quality and cost, and where they stand in the way of names."""
    point, quality, cost = chosen
    x, y = _at(axes, point)
    left, right = (_at(axes, replace(point, cost=at))[0] for at in (cost.low, cost.high))
    top, bottom = (axes.y(min(at, 1.0)) for at in (quality.high, quality.low))
    cross = Markup(
        '<path class="whisker" d="M{left:.1f} {y:.1f}H{right:.1f}M{left:.1f} {a:.1f}v6M{right:.1f} {a:.1f}v6'
        'M{x:.1f} {top:.1f}V{bottom:.1f}M{b:.1f} {top:.1f}h6M{b:.1f} {bottom:.1f}h6"/>'
    ).format(left=left, right=right, top=top, bottom=bottom, x=x, y=y, a=y - 3, b=x - 3)
    upright = range(int(top), int(bottom) + 1, LINE // 2)
    return cross, [Box(left, y, right - left), *(Box(x - 4, at, 8) for at in upright)]


def _spoken(shown: Tried, axes: Axes) -> str:
    """The drawing for those who hear the page."""
    log = " The axis of cost is logarithmic." if axes.far else ""
    spoken = "; ".join(
        f"{promised.named(name)}: {promised.share(one.quality)} at {promised.thousand(one.cost)}"
        for name, one in shown.named()
    )
    return (
        f"Up is better, left is cheaper; the cost is of 1,000 tasks.{log} {spoken}. "
        f"{shown.tried:,} policies were tried; the table has those that no mix beats."
    )
