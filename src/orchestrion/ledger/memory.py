"""A ledger in memory: for replay, rehearsals and tests."""

from __future__ import annotations

import msgspec

from orchestrion.domain import Money
from orchestrion.ledger.protocol import Posting


class Entry(msgspec.Struct, frozen=True):
    """One entry: a hold, or what became of it. ``amount`` in nano-dollars."""

    hold: int
    kind: str
    account: str
    amount: Money
    run: int | None


class MemoryLedger:
    """Keeps every entry in a list. ``limit`` bounds what ``left`` answers, for tests of policies under short funds."""

    def __init__(self, *, limit: Money | None = None) -> None:
        self.entries: list[Entry] = []
        self._limit = limit
        self._spent = 0
        self._open: dict[int, Entry] = {}
        self._holds = 0

    def hold(self, account: str, amount: Money, *, run: int | None) -> int:
        self._holds += 1
        entry = self._open[self._holds] = Entry(self._holds, "hold", account, amount, run)
        self._spent += amount
        self.entries.append(entry)
        return self._holds

    def post(self, hold: int, amount: Money, *, kind: Posting) -> None:
        held = self._open.pop(hold)
        self._spent += amount - held.amount
        self.entries.append(Entry(hold, kind, held.account, amount, held.run))

    def left(self, account: str) -> Money | None:
        return None if self._limit is None else self._limit - self._spent
