"""Calls that were billed above what was held for them. Their worker is refused until its bound is raised: the promise is
that no call starts that could pass a limit, and a bound that was passed once is none.
"""

from __future__ import annotations

import math
import time
from typing import NamedTuple

from orchestrion.domain import Money
from orchestrion.ledger.accounts import Unit, amount_text
from orchestrion.store.database import Database
from orchestrion.store.queries import queries

OVERRUN = "overrun"
"""The kind of Failure that a refused worker's call is."""


class Overrun(NamedTuple):
    """What one call was held at, what it was billed (dollars, or tokens), and by what factor the worker's own bound was passed."""

    unit: Unit
    bound: int
    actual: int
    margin: float


def statements() -> dict[str, str]:
    """What the writer runs for overruns."""
    return {"overrun": queries("overrun")["overrun"]}


class Overruns:
    """The worst overrun of each worker, those of earlier processes included. ``news`` are words about those of this process
    that nobody has been told yet."""

    def __init__(self, database: Database) -> None:
        self._put = database.writer.put
        rows = database.read(queries("overrun")["worst"])
        self._worst = {
            (name, bound > 0): Overrun(unit, bound, actual, margin) for name, unit, bound, actual, margin in rows
        }
        self.news: list[str] = []

    def __bool__(self) -> bool:
        return bool(self._worst)

    def note(self, hold: int, worker: str, *, bound: int, actual: int, margin: float, unit: Unit = "money") -> None:
        """A call was billed above its hold: noted in the commit of its post. ``margin`` is by what its bound was raised."""
        passed = actual * margin / bound if bound else math.inf
        self._put("overrun", (hold, worker, bound, actual, passed, time.time(), unit))
        known = self._worst.get((worker, bound > 0))
        if known is None or known.margin < passed:
            self._worst[worker, bound > 0] = Overrun(unit, bound, actual, passed)
        self.news.append(
            f"overrun: a call of '{worker}' was billed {amount_text(unit, actual)}, and its bound was {amount_text(unit, bound)}. {way_out(worker, passed)}"
        )

    def refusal(self, worker: str, *, bound: Money, margin: float) -> str | None:
        """Why a worker may not be asked, whose call is bounded so, and its bound raised by ``margin``; None where it may."""
        worst = self._worst.get((worker, bound > 0))
        if worst is None or margin > worst.margin:
            return None
        return (
            f"{worker} is refused: a call was billed {amount_text(worst.unit, worst.actual)}, and its bound was "
            f"{amount_text(worst.unit, worst.bound)}. "
            f"{way_out(worker, worst.margin)}"
        )


def way_out(worker: str, margin: float) -> str:
    """How a refused worker is asked again."""
    if math.isinf(margin):
        return "It is not asked again until it has a price: what costs nothing by its bound cannot be held for."
    factor = math.floor(margin * 10 + 1) / 10  # the next tenth above
    return (
        f"It is not asked again until its bound is raised: `models.{worker}.bound: {factor:g}` in the settings holds so much "
        "more (a worker of a program's own: its `margin`)."
    )
