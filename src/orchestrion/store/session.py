"""A transaction's SQL, the same for SQLite and Postgres: parameters are $1, $2 … in the order in which they first stand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import apsw


class Session(Protocol):
    """Runs statements within one transaction, which somebody else begins and ends."""

    def execute(self, statement: str, row: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Run one statement; the rows that it returns."""
        ...


class SqliteSession:
    """Statements on a connection of SQLite."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection

    def execute(self, statement: str, row: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        return self._connection.execute(statement, row).fetchall()
