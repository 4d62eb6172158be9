"""The policies: each a small frozen dataclass, most of them around others.

fixed · agreement                        ask
cascade · fallback · router · mix        choose
corrected · retried · best_effort        wrap

Wherever a policy is expected, a string stands for ``fixed(that worker)``.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache, reduce
from itertools import accumulate
from typing import TypeAlias

from orchestrion.domain import Accept, Ask, Attempt, Call, Decision, Funds, Message, Stop, Task
from orchestrion.policy.asking import (
    after,
    answered,
    calls_of,
    gravest,
    last,
    majority,
    refuse_names,
    refused,
    too_dear,
)
from orchestrion.policy.protocol import Policy, kind, load_policy

PolicyLike: TypeAlias = Policy | str


def as_policy(policy: PolicyLike) -> Policy:
    """The policy itself, or ``fixed`` for the name of a worker."""
    if isinstance(policy, str):
        return load_policy(policy)
    if not isinstance(policy, Policy):
        raise ValueError(f"expected a policy or a worker's name, got {policy!r}")
    return policy


@kind("fixed")
@dataclass(frozen=True, slots=True)
class Fixed:
    """Ask one worker once; accept what no check refuses."""

    worker: str
    _ask: Ask = field(init=False, repr=False, compare=False)  # the same each time: made once

    def __post_init__(self) -> None:
        refuse_names((self.worker,))
        object.__setattr__(self, "_ask", Ask((Call(self.worker),)))

    def next(self, task: Task, history: tuple[Attempt, ...], funds: Funds) -> Decision:
        calls = self._ask.calls
        attempt = last(history, calls[0]) if history else None
        if attempt is None:
            return self._ask if funds.pay(calls) else too_dear(calls)
        return Accept(attempt, attempt.confidence) if attempt.passed else refused((attempt,))

    def calls(self) -> Counter[str]:
        return Counter([self.worker])


@kind("agreement")
@dataclass(frozen=True, slots=True)
class Agreement:
    """Ask for several answers at once and take the majority's.

    The score of the majority is its share of all the answers asked for (failed and refused ones count against it);
    it is accepted at ``accept`` or more. Answers are the same where their canonical texts are.
    """

    workers: tuple[str, ...]
    samples: int = 1
    accept: float = 0.5

    def __post_init__(self) -> None:
        if not self.workers or not isinstance(self.workers, tuple):
            raise ValueError("workers must be a list of at least one name")
        refuse_names(self.workers)
        if not isinstance(self.samples, int) or self.samples < 1:
            raise ValueError(f"samples must be 1 or more, not {self.samples!r}")
        if not 0 <= self.accept <= 1:
            raise ValueError(f"accept must be between 0 and 1, not {self.accept!r}")

    def next(self, task: Task, history: tuple[Attempt, ...], funds: Funds) -> Decision:
        attempts = answered(_calls(self.workers, self.samples), history, funds)
        if not isinstance(attempts, tuple):
            return attempts
        agreed = majority(attempts)
        if not agreed:
            return refused(attempts)
        share = len(agreed) / len(attempts)
        confidence = min(share, agreed[0].confidence)
        if confidence >= self.accept:
            return Accept(agreed[0], confidence)
        short = f"{len(agreed)} of {len(attempts)} answers agree, {self.accept:.0%} are asked for"
        return Stop(short, attempts=attempts)

    def calls(self) -> Counter[str]:
        return Counter(dict.fromkeys(self.workers, self.samples))


@kind("cascade")
@dataclass(frozen=True, slots=True)
class Cascade:
    """Try policies in order until one accepts; one that cannot be paid is passed over, and the answer constrained."""

    stages: tuple[Policy, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "stages", _policies(self.stages))

    def next(self, task: Task, history: tuple[Attempt, ...], funds: Funds) -> Decision:
        stops: list[Stop] = []
        for stage in self.stages:
            decision = stage.next(task, history, funds)
            if not isinstance(decision, Stop):
                return after(stops, decision)
            stops.append(decision)
        return gravest(stops)

    def calls(self) -> Counter[str]:
        return _sum(self.stages)


@kind("fallback")
@dataclass(frozen=True, slots=True)
class Fallback:
    """Go on to the next policy where one's workers failed or cannot be paid; what a check or a person refused stays refused."""

    policies: tuple[Policy, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "policies", _policies(self.policies))

    def next(self, task: Task, history: tuple[Attempt, ...], funds: Funds) -> Decision:
        stops: list[Stop] = []
        for policy in self.policies:
            decision = policy.next(task, history, funds)
            if not isinstance(decision, Stop) or decision.kind == "rejected":
                return after(stops, decision)
            stops.append(decision)
            if decision.kind == "checks":
                break  # refused for good, unless somebody before could not be paid: with money, they may do better
        return gravest(stops)

    def calls(self) -> Counter[str]:
        return _sum(self.policies)


@kind("router")
@dataclass(frozen=True, slots=True)
class Router:
    """Choose by the value of one of the task's tags."""

    tag: str
    routes: Mapping[str, Policy]
    otherwise: Policy

    def __post_init__(self) -> None:
        object.__setattr__(self, "routes", {value: as_policy(route) for value, route in self.routes.items()})
        object.__setattr__(self, "otherwise", as_policy(self.otherwise))

    def next(self, task: Task, history: tuple[Attempt, ...], funds: Funds) -> Decision:
        return self.routes.get(str(task.tags.get(self.tag)), self.otherwise).next(task, history, funds)

    def calls(self) -> Counter[str]:
        return reduce(Counter.__or__, (policy.calls() for policy in (*self.routes.values(), self.otherwise)))


@kind("mix")
@dataclass(frozen=True, slots=True)
class Mix:
    """Choose by chance, each policy with its share.

    The chance is a hash of salt, task id and step: live, resumed and replayed runs draw the same.
    """

    policies: tuple[Policy, ...]
    shares: tuple[float, ...]
    salt: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "policies", _policies(self.policies))
        if len(self.shares) != len(self.policies):
            raise ValueError(f"{len(self.policies)} policies, but {len(self.shares)} shares")
        if not all(share >= 0 for share in self.shares) or not 0.999 < sum(self.shares) < 1.001:
            raise ValueError(f"shares must be at least 0 and add up to 1, not {self.shares}")

    def next(self, task: Task, history: tuple[Attempt, ...], funds: Funds) -> Decision:
        draw = chance(self.salt, task.id, task.step)
        for policy, edge in zip(self.policies, accumulate(self.shares), strict=True):
            if draw < edge:
                return policy.next(task, history, funds)
        return self.policies[-1].next(task, history, funds)

    def calls(self) -> Counter[str]:
        return reduce(Counter.__or__, (policy.calls() for policy in self.policies))


@kind("corrected")
@dataclass(frozen=True, slots=True)
class Corrected:
    """When an answer fails its checks, show it to its worker with the reasons and ask again, at most ``times`` times."""

    inner: Policy
    times: int = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "inner", as_policy(self.inner))
        if not isinstance(self.times, int) or self.times < 1:
            raise ValueError(f"times must be 1 or more, not {self.times!r}")

    def next(self, task: Task, history: tuple[Attempt, ...], funds: Funds) -> Decision:
        decision = self.inner.next(task, history, funds)
        if not isinstance(decision, Stop) or decision.kind != "checks":
            return decision
        tried = decision.attempts
        wrong = [a for a in tried if not a.failure and not a.passed and not a.broken]
        if not wrong:
            return decision
        attempt = wrong[-1]
        for _ in range(self.times):
            call = Call(attempt.call.worker, attempt.call.sample, (*attempt.call.added, *correction(attempt)))
            again = last(history, call)
            if again is None:
                return Ask((call,)) if funds.pay((call,)) else too_dear((call,), tried)
            if again.passed:
                return Accept(again, again.confidence)
            tried = (*tried, again)
            if again.failure or again.broken:
                break
            attempt = again
        return refused(tried[-1:], tried)

    def calls(self) -> Counter[str]:
        asked = self.inner.calls()
        return asked + Counter(dict.fromkeys(asked, self.times))


@kind("retried")
@dataclass(frozen=True, slots=True)
class Retried:
    """Ask again, at most ``times`` times, where a call failed; the policy inside sees the failures when there are no more tries."""

    inner: Policy
    times: int = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "inner", as_policy(self.inner))
        if not isinstance(self.times, int) or self.times < 1:
            raise ValueError(f"times must be 1 or more, not {self.times!r}")

    def next(self, task: Task, history: tuple[Attempt, ...], funds: Funds) -> Decision:
        failed = [attempt for attempt in history if attempt.failure and not attempt.rejected]
        if not failed:
            return self.inner.next(task, history, funds)
        failures = Counter(_identity(attempt.call) for attempt in failed)
        seen = tuple(a for a in history if a not in failed or failures[_identity(a.call)] > self.times)
        return self.inner.next(task, seen, funds)

    def calls(self) -> Counter[str]:
        return Counter({worker: n * (1 + self.times) for worker, n in self.inner.calls().items()})


@kind("best_effort")
@dataclass(frozen=True, slots=True)
class BestEffort:
    """Where the policy inside stops, accept the best answer there is: the most confident, then the last asked for.

    An answer that does not have the step's type is never accepted, nor is any once a person has rejected.
    """

    inner: Policy

    def __post_init__(self) -> None:
        object.__setattr__(self, "inner", as_policy(self.inner))

    def next(self, task: Task, history: tuple[Attempt, ...], funds: Funds) -> Decision:
        decision = self.inner.next(task, history, funds)
        usable = [attempt for attempt in history if attempt.usable]
        if not isinstance(decision, Stop) or not usable or any(attempt.rejected for attempt in history):
            return decision
        place = {id(attempt): i for i, attempt in enumerate(decision.attempts)}
        best = max(usable, key=lambda a: (a.passed, a.confidence, place.get(id(a), -1), a.call.worker, a.call.sample))
        return Accept(best, best.confidence, constrained=decision.kind == "funds")

    def calls(self) -> Counter[str]:
        return self.inner.calls()


def fixed(worker: str) -> Policy:
    """Ask one worker once."""
    return Fixed(worker)


def agreement(*workers: str, samples: int = 1, accept: float = 0.5) -> Policy:
    """Ask each worker ``samples`` times at once; accept the majority's answer if its share is ``accept`` or more."""
    return Agreement(workers, samples, accept)


def cascade(*stages: PolicyLike) -> Policy:
    """Ask cheap workers first and better ones where the checks say so."""
    return Cascade(_policies(stages))


def fallback(*policies: PolicyLike) -> Policy:
    """Ask the next where a worker failed."""
    return Fallback(_policies(policies))


def router(tag: str, routes: Mapping[str, PolicyLike], *, otherwise: PolicyLike) -> Policy:
    """Choose the policy by a tag of the task."""
    return Router(tag, {value: as_policy(route) for value, route in routes.items()}, as_policy(otherwise))


def mix(shares: Mapping[str, float], *, salt: str = "") -> Policy:
    """Choose among workers by chance, each with its share."""
    return Mix(_policies(tuple(shares)), tuple(shares.values()), salt)


def corrected(policy: PolicyLike, *, times: int = 1) -> Policy:
    """Show a refused answer to its worker with the reasons, and ask again."""
    return Corrected(as_policy(policy), times)


def retried(policy: PolicyLike, *, times: int = 1) -> Policy:
    """Ask again where a call failed."""
    return Retried(as_policy(policy), times)


def best_effort(policy: PolicyLike) -> Policy:
    """Accept the best answer there is where the policy would stop."""
    return BestEffort(as_policy(policy))


def correction(attempt: Attempt) -> tuple[Message, ...]:
    """The messages that show a worker its refused answer, and why it was refused."""
    reasons = [f"- {v.check}: {v.reason or 'not passed'}" for v in attempt.verdicts if not v.passed]
    ask = (
        "Your answer was checked and refused:\n" + "\n".join(reasons) + "\nAnswer again, in full and in the same form."
    )
    return ({"role": "assistant", "content": attempt.output or ""}, {"role": "user", "content": ask})


def chance(*parts: str) -> float:
    """A number in [0, 1) that depends on the parts alone."""
    drawn = hashlib.blake2b("\0".join(parts).encode(), digest_size=8).digest()
    return int.from_bytes(drawn, "big") / 2**64


@lru_cache(maxsize=1024)
def _calls(workers: tuple[str, ...], samples: int) -> tuple[Call, ...]:
    return calls_of(dict.fromkeys(workers, samples))


def _policies(policies: tuple[PolicyLike, ...]) -> tuple[Policy, ...]:
    if not policies or not isinstance(policies, tuple):
        raise ValueError("at least one policy is needed")
    return tuple(as_policy(policy) for policy in policies)


def _identity(call: Call) -> tuple[str, int, str | None]:
    return (call.worker, call.sample, call.context)  # messages are mappings, which do not hash


def _sum(policies: tuple[Policy, ...]) -> Counter[str]:
    return reduce(Counter.__add__, (policy.calls() for policy in policies))
