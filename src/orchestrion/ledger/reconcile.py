"""Calls of unknown cost, once the provider's bill says what they cost.

A process died, or a connection broke, while a call was under way: nobody knew what was charged, so it was booked in full.
"""

from __future__ import annotations

import time

import msgspec
from pydantic_core import to_json

from orchestrion.domain import Money, dollars
from orchestrion.errors import UsageError
from orchestrion.ledger.accounts import Amounts
from orchestrion.ledger.books import Books
from orchestrion.store.queries import queries
from orchestrion.store.session import Session


class Unknown(msgspec.Struct, frozen=True, kw_only=True):
    """A call that was booked in full. ``run``, ``step`` and ``worker`` are None where the journal does not have them."""

    hold: int
    account: str
    booked: Money
    at: float
    run: str | None = None
    step: str | None = None
    worker: str | None = None


class Reconciled(msgspec.Struct, frozen=True, kw_only=True):
    """What was booked for a call, and what it turned out to have cost."""

    hold: int
    account: str
    before: Money
    after: Money


def unknown(session: Session) -> list[Unknown]:
    """Every call of unknown cost, the oldest first."""
    return [
        Unknown(hold=hold, account=account, booked=booked, at=at, run=run, step=step, worker=worker)
        for hold, account, booked, at, run, step, worker in session.execute(queries("budget")["unknown"])
    ]


def reconcile(session: Session, hold: int, cost: Money | None, *, name: str, who: str) -> Reconciled:
    """Book what a call cost; None: it was not billed. ``name`` is the hold as people write it.

    Raises UsageError for a call whose cost is known: what was posted stands.
    """
    rows = session.execute(queries("budget")["posted"], (hold,))
    if not rows:
        raise UsageError(
            f"there is no call {name} that was booked. `orchestrion budget reconcile` lists those of unknown cost."
        )
    [(account, kind, booked, tokens, attention, _)] = rows
    if kind != "unknown":
        said = "was not billed" if kind == "void" else f"cost {dollars(booked)}"
        raise UsageError(f"the cost of call {name} is known: it {said}. Nothing was changed.")
    spent = Amounts(0) if cost is None else Amounts(cost, tokens, attention)
    Books().correct(session, hold, spent, "void" if cost is None else "post", time.time())
    body = to_json({"call": name, "before": booked, "after": spent.money}).decode()
    session.execute(queries("budget")["change"], (time.time(), who, "reconcile", account, body))
    return Reconciled(hold=hold, account=account, before=booked, after=spent.money)
