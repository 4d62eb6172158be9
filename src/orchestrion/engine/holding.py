"""Money before calls: holds for all that is asked at once, waiting for what others hold, and what is said where it is short.

Nothing else makes a hold: what a step's policy asks, and what its checks ask, comes through ``secured``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from time import monotonic
from typing import TYPE_CHECKING

import msgspec

from orchestrion.domain import Attempt, Call, Money, Request
from orchestrion.errors import FundsExhausted, RunBusy, UsageError
from orchestrion.ledger.accounts import Amounts, Unit
from orchestrion.ledger.words import missing
from orchestrion.workers.people import Person
from orchestrion.workers.protocol import Worker, tokens_bound

if TYPE_CHECKING:
    from orchestrion.engine.perform import Site

MOST = 2**62
"""Nano-dollars. More are garbage, and do not fit into the database."""

NOTHING = Amounts(0)


class Held(msgspec.Struct):
    """A call to be made: what it takes at most, who is asked what, and the id under which that is set aside (0: not yet)."""

    demand: Amounts
    call: Call
    worker: Worker
    request: Request
    hold: int = 0


def plan(site: Site, call: Call, request: Request) -> Held:
    """A call with what it takes at most. Raises PolicyError where nobody is called so, UsageError where it has no bound."""
    execution = site.execution
    worker = execution.worker(call.worker, site.step)
    units = execution.units if execution.ledger.tree.limited else ()
    return Held(demand_of(worker, request, units), call, worker, request)


def demand_of(worker: Worker, request: Request, units: Iterable[Unit]) -> Amounts:
    """What a call takes at most. Tokens and time are counted only where limits stand above. Raises UsageError for a bound that
    is none."""
    money = worker.bound(request)
    if type(money) is not int or not 0 <= money <= MOST:
        raise UsageError(
            f"worker '{worker.name}' says that a call costs at most {money!r}: a bound is a whole number of nano-dollars, 0 or "
            "more. Mend its `bound`; nothing was asked."
        )
    if not units:
        return Amounts(money)
    tokens = tokens_bound(worker, request) if "tokens" in units else 0
    return Amounts(money, tokens, round(worker.minutes * 60) if isinstance(worker, Person) else 0)


def is_amount(money: object) -> bool:
    """Whether it is money: a whole number of nano-dollars, not negative."""
    return type(money) is int and 0 <= money <= MOST


async def secured(
    site: Site,
    asked: list[Held],
    note: Callable[[list[Held]], None],
    history: tuple[Attempt, ...],
) -> list[Held]:
    """Durable holds for calls that are made at once: all of them or none. ``note`` writes down what is about to be asked,
    in the commit of its holds.

    What fails only for what others hold waits for it. Raises FundsExhausted where the calls cannot be paid.
    """
    execution, ledger = site.execution, site.execution.ledger
    demands = [one.demand for one in asked]
    while True:
        holds = ledger.hold(execution.account, demands, run=execution.no)
        if holds is None:
            holds = await _waited(site, demands)
            if holds is None:
                raise exhausted(site, demands, [one.call.worker for one in asked], history)
        for i, hold in enumerate(holds):
            asked[i].hold = hold
        note(asked)
        try:
            await execution.log.durable()
        except (asyncio.CancelledError, RunBusy) as error:
            _let_go(site, asked, error)
            raise
        if not ledger.refused(holds):
            return asked
        # Another process was faster. What was noted is a call without a hold, which no resumed run takes for one that was made.


async def _waited(site: Site, demands: list[Amounts]) -> list[int] | None:
    """Holds that could not be made at once; None where they cannot be made at all."""
    execution, ledger = site.execution, site.execution.ledger
    account, run, demand = execution.account, execution.no, added(demands)
    if not ledger.affords(account, demand, run=run, patient=site.patient):
        return None
    began = monotonic()
    holds = await execution.wait(demands)
    if holds is None and ledger.affords(account, demand, run=run):
        site.waited_s += monotonic() - began
        site.patient = False  # it does not come back in time: from now on what others hold counts as gone
    return holds


def _let_go(site: Site, held: list[Held], error: BaseException) -> None:
    """No call was made, and none will be. A question to a person stands, unless the run is another process's."""
    for one in held:
        if isinstance(error, RunBusy) or not isinstance(one.worker, Person):
            site.execution.post(one.hold, NOTHING, "void")


def exhausted(
    site: Site, demands: Iterable[Amounts], workers: Iterable[str], history: tuple[Attempt, ...]
) -> FundsExhausted:
    """The error that says which limit stands in the way of asking, and how to go on."""
    demand, asked = added(demands), " and ".join(dict.fromkeys(workers))
    shortage = site.execution.ledger.shortage(site.execution.account, demand, run=site.execution.no)
    return FundsExhausted(
        step=site.step.name,
        reason=missing(shortage, asked=asked, waited_s=site.waited_s),
        history=history,
        cost=spent(history),
        shortage=shortage,
    )


def was_short(site: Site, history: tuple[Attempt, ...]) -> FundsExhausted:
    """The error of a step that the workflow's code went on without: that stands when the run is resumed."""
    reason = "money was short when the run came here first, and its code went on without this step."
    return FundsExhausted(step=site.step.name, reason=reason, history=history, cost=spent(history), shortage=None)


def added(demands: Iterable[Amounts]) -> Amounts:
    """What several calls take together."""
    return Amounts(*map(sum, zip(*demands, strict=True))) if (demands := list(demands)) else NOTHING


def spent(history: Iterable[Attempt]) -> Money:
    """What attempts cost, and what asking their checks cost."""
    return sum(attempt.spent for attempt in history)
