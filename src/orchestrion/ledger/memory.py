"""A ledger in memory: for replay, rehearsals and tests."""

from __future__ import annotations

from itertools import count

import msgspec

from orchestrion.domain import Money
from orchestrion.ledger.accounts import Amounts, Tree
from orchestrion.ledger.mirror import MirrorLedger
from orchestrion.ledger.protocol import Posting


class Entry(msgspec.Struct, frozen=True):
    """One entry: a hold, or what became of it. ``amount`` in nano-dollars."""

    hold: int
    kind: str
    account: str
    amount: Money
    run: int | None


class MemoryLedger(MirrorLedger):
    """Keeps every entry in a list, under the limits of ``tree``."""

    def __init__(self, tree: Tree | None = None) -> None:
        super().__init__(tree or Tree())
        self.entries: list[Entry] = []
        self._held: dict[int, Entry] = {}
        self._serial = count(1).__next__

    def _put_hold(self, hold: int, account: str, asked: Amounts, run: int | None, at: float) -> int:
        entry = self._held[hold] = Entry(hold, "hold", account, asked[0], run)
        self.entries.append(entry)
        return 0

    def _put_post(self, hold: int, kind: Posting, spent: Amounts) -> int:
        held = self._held.pop(hold, None)
        if held:
            self.entries.append(Entry(hold, kind, held.account, spent[0], held.run))
        return 0
