"""Accounts and their limits as people keep them: seeded from the settings once, changed by the commands of `budget`.

The books rule. A settings file makes accounts that are not there, and takes nothing back that somebody set: where the two
differ, that is said. Between settings files the stricter holds: a limit that only files have spoken of sinks to the lowest
of them, and rises only when somebody says so (`budget apply`, `set` or `move`).

Every function works within one transaction of the caller's, and every change is a row of `change`.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from decimal import Decimal
from typing import Any, Literal, NamedTuple, TypeAlias

import msgspec
from pydantic_core import from_json, to_json

from orchestrion.domain import NANOS_PER_DOLLAR
from orchestrion.errors import UsageError
from orchestrion.ledger.accounts import Account, Cap, Period, Tree, Unit, ancestors
from orchestrion.ledger.books import Books
from orchestrion.limits import NAME
from orchestrion.settings import Settings, nearest
from orchestrion.store.queries import queries
from orchestrion.store.session import Session

SETTINGS = "orchestrion.yaml"
"""Who makes the changes that seeding makes."""

What: TypeAlias = Literal["account", "limit", "class", "time_zone", "warn", "wait_s"]
By: TypeAlias = Literal["seed", "apply", "set", "move"]


class Change(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One thing of an account that is, or was, changed. Of an account itself, ``before`` and ``after`` say whether it is
    there; a limit has its unit and period, and None for no limit."""

    account: str
    what: What
    unit: Unit | None = None
    period: Period | None = None
    before: Any = None
    after: Any = None

    @property
    def stricter(self) -> bool:
        """Whether it is a limit that sinks, or one more."""
        return self.what == "limit" and self.after is not None and (self.before is None or self.after < self.before)


class Seeded(NamedTuple):
    """What the settings changed in the books, and what still differs then: that stays as the books have it."""

    changes: tuple[Change, ...] = ()
    differing: tuple[Change, ...] = ()


class Applied(NamedTuple):
    """What the settings change in the books, and the accounts that only the books have: ``pruned`` are taken out."""

    changes: tuple[Change, ...]
    kept: tuple[str, ...]
    pruned: tuple[str, ...]


class Looser(NamedTuple):
    """A limit above one of the same unit and period further up: that one holds."""

    account: str
    cap: Cap
    above: str
    stricter: Cap


class Record(NamedTuple):
    """One line of the history."""

    at: float
    who: str
    kind: str
    account: str | None
    body: Any


def accounts_of(settings: Settings) -> tuple[Account, ...]:
    """The accounts that the settings name."""
    return tuple(
        _capped(
            Account(name=name, rank=budget.rank, zone=budget.time_zone, wait_s=budget.wait_s, warn=budget.warn),
            budget.caps(),
        )
        for name, budget in settings.budgets.items()
    )


def read_tree(session: Session) -> Tree:
    """All accounts of the books."""
    return Books().tree(session)


def differences(tree: Tree, accounts: Iterable[Account]) -> tuple[Change, ...]:
    """What would have to change in the books for them to say of these accounts what is said here."""
    return tuple(change for one in accounts for change in _changes(tree.accounts.get(one.name), one))


def looser(tree: Tree) -> tuple[Looser, ...]:
    """Limits that can never be reached, because one further up is lower."""
    return tuple(
        Looser(account.name, cap, above.name, other)
        for account in tree.accounts.values()
        for above in tree.path(account.name)[:-1]
        for other in above.caps
        for cap in account.caps
        if (cap.unit, cap.period) == (other.unit, other.period) and cap.amount > other.amount
    )


def seed(session: Session, accounts: Iterable[Account]) -> Seeded:
    """Make the accounts that are not there.

    A limit that no person has set sinks to what these settings say, where that is less.
    """
    accounts = tuple(accounts)
    tree = read_tree(session)
    by_people = {
        (change.account, change.unit, change.period)
        for _, body in session.execute(queries("budget")["changes_by_people"])
        for change in _read_changes(body)
    }
    done: list[Change] = []
    for one in accounts:
        before = tree.accounts.get(one.name)
        if before is None:
            done += _write(session, None, one, kind="seed", who=SETTINGS)
            continue
        lower = {
            (change.unit, change.period): change.after
            for change in _changes(before, one)
            if change.stricter and (change.account, change.unit, change.period) not in by_people
        }
        done += _write(session, before, _capped(before, lower), kind="seed", who=SETTINGS)
    _changed(session, done)
    return Seeded(tuple(done), differences(read_tree(session), accounts))


def planned(session: Session, accounts: Iterable[Account], *, prune: bool = False) -> Applied:
    """What ``apply`` would do. Pruned are accounts that the settings do not name, and that nothing was ever held on."""
    accounts = tuple(accounts)
    tree, named = read_tree(session), {one.name for one in accounts}
    used = {above for (name,) in session.execute(queries("budget")["used"]) for above in ancestors(name)}
    needed = used | {above for name in named for above in ancestors(name)}
    others = [name for name in tree.accounts if name not in named]
    pruned = tuple(name for name in others if prune and name not in needed)
    kept = tuple(name for name in others if name not in pruned)
    return Applied(differences(tree, accounts), kept, pruned)


def apply(session: Session, accounts: Iterable[Account], *, who: str, prune: bool = False) -> Applied:
    """Make the books say what the settings say."""
    accounts = tuple(accounts)
    tree, plan = read_tree(session), planned(session, accounts, prune=prune)
    done: list[Change] = []
    for one in accounts:
        done += _write(session, tree.accounts.get(one.name), one, kind="apply", who=who)
    for name in plan.pruned:
        done += _write(session, tree.accounts[name], None, kind="apply", who=who)
    _changed(session, done)
    return plan


def amend(
    session: Session,
    name: str,
    *,
    who: str,
    caps: Mapping[tuple[Unit, Period], int | None] | None = None,
    create: bool = False,
    **facts: Any,
) -> tuple[Change, ...]:
    """Change limits (None: no limit) and facts (rank, zone, wait_s, warn) of an account; what changed by it.

    Raises UsageError for an account that is not there, unless ``create`` and the one above it is.
    """
    tree = read_tree(session)
    before = tree.accounts.get(name)
    if before is None:
        _creatable(tree, name, create=create)
    after = msgspec.structs.replace(_capped(before or Account(name=name), caps or {}), **facts)
    changes = _write(session, before, after, kind="set", who=who)
    _changed(session, changes)
    return changes


def move(
    session: Session, source: str, target: str, amount: int, *, unit: Unit, period: Period | None, who: str
) -> tuple[Change, ...]:
    """Move so much of a limit from one account to another, both of the same unit and period.

    Without a period, it is the one in which both have a limit. Raises UsageError, and nothing is changed.
    """
    tree = read_tree(session)
    if source == target:
        raise UsageError(f"'{source}' is both accounts: nothing would move.")
    of, to = _pair(find(tree, source), find(tree, target), unit, period)
    if amount > of.amount:
        raise UsageError(
            f"'{source}' has a limit of {limit_said(of)}: {said(unit, amount)} cannot be taken from it. "
            "Nothing was moved."
        )
    if to.amount + amount >= 2**63:
        raise UsageError(f"'{target}' would have a limit above all that can be counted. Nothing was moved.")
    changes: list[Change] = []
    for name, cap, moved in ((source, of, -amount), (target, to, amount)):
        before = tree.accounts[name]
        after = _capped(before, {(unit, cap.period): cap.amount + moved})
        changes += _write(session, before, after, kind="move", who=who)
    _changed(session, changes)
    return tuple(changes)


def history(session: Session, account: str | None = None) -> list[Record]:
    """Every change, the oldest first."""
    rows = session.execute(queries("budget")["changes"], (account,))
    return [Record(at, who, kind, name, from_json(body)) for at, who, kind, name, body in rows]


def find(tree: Tree, name: str) -> Account:
    """An account of the books. Raises UsageError, with the nearest name."""
    account = tree.accounts.get(name)
    if account is None:
        there = nearest(name, tree.accounts) or " There are none yet: `orchestrion budget set NAME --create` makes one."
        raise UsageError(f"there is no account '{name}'.{there}")
    return account


def said(unit: Unit, amount: int) -> str:
    """An amount for people, exact."""
    if unit == "money":
        value = Decimal(abs(amount)) / NANOS_PER_DOLLAR
        places = max(2, -int(value.normalize().as_tuple().exponent))
        return f"{'-' if amount < 0 else ''}${value:,.{places}f}"
    if unit == "tokens":
        return f"{amount:,} tokens"
    return f"{Decimal(amount) / 60:,.4g} minutes" if amount % 60 else f"{amount // 60:,} minutes"


def limit_said(cap: Cap) -> str:
    """A limit for people, exact: "$100.00 a month"."""
    return f"{said(cap.unit, cap.amount)} {'for good' if cap.period == 'forever' else f'a {cap.period}'}"


def per(period: Period) -> str:
    """How often a limit begins anew: "per month"."""
    return "for good" if period == "forever" else f"per {period}"


def _pair(source: Account, target: Account, unit: Unit, period: Period | None) -> tuple[Cap, Cap]:
    """The two limits of one unit and period that an amount moves between. Raises UsageError where it is not clear which."""
    of, to = ({cap.period: cap for cap in one.caps if cap.unit == unit} for one in (source, target))
    both = [one for one in of if one in to and period in (None, one)]
    if len(both) > 1:
        raise UsageError(
            f"'{source.name}' and '{target.name}' have {_limits(both)} on {unit}: say which with --period."
        )
    if not both:
        raise UsageError(
            f"an amount moves between limits of the same period. On {unit}{f' {per(period)}' if period else ''}, "
            f"'{source.name}' has {_limits(of)}, '{target.name}' has {_limits(to)}: `orchestrion budget set` makes another. "
            "Nothing was moved."
        )
    return of[both[0]], to[both[0]]


def _limits(periods: Collection[Period]) -> str:
    several = "limits" if len(periods) > 1 else "a limit"
    return f"{several} {' and '.join(map(per, periods))}" if periods else "none"


def _creatable(tree: Tree, name: str, *, create: bool) -> None:
    above = name.rpartition("/")[0]
    if not create:
        near = nearest(name, tree.accounts)
        way = near if near.startswith(" Did") else ""
        raise UsageError(f"there is no account '{name}'.{way} (--create would make it.)")
    if not NAME.fullmatch(name):
        raise UsageError(
            f"{name!r} is not the name of an account: words with slashes between them, such as company/support."
        )
    if above and above not in tree:
        near = nearest(above, tree.accounts)
        way = near if near.startswith(" Did") else f" `orchestrion budget set {above} --create` makes it."
        raise UsageError(f"'{name}' cannot stand below '{above}', which is not there.{way}")


def _capped(account: Account, amounts: Mapping[Any, int | None]) -> Account:
    """The account with other amounts for some units and periods; None takes a limit away."""
    merged: dict[tuple[Unit, Period], int | None] = {(cap.unit, cap.period): cap.amount for cap in account.caps}
    merged.update(amounts)
    kept = sorted((unit, period, amount) for (unit, period), amount in merged.items() if amount is not None)
    return msgspec.structs.replace(account, caps=tuple(Cap(unit, period, amount) for unit, period, amount in kept))


def _changes(before: Account | None, after: Account | None) -> Iterator[Change]:
    """What makes one account of another; None is one that is not there."""
    name = (after or before or Account(name="")).name
    if before is None or after is None:
        yield Change(account=name, what="account", before=before is not None, after=after is not None)
    empty = Account(name=name)
    old, new = before or empty, after or empty
    was, now = ({(cap.unit, cap.period): cap.amount for cap in one.caps} for one in (old, new))
    for unit, period in sorted(was | now):
        amounts = was.get((unit, period)), now.get((unit, period))
        if amounts[0] != amounts[1]:
            yield Change(account=name, what="limit", unit=unit, period=period, before=amounts[0], after=amounts[1])
    facts: tuple[tuple[What, Any, Any], ...] = (
        ("class", old.rank, new.rank),
        ("time_zone", old.zone, new.zone),
        ("warn", old.warn, new.warn),
        ("wait_s", old.wait_s, new.wait_s),
    )
    for what, one, other in facts:
        if one != other:
            yield Change(account=name, what=what, before=one, after=other)


def _write(
    session: Session, before: Account | None, after: Account | None, *, kind: By, who: str
) -> tuple[Change, ...]:
    """Bring one account's rows from what they were to what they are to be, and note it."""
    changes = tuple(_changes(before, after))
    if not changes:
        return ()
    sql, name = queries("budget"), changes[0].account
    for change in changes:
        if change.what == "limit" and change.after is None:
            session.execute(sql["remove_cap"], (name, change.unit, change.period))
        elif change.what == "limit":
            session.execute(sql["put_cap"], (name, change.unit, change.period, change.after))
    if after is None:
        session.execute(sql["remove_account"], (name,))
    else:
        warn = None if after.warn is None else to_json(after.warn).decode()
        session.execute(sql["put_account"], (name, after.rank, after.zone, after.wait_s, warn))
    body = to_json([msgspec.to_builtins(change) for change in changes]).decode()
    session.execute(sql["change"], (time.time(), who, kind, name, body))
    return changes


def _changed(session: Session, changes: Iterable[Change]) -> None:
    """Every process hears of it, and balances are made anew: an account's time zone moves the windows of those below, too."""
    touched = {change.account for change in changes}
    if not touched:
        return
    below = {change.account + "/" for change in changes if change.what == "time_zone"}
    moved = {name for name in read_tree(session).accounts if name.startswith(tuple(below))} if below else set()
    Books().changed(session, touched | moved, time.time())


def _read_changes(body: str) -> list[Change]:
    return msgspec.json.decode(body, type=list[Change])
