"""The books: what the ledger does within the transactions of its store. The one authority over every limit.

A hold is a row of the commit that notes its call. In that transaction it is checked against every balance above it, and
left out where it does not fit: so settled + held ≤ limit is true of every commit, whichever processes write.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from time import time
from typing import Any, NamedTuple, TypeAlias

import msgspec

from orchestrion.domain import Money
from orchestrion.ledger.accounts import (
    UNITS,
    Account,
    Amounts,
    Cap,
    Key,
    Line,
    Path,
    Tree,
    amount_text,
    limit_text,
    span,
)
from orchestrion.ledger.protocol import Posting
from orchestrion.store.queries import queries
from orchestrion.store.session import Row, Session

ENTRIES = ("hold", "post", "want", "served")


def statements() -> dict[str, str]:
    """What the writer runs for the ledger."""
    sql = queries("ledger")
    return {name: sql[name] for name in ENTRIES}


class Setting(NamedTuple):
    """A hold to be checked: money set aside on an account with limits above it. ``ask`` is the first hold of the calls that
    are made at once (0: this one alone): they fit together or not at all."""

    hold: int
    account: str
    at: float
    asked: Amounts
    ask: int = 0


class Moving(NamedTuple):
    """A post of a hold with limits above it. ``account`` None: the hold is another process's, and looked up."""

    hold: int
    account: str | None
    at: float
    held: Amounts
    spent: Amounts


Move: TypeAlias = Setting | Moving


class Warned(NamedTuple):
    """A fraction of a limit that was passed just now. ``settled`` in the limit's unit."""

    key: Key
    fraction: float
    settled: int
    cap: int

    def __str__(self) -> str:
        account, unit, period, _ = self.key
        return (
            f"account '{account}' has spent {self.fraction:.0%} of its {limit_text(Cap(unit, period, self.cap))}: "
            f"{amount_text(unit, self.settled)}"
        )


FRESH_S = 1.0
"""How long a process counts as waiting after it last said so."""


class Want(NamedTuple):
    """A process whose calls wait for a limit of ``account``. Who has the smaller ``rank`` and ``since`` goes first."""

    process: int
    account: str
    rank: int
    since: float


class Applied(msgspec.Struct):
    """What became of a batch: holds that did not fit, the balances that it touched (settled, held), the limits that were
    passed, the processes that wait, and the tree where it is another than before."""

    refused: set[int]
    seen: dict[Key, tuple[int, int]]
    warned: list[Warned]
    wants: list[Want] = []
    tree: Tree | None = None


class _Balance:
    """A balance within a transaction; ``there``: whether it has a row yet."""

    __slots__ = ("before", "cap", "held", "line", "settled", "there", "unit")

    def __init__(self, line: Line, row: tuple[int, int] | None) -> None:
        self.line = line
        self.unit = line.unit
        self.cap = line.cap
        self.there = row is not None
        self.settled, self.held = row or (0, 0)
        self.before = self.settled


class _Page:
    """The balances that a batch touches."""

    __slots__ = ("_accounts", "_sql", "balances", "session", "tree")

    def __init__(self, session: Session, tree: Tree) -> None:
        self.session = session
        self.tree = tree
        self.balances: dict[Key, _Balance] = {}
        self._accounts: dict[str, tuple[Path, list[_Balance]]] = {}
        self._sql = queries("ledger")["balance"]

    def rows(self, account: str, at: float) -> list[_Balance]:
        """Every balance above a call on an account at a moment."""
        known = self._accounts.get(account)
        if known is None or not known[0].start <= at < known[0].end:
            path = self.tree.limits(account, at)
            rows = [self.balances.get(line.key) or self._load(line) for line in path.lines]
            known = self._accounts[account] = path, rows
        return known[1]

    def _load(self, line: Line) -> _Balance:
        found: Any = self.session.execute(self._sql, line.key)
        row = self.balances[line.key] = _Balance(line, found[0] if found else None)
        return row


class Books:
    """Keeps the balances within transactions (a store's Keeper). Used by one thread at a time."""

    def __init__(self) -> None:
        self._sql = queries("ledger")
        self._tree = Tree(version=-1)
        self._exact: tuple[int, int] = (0, -1)
        self._refused: set[int] = set()

    def tree(self, session: Session) -> Tree:
        """All accounts and limits as they are now."""
        [(version,)] = session.execute(self._sql["version"])
        if version != self._tree.version:
            self._tree = self._read(session, version)
        return self._tree

    def _read(self, session: Session, version: int) -> Tree:
        caps: dict[str, list[Cap]] = {}
        for account, unit, period, amount in session.execute(self._sql["caps"]):
            caps.setdefault(account, []).append(Cap(unit, period, amount))
        accounts = [
            Account(
                name=name,
                caps=tuple(sorted(caps.get(name, ()), key=lambda cap: (cap.unit, cap.period))),
                rank=rank,
                zone=zone,
                wait_s=wait_s,
                warn=tuple(json.loads(warn)) if warn else None,
            )
            for name, rank, zone, wait_s, warn in session.execute(self._sql["accounts"])
        ]
        return Tree(accounts, version=version)

    def latest(self, session: Session) -> float:
        """When the latest window began: the ledger's clock does not go back behind it."""
        [(start,)] = session.execute(self._sql["latest"])
        return float(start or 0.0)

    def known(self, tree: Tree, batch: int) -> None:
        """The loop decides by this tree from the batch after this one on."""
        self._exact = (batch + 1, tree.version)

    def apply(self, session: Session, batch: dict[str, list[Row]], number: int) -> Applied | None:
        """Check the holds of a batch, move the balances, and leave out what does not fit."""
        moves: Iterable[Any] = batch.pop("move", ())
        if not moves and "hold" not in batch and "post" not in batch:
            return None
        before = self._tree
        tree = self.tree(session)
        since, version = self._exact
        exact = number >= since and tree.version == version
        if not exact:
            moves = self._found(batch, tree, moves)  # it was put by somebody who did not know these limits
        if not moves:
            return None if tree is before else Applied(set(), {}, [], tree=tree)
        page = _Page(session, tree)
        refused = set() if exact else self._over_run_limits(session, batch, tree)
        moved: set[int] = set()
        together: dict[int, list[Setting]] = {}
        failed: set[int] = set()
        for move in moves:
            if move.hold in self._refused or move.hold in refused:
                continue  # a hold that was never made, let go by somebody who did not know
            if type(move) is Moving:
                if move.hold not in moved:  # a second post changes nothing
                    moved.add(move.hold)
                    self._move(page, move)
            elif move.ask in failed or not self._set(page, move):
                refused.add(move.hold)
                if move.ask:
                    failed.add(move.ask)
                for other in together.pop(move.ask, ()):
                    self._unset(page, other)
                    refused.add(other.hold)
            elif move.ask:
                together.setdefault(move.ask, []).append(move)
        if refused or self._refused:
            self._refused |= refused
            batch["hold"] = [row for row in batch.get("hold", ()) if row[0] not in refused]
            batch["post"] = [row for row in batch.get("post", ()) if row[0] not in self._refused]
        warned = self._write(page)
        seen = {key: (one.settled, one.held) for key, one in page.balances.items()}
        return Applied(refused, seen, warned, self.wants(session), None if tree is before else tree)

    def _found(self, batch: dict[str, list[Row]], tree: Tree, known: Iterable[Move]) -> list[Move]:
        """The moves of a batch, made anew from its rows."""
        if not tree.limited:
            return []
        asks = {move.hold: move.ask for move in known if isinstance(move, Setting)}
        moves: list[Move] = []
        here: dict[int, Setting] = {}
        for hold, account, money, _run, at, tokens, attention in batch.get("hold", ()):
            here[hold] = Setting(hold, account, at, Amounts(money, tokens, attention), asks.get(hold, 0))
            moves.append(here[hold])
        for hold, _kind, money, _at, tokens, attention in batch.get("post", ()):
            spent = Amounts(money, tokens, attention)
            own = here.get(hold)
            moves.append(
                Moving(hold, own.account, own.at, own.asked, spent)
                if own
                else Moving(hold, None, 0.0, Amounts(0), spent)
            )
        return moves

    def _over_run_limits(self, session: Session, batch: dict[str, list[Row]], tree: Tree) -> set[int]:
        """Holds of a batch that pass the limit of a run, where who held them did not know it."""
        over: set[int] = set()
        taken: dict[tuple[Any, Key], int] = {}
        for hold, account, money, run, at, tokens, attention in batch.get("hold", ()):
            for line in tree.limits(account, at).of_run:
                asked = (money, tokens, attention)[line.unit]
                place = (hold if run is None else run, line.key)
                if place not in taken:
                    [sums] = session.execute(self._sql["spent_of_run"], (run,))
                    taken[place] = sums[line.unit] + sums[line.unit + 3]
                if asked and taken[place] + asked > line.cap:
                    over.add(hold)
                else:
                    taken[place] += asked
        return over

    def _set(self, page: _Page, move: Setting) -> bool:
        """Set money aside on every line above; False, and nothing done, where it does not fit on one."""
        asked, rows = move.asked, page.rows(move.account, move.at)
        for row in rows:
            amount = asked[row.unit]
            if amount and row.settled + row.held + amount > row.cap:
                return False
        for row in rows:
            row.held += asked[row.unit]
            row.there = True
        return True

    def _unset(self, page: _Page, move: Setting) -> None:
        """Let go what was set aside a moment ago."""
        for row in page.rows(move.account, move.at):
            row.held -= move.asked[row.unit]

    def _move(self, page: _Page, move: Moving) -> None:
        """Let a hold go and settle what it took, on every line on which it was set aside."""
        account, at, held, spent = move.account, move.at, move.held, move.spent
        if account is None:
            found = page.session.execute(self._sql["find_hold"], (move.hold,))
            if not found or found[0][8] is not None:
                return  # never held; or posted before: a second post changes nothing
            account, at, held = found[0][0], found[0][1], Amounts(*found[0][2:5])
        rows = page.rows(account, at)
        if move.account is not None and held.attention and self._settled(page, move.hold):
            return  # a question, and who decided was faster
        for row in rows:
            if row.there:  # else the limit came later than the hold's window
                row.held -= held[row.unit]
                row.settled += spent[row.unit]

    def _settled(self, page: _Page, hold: int) -> bool:
        found = page.session.execute(self._sql["find_hold"], (hold,))
        return bool(found) and found[0][8] is not None

    def _write(self, page: _Page) -> list[Warned]:
        balances = page.balances
        rows = [(*key, one.line.start, one.settled, one.held) for key, one in balances.items() if one.there]
        page.session.executemany(self._sql["put_balance"], rows)
        warned = []
        for key, one in balances.items():
            if one.settled <= one.before:
                continue
            for fraction in page.tree.warn(key[0]):
                mark = fraction * one.cap
                if one.before < mark <= one.settled and self._warn(page.session, key, fraction):
                    warned.append(Warned(key, fraction, one.settled, one.cap))
        return warned

    def _warn(self, session: Session, key: Key, fraction: float) -> bool:
        return bool(session.execute(self._sql["warn"], (*key, fraction, time())))

    # One hold at a time, for what is rare

    def settle(self, session: Session, hold: int, spent: Amounts | None, kind: Posting, at: float) -> bool:
        """Post a hold that nobody has in memory, in full where ``spent`` is None; False where it was posted before."""
        found = session.execute(self._sql["find_hold"], (hold,))
        if not found or found[0][8] is not None:
            return False
        account, made, held = found[0][0], found[0][1], Amounts(*found[0][2:5])
        taken = held if spent is None else spent
        session.execute(self._sql["post"], (hold, kind, taken.money, at, taken.tokens, taken.attention))
        self._shift(session, account, made, taken, held)
        return True

    def correct(self, session: Session, hold: int, spent: Amounts, kind: Posting, at: float) -> Amounts:
        """Change what was posted for a hold; what stood there before. Raises KeyError where nothing was."""
        found = session.execute(self._sql["find_hold"], (hold,))
        if not found or found[0][8] is None:
            raise KeyError(hold)
        account, made, before = found[0][0], found[0][1], Amounts(*found[0][5:8])
        session.execute(self._sql["correct"], (kind, *spent, at, hold))
        change = Amounts(*(now - then for now, then in zip(spent, before, strict=True)))
        self._shift(session, account, made, change, Amounts(0))
        return before

    def _shift(self, session: Session, account: str, at: float, settled: Amounts, held: Amounts) -> None:
        tree = self.tree(session)
        for line in tree.limits(account, at).lines:
            more = settled[line.unit]
            if more > 0:
                before, _ = self.balance(session, line.key)
                for fraction in tree.warn(line.key[0]):  # nobody hears of it now, but `budget show` says so
                    if before < fraction * line.cap <= before + more:
                        self._warn(session, line.key, fraction)
            session.execute(self._sql["move_balance"], (more, held[line.unit], *line.key))

    def leave(self, session: Session, first: int, last: int, at: float) -> None:
        """Post in full what a dead process left open, and let go what was held for questions of cancelled runs."""
        session.execute(self._sql["served"], (first >> 32, at))
        for hold, *_ in session.execute(self._sql["open_holds"], (first, last)):
            self.settle(session, hold, None, "unknown", at)
        for (hold,) in session.execute(self._sql["open_questions_of_cancelled"]):
            self.settle(session, hold, Amounts(0), "void", at)

    # Limits that change

    def changed(self, session: Session, accounts: Iterable[str], at: float) -> Tree:
        """Called in the transaction that changed accounts or limits: the balances of these accounts are made anew from the
        entries of the windows that lie open, and every process hears of it. The tree as it is now."""
        session.execute(self._sql["changed"])
        [(version,)] = session.execute(self._sql["version"])
        tree = self._read(session, version)
        self._tree = Tree(version=-1)  # the transaction may yet be undone
        [(newest,)] = session.execute(self._sql["newest"])
        at = max(at, self.latest(session), newest or 0.0)  # a clock that was set back
        for account in accounts:
            session.execute(self._sql["drop_balances"], (account,))
            if account in tree:
                self._recount(session, tree, account, at)
        return tree

    def _recount(self, session: Session, tree: Tree, account: str, at: float) -> None:
        for cap in tree.accounts[account].caps:
            if cap.period == "run":
                continue
            window = span(cap.period, at, tree.zone(account))
            end = window.end if window.end != float("inf") else 1e18
            [sums] = session.execute(self._sql["entries_between"], (account, window.start, end))
            unit = UNITS.index(cap.unit)
            row = (account, cap.unit, cap.period, window.name, window.start, sums[unit], sums[unit + 3])
            session.executemany(self._sql["put_balance"], [row])

    def wants(self, session: Session) -> list[Want]:
        """The processes whose calls wait for money."""
        return [Want(*row) for row in session.execute(self._sql["wants"], (time() - FRESH_S,))]

    def parked(self, session: Session, key: Key) -> int:
        """What of a balance is held for questions to people: it stays so until somebody decides."""
        account, unit, period, _ = key
        total = 0
        for at, *held in session.execute(self._sql["parked"], (account,)):
            if span(period, at, self._tree.zone(account)).name == key[3]:
                total += held[UNITS.index(unit)]
        return total

    def balance(self, session: Session, key: Key) -> tuple[Money, Money]:
        """What is settled and held against a limit in a window."""
        found: Any = session.execute(self._sql["balance"], key)
        return found[0] if found else (0, 0)
