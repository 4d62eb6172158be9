"""The one loop that carries a policy's decisions out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msgspec.structs import replace
from pydantic_core import to_json

from orchestrion.checks.protocol import Check
from orchestrion.domain import UNLIMITED, Accept, Ask, Attempt, Call, Funds, Money, Stop, Task, digest
from orchestrion.engine.ask import answer, answers, hold, rejudge
from orchestrion.engine.holding import added, demand_of, exhausted, spent, was_short
from orchestrion.engine.review import take_up, waits
from orchestrion.engine.scope import Scope, here
from orchestrion.errors import FundsExhausted, JournalMismatch, RunError, StepFailed
from orchestrion.journal.protocol import Key, StepMemory
from orchestrion.ledger.accounts import Amounts
from orchestrion.policy.protocol import Policy
from orchestrion.review.requests import Note, ReviewRequest

if TYPE_CHECKING:
    from orchestrion.engine.execution import Execution
    from orchestrion.engine.step import Step


class Site:
    """One call of a step within a run: what is performed, under which key, with which policy and checks."""

    __slots__ = (
        "accepted",
        "checks",
        "digest",
        "execution",
        "in_vain",
        "input",
        "key",
        "notes",
        "patient",
        "pending",
        "policy",
        "scope",
        "step",
        "task",
        "turn",
        "unpaid",
        "waited_s",
    )
    digest: str
    input: str
    policy: Policy
    checks: tuple[Check, ...]

    def __init__(self, execution: Execution, step: Step[Any], task: Task, key: Key, scope: Scope | None = None) -> None:
        self.execution = execution
        self.step = step
        self.task = task
        self.key = key
        self.scope = scope
        self.accepted: Accept | None = None
        self.pending: list[tuple[Call, ReviewRequest]] = []
        self.notes: list[Note] = []
        self.turn = 0
        self.patient = True
        self.in_vain: tuple[tuple[Call, ...], ...] = ()
        self.waited_s = 0.0
        self.unpaid: tuple[tuple[Call, ...], Amounts] | None = None

    def open(self) -> None:
        """Find the policy and the checks, and write the input down. Raises PolicyError."""
        text = to_json(self.task.input)
        self.digest = digest(text)
        self.input = text.decode()
        self.policy, self.checks = self.execution.policy(self.step)

    def skipped(self, unvisited: list[Key]) -> list[Key]:
        """Those of the keys that this branch has not come to yet."""
        return [key for key in unvisited if not (self.scope and self.scope.called(key))]

    def funds(self) -> Funds:
        """What may still be spent here: also what others hold, until it was waited for in vain."""
        execution = self.execution
        if not execution.ledger.tree.limited or not execution.units:
            return UNLIMITED
        self.unpaid = None
        return Funds(self._left, lambda call: self._demand(call).money, self._covers)

    def _left(self) -> Money | None:
        execution = self.execution
        return execution.ledger.left(execution.account, run=execution.no, patient=self.patient)

    def _demand(self, call: Call) -> Amounts:
        worker = self.execution.worker(call.worker, self.step)
        return demand_of(worker, self.step.request(self.task, call, self.input), self.execution.units)

    def _covers(self, calls: tuple[Call, ...]) -> bool:
        """Whether calls can be paid; what was put to a person is held already. The first that cannot is kept, to be named.

        What could not be held once is left alone: else the answer that stood in for it was paid for nothing.
        """
        execution = self.execution
        new = [call for call in calls if not any(call == pending for pending, _ in self.pending)]
        demand = added(map(self._demand, new))
        fits = calls not in self.in_vain and execution.ledger.affords(
            execution.account, demand, run=execution.no, patient=self.patient
        )
        if not fits and self.unpaid is None:
            self.unpaid = calls, demand
        return fits

    def exhausted(self, history: tuple[Attempt, ...]) -> FundsExhausted:
        """The error for a policy that stops since it cannot pay."""
        calls, demand = self.unpaid or ((), self._more_than_left())
        return exhausted(self, [demand], [call.worker for call in calls], history)

    def _more_than_left(self) -> Amounts:
        """What a policy must have wanted that looked at the amount itself."""
        execution = self.execution
        return Amounts((execution.ledger.left(execution.account, run=execution.no) or 0) + 1)


async def perform(site: Site) -> Any:
    """Ask, check and decide until the policy accepts; the accepted value. Raises StepFailed where it stops, with the history
    and the cost, FundsExhausted where a limit is in its way.

    What came back is on its way to the disk when a decision is made, and on it before the next call is: an Ask waits for
    the commit that notes it and everything before it. So a step costs one commit, not two.
    """
    history: tuple[Attempt, ...] = ()
    site.open()
    log = site.execution.log
    memory = log.recall(site.key)
    try:
        if memory:
            site.turn = memory.turns
            history = await _remembered(site, memory)
            if memory.accepted is not None:
                site.accepted = _accepted(memory, history)
                return site.accepted.attempt.value
            if memory.short:
                raise was_short(site, history)
        elif (unvisited := log.unvisited(site.key.scope)) and (left := site.skipped(unvisited)):
            # A branch calls its steps in the same order every time. What comes before the others is not in the journal, so
            # the code has changed: it is refused before it pays for anything, and the old code still fits. (Of steps that were
            # called at once, for a gather, one may have gone on while another waited for money.)
            raise mismatch(site.execution.id, left)
        site.execution.check_certificate(site.step)
        while True:
            match site.policy.next(site.task, history, site.funds()):
                case Ask() as ask:
                    site.execution.proceed()
                    try:
                        held = await hold(site, _not_pending(site, ask.calls), history)
                    except FundsExhausted:
                        if ask.calls in site.in_vain:
                            raise
                        site.in_vain += (ask.calls,)  # the policy may know somebody cheaper
                        continue
                    if len(held) == 1:
                        history += (await answer(site, held[0], history),)
                    else:
                        history += await answers(site, held, history)
                case Accept() as decision:
                    log.accept(decision.attempt.hold, constrained=decision.constrained)
                    site.accepted = decision
                    return decision.attempt.value
                case Stop(_, "funds") if site.execution.units:
                    raise site.exhausted(history)
                case Stop(reason):
                    raise StepFailed(step=site.step.name, reason=reason, history=history, cost=spent(history))
    except FundsExhausted:
        site.execution.short.append((here().path, site))
        raise


def _not_pending(site: Site, calls: tuple[Call, ...]) -> tuple[Call, ...]:
    """The calls that were not put to a person before. Raises Waits where there is none."""
    if not site.pending:
        return calls
    waiting = {request.hold: request for call, request in site.pending if call in calls}
    new = tuple(call for call in calls if not any(call == pending for pending, _ in site.pending))
    if not new:
        # A question to the task's owner first: nobody else can go on.
        request = max(waiting.values(), key=lambda one: one.state == "asked")
        raise waits(request.hold, question=request.question)
    return new


def mismatch(run_id: str, left: list[Key]) -> JournalMismatch:
    """The workflow did not call what its journal remembers."""
    more = f" (and {len(left) - 1} more)" if len(left) > 1 else ""
    return JournalMismatch(
        f"run '{run_id}' no longer fits its workflow: the journal remembers step {left[0]}{more}, which the workflow did not call this time. "
        "Start a new run under another id, or bring the old code back."
    )


async def _remembered(site: Site, memory: StepMemory) -> tuple[Attempt, ...]:
    """What the journal remembers, read again. Raises JournalMismatch where the step was asked something else, RunError
    where the texts are gone (an answer's digest must never pass for the answer)."""
    if memory.input is None and any(attempt.failure is None for attempt in memory.history):
        raise RunError(
            f"run '{site.execution.id}' cannot go on: the answers of step {site.key} were not kept (record, redact and keep_days "
            "in the settings). Start a new run under another id."
        )
    if memory.digest != site.digest:
        raise JournalMismatch(
            f"run '{site.execution.id}' cannot go on: its step {site.key} was given another input than now.\n"
            f"  then: {_shown(memory.input)}\n  now:  {_shown(site.input)}\n"
            "The workflow, or what it reads, has changed. Start a new run under another id, or bring the old code back. "
            "(Branches that run at once belong in orchestrion.gather or orchestrion.map, so that each has its own keys.)"
        )
    history: tuple[Attempt, ...] = ()
    for remembered in memory.history:
        attempt = remembered
        if not attempt.failure:
            value, answer, problems = site.step.read(attempt.output or "", attempt.answer, attempt.finish_reason)
            if problems and attempt.hold == memory.accepted and attempt.usable:
                raise JournalMismatch(
                    f"run '{site.execution.id}' cannot go on: the answer that step {site.key} accepted does not have its "
                    f"type any more ({problems[0].reason}). Start a new run under another id, or bring the old type back."
                )
            attempt = replace(attempt, value=value, answer=answer, verdicts=attempt.verdicts or problems)
            if attempt.hold in memory.unchecked:
                seen = history[: memory.before.get(attempt.hold, len(history))]
                anew = {verdict.check: verdict.cost for verdict in remembered.verdicts if verdict.broken}
                attempt = await rejudge(site, seen, replace(attempt, verdicts=problems), anew=anew)
        history += (attempt,)
    return take_up(site, memory.lost, history) if memory.lost and site.execution.no is not None else history


def _accepted(memory: StepMemory, history: tuple[Attempt, ...]) -> Accept:
    attempt = next(a for a in history if a.hold == memory.accepted)
    return Accept(attempt, attempt.confidence, constrained=memory.constrained)


def _shown(text: str | None) -> str:
    return "(not kept)" if text is None else text if len(text) <= 300 else f"{text[:300]}… ({len(text)} characters)"
