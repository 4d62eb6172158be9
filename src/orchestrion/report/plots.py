"""Drawings as inline SVG: rows of bars, shares with their intervals. Quality against cost is drawn in scatter.py.

Made for a column as narrow as a phone's. Every value stands there as text, and shapes differ as well as shades: they
read without colour. Colours come from the page's classes, so they follow light and dark. No style attributes: the
page's content security policy forbids them.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Sequence
from typing import NamedTuple

from markupsafe import Markup

from orchestrion.domain import dollars
from orchestrion.report.facts import Cell, Report
from orchestrion.report.words import percent, places

WIDTH = 440
ROW = 38
CHARACTERS = 54
"""So many characters of the drawings' letters fit a line."""

MOST_ROWS = 14


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
    return figure(len(shown) * ROW, title, f"{description} {_spoken(rows)}", Markup().join(marks), kind="rows")


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


def clip(text: str, cells: int) -> str:
    """A text cut to so many columns, wide characters counted as two."""
    if wide(text) <= cells:
        return text
    kept, room = "", cells - 1
    for letter in text:
        room -= wide(letter)
        if room < 0:
            break
        kept += letter
    return f"{kept}…"


def wide(text: str) -> int:
    """The columns that a text takes."""
    return sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in text)


def _spoken(rows: Sequence[Row]) -> str:
    """The values in a sentence, for those who hear the page."""
    more = f"; {len(rows) - MOST_ROWS} more are in the table" if len(rows) > MOST_ROWS else ""
    return "; ".join(f"{row.label}: {row.value}" for row in rows[:MOST_ROWS]) + more + "."


def figure(
    height: float, title: str, description: str, marks: Markup, *, kind: str, width: float = WIDTH, name: str = ""
) -> Markup:
    """A drawing with what those hear of it who do not see it. ``name`` tells apart two of one title on a page."""
    name = name or title.lower().replace(" ", "-")
    return Markup(
        '<svg class="{kind}" viewBox="0 0 {w} {h}" role="img" aria-labelledby="{name}-title {name}-desc"><title id="{name}-title">{title}</title>'
        '<desc id="{name}-desc">{description}</desc>{marks}</svg>'
    ).format(w=width, h=height, name=name, title=title, description=description, marks=marks, kind=kind)
