"""Drawings as inline SVG: rows of bars, shares with their intervals, quality against cost.

Made for a column as narrow as a phone's. Every value stands there as text, and shapes differ as well as shades: they
read without colour. Colours come from the page's classes, so they follow light and dark. No style attributes: the
page's content security policy forbids them.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, TypeAlias

from markupsafe import Markup

from orchestrion.domain import dollars
from orchestrion.report.facts import Cell, Estimate, Report, Way
from orchestrion.report.words import NBSP, percent, places, short

WIDTH = 440
ROW = 38
CHARACTERS = 54
"""So many characters of the drawings' letters fit a line."""

MOST_ROWS = 14


Scale: TypeAlias = Callable[[float], float]


class Row(NamedTuple):
    """One bar, or one share: its label, the value as text, and where it lies in [0, 1]."""

    label: str
    value: str
    at: float
    interval: tuple[float, float] | None = None
    labelled: bool = False


def cost_by_worker(report: Report) -> Markup:
    """A bar for each worker at each step, the dearest first."""
    cells = sorted((cell for cell in report.cells if cell.figures.cost), key=lambda cell: -cell.figures.cost)
    whole, most = report.figures.cost, max((cell.figures.cost for cell in cells), default=1)
    rows = [
        Row(
            _name(report, cell),
            f"{dollars(cell.figures.cost)} · {percent(cell.figures.cost / whole)}",
            cell.figures.cost / most,
        )
        for cell in cells
    ]
    return _rows(rows, "Cost by step and worker", "A bar for each worker at each step; its length is the cost.", _bar)


def quality_by_worker(report: Report) -> Markup:
    """A share for each worker at each step: right by labels with an interval, else passed by checks."""
    rows = [row for cell in report.cells if (row := _share(report, cell))]
    return _rows(
        rows,
        "Quality by step and worker",
        "A scale from 0 to 100 % for each worker at each step. A filled circle is the share that labels call right, with its interval; "
        "an open square is the share that checks let pass.",
        _dot,
    )


def _share(report: Report, cell: Cell) -> Row | None:
    figures, known = cell.figures, cell.quality
    if cell.judging:
        return None
    if known:
        return Row(
            _name(report, cell),
            f"{percent(known.mean, places(known))} right · {known.n:,} labels",
            known.mean,
            (known.low, known.high),
            labelled=True,
        )
    passed = figures.accepted + figures.unused
    looked = passed + figures.refused
    checked = any((one.step, one.worker) == (cell.step, cell.worker) for one in report.refusals)
    if not looked or not checked:
        return None  # no check looked: nothing is known
    return Row(_name(report, cell), f"{percent(passed / looked)} of {looked:,} passed", passed / looked)


def _name(report: Report, cell: Cell) -> str:
    who = f"{cell.worker}, asked by a check" if cell.judging else cell.worker
    return who if len(report.steps) == 1 else f"{cell.step} · {who}"


def _rows(rows: Sequence[Row], title: str, description: str, draw: Callable[[Row], Markup]) -> Markup:
    shown = rows[:MOST_ROWS]
    if not shown:
        return Markup()
    marks = [
        Markup('<g transform="translate(0 {y})"><text class="label" x="0" y="14">{label}</text>'
               '<text class="value" x="{w}" y="14" text-anchor="end">{value}</text>{mark}</g>').format(
            y=i * ROW, label=clip(row.label, CHARACTERS - len(row.value)), w=WIDTH, value=row.value, mark=draw(row)
        )
        for i, row in enumerate(shown)
    ]  # fmt: skip
    return _figure(len(shown) * ROW, title, f"{description} {_spoken(rows)}", Markup().join(marks), kind="rows")


def _bar(row: Row) -> Markup:
    return Markup(
        '<rect class="track" x="0" y="21" width="{w}" height="7" rx="1"/><rect class="bar" x="0" y="21" width="{x:.1f}" height="7" rx="1"/>'
    ).format(w=WIDTH, x=max(2.0, row.at * WIDTH))


def _dot(row: Row) -> Markup:
    x = 6 + row.at * (WIDTH - 12)
    ticks = Markup().join(
        Markup('<path class="tick" d="M{x:.0f} 20v9"/>').format(x=6 + at * (WIDTH - 12))
        for at in (0, 0.25, 0.5, 0.75, 1)
    )
    line = Markup('<path class="tick" d="M6 24.5H{w}"/>').format(w=WIDTH - 6)
    if not row.labelled or not row.interval:
        return ticks + line + Markup('<rect class="open" x="{x:.1f}" y="19.5" width="10" height="10"/>').format(x=x - 5)
    low, high = (6 + at * (WIDTH - 12) for at in row.interval)
    whisker = Markup(
        '<path class="whisker" d="M{low:.1f} 24.5H{high:.1f}M{low:.1f} 20.5v8M{high:.1f} 20.5v8"/>'
    ).format(low=low, high=high)
    return ticks + line + whisker + Markup('<circle class="dot" cx="{x:.1f}" cy="24.5" r="5"/>').format(x=x)


HEIGHT = 340
LEFT, RIGHT, TOP, BOTTOM = 46, 14, 14, 44
FAR = 8
"""Where the dearest costs so many times the cheapest, the axis of cost is logarithmic."""


def quality_against_cost(ways: Sequence[Way]) -> Markup:
    """A point for each way with a known quality: policies are diamonds, single workers circles."""
    known = [(way, way.quality) for way in ways if way.quality and way.tasks]
    if not known:
        return Markup()
    costs = [way.cost / way.tasks for way, _ in known]
    x = _axis(costs)
    low, high = _range(min(q.low for _, q in known), max(q.high for _, q in known))

    def y(share: float) -> float:
        return TOP + (high - share) / (high - low) * (HEIGHT - TOP - BOTTOM)

    parts = [_grid(low, high, y=y), _cost_ticks(costs, x=x)]
    at = [(x(cost), y(quality.mean)) for cost, (_, quality) in zip(costs, known, strict=True)]
    parts += _labels([short(way.name) for way, _ in known], at)
    parts += [_point(way, quality, px, y) for (way, quality), (px, _) in zip(known, at, strict=True)]
    spoken = "; ".join(
        f"{short(way.name)}: {percent(q.mean, places(q))} right at {dollars(way.cost // way.tasks)} a task"
        for way, q in known
    )
    log = " The axis of cost is logarithmic." if _far(costs) else ""
    return _figure(
        HEIGHT,
        "Quality against cost",
        f"Up is better, left is cheaper. Diamonds are policies, circles single workers; lines are 95 % intervals.{log} {spoken}.",
        Markup().join(parts),
        kind="points",
    )


def _far(costs: Sequence[float]) -> bool:
    return min(costs) > 0 and max(costs) > FAR * min(costs)


def _axis(costs: Sequence[float]) -> Scale:
    scale = math.log10 if _far(costs) else float
    low, high = (math.log10(min(costs)), math.log10(max(costs))) if _far(costs) else (0.0, max(costs) or 1.0)
    room = (high - low) * 0.06 or 1.0
    return lambda cost: LEFT + (scale(cost) - low + room) / (high - low + 2 * room) * (WIDTH - LEFT - RIGHT)


def _range(low: float, high: float) -> tuple[float, float]:
    """Whole twentieths around both, at least a fifth apart, within [0, 1]."""
    bottom, top = math.floor(low * 20) / 20, math.ceil(high * 20) / 20
    if top - bottom < 0.2:
        bottom, top = max(0.0, top - 0.2), max(top, min(1.0, bottom + 0.2))
    return bottom, top


def _grid(low: float, high: float, *, y: Scale) -> Markup:
    step = 0.05 if high - low <= 0.3 else 0.1 if high - low <= 0.6 else 0.2
    shares = [low + i * step for i in range(int((high - low) / step + 1e-9) + 1)]
    line = Markup(
        '<path class="tick" d="M{left} {y:.1f}H{right}"/><text class="axis" x="{x}" y="{ty:.1f}" text-anchor="end">{share}</text>'
    )
    lines = [
        line.format(left=LEFT, right=WIDTH - RIGHT, y=y(s), ty=y(s) + 4, x=LEFT - 6, share=f"{s * 100:.0f}{NBSP}%")
        for s in shares
    ]
    return Markup().join(lines)


def _cost_ticks(costs: Sequence[float], *, x: Scale) -> Markup:
    low, high = min(costs), max(costs)
    marks = [low, math.sqrt(low * high), high] if _far(costs) else [0.0, high / 2, high]
    tick = Markup(
        '<path class="tick" d="M{x:.1f} {y}v5"/><text class="axis" x="{x:.1f}" y="{ty}" text-anchor="{anchor}">{cost}</text>'
    )
    ends = ("start" if not _far(costs) else "middle", "middle", "end")
    found = [
        tick.format(x=x(mark), y=HEIGHT - BOTTOM, ty=HEIGHT - BOTTOM + 18, anchor=end, cost=dollars(round(mark)))
        for mark, end in zip(marks, ends, strict=True)
    ]
    name = Markup('<text class="axis" x="{x}" y="{y}" text-anchor="end">cost of a task →</text>').format(
        x=WIDTH - RIGHT, y=HEIGHT - 8
    )
    return Markup().join([*found, name])


def _point(way: Way, quality: Estimate, x: float, y: Scale) -> Markup:
    middle = y(quality.mean)
    whisker = Markup('<path class="whisker" d="M{x:.1f} {high:.1f}V{low:.1f}"/>').format(
        x=x, high=y(quality.high), low=y(quality.low)
    )
    if way.kind == "policy":
        return whisker + Markup('<path class="policy" d="M{x:.1f} {top:.1f}l7 7l-7 7l-7-7z"/>').format(
            x=x, top=middle - 7
        )
    return whisker + Markup('<circle class="worker" cx="{x:.1f}" cy="{y:.1f}" r="4.5"/>').format(x=x, y=middle)


def _labels(names: Sequence[str], at: Sequence[tuple[float, float]]) -> list[Markup]:
    """A name beside each point, right or left of it, moved up or down where something stands there already."""
    taken = [Box(x - 8, y, 16) for x, y in at]
    found = []
    for name, (x, y) in sorted(zip(names, at, strict=True), key=lambda one: one[1][1]):
        shown = clip(name, 28)
        width = 7.4 * _wide(shown)
        place = next(
            (box for box in _places(x, y, width) if not any(box.meets(other) for other in taken)), Box(x + 11, y, width)
        )
        taken.append(place)
        right = place.left > x
        end = place.left if right else place.left + width
        if place.middle != y:
            lead = Markup('<path class="lead" d="M{x:.1f} {y:.1f}L{end:.1f} {middle:.1f}"/>')
            found.append(lead.format(x=x, y=y, end=end, middle=place.middle))
        mark = Markup('<text class="label" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{name}</text>')
        found.append(mark.format(x=end, y=place.middle + 4, anchor="start" if right else "end", name=shown))
    return found


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


LINE = 14


def _places(x: float, y: float, width: float) -> Iterator[Box]:
    """Boxes beside a point, the nearest first, within the drawing."""
    for shift in sorted(range(-70, 71, 7), key=abs):
        for left in (x + 11, x - 11 - width):
            if TOP <= y + shift <= HEIGHT - BOTTOM - 6 and left >= LEFT - 4 and left + width <= WIDTH:
                yield Box(left, y + shift, width)


def clip(text: str, cells: int) -> str:
    """A text cut to so many columns, wide characters counted as two."""
    if _wide(text) <= cells:
        return text
    kept, room = "", cells - 1
    for letter in text:
        room -= _wide(letter)
        if room < 0:
            break
        kept += letter
    return f"{kept}…"


def _wide(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in text)


def _spoken(rows: Sequence[Row]) -> str:
    """The values in a sentence, for those who hear the page."""
    more = f"; {len(rows) - MOST_ROWS} more are in the table" if len(rows) > MOST_ROWS else ""
    return "; ".join(f"{row.label}: {row.value}" for row in rows[:MOST_ROWS]) + more + "."


def _figure(height: float, title: str, description: str, marks: Markup, *, kind: str) -> Markup:
    name = title.lower().replace(" ", "-")
    return Markup(
        '<svg class="{kind}" viewBox="0 0 {w} {h}" role="img" aria-labelledby="{name}-title {name}-desc"><title id="{name}-title">{title}</title>'
        '<desc id="{name}-desc">{description}</desc>{marks}</svg>'
    ).format(w=WIDTH, h=height, name=name, title=title, description=description, marks=marks, kind=kind)
