"""Policies whose decisions were learned from recorded outcomes: a score of signals, and the least that it must be.

deferral          after an answer: accept it, or go on
scored_router     before any answer: one policy or another
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from orchestrion.domain import Accept, Attempt, Call, Decision, Funds, Stop, Task
from orchestrion.policy.asking import after, answered, calls_of, gravest, majority, refuse_names, refused
from orchestrion.policy.combinators import PolicyLike, as_policy
from orchestrion.policy.protocol import Policy, kind
from orchestrion.policy.signals import Score, others


@kind("deferral")
@dataclass(frozen=True, slots=True)
class Deferral:
    """Ask ``workers`` (name: samples) at once; accept the majority's answer if its score is ``least`` or more, else go on.

    The score is a sum of signals, each times its coefficient in ``score``; see ``policy.signals``. It may look at workers of
    this stage and at those asked before, not at those that only ``otherwise`` asks: a decision must not change by what
    followed from it. The confidence of an accepted answer is the logistic function of the score. Like a stage of a
    cascade, one that cannot be paid is passed over, and the answer constrained.
    """

    workers: Mapping[str, int]
    score: Mapping[str, float]
    least: float
    otherwise: Policy
    _calls: tuple[Call, ...] = field(init=False, repr=False, compare=False)  # made once, as is the compiled score
    _score: Score = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not isinstance(self.workers, Mapping) or not self.workers:
            raise ValueError("workers must be at least one name with its number of samples")
        refuse_names(tuple(self.workers))
        for worker, samples in self.workers.items():
            if isinstance(samples, bool) or not isinstance(samples, int) or samples < 1:
                raise ValueError(f"the samples of {worker!r} must be 1 or more, not {samples!r}")
        _compile(self)
        object.__setattr__(self, "workers", dict(self.workers))
        object.__setattr__(self, "otherwise", as_policy(self.otherwise))
        object.__setattr__(self, "_calls", calls_of(self.workers))
        for worker in self.otherwise.calls().keys() - self.workers.keys():
            if name := self._score.of_worker(worker, self.workers):
                raise ValueError(f"the score looks at {name!r}, but only 'otherwise' asks {worker!r}, afterwards")

    def next(self, task: Task, history: tuple[Attempt, ...], funds: Funds) -> Decision:
        own = self._stage(task, history, funds)
        if not isinstance(own, Stop):
            return own
        decision = self.otherwise.next(task, history, funds)
        return gravest([own, decision]) if isinstance(decision, Stop) else after([own], decision)

    def _stage(self, task: Task, history: tuple[Attempt, ...], funds: Funds) -> Decision:
        attempts = answered(self._calls, history, funds)
        if not isinstance(attempts, tuple):
            return attempts
        agreed = majority(attempts)
        if not agreed:
            return refused(attempts)
        score = self._score(task, attempts, others(history, self.workers.keys()))
        if score >= self.least:
            return Accept(agreed[0], logistic(score))
        return Stop(f"the answer's score is {score:.3g}, {self.least:.3g} is asked for", attempts=attempts)

    def calls(self) -> Counter[str]:
        return Counter(self.workers) + self.otherwise.calls()


@kind("scored_router")
@dataclass(frozen=True, slots=True)
class ScoredRouter:
    """Choose before any answer: ``above`` where the score of the task's signals is ``least`` or more, else ``below``."""

    score: Mapping[str, float]
    least: float
    above: Policy
    below: Policy
    _score: Score = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        _compile(self)
        if self._score.of_answers:
            raise ValueError(
                f"the score looks at {self._score.of_answers[0]!r}, and a scored_router chooses before any answer: "
                "use a deferral"
            )
        object.__setattr__(self, "above", as_policy(self.above))
        object.__setattr__(self, "below", as_policy(self.below))

    def next(self, task: Task, history: tuple[Attempt, ...], funds: Funds) -> Decision:
        chosen = self.above if self._score(task) >= self.least else self.below
        return chosen.next(task, history, funds)

    def calls(self) -> Counter[str]:
        return self.above.calls() | self.below.calls()


def deferral(workers: Mapping[str, int], score: Mapping[str, float], *, least: float, otherwise: PolicyLike) -> Policy:
    """Accept the majority's answer if its score is ``least`` or more, else go on."""
    return Deferral(workers, score, least, as_policy(otherwise))


def scored_router(score: Mapping[str, float], *, least: float, above: PolicyLike, below: PolicyLike) -> Policy:
    """Choose the policy by a score of the task's signals."""
    return ScoredRouter(score, least, as_policy(above), as_policy(below))


def logistic(score: float) -> float:
    """A score as a number in [0, 1]."""
    return 0.5 * (1 + math.tanh(score / 2))  # unlike 1 / (1 + exp(-score)), this cannot overflow


def _compile(policy: Deferral | ScoredRouter) -> None:
    compiled = Score(policy.score)
    if isinstance(policy.least, bool) or not isinstance(policy.least, int | float) or not math.isfinite(policy.least):
        raise ValueError(f"least must be a finite number, not {policy.least!r}")
    object.__setattr__(policy, "score", compiled.coefficients)
    object.__setattr__(policy, "least", float(policy.least))
    object.__setattr__(policy, "_score", compiled)
