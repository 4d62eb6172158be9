"""The ledger in the database: every hold and every post is a row, and every balance a sum of rows."""

from __future__ import annotations

import time

from orchestrion.domain import Money
from orchestrion.ledger.protocol import Posting
from orchestrion.store.database import Database


class EntryLedger:
    """Writes entries through the database's one writer. Limits are not enforced yet: ``left`` knows none."""

    def __init__(self, database: Database) -> None:
        self._serial = database.serial
        self._put = database.writer.put

    def hold(self, account: str, amount: Money, *, run: int | None) -> int:
        hold = self._serial()
        self._put("hold", (hold, account, amount, run, time.time()))
        return hold

    def post(self, hold: int, amount: Money, *, kind: Posting) -> None:
        self._put("post", (hold, kind, amount, time.time()))

    def left(self, account: str) -> Money | None:
        return None
