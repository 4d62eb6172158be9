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

from orchestrion.domain import Accept, Ask, Attempt, Call, Decision, Failure, Funds, Message, Stop, StopKind, Task
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
        _refuse_names((self.worker,))
        object.__setattr__(self, "_ask", Ask((Call(self.worker),)))

    def next(self, task: Task, history: tuple[Attempt, ...], funds: Funds) -> Decision:
        calls = self._ask.calls
        attempt = _last(history, calls[0]) if history else None
        if attempt is None:
            return self._ask if funds.pay(calls) else _too_dear(calls)
        return Accept(attempt, attempt.confidence) if attempt.passed else _refused((attempt,))

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
        _refuse_names(self.workers)
        if not isinstance(self.samples, int) or self.samples < 1:
            raise ValueError(f"samples must be 1 or more, not {self.samples!r}")
        if not 0 <= self.accept <= 1:
            raise ValueError(f"accept must be between 0 and 1, not {self.accept!r}")

    def next(self, task: Task, history: tuple[Attempt, ...], funds: Funds) -> Decision:
        calls = _calls(self.workers, self.samples)
        found = [_last(history, call) for call in calls]
        missing = tuple(call for call, attempt in zip(calls, found, strict=True) if attempt is None)
        if missing:
            return Ask(missing) if funds.pay(missing) else _too_dear(missing)
        attempts = [attempt for attempt in found if attempt is not None]
        groups: dict[str | None, list[Attempt]] = {}
        for attempt in attempts:
            if attempt.passed:
                groups.setdefault(attempt.answer, []).append(attempt)
        if not groups:
            return _refused(tuple(attempts))
        majority = max(groups.values(), key=len)  # the first of the largest: dicts keep order, max keeps the first
        share = len(majority) / len(calls)
        confidence = min(share, majority[0].confidence)
        if confidence >= self.accept:
            return Accept(majority[0], confidence)
        agreed = f"{len(majority)} of {len(calls)} answers agree, {self.accept:.0%} are asked for"
        return Stop(agreed, attempts=tuple(attempts))

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
            if isinstance(decision, Accept):
                return _constrained(decision) if any(stop.kind == "funds" for stop in stops) else decision
            if isinstance(decision, Ask):
                return decision
            stops.append(decision)
        return _gravest(stops)

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
            if isinstance(decision, Accept) and any(stop.kind == "funds" for stop in stops):
                return _constrained(decision)
            if not isinstance(decision, Stop) or decision.kind == "rejected":
                return decision
            stops.append(decision)
            if decision.kind == "checks":
                break  # refused for good, unless somebody before could not be paid: with money, they may do better
        return _gravest(stops)

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
        refused = [a for a in tried if not a.failure and not a.passed and not a.broken]
        if not refused:
            return decision
        attempt = refused[-1]
        for _ in range(self.times):
            call = Call(attempt.call.worker, attempt.call.sample, (*attempt.call.added, *correction(attempt)))
            answered = _last(history, call)
            if answered is None:
                return Ask((call,)) if funds.pay((call,)) else _too_dear((call,), tried)
            if answered.passed:
                return Accept(answered, answered.confidence)
            tried = (*tried, answered)
            if answered.failure or answered.broken:
                break
            attempt = answered
        return _refused(tried[-1:], tried)

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
    return tuple(Call(worker, sample) for sample in range(samples) for worker in workers)


def _policies(policies: tuple[PolicyLike, ...]) -> tuple[Policy, ...]:
    if not policies or not isinstance(policies, tuple):
        raise ValueError("at least one policy is needed")
    return tuple(as_policy(policy) for policy in policies)


def _refuse_names(workers: tuple[str, ...]) -> None:
    """Names that no worker can have, and a name twice: its calls would be the same call."""
    for i, worker in enumerate(workers):
        if not isinstance(worker, str) or not worker:
            raise ValueError(f"a worker's name is a text, not {worker!r}")
        if worker in workers[:i]:
            raise ValueError(f"{worker!r} is named twice: ask for more samples instead")


def _identity(call: Call) -> tuple[str, int, str | None]:
    return (call.worker, call.sample, call.context)  # messages are mappings, which do not hash


def _last(history: tuple[Attempt, ...], call: Call) -> Attempt | None:
    for attempt in reversed(history):
        if attempt.call == call:
            return attempt
    return None


def _too_dear(calls: tuple[Call, ...], attempts: tuple[Attempt, ...] = ()) -> Stop:
    asked = ", ".join(sorted({call.worker for call in calls}))
    return Stop(f"the funds do not cover asking {asked}", "funds", attempts)


def _refused(last: tuple[Attempt, ...], attempts: tuple[Attempt, ...] | None = None) -> Stop:
    """Why none of the last was accepted: their failures where all failed, else what the checks said."""
    tried = last if attempts is None else attempts
    if all(attempt.failure for attempt in last):
        kind: StopKind = "rejected" if any(attempt.rejected for attempt in last) else "failed"
        return Stop("; ".join(_failed(a.call.worker, a.failure) for a in last if a.failure), kind, tried)
    said = [f"{v.check}: {v.reason or 'not passed'}" for a in last for v in a.verdicts if not v.passed]
    return Stop("; ".join(dict.fromkeys(said)), "checks", tried)


def _failed(worker: str, failure: Failure) -> str:
    return failure.message if failure.message.startswith(worker) else f"{worker}: {failure.message}"


def _gravest(stops: list[Stop]) -> Stop:
    """Of several stops the one to report: short funds first, since money can be added; then the last one's reason."""
    gravest = next((stop for stop in stops if stop.kind == "funds"), stops[-1])
    return Stop(gravest.reason, gravest.kind, tuple(attempt for stop in stops for attempt in stop.attempts))


def _constrained(decision: Accept) -> Accept:
    return Accept(decision.attempt, decision.confidence, constrained=True)


def _sum(policies: tuple[Policy, ...]) -> Counter[str]:
    return reduce(Counter.__add__, (policy.calls() for policy in policies))
