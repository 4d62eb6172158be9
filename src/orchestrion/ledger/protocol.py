"""The ledger: money is set aside before a call (hold) and moved after it (post, or void where nothing was charged).

At every account from the root down to the one that pays, and for every limit of it: settled + held ≤ limit.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol, TypeAlias

import msgspec

from orchestrion.domain import Money
from orchestrion.ledger.accounts import Amounts, Cap, Tree

Posting: TypeAlias = Literal["post", "unknown", "void"]
"""What becomes of a hold: ``post`` the actual cost; ``unknown``: nobody knows what was charged, so the hold in full;
``void`` only where it is certain that nothing was charged."""


class Shortage(msgspec.Struct, frozen=True, kw_only=True):
    """The limit that stands in the way of a call. Amounts are in the cap's unit.

    ``span`` names the window ("2026-11-21"); ``asked`` is what the call needs, ``settled`` what has been spent in the
    window, ``held`` what other calls have set aside, ``parked`` what of that is for open questions to people: it may be held
    for days. ``demand`` is what the call needs in all, ``others`` are further limits that stand in its way.
    """

    account: str
    cap: Cap
    span: str
    settled: int
    held: int
    asked: int
    demand: Amounts = Amounts(0)
    parked: int = 0
    others: tuple[Shortage, ...] = ()

    @property
    def needed(self) -> int:
        """What the limit would have to be for this call, once what other calls hold has come back."""
        return self.settled + self.parked + self.asked

    @property
    def needed_now(self) -> int:
        """What the limit would have to be for this call as it is."""
        return self.settled + self.held + self.asked


class Ledger(Protocol):
    """Holds and posts by account. An entry is durable with the journal's next commit, and moves every limit above it.

    ``tree`` is another object whenever accounts or limits have changed.
    """

    tree: Tree

    def hold(self, account: str, demands: Sequence[Amounts], *, run: int | None) -> list[int] | None:
        """Set aside what calls need that are made at once: all of them or none. The holds' ids; None where it cannot be
        now: for what is spent, for what others hold, or because others wait before.

        Raises UsageError for an account that is not there.
        """
        ...

    def refused(self, holds: Sequence[int]) -> bool:
        """Asked after the commit of these holds: whether it refused them, because another process was faster. Nothing
        is held then, and none of their calls may start."""
        ...

    async def wait(self, account: str, demands: Sequence[Amounts], *, run: int | None) -> list[int] | None:
        """Wait, in the order of classes and of coming, for what others hold; the holds' ids. None where waiting does not
        help: what is settled stands in the way, or the account's ``wait_s`` has passed."""
        ...

    def post(self, hold: int, spent: Amounts, *, kind: Posting) -> None:
        """Move what a call took, and let the rest of its hold go. A second post of a hold changes nothing."""
        ...

    def left(self, account: str, *, run: int | None, patient: bool = True) -> Money | None:
        """The money that could still be spent, once all that is held has come back, or (not ``patient``) now; None where no
        limit of money stands above."""
        ...

    def affords(self, account: str, demand: Amounts, *, run: int | None, patient: bool = True) -> bool:
        """Whether a call's demand fits under every limit: once all that is held has come back, or (not ``patient``) now."""
        ...

    def shortage(self, account: str, demand: Amounts, *, run: int | None) -> Shortage | None:
        """The limit that stands most in the way of a demand; None where it fits now."""
        ...

    def ended(self, run: int) -> None:
        """Forget what was added up for the limits of a run that is left."""
        ...
