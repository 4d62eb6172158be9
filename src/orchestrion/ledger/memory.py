"""A ledger in memory: for replay, rehearsals and tests. (Throw-away of the engine's branch: take main's.)"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import msgspec

from orchestrion.domain import Money
from orchestrion.ledger.accounts import UNITS, Amounts, Cap, Tree, ancestors, span
from orchestrion.ledger.protocol import Posting, Shortage


class Entry(msgspec.Struct, frozen=True):
    hold: int
    kind: str
    account: str
    amount: Money
    run: int | None


class MemoryLedger:
    def __init__(self, *, tree: Tree | None = None) -> None:
        self.entries: list[Entry] = []
        self.tree = tree or Tree()
        self.warnings: list[str] = []
        self._open: dict[int, tuple[str, Amounts, int | None]] = {}
        self._done: list[tuple[str, Amounts, int | None]] = []
        self._holds = 0
        self._freed = asyncio.Event()

    def _sums(self, rows, above: str, cap: Cap, run: int | None) -> int:
        unit = UNITS.index(cap.unit)
        return sum(
            took[unit]
            for account, took, of in rows
            if above in ancestors(account) and (cap.period != "run" or of == run)
        )

    def _short(self, account: str, demand: Amounts, run: int | None, *, patient: bool) -> Shortage | None:
        for above, cap in self.tree.caps(account):
            asked = demand[UNITS.index(cap.unit)]
            settled = self._sums(self._done, above.name, cap, run)
            held = self._sums(self._open.values(), above.name, cap, run)
            if asked and settled + (0 if patient else held) + asked > cap.amount:
                return Shortage(account=above.name, cap=cap, span=span(cap.period, 0, "UTC").name, settled=settled, held=held, asked=asked)
        return None

    def hold(self, account: str, demands: Sequence[Amounts], *, run: int | None) -> list[int] | None:
        if self.tree and not self.affords(account, Amounts(*map(sum, zip(*demands))), run=run, patient=False):
            return None
        holds = []
        for one in demands:
            self._holds += 1
            self._open[self._holds] = (account, one, run)
            self.entries.append(Entry(self._holds, "hold", account, one.money, run))
            holds.append(self._holds)
        return holds

    def refused(self, holds: Sequence[int]) -> bool:
        return False

    async def wait(self, account: str, demands: Sequence[Amounts], *, run: int | None) -> list[int] | None:
        try:
            async with asyncio.timeout(self.tree.wait_s(account)):
                while True:
                    if (holds := self.hold(account, demands, run=run)) is not None:
                        return holds
                    if not self.affords(account, Amounts(*map(sum, zip(*demands))), run=run):
                        return None
                    self._freed.clear()
                    await self._freed.wait()
        except TimeoutError:
            return None

    def post(self, hold: int, spent: Amounts, *, kind: Posting) -> None:
        if hold not in self._open:
            return
        account, _, run = self._open.pop(hold)
        self._done.append((account, spent, run))
        self.entries.append(Entry(hold, kind, account, spent.money, run))
        self._freed.set()

    def left(self, account: str, *, run: int | None, patient: bool = True) -> Money | None:
        return min(
            (
                cap.amount - self._sums(self._done, above.name, cap, run) - (0 if patient else self._sums(self._open.values(), above.name, cap, run))
                for above, cap in self.tree.caps(account)
                if cap.unit == "money"
            ),
            default=None,
        )

    def affords(self, account: str, demand: Amounts, *, run: int | None, patient: bool = True) -> bool:
        return self._short(account, demand, run, patient=patient) is None

    def shortage(self, account: str, demand: Amounts, *, run: int | None) -> Shortage | None:
        return self._short(account, demand, run, patient=False)

    def ended(self, run: int) -> None:
        pass
