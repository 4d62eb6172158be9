"""The ledger in the database: every hold and every post is a row, in the commit of what it pays for."""

from __future__ import annotations

from collections.abc import Sequence
from time import time
from typing import Any

from orchestrion.domain import Money
from orchestrion.ledger.accounts import Amounts, Key, Tree
from orchestrion.ledger.books import Applied, Books, Move, Want
from orchestrion.ledger.local import Purse, place
from orchestrion.ledger.mirror import MirrorLedger
from orchestrion.ledger.protocol import Posting
from orchestrion.store.database import Database
from orchestrion.store.postgres import Postgres
from orchestrion.store.queries import queries


class EntryLedger(MirrorLedger):
    """Writes entries through the database's one writer. The database is opened with ``Books`` as its keeper, which confirm
    each hold in its commit; ``refused`` tells where they did not."""

    def __init__(self, database: Database | Postgres, books: Books) -> None:
        self._database = database
        self._sql = queries("ledger")
        self._put = database.writer.put
        self._serial = database.serial
        self._books = books
        self._refused: set[int] = set()
        self._waits = False
        self._looker = Books()
        super().__init__(Tree(version=-1))
        with database.reading() as session:
            self._adopt(self._looker.tree(session))
        database.writer.applied = self._applied

    def refused(self, holds: Sequence[int]) -> bool:
        if not self._refused:
            return False
        found = self._refused.intersection(holds)
        if found:
            self._refused -= found
            for hold in holds:
                if hold not in found:  # an Ask's calls are made together or not at all
                    self.post(hold, Amounts(0), kind="void")
        return bool(found)

    def refresh(self) -> None:
        """Read accounts and limits anew, at once: the next commit, or the next look, would, too."""
        with self._database.reading() as session:
            self._adopt(self._looker.tree(session))

    def post(self, hold: int, spent: Amounts, *, kind: Posting) -> None:
        if hold in self._refused:
            return  # it was never held
        super().post(hold, spent, kind=kind)

    def _put_hold(self, hold: int, account: str, asked: Amounts, run: int | None, at: float) -> int:
        return self._put("hold", (hold, account, asked[0], run, at, asked[1], asked[2]))

    def _put_post(self, hold: int, kind: Posting, spent: Amounts) -> int:
        return self._put("post", (hold, kind, spent[0], self._now(), spent[1], spent[2]))

    def _put_move(self, move: Move) -> None:
        self._put("move", move)

    def _load(self, key: Key) -> tuple[Money, Money]:
        rows: Any = self._database.read(self._sql["balance"], key)
        return rows[0] if rows else (0, 0)

    def _spent_of(self, run: int) -> tuple[Amounts, Amounts]:
        [sums] = self._database.read(self._sql["spent_of_run"], (run,))
        return Amounts(*sums[:3]), Amounts(*sums[3:])

    def _tell(self) -> None:
        """Its own rows of who waits: written anew while somebody does, as long as somebody did."""
        if self._database.writer.broken:
            raise self._database.writer.broken  # nothing comes back any more
        process, now = self._database.process, time()
        said = [(*place(waiter), short) for waiter in self._queue.first() if (short := self._short_at(waiter))]
        first = {
            short: (rank, since) for rank, since, short in sorted(said, reverse=True)
        }  # the first of each stands last
        for short, (rank, since) in first.items():
            self._put("want", (process, short, rank, since, now))
        if said or self._waits:
            self._put("served", (process, now))
            self._waits = bool(said)

    def _others(self, wants: list[Want]) -> list[Want]:
        return [want for want in wants if want.process != self._database.process]

    def _look(self, purse: Purse, *, parked: bool = False) -> None:
        with self._database.reading() as session:
            tree = self._looker.tree(session)
            if tree.version != self.tree.version:
                self._adopt(tree)
            for balance in self._purse(purse.account).balances:
                if not balance.pending:  # else the next commit says it
                    balance.settled, balance.held = self._looker.balance(session, balance.key)
                if parked:
                    balance.parked = self._looker.parked(session, balance.key)
            if parked:
                self._wants = self._others(self._looker.wants(session))

    def _adopt(self, tree: Tree) -> None:
        """Decide by these accounts and limits from now on."""
        self.tree = tree
        with self._database.reading() as session:
            self._floor = max(self._floor, self._looker.latest(session))  # whose balances were counted anew
        self._purses.clear()
        self._books.known(tree, self._database.writer.batch)

    def _applied(self, batch: int, result: Applied) -> None:
        """A commit is done: what it made of the balances, on the loop."""
        for key, (settled, held) in result.seen.items():
            balance = self._balances.get(key)
            if balance:
                balance.confirm(batch, settled, held)
        for hold in result.refused:
            opened = self._open.pop(hold, None)
            if opened:
                for balance in opened[3]:
                    if balance.of_run:
                        balance.move(0, -opened[2][balance.unit], batch)
        self._refused |= result.refused
        self._wants = self._others(result.wants) if result.wants else result.wants
        self.warnings += result.warned
        if result.tree and result.tree.version > self.tree.version:
            self._adopt(result.tree)
        self._serve_soon()
