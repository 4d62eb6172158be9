"""Slices of accounts, lent to processes: what is done on the shared ledger, each errand in one transaction.

A slice is one hold on Postgres. A process carves its calls from it in memory, and posts what they took when the slice is used
up, idle, or of a past window. Until then the slice is held in full, so that no limit can be passed whatever becomes of the
process. The books check slices as they check any hold.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, TypeAlias

import msgspec

from orchestrion.ledger.accounts import Amounts, Key, Line, Tree, ancestors
from orchestrion.ledger.books import Books, Warned
from orchestrion.ledger.protocol import Posting
from orchestrion.store.database import Database
from orchestrion.store.postgres import SERIAL_BITS, Postgres
from orchestrion.store.queries import queries
from orchestrion.store.session import Row, Session

FRESH_S = 1.0
"""For how long it counts that a process said it waits."""

PATIENCE_S = 10.0
"""Who has waited so long goes first whatever its class: so no class starves."""


class Want(msgspec.Struct, frozen=True, kw_only=True):
    """Calls that wait for a slice of their account. ``parts`` is what they need: all or none.

    ``wish`` is the slice that the process would like, for these and the calls to come. None: each part is held by itself,
    as are questions to people, which may stay open for days.
    """

    account: str
    parts: tuple[Amounts, ...]
    wish: Amounts | None
    rank: int
    waited: float


class Lent(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a want: ``slices`` by their ids (none: not now), each of ``amount``, good until ``end``
    by the server's clock.

    Where nothing was lent, ``short`` names the limits in the way, and ``hopeless`` says that nothing would help that calls hold.
    """

    slices: tuple[int, ...] = ()
    amount: Amounts = Amounts(0)
    end: float = 0.0
    short: tuple[Key, ...] = ()
    hopeless: bool = False


class Told(NamedTuple):
    """What the calls of a slice took, all in all."""

    slice: int
    spent: Amounts
    kind: Posting


class Errand(msgspec.Struct, kw_only=True):
    """What a process brings to the shared ledger: slices to post, slices to make smaller (to so much), and wants in their
    order. ``accounts`` are those whose balances it likes to know, ``owed`` what others may have to tell or have told."""

    told: list[Told] = []
    smaller: list[tuple[int, Amounts]] = []
    wants: list[Want] = []
    owed: list[Told] = []
    accounts: Sequence[str] = ()
    wanted: bool = False

    @property
    def empty(self) -> bool:
        """Whether there is nothing to do but to look."""
        return not (self.told or self.smaller or self.wants or self.owed or self.wanted)


Balances: TypeAlias = dict[Key, tuple[int, int]]


class News(msgspec.Struct, frozen=True, kw_only=True):
    """What a process brings home: what was lent for each want; the tree and balances as they are now, at ``now`` by the
    server's clock; the limits passed; and the accounts whose limits other processes wait for. ``process`` is who we are
    there: another number after a lost connection."""

    process: int
    now: float
    tree: Tree
    balances: Balances
    lent: list[Lent] = []
    warned: Sequence[Warned] = ()
    wanted: frozenset[str] = frozenset()


class _Slices(Books):
    """Books of slices. A limit of a run is kept by the machine that performs it."""

    def _over_run_limits(self, session: Session, batch: dict[str, list[Row]], tree: Tree) -> set[int]:
        return set()


class Lender:
    """The shared ledger as one process deals with it. Used by one thread at a time."""

    def __init__(self, shared: Postgres) -> None:
        self._shared = shared
        self._books = _Slices()
        self._sql = queries("shared") | {f"books.{name}": text for name, text in queries("ledger").items()}

    def look(self, accounts: Sequence[str]) -> News:
        """How things stand, as of the last commit. Raises StoreError."""
        with self._shared.reading() as session:
            return self._news(session, accounts)

    def run(self, errand: Errand) -> News:
        """Do an errand, in one transaction. Raises StoreError, and then it is to be run again."""
        with self._shared.transaction() as session:
            at = self._now(session)
            warned = self._tell(session, errand.told, at)
            for told in errand.owed:
                self._tell_owed(session, told, at)
            for slice, amount in errand.smaller:
                self._shrink(session, slice, amount)
            lent = self._lend(session, errand, at)
            return msgspec.structs.replace(self._news(session, errand.accounts), lent=lent, warned=warned)

    # Posting

    def _tell(self, session: Session, slices: Sequence[Told], at: float) -> Sequence[Warned]:
        """Post slices. One that was posted by somebody who took us for dead is corrected."""
        posts: list[Row] = []
        for slice, spent, kind in slices:
            if session.execute(self._sql["posted"], (slice,)):
                self._books.correct(session, slice, spent, kind, at)
            else:
                posts.append((slice, kind, spent.money, at, spent.tokens, spent.attention))
        return self._book(session, {"post": posts})

    def _tell_owed(self, session: Session, told: Told, at: float) -> None:
        """Post a question's hold, or correct a slice. A slice that is not posted is its living process's to post."""
        if session.execute(self._sql["posted"], (told.slice,)):
            self._books.correct(session, told.slice, told.spent, told.kind, at)
        elif session.execute(self._sql["is_question"], (told.slice,)):
            self._books.settle(session, told.slice, told.spent, told.kind, at)

    def _shrink(self, session: Session, slice: int, amount: Amounts) -> None:
        """Give back what a slice with open calls does not need."""
        rows = session.execute(self._sql["held"], (slice,))
        if not rows or session.execute(self._sql["posted"], (slice,)):
            return
        account, at, before = rows[0][0], rows[0][1], Amounts(*rows[0][2:5])
        session.execute(self._sql["shrink"], (*amount, slice))
        less = Amounts(*(was - now for was, now in zip(before, amount, strict=True)))
        for line in self._books.tree(session).limits(account, at).lines:
            session.execute(self._sql["books.move_balance"], (0, less[line.unit], *line.key))

    def _book(self, session: Session, batch: dict[str, list[Row]]) -> Sequence[Warned]:
        applied = self._books.apply(session, batch, 0)
        for name in ("hold", "post"):
            session.executemany(self._sql[f"books.{name}"], batch.get(name, ()))
        return applied.warned if applied else ()

    # Lending

    def _lend(self, session: Session, errand: Errand, at: float) -> list[Lent]:
        if errand.wanted:
            session.execute(self._sql["served"], (self._shared.process,))
        if not errand.wants:
            return []
        tree, process = self._books.tree(session), self._shared.process
        paths = [tree.limits(want.account, at) for want in errand.wants]
        balances = self._balances(session, [want.account for want in errand.wants])
        others = session.execute(self._sql["wants"], (process, at - FRESH_S))
        lent: list[Lent] = []
        holds: list[Row] = []
        questions: list[Row] = []
        for want, path in zip(errand.wants, paths, strict=True):
            place = (0 if want.waited > PATIENCE_S else want.rank, at - want.waited)
            asked = total(want.parts)
            short = tuple(line.key for line in path.lines if asked[line.unit] > _room(balances, line))
            turn = next(
                (name for name, *other in others if tuple(other) < place and name in ancestors(want.account)), None
            )
            if short or turn is not None:
                hopeless = any(
                    self._hopeless(session, balances, line, asked) for line in path.lines if line.key in short
                )
                lent.append(Lent(short=short, hopeless=hopeless))
                if short and not hopeless:
                    session.execute(self._sql["want"], (process, short[0][0], *place, at))
                continue
            amounts = want.parts
            if want.wish is not None:
                amounts = (_fitting(want.wish, asked, balances, path.lines),)
            slices = tuple(self._shared.serial() for _ in amounts)
            for slice, amount in zip(slices, amounts, strict=True):
                holds.append((slice, want.account, amount.money, None, at, amount.tokens, amount.attention))
                if amount.attention:
                    questions.append((slice,))
                for line in path.lines:
                    settled, held = balances.get(line.key, (0, 0))
                    balances[line.key] = (settled, held + amount[line.unit])
            lent.append(Lent(slices=slices, amount=amounts[0], end=path.end))
        self._book(session, {"hold": holds})
        session.executemany(self._sql["question"], questions)
        return lent

    def _hopeless(self, session: Session, balances: Balances, line: Line, asked: Amounts) -> bool:
        """Whether it would not fit if all came back that calls hold; questions to people may take days."""
        settled = balances.get(line.key, (0, 0))[0]
        return settled + self._books.parked(session, line.key) + asked[line.unit] > line.cap

    # Looking

    def _now(self, session: Session) -> float:
        """The server's clock, which is the same for every machine; never behind the latest window that has begun."""
        [(now,)] = session.execute(self._sql["now"])
        return max(float(now), self._books.latest(session))

    def _news(self, session: Session, accounts: Sequence[str]) -> News:
        process = self._shared.process
        wanted = frozenset(account for (account,) in session.execute(self._sql["wanted"], (process,)))
        balances, tree = self._balances(session, accounts), self._books.tree(session)
        [(now,)] = session.execute(self._sql["now"])
        return News(process=process, now=now, tree=tree, balances=balances, wanted=wanted)

    def _balances(self, session: Session, accounts: Iterable[str]) -> Balances:
        """The balances above accounts in the windows that began last."""
        names = sorted({above for account in accounts for above in ancestors(account)})
        if not names:
            return {}
        rows: Any = session.execute(self._sql["balances"], (names,))
        return {tuple(row[:4]): (row[4], row[5]) for row in rows}

    # Those who went without a word

    def bury(self, database: Database | None = None) -> None:
        """Post what dead processes left. Raises StoreError.

        Of a process of this SQLite file (``database``) its rows tell what each slice's calls took: never started, nothing;
        without a post, in full. Any other's slices post in full as unknown; its own file corrects them when it is next
        opened.
        """
        with self._shared.transaction() as session:
            at = self._now(session)
            for process, token in self._shared.dead(session):
                ours = database if database and _gone(database, token) else None
                for (hold,) in session.execute(self._sql["open_holds"], _ids(process)):
                    told = _from_rows(ours, hold) if ours else None
                    self._books.settle(
                        session, hold, told.spent if told else None, told.kind if told else "unknown", at
                    )
                if ours:
                    self._drop_unasked(session, ours, process, at)
                self._shared.ended(session, process, guessed=ours is None)
            guessed = session.execute(self._sql["guessed"]) if database else ()
            for process, token in guessed:
                if database and _gone(database, token):
                    for (hold,) in session.execute(self._sql["posted_holds"], _ids(process)):
                        told = _from_rows(database, hold)
                        self._books.correct(session, hold, told.spent, told.kind, at)
                    self._drop_unasked(session, database, process, at)
                    session.execute(self._sql["exact"], (process,))

    def _drop_unasked(self, session: Session, database: Database, process: int, at: float) -> None:
        """Let go what was held for questions that a process died over before its file had them: nobody was asked."""
        for (hold,) in session.execute(self._sql["open_questions"], _ids(process)):
            if not database.read(queries("leases")["noted"], (hold,)):
                self._books.settle(session, hold, Amounts(0), "void", at)

    def leave(self) -> None:
        """Nothing of this process is open any more. Raises StoreError."""
        with self._shared.transaction() as session:
            self._shared.ended(session, self._shared.process)


def total(parts: Iterable[Amounts]) -> Amounts:
    """The sum of several demands."""
    return Amounts(*(sum(unit) for unit in zip(*parts, strict=True)))


def _room(balances: Balances, line: Line) -> int:
    settled, held = balances.get(line.key, (0, 0))
    return line.cap - settled - held


def _fitting(wish: Amounts, asked: Amounts, balances: Balances, lines: Iterable[Line]) -> Amounts:
    """As much of a wish as fits under every limit; at least what is asked, which does."""
    most = [max(one, least) for one, least in zip(wish, asked, strict=True)]
    for line in lines:
        most[line.unit] = min(most[line.unit], _room(balances, line))
    return Amounts(*most)


def _ids(process: int) -> tuple[int, int]:
    """The first and the last id that a process can make."""
    first = process << SERIAL_BITS
    return first, first | (1 << SERIAL_BITS) - 1


def _gone(database: Database, token: str) -> bool:
    """Whether a process was one of this file, and has ended: of one that lives the rows do not tell all."""
    return bool(database.read(queries("leases")["gone"], (token,)))


def _from_rows(database: Database, slice: int) -> Told:
    """What a slice's calls took, by the rows of the SQLite file. Calls without a row were never started."""
    [(money, tokens, attention, unknown)] = database.read(queries("leases")["spent_of_slice"], (slice,))
    kind: Posting = "unknown" if unknown else "post" if money or tokens or attention else "void"
    return Told(slice, Amounts(money, tokens, attention), kind)
