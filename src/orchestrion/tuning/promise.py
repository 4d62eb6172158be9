"""From a choice to a promise: certify the chosen policy, mixed with the frontier as much as the evidence asks for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from msgspec import structs

from orchestrion.domain import usd
from orchestrion.policy.certificate import Target
from orchestrion.policy.combinators import Mix, fixed
from orchestrion.policy.protocol import Policy
from orchestrion.tuning.bounds import bootstrap_ratio
from orchestrion.tuning.choose import Aim, Choice, choose
from orchestrion.tuning.drive import drive_all
from orchestrion.tuning.evidence import Evidence, Measured, Test
from orchestrion.tuning.facts import Interval, Promise
from orchestrion.tuning.ground import Grounds
from orchestrion.tuning.halves import Halves
from orchestrion.tuning.space import Path, Space
from orchestrion.tuning.words import describe

SURE_LOSS = 1e-6
"""A share of the traffic is written with six digits, rounded down."""


class Tuning(NamedTuple):
    """What all promises of one tuning are made from. ``paths`` is empty where there are too few labels to certify anything."""

    space: Space
    paths: list[Path]
    evidence: Evidence
    halves: Halves
    grounds: Grounds
    n_min: int
    oracle_cost: float


class Certified(NamedTuple):
    """A policy that gets ``share`` of the traffic, the frontier the rest; ``loss`` is the bound on the policy's own loss."""

    inner: Policy
    share: float
    loss: float
    test: Test


def promise(tuning: Tuning, target: Target, aim: Aim) -> Promise:
    """The cheapest certified policy for a target; the frontier alone, with the reason, where nothing can be certified."""
    if len(tuning.halves.certify) < tuning.n_min:
        return nothing(tuning, target, _too_few(tuning), labels=_enough(tuning))
    if not tuning.paths:
        return nothing(tuning, target, f"no worker is cheaper than the frontier '{tuning.space.frontier}'", labels=None)
    choice = choose(tuning.space, aim, tuning.paths)
    if not np.isfinite(choice.value):
        return nothing(
            tuning,
            target,
            f"no policy that was tried costs as little as {aim.within:.0%} of the frontier's",
            labels=None,
        )
    found = certify_path(tuning.evidence, choice, aim)
    if aim.within is not None:
        kept = max(0.0, 1 - found.share * found.loss)
        target = structs.replace(target, quality=float(f"{kept - 5e-4:.3f}"))
        if target.quality <= 0:
            return nothing(
                tuning, target, "nothing can be promised of its quality at this cost", labels=_enough(tuning)
            )
    return kept_promise(tuning, target, found)


def certify_path(evidence: Evidence, choice: Choice, aim: Aim) -> Certified:
    """Test the chosen policy, and where all traffic may go to it the bolder ones of its path, until the first failure.

    A fixed sequence, laid down by the fit half: its level is that of a single test. With ``aim.within`` the share is the one that the cost
    asks for, and the bound says what is kept.
    """
    policy = choice.path.policy(choice.column)
    test = evidence.test(policy, worth=aim.worth)
    loss = test.bound(aim.delta)
    if aim.within is not None:
        return Certified(policy, choice.share, loss, test)
    if loss > aim.loss:
        return Certified(policy, aim.loss / loss, loss, test)
    found = Certified(policy, 1.0, loss, test)
    for column in range(choice.column + 1, choice.path.cost.shape[1]):
        bolder = choice.path.policy(column)
        test = evidence.test(bolder, worth=aim.worth)
        if test.p_value(aim.loss) > aim.delta:
            break
        found = Certified(bolder, 1.0, test.bound(aim.delta), test)
    return found


def kept_promise(tuning: Tuning, target: Target, found: Certified) -> Promise:
    """The promise of a certified policy, with its figures."""
    policy = mixed(found, tuning.space.frontier, tuning.grounds.seed)
    measured = tuning.evidence.measure(found.inner)
    quality, cost = _expected(measured, found.share)
    made = _made(tuning, target, policy, measured, quality, cost)
    certificate = tuning.grounds.certificate(
        policy,
        target,
        frontier=tuning.space.frontier,
        method=found.test.method,
        p_value=found.test.p_value(_allowed(target) / found.share),
        certified_on=len(tuning.halves.certify),
        quality_ratio=made.quality_ratio.value,
        cost_ratio=made.cost_ratio.value,
        expected=found.share < 1,
    )
    return structs.replace(
        made, certified=True, expected=found.share < 1, certificate=certificate, p_value=certificate.p_value
    )


def _allowed(target: Target) -> float:
    return 1 - (target.share or 0.0) if target.kind == "share" else 1 - target.quality


def nothing(tuning: Tuning, target: Target, reason: str, *, labels: int | None) -> Promise:
    """The frontier alone, and why."""
    policy = fixed(tuning.space.frontier)
    measured = tuning.evidence.measure(policy)
    made = _made(tuning, target, policy, measured, measured.quality, measured.cost)
    return structs.replace(made, reason=reason, labels_needed=labels)


def mixed(found: Certified, frontier: str, seed: int) -> Policy:
    """The policy with its share of the traffic, by a hash of the task."""
    share = int(found.share / SURE_LOSS) * SURE_LOSS
    if found.share >= 1:
        return found.inner
    return Mix((found.inner, fixed(frontier)), (round(share, 6), round(1 - share, 6)), f"tune-{seed}")


def _expected(measured: Measured, share: float) -> tuple[np.ndarray, np.ndarray]:  # type: ignore[type-arg]
    quality = share * measured.quality + (1 - share) * measured.frontier
    return quality, share * measured.cost + (1 - share) * measured.frontier_cost


def _made(tuning: Tuning, target: Target, policy: Policy, measured: Measured, quality, cost) -> Promise:  # type: ignore[no-untyped-def]
    cases = [*tuning.halves.fit, *tuning.halves.certify]
    groups = [case.group for case in tuning.halves.certify] if tuning.halves.grouped else None
    driven = drive_all(policy, cases)
    scores = [one.score(case) for one, case in zip(driven, cases, strict=True)]
    spent = sum(one.spent for one in driven)
    frontier_cost = float(np.mean([case.attempts[tuning.space.frontier, 0].spent for case in cases]))
    mean_cost = float(cost.mean())
    saving = frontier_cost - tuning.oracle_cost
    return Promise(
        target=target,
        certified=False,
        policy=policy,
        words=describe(policy, driven),
        reason=None,
        quality_ratio=_ratio(quality, measured.frontier, groups, tuning.grounds.seed),
        cost_ratio=_ratio(cost, measured.frontier_cost, groups, tuning.grounds.seed),
        cost=mean_cost / 1e9,
        captured=(frontier_cost - mean_cost) / saving if saving > 0 else None,
        expected=False,
        realised=(sum(score or 0.0 for score in scores) / len(cases), usd(spent) / len(cases)),
    )


def _ratio(over, under, groups: Sequence[str] | None, seed: int) -> Interval:  # type: ignore[no-untyped-def]
    ends = bootstrap_ratio(over, under, groups=groups, seed=seed)
    return Interval(float(over.mean() / under.mean()), ends.low, ends.high)


def _too_few(tuning: Tuning) -> str:
    have = len(tuning.halves.fit) + len(tuning.halves.certify)
    return (
        f"{have} labelled tasks are too few: at least {tuning.n_min} are needed to certify on, beside {len(tuning.halves.fit)} to choose by "
        f"({_enough(tuning)} or more in all)"
    )


def _enough(tuning: Tuning) -> int:
    """Labels that are likely to do: twice the least, and the fit half beside."""
    return int(np.ceil(2 * tuning.n_min / 0.75))
