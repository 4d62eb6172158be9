"""The ledger: money is set aside before a call (hold) and moved after it (post, or void where nothing was charged)."""

from __future__ import annotations

from typing import Literal, Protocol, TypeAlias

from orchestrion.domain import Money

Posting: TypeAlias = Literal["post", "unknown", "void"]
"""What becomes of a hold: ``post`` the actual cost; ``unknown``: nobody knows what was charged, so the hold in full;
``void`` only where it is certain that nothing was charged."""


class Ledger(Protocol):
    """Holds and posts by account. An entry is durable with the journal's next commit."""

    def hold(self, account: str, amount: Money, *, run: int | None) -> int:
        """Set money aside for one call; the hold's id."""
        ...

    def post(self, hold: int, amount: Money, *, kind: Posting) -> None:
        """Move what a call cost, and let the rest of its hold go. Once for each hold."""
        ...

    def left(self, account: str) -> Money | None:
        """What may still be held on this account; None where no limit stands in the way."""
        ...
