"""Holds that are decided in the process, by a mirror of the balances.

A ledger with a store behind it (``EntryLedger``) has them confirmed by the books in the commit that notes them; the mirror
makes that the rule. In memory (``MemoryLedger``) the mirror is all there is.
"""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Callable, Sequence

from orchestrion.ledger.accounts import Amounts
from orchestrion.ledger.books import Move, Moving, Setting
from orchestrion.ledger.local import NOTHING, LocalLedger, Purse
from orchestrion.ledger.protocol import Posting


class MirrorLedger(LocalLedger):
    """Moves the mirror with every hold and post. A subclass says where the entries go."""

    _serial: Callable[[], int]
    """A new hold's id."""

    @abstractmethod
    def _put_hold(self, hold: int, account: str, asked: Amounts, run: int | None, at: float) -> int:
        """Note a hold; the number of the batch that confirms it."""

    @abstractmethod
    def _put_post(self, hold: int, kind: Posting, spent: Amounts) -> int:
        """Note a post; the number of the batch that confirms it."""

    def _put_move(self, move: Move) -> None:
        """Have the books check a hold, or move the balances, in the same batch."""

    def hold(self, account: str, demands: Sequence[Amounts], *, run: int | None) -> list[int] | None:
        if self.tree.limited:
            return super().hold(account, demands, run=run)
        if self.tree.accounts:  # without limits there is nothing to look at, but whether the account is there
            self._known(account)
        return self._unlimited(account, demands, run, time.time())

    def post(self, hold: int, spent: Amounts, *, kind: Posting) -> None:
        batch = self._put_post(hold, kind, spent)
        opened = self._open.pop(hold, None) if self._open else None
        if opened is None:
            if self.tree.limited:
                self._put_move(Moving(hold, None, 0.0, NOTHING, spent))
            return
        account, at, held, above = opened
        self._put_move(Moving(hold, account, at, held, spent))
        for balance in above:
            unit = balance.unit
            if spent[unit] or held[unit]:
                balance.move(spent[unit], -held[unit], batch)
        if self._queue:
            self._serve_soon()

    def _take(self, purse: Purse, demands: Sequence[Amounts], run: int | None, now: float) -> list[int] | None:
        if not purse.keys:
            return self._unlimited(purse.account, demands, run, now)
        above = self._above(purse, run)
        total = demands[0] if len(demands) == 1 else Amounts(*map(sum, zip(*demands, strict=True)))
        for balance in above:
            amount = total[balance.unit]
            if amount and balance.settled + balance.held + amount > balance.cap:
                return None
        if total[0] > purse.largest:
            purse.largest = total[0]
        holds: list[int] = []
        for asked in demands:
            hold = self._serial()
            ask = holds[0] if holds else hold if len(demands) > 1 else 0
            batch = self._put_hold(hold, purse.account, asked, run, now)
            self._put_move(Setting(hold, purse.account, now, asked, ask))
            for balance in above:
                amount = asked[balance.unit]
                if amount:
                    balance.move(0, amount, batch)
            self._open[hold] = (purse.account, now, asked, above)
            holds.append(hold)
        return holds

    def _unlimited(self, account: str, demands: Sequence[Amounts], run: int | None, at: float) -> list[int]:
        """Holds that no limit stands above."""
        holds = []
        for asked in demands:
            hold = self._serial()
            self._put_hold(hold, account, asked, run, at)
            holds.append(hold)
        return holds
