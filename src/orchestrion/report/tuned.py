"""The page of a tuning: what is promised, at what cost, and what was tried."""

from __future__ import annotations

from orchestrion.report import promised
from orchestrion.report.page import fill
from orchestrion.report.tried import drawings, tried
from orchestrion.tuning.facts import Tuned

MOST_HULL = 30
MOST_TAGS = 60
"""So many rows are listed; the page says how many more there are."""


def render(tuned: Tuned, *, simulated: bool = False) -> str:
    """The tuning as one HTML page, under 300 kB however much was tried. ``simulated``: the workers were, and their dollars."""
    shown = tried(tuned)
    return fill(
        "tuned.html.j2",
        tuned=tuned,
        shown=shown,
        simulated=simulated,
        drawings=drawings(tuned, shown),
        promised=promised,
        HULL=MOST_HULL,
        TAGS=MOST_TAGS,
    )
