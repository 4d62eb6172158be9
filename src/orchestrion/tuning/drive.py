"""A policy over recorded attempts: its own ``next``, asked until it accepts or stops. What ``replay`` does, without its engine."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from orchestrion.checks.protocol import AskingCheck, Check
from orchestrion.domain import (
    COMPLETE,
    SCHEMA,
    UNLIMITED,
    Accept,
    Ask,
    Attempt,
    Call,
    Message,
    Money,
    Reply,
    Task,
    Verdict,
)
from orchestrion.errors import PolicyError
from orchestrion.policy.protocol import Policy
from orchestrion.tuning.table import Case


class Unrecorded(LookupError):
    """A policy asks for an answer that nobody recorded."""

    def __init__(self, case: Case, call: Call, why: str) -> None:
        super().__init__(f"task '{case.task.id}': {why}")
        self.call = call


class Driven(NamedTuple):
    """What a policy did on one task: the attempt that it accepted (None: it stopped), and what all its attempts cost."""

    accepted: Attempt | None
    spent: Money

    def score(self, case: Case) -> float | None:
        """The true score of what was accepted; 0 for a stop, None where it is not known."""
        if self.accepted is None:
            return 0.0
        return case.scores.get((self.accepted.call.worker, self.accepted.call.sample))


def drive(policy: Policy, case: Case, checks: Sequence[Check] = ()) -> Driven:
    """Put a policy, with the rules that it brings along, over the recorded attempts of a task. Raises Unrecorded."""
    history: tuple[Attempt, ...] = ()
    while True:
        decision = policy.next(case.task, history, UNLIMITED)
        if not isinstance(decision, Ask):
            accepted = decision.attempt if isinstance(decision, Accept) else None
            return Driven(accepted, sum(attempt.spent for attempt in history))
        before = history
        for call in decision.calls:
            attempt = _recorded(case, call, before)
            history += (judged(case.task, (*before, attempt), checks) if checks else attempt,)


def drive_all(policy: Policy, cases: Iterable[Case], checks: Sequence[Check] = ()) -> list[Driven]:
    """The same, for every task."""
    return [drive(policy, case, checks) for case in cases]


def _recorded(case: Case, call: Call, history: tuple[Attempt, ...]) -> Attempt:
    attempt = case.attempts.get((call.worker, call.sample))
    if call.added:
        raise Unrecorded(case, call, f"'{call.worker}' is shown its refused answer, and asked again")
    if attempt is None:
        raise Unrecorded(case, call, f"sample {call.sample} of '{call.worker}' is not there")
    if any(earlier.call == call for earlier in history):
        raise Unrecorded(case, call, f"'{call.worker}' is asked again, where it failed")
    return attempt


def judged(task: Task, attempts: tuple[Attempt, ...], checks: Sequence[Check]) -> Attempt:
    """The last of the attempts with the verdicts of these checks, as a replay gives them.

    Recorded verdicts keep their order, and those of rules are made anew; what a judge was not asked then, nobody knows (see
    ``needs``). An output of the wrong form is not judged further.
    """
    attempt = attempts[-1]
    if attempt.failure or any(verdict.check in (SCHEMA, COMPLETE) for verdict in attempt.verdicts):
        return attempt
    rules = {check.name: check for check in checks if not isinstance(check, AskingCheck)}
    verdicts = [_said(rules.pop(old.check), task, attempts) if old.check in rules else old for old in attempt.verdicts]
    return attempt.judged((*verdicts, *(_said(rule, task, attempts) for rule in rules.values())))


def needs(attempt: Attempt, checks: Iterable[Check]) -> list[str]:
    """The judges among the checks whose verdict on this attempt was not recorded."""
    if attempt.failure or any(verdict.check in (SCHEMA, COMPLETE) for verdict in attempt.verdicts):
        return []
    there = {verdict.check for verdict in attempt.verdicts}
    return [check.name for check in checks if isinstance(check, AskingCheck) and check.name not in there]


def _said(rule: Check, task: Task, attempts: tuple[Attempt, ...]) -> Verdict:
    try:
        said = rule(task, attempts, _nobody)
    except Exception as error:  # as live: a check of the user's that raises does not pass
        return Verdict(rule.name, False, 0.0, f"the check raised {type(error).__name__}: {error}", broken=True)
    if isinstance(said, Verdict):
        return said
    if inspect.iscoroutine(said):
        said.close()
    raise PolicyError(
        f"the policy's check '{rule.name}' waits for somebody: it cannot be asked about recorded answers."
    )


async def _nobody(worker: str, messages: tuple[Message, ...], *, schema: Mapping[str, Any] | None = None) -> Reply:
    raise LookupError(f"a rule asks nobody, not '{worker}' either")
