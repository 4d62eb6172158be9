"""A policy over recorded attempts: its own ``next``, asked until it accepts or stops. What ``replay`` does, without its engine."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from orchestrion.domain import UNLIMITED, Accept, Ask, Attempt, Money
from orchestrion.policy.protocol import Policy
from orchestrion.tuning.table import Case


class Driven(NamedTuple):
    """What a policy did on one task: the attempt that it accepted (None: it stopped), and what all its attempts cost."""

    accepted: Attempt | None
    spent: Money

    def score(self, case: Case) -> float | None:
        """The true score of what was accepted; 0 for a stop, None where it is not known."""
        if self.accepted is None:
            return 0.0
        return case.scores.get((self.accepted.call.worker, self.accepted.call.sample))


def drive(policy: Policy, case: Case) -> Driven:
    """Put a policy over the recorded attempts of a task. Raises KeyError where it asks for what was not recorded."""
    history: tuple[Attempt, ...] = ()
    while True:
        decision = policy.next(case.task, history, UNLIMITED)
        if isinstance(decision, Ask):
            history += tuple(case.attempts[call.worker, call.sample] for call in decision.calls)
        else:
            accepted = decision.attempt if isinstance(decision, Accept) else None
            return Driven(accepted, sum(attempt.spent for attempt in history))


def drive_all(policy: Policy, cases: Iterable[Case]) -> list[Driven]:
    """The same, for every task."""
    return [drive(policy, case) for case in cases]
