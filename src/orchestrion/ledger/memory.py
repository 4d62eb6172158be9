"""A ledger in memory: for replay, rehearsals and tests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from orchestrion.domain import Money
from orchestrion.ledger.accounts import Amounts, Tree
from orchestrion.ledger.local import LocalLedger
from orchestrion.ledger.protocol import Posting


class Entry(msgspec.Struct, frozen=True):
    """One entry: a hold, or what became of it. ``amount`` in nano-dollars."""

    hold: int
    kind: str
    account: str
    amount: Money
    run: int | None


class MemoryLedger(LocalLedger):
    """Keeps every entry in a list, under the limits of ``tree``."""

    def __init__(self, tree: Tree | None = None) -> None:
        super().__init__(tree or Tree())
        self.entries: list[Entry] = []
        self._held: dict[int, Entry] = {}
        self._holds = 0

    def hold(self, account: str, demands: Sequence[Amounts], *, run: int | None) -> list[int] | None:
        if self.tree.limited:
            return super().hold(account, demands, run=run)
        return self._without_limits(account, demands, run)

    def _serial(self) -> int:
        self._holds += 1
        return self._holds

    def _note(
        self, hold: int, account: str, asked: Amounts, run: int | None, at: float, *, limited: bool, ask: int = 0
    ) -> int:
        entry = self._held[hold] = Entry(hold, "hold", account, asked[0], run)
        self.entries.append(entry)
        return 0

    def _unlimited(self, account: str, asked: Amounts, run: int | None, at: float) -> int:
        self._holds = hold = self._holds + 1
        entry = self._held[hold] = Entry(hold, "hold", account, asked[0], run)
        self.entries.append(entry)
        return hold

    def post(self, hold: int, spent: Amounts, *, kind: Posting) -> None:
        if self._open:
            super().post(hold, spent, kind=kind)
        else:
            self._noted(hold, kind, spent, None)

    def _noted(self, hold: int, kind: Posting, spent: Amounts, opened: tuple[str, float, Amounts, Any] | None) -> int:
        held = self._held.pop(hold, None)
        if held:
            self.entries.append(Entry(hold, kind, held.account, spent[0], held.run))
        return 0
