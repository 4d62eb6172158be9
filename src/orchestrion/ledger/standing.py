"""How accounts stand: spent, held and left of each limit, how fast it burns, and when it runs out. Sums of entries, nothing else.

A hold counts in the window in which it was made, and so does its post.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from orchestrion.ledger.accounts import (
    FOREVER,
    PERIODS,
    UNITS,
    Account,
    Amounts,
    Cap,
    Class,
    Period,
    Span,
    Tree,
    Unit,
    ancestors,
    span,
)
from orchestrion.store.queries import queries
from orchestrion.store.session import Session

HOUR, DAY = 3600.0, 86_400.0

RECENT_S: Mapping[Period, float] = {"day": 3 * HOUR, "week": DAY, "month": 7 * DAY, "forever": 7 * DAY}
"""How far back one looks for the rate at which a limit of a period burns."""

LEAST_S: Mapping[Period, float] = {"day": HOUR, "week": DAY, "month": DAY, "forever": DAY}
"""What was spent in less than this counts as spent in this: a batch of five minutes is not the rate of a month."""


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """One limit in its present window (None for limits of a run: each run has its own). Amounts in the cap's unit.

    ``rate``: spent per second of late. ``runs_out``: when, at that rate, nothing is left; None where the window ends before.
    ``warned``: the highest fraction of the limit at which people were told in this window.
    """

    cap: Cap
    window: Span | None
    spent: int = 0
    held: int = 0
    rate: float = 0.0
    runs_out: float | None = None
    warned: float | None = None

    @property
    def left(self) -> int:
        """What new calls can have; below zero where a limit sank under what is spent and held."""
        return self.cap.amount - self.spent - self.held


class AccountStanding(msgspec.Struct, frozen=True, kw_only=True):
    """One account, those below it included: what was ever spent, and what is held; ``kept`` where the books have it."""

    account: Account
    kept: bool
    rank: Class
    zone: str
    spent: Amounts
    held: Amounts
    limits: tuple[Standing, ...] = ()


class BilledAbove(msgspec.Struct, frozen=True, kw_only=True):
    """A call that was billed above its bound. Its worker is refused until its own `bound` is above ``margin``."""

    hold: int
    account: str
    worker: str
    bound: int
    actual: int
    margin: float
    at: float
    unit: Unit


class _Sums:
    """Entries added up by account, for each stretch of time that somebody asks about: one scan each."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._seen: dict[tuple[float, float], dict[str, list[Any]]] = {}

    def of(self, start: float, end: float) -> dict[str, list[Any]]:
        """By account, those below it included: spent (3 units), held (3 units), the moment of the first hold."""
        found = self._seen.get((start, end))
        if found is None:
            found = self._seen[start, end] = {}
            for account, *amounts, first in self._session.execute(queries("budget")["entries"], (start, end)):
                for name in ancestors(account):
                    sums = found.setdefault(name, [0] * 6 + [first])
                    sums[:6] = (one + int(more) for one, more in zip(sums, amounts, strict=False))
                    sums[6] = min(sums[6], first)
        return found


def standings(session: Session, tree: Tree, *, now: float) -> list[AccountStanding]:
    """Every account, parents before their children; those that entries name and the books do not, too."""
    sums = _Sums(session)
    ever = sums.of(*FOREVER[1:])
    warned: dict[tuple[str, ...], float] = {}
    for account, unit, period, window, fraction, _ in session.execute(queries("budget")["warnings"]):
        key = (account, unit, period, window)
        warned[key] = max(fraction, warned.get(key, 0.0))
    found = []
    for name in sorted({*tree.accounts, *ever}, key=lambda one: one.split("/")):
        account = tree.accounts.get(name, Account(name=name))
        amounts = ever.get(name, [0] * 6)
        found.append(
            AccountStanding(
                account=account,
                kept=name in tree,
                rank=tree.rank(name),
                zone=tree.zone(name),
                spent=Amounts(*amounts[:3]),
                held=Amounts(*amounts[3:6]),
                limits=tuple(_standing(sums, account, cap, tree.zone(name), now, warned) for cap in _in_order(account)),
            )
        )
    return found


def overruns(session: Session) -> Iterator[BilledAbove]:
    """Every call that was billed above its bound, the oldest first."""
    for hold, account, worker, bound, actual, margin, at, unit in session.execute(queries("budget")["overruns"]):
        yield BilledAbove(
            hold=hold, account=account, worker=worker, bound=bound, actual=actual, margin=margin, at=at, unit=unit
        )


def _in_order(account: Account) -> list[Cap]:
    return sorted(account.caps, key=lambda cap: (UNITS.index(cap.unit), PERIODS.index(cap.period)))


def _standing(
    sums: _Sums, account: Account, cap: Cap, zone: str, now: float, warned: Mapping[tuple[str, ...], float]
) -> Standing:
    if cap.period == "run":
        return Standing(cap=cap, window=None)
    window, unit = span(cap.period, now, zone), UNITS.index(cap.unit)
    amounts = sums.of(window.start, window.end).get(account.name, [0] * 6)
    spent, held = amounts[unit], amounts[3 + unit]
    since = now - RECENT_S[cap.period]
    recent = sums.of(since, FOREVER.end).get(account.name, [0] * 6 + [now])
    rate = recent[unit] / max(now - recent[6], LEAST_S[cap.period])
    out = now + (cap.amount - spent) / rate if rate > 0 else None
    return Standing(
        cap=cap,
        window=window,
        spent=spent,
        held=held,
        rate=rate,
        runs_out=out if out is not None and out < window.end else None,
        warned=warned.get((account.name, cap.unit, cap.period, window.name)),
    )
