"""The tree of accounts: whose money it is, what limits it, and when a limit begins anew. Facts, no I/O."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from typing import NamedTuple, TypeAlias, get_args
from zoneinfo import ZoneInfo

import msgspec

from orchestrion.domain import Money, dollars
from orchestrion.limits import Class as Class  # the settings write these words, and stand below
from orchestrion.limits import Period as Period
from orchestrion.limits import Unit as Unit

UNITS: tuple[Unit, ...] = get_args(Unit)
PERIODS: tuple[Period, ...] = get_args(Period)
CLASSES: tuple[Class, ...] = get_args(Class)

DEFAULT = "default"
"""The account of whoever names none, where no accounts are kept."""

ZONE = "UTC"
WAIT_S = 60.0
"""How long a call waits for money that others hold, where its accounts say nothing."""

WARN = (0.5, 0.8, 0.95)
"""The fractions of a limit at which people are told, where accounts say nothing."""


class Amounts(NamedTuple):
    """What a call takes, or took: nano-dollars, tokens, seconds of attention. In the order of UNITS."""

    money: Money
    tokens: int = 0
    attention: int = 0


class Cap(msgspec.Struct, frozen=True):
    """A limit: so much of a unit in each period."""

    unit: Unit
    period: Period
    amount: int


class Account(msgspec.Struct, frozen=True, kw_only=True):
    """A node of the tree. ``name`` is its path: "company/support". What is None is as with its parent."""

    name: str
    caps: tuple[Cap, ...] = ()
    rank: Class | None = None
    zone: str | None = None
    wait_s: float | None = None
    warn: tuple[float, ...] | None = None

    @property
    def parent(self) -> str | None:
        """The path of the account above it."""
        return self.name.rpartition("/")[0] or None


class Span(NamedTuple):
    """One window of a period: its name, and the moments (seconds since the epoch) at which it begins and ends."""

    name: str
    start: float
    end: float


FOREVER = Span("", 0.0, float("inf"))

Key: TypeAlias = tuple[str, Unit, Period, str]
"""What a balance is known by: account, unit, period, and the window's name."""


class Line(NamedTuple):
    """One limit in one window, as it stands above a call. ``unit`` is an index into Amounts, ``start`` when the window began."""

    key: Key
    unit: int
    cap: int
    start: float


class Path(NamedTuple):
    """What stands above a call on an account, from ``start`` until ``end``: limits of windows, and limits of its run."""

    lines: tuple[Line, ...]
    of_run: tuple[Line, ...]
    start: float
    end: float


class Tree:
    """All accounts, as of one ``version`` of the books."""

    def __init__(self, accounts: Iterable[Account] = (), *, version: int = 0) -> None:
        self.version = version
        self.accounts: Mapping[str, Account] = {one.name: one for one in sorted(accounts, key=lambda one: one.name)}
        self.limited = any(one.caps for one in self.accounts.values())
        self._paths: dict[str, Path] = {}
        self._units: dict[str, frozenset[Unit]] = {}

    def __contains__(self, name: str) -> bool:
        return name in self.accounts

    def __bool__(self) -> bool:
        return bool(self.accounts)

    def path(self, name: str) -> tuple[Account, ...]:
        """An account and those above it, the root first; empty for one that is not there."""
        return tuple(self.accounts[above] for above in ancestors(name) if above in self.accounts)

    def limits(self, name: str, at: float) -> Path:
        """The limits above a call on an account, in the windows of a moment; none for an account that is not there."""
        path = self._paths.get(name)
        if path is None or not path.start <= at < path.end:
            path = self._paths[name] = self._limits(name, at)
        return path

    def _limits(self, name: str, at: float) -> Path:
        lines: list[Line] = []
        of_run: list[Line] = []
        since, until = 0.0, float("inf")
        for account, cap in self.caps(name):
            window = span(cap.period, at, self.zone(account.name))
            since, until = max(since, window.start), min(until, window.end)
            line = Line(
                (account.name, cap.unit, cap.period, window.name), UNITS.index(cap.unit), cap.amount, window.start
            )
            (of_run if cap.period == "run" else lines).append(line)
        return Path(tuple(lines), tuple(of_run), since, until)

    def rank(self, name: str) -> Class:
        """The class that an account has, or inherits."""
        return next((one.rank for one in reversed(self.path(name)) if one.rank), "standard")

    def zone(self, name: str) -> str:
        """The time zone in which its days begin."""
        return next((one.zone for one in reversed(self.path(name)) if one.zone), ZONE)

    def wait_s(self, name: str) -> float:
        """How long a call on this account waits for money that others hold."""
        return next((one.wait_s for one in reversed(self.path(name)) if one.wait_s is not None), WAIT_S)

    def warn(self, name: str) -> tuple[float, ...]:
        """The fractions of its limits at which people are told."""
        return next((one.warn for one in reversed(self.path(name)) if one.warn is not None), WARN)

    def caps(self, name: str) -> Iterator[tuple[Account, Cap]]:
        """Every limit that stands above a call on this account, the root's first."""
        for account in self.path(name):
            for cap in account.caps:
                yield account, cap

    def units(self, name: str) -> frozenset[Unit]:
        """What the limits above an account count: nothing, and no call on it needs to be weighed."""
        units = self._units.get(name)
        if units is None:
            units = self._units[name] = frozenset(cap.unit for _, cap in self.caps(name))
        return units


def ancestors(name: str) -> tuple[str, ...]:
    """The paths from the root to an account, itself included: "a", "a/b", "a/b/c"."""
    parts = name.split("/")
    return tuple("/".join(parts[: i + 1]) for i in range(len(parts)))


def amount_text(unit: Unit, amount: int) -> str:
    """An amount for people: "$0.40", "1,200 tokens", "30 minutes"."""
    if unit == "money":
        return dollars(amount)
    if unit == "tokens":
        return f"{amount:,} tokens"
    return f"{amount / 60:,.4g} minutes"


def limit_text(cap: Cap) -> str:
    """A limit for people: "$100.00 a month", "30 minutes for good"."""
    return f"{amount_text(cap.unit, cap.amount)} {'for good' if cap.period == 'forever' else f'a {cap.period}'}"


@lru_cache(maxsize=4096)
def _span(period: Period, day: dt.date, zone: str) -> Span:
    first = day
    if period == "week":
        first = day - dt.timedelta(days=day.weekday())
        after = first + dt.timedelta(days=7)
        name = "{:04}-W{:02}".format(*day.isocalendar())
    elif period == "month":
        first = day.replace(day=1)
        after = (first + dt.timedelta(days=31)).replace(day=1)
        name = f"{first:%Y-%m}"
    else:
        after = day + dt.timedelta(days=1)
        name = day.isoformat()
    return Span(name, *(dt.datetime.combine(one, dt.time(), ZoneInfo(zone)).timestamp() for one in (first, after)))


def span(period: Period, at: float, zone: str) -> Span:
    """The window of a period in which a moment lies, by the calendar of a time zone; weeks begin on Monday (ISO 8601)."""
    if period in ("forever", "run"):
        return FOREVER
    return _span(period, dt.datetime.fromtimestamp(at, ZoneInfo(zone)).date(), zone)
