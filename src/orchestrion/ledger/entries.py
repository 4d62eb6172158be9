"""The ledger in the database: every hold and every post is a row, and every balance a sum of rows."""

from __future__ import annotations

import time
from collections.abc import Sequence

from orchestrion.domain import Money
from orchestrion.ledger.accounts import Amounts, Tree
from orchestrion.ledger.protocol import Posting, Shortage
from orchestrion.store.database import Database


class EntryLedger:
    """Writes entries through the database's one writer. Limits are not enforced yet: ``left`` knows none."""

    def __init__(self, database: Database) -> None:
        self._serial = database.serial
        self._put = database.writer.put

        self.tree = Tree()
        self.warnings: list[str] = []

    def hold(self, account: str, demands: Sequence[Amounts], *, run: int | None) -> list[int] | None:
        holds = []
        for one in demands:
            hold = self._serial()
            self._put("hold", (hold, account, one.money, run, time.time()))
            holds.append(hold)
        return holds

    def refused(self, holds: Sequence[int]) -> bool:
        return False

    async def wait(self, account: str, demands: Sequence[Amounts], *, run: int | None) -> list[int] | None:
        return None

    def post(self, hold: int, spent: Amounts, *, kind: Posting) -> None:
        self._put("post", (hold, kind, spent.money, time.time()))

    def left(self, account: str, *, run: int | None, patient: bool = True) -> Money | None:
        return None

    def affords(self, account: str, demand: Amounts, *, run: int | None, patient: bool = True) -> bool:
        return True

    def shortage(self, account: str, demand: Amounts, *, run: int | None) -> Shortage | None:
        return None

    def ended(self, run: int) -> None:
        pass
