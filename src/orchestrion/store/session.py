"""A transaction's SQL, the same for SQLite and Postgres: parameters are $1, $2 … in the order in which they first stand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, TypeAlias

import apsw

from orchestrion.errors import StoreError

Row: TypeAlias = Sequence[Any]


class Session(Protocol):
    """Runs statements within one transaction, which somebody else begins and ends."""

    def execute(self, statement: str, row: Row | Mapping[str, Any] = ()) -> list[tuple[Any, ...]]:
        """Run one statement; the rows that it returns."""
        ...

    def executemany(self, statement: str, rows: Sequence[Row]) -> int:
        """Run one statement for each row; how many rows of the tables it changed."""
        ...


class Connection(Session, Protocol):
    """A session with its beginning and its end. No other connection writes between the two."""

    def begin(self) -> None: ...

    def commit(self) -> None: ...

    def rollback(self) -> None:
        """End a transaction without its changes; nothing where none is open."""
        ...

    def explained(self, cause: BaseException) -> StoreError | None:
        """What an error of the database means for a person; None for an error that is not the database's."""
        ...


class Keeper(Protocol):
    """What keeps the balances right within the store's transactions: the ledger's Books."""

    def apply(self, session: Session, batch: dict[str, list[Row]], number: int) -> Any:
        """Called in the transaction of a batch before its rows are written: it may change rows and leave some out.

        What it returns is given to the loop, before anybody who waits for the batch.
        """
        ...

    def leave(self, session: Session, first: int, last: int, at: float) -> None:
        """Post in full the open holds that a dead process left: those with ids from ``first`` to ``last``."""
        ...


class SqliteConnection:
    """Statements and transactions on one connection of SQLite."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection

    def execute(self, statement: str, row: Row | Mapping[str, Any] = ()) -> list[tuple[Any, ...]]:
        return self._connection.execute(statement, row).fetchall()

    def executemany(self, statement: str, rows: Sequence[Row]) -> int:
        before = self._connection.total_changes()
        self._connection.executemany(statement, rows)
        return self._connection.total_changes() - before

    def begin(self) -> None:
        self._connection.execute("begin immediate")

    def commit(self) -> None:
        self._connection.execute("commit")

    def rollback(self) -> None:
        if self._connection.in_transaction:
            self._connection.execute("rollback")

    def explained(self, cause: BaseException) -> StoreError | None:
        from orchestrion.store.errors import store_error

        return store_error(cause, self._connection.filename) if isinstance(cause, apsw.Error) else None
