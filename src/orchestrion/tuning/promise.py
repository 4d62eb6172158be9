"""From a choice to a promise: certify the chosen policy, mixed with the frontier as much as the evidence asks for."""

from __future__ import annotations

import math
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
from orchestrion.tuning.learn import Floats
from orchestrion.tuning.needed import fewest, in_all, labels_needed, least_loss
from orchestrion.tuning.space import Path, Space
from orchestrion.tuning.words import describe

DIGITS = 6
"""A share of the traffic is written with so many digits, rounded down: a promise is never stretched."""

NOTHING_TO_SAVE = 0.001
"""Where hindsight itself saves less than this share of the frontier's cost, there is no saving to have a part of."""


class Tuning(NamedTuple):
    """What all promises of one tuning are made from. ``n_min`` is the fewest labelled tasks that could certify the first;
    ``oracle_cost`` is nano-dollars a task."""

    space: Space
    paths: list[Path]
    evidence: Evidence
    halves: Halves
    grounds: Grounds
    n_min: int
    oracle_cost: float

    @property
    def labels(self) -> int:
        """All labelled tasks."""
        return len(self.halves.fit) + len(self.halves.certify)

    @property
    def level(self) -> float:
        """The frontier's mean score on the fit half."""
        return float(self.space.frontier_quality[self.space.fit].mean())


class Certified(NamedTuple):
    """A policy that gets ``share`` of the traffic, the frontier the rest; ``loss`` is the bound on the policy's own loss."""

    inner: Policy
    share: float
    loss: float
    test: Test


class Spot(NamedTuple):
    """Where a promised policy stands among those tried. ``share`` is the part of each task of the fit half, or of all alike, that goes
    to the policy of this column, by chance; the frontier has the rest."""

    path: Path
    column: int
    share: Floats | float


class Made(NamedTuple):
    """A promise, with the policy behind it: None where it is the frontier alone. ``free``: that much was given away without evidence."""

    promise: Promise
    spot: Spot | None = None
    free: bool = False


def promise(tuning: Tuning, target: Target, aim: Aim) -> Made:
    """The cheapest certified policy for a target; the frontier alone, with the reason, where nothing can be certified."""
    refused = _refused(tuning, target, aim)
    if refused:
        return Made(refused)
    choice = choose(tuning.space, aim, tuning.paths)
    if not math.isfinite(choice.value):
        return Made(nothing(tuning, target, _too_dear(tuning, aim), labels=None))
    found, column = certify_path(tuning.evidence, choice, aim)
    if aim.within is not None:
        target = structs.replace(target, quality=_rounded(max(0.0, 1 - found.share * found.loss), 3))
        if not target.quality:
            return Made(nothing(tuning, target, _nothing_kept(tuning, aim), labels=2 * tuning.labels))
    if not found.share:
        return Made(nothing(tuning, target, _too_much(tuning), labels=labels_needed(tuning.space, tuning.paths, aim)))
    free = aim.within is None and found.loss >= 1 > aim.loss
    return Made(kept_promise(tuning, target, found), Spot(choice.path, column, found.share), free)


def certify_path(evidence: Evidence, choice: Choice, aim: Aim) -> tuple[Certified, int]:
    """Test the chosen policy, and where all traffic may go to it the bolder ones of its path, until the first failure; with the column
    of what was certified.

    A fixed sequence, laid down by the fit half: its level is that of a single test. With ``aim.within`` the share is the one that the cost
    asks for, and the bound says what is kept.
    """
    column = choice.column
    policy = choice.path.policy(column)
    test = evidence.test(policy, worth=aim.worth)
    loss = test.bound(aim.delta)
    if aim.within is not None:
        return Certified(policy, _rounded(choice.share), loss, test), column
    if loss > aim.loss:
        return Certified(policy, part(aim.loss, loss), loss, test), column
    found = Certified(policy, 1.0, loss, test), column
    for bold in range(column + 1, choice.path.cost.shape[1]):
        if choice.path.alike(bold - 1, bold):
            continue
        bolder = choice.path.policy(bold)
        test = evidence.test(bolder, worth=aim.worth)
        if test.p_value(aim.loss) > aim.delta:
            break
        found = Certified(bolder, 1.0, test.bound(aim.delta), test), bold
    return found


def part(allowed: float, loss: float) -> float:
    """The share of the traffic that may go to a policy which loses ``loss`` at most, where ``allowed`` may be lost of the whole."""
    return 1.0 if loss <= allowed else _rounded(allowed / loss)


def kept_promise(tuning: Tuning, target: Target, found: Certified) -> Promise:
    """The promise of a certified policy, with its figures."""
    measured = tuning.evidence.measure(found.inner)
    return certified(
        tuning,
        target,
        mixed(found, tuning.space.frontier, tuning.grounds.seed),
        expectation(measured, found.share),
        method=found.test.method,
        p_value=found.test.p_value(allowed(target) / found.share),
        by_chance=found.share < 1,
    )


def certified(
    tuning: Tuning, target: Target, policy: Policy, measured: Measured, *, method: str, p_value: float, by_chance: bool
) -> Promise:
    """A promise with its certificate. ``measured`` is the policy's expectation over its own chance, on the certify half."""
    made = _made(tuning, target, policy, measured)
    certificate = tuning.grounds.certificate(
        policy,
        target,
        frontier=tuning.space.frontier,
        method=method,
        p_value=p_value,
        certified_on=len(tuning.halves.certify),
        quality_ratio=made.quality_ratio.value,
        cost_ratio=made.cost_ratio.value,
        expected=by_chance,
    )
    return structs.replace(made, certified=True, expected=by_chance, certificate=certificate, p_value=p_value)


def allowed(target: Target) -> float:
    """What may be lost: of the quality, or of the tasks."""
    return 1 - (target.share or 0.0) if target.kind == "share" else 1 - target.quality


def nothing(tuning: Tuning, target: Target, reason: str, *, labels: int | None) -> Promise:
    """The frontier alone, and why."""
    policy = fixed(tuning.space.frontier)
    made = _made(tuning, target, policy, tuning.evidence.measure(policy))
    return structs.replace(made, reason=reason, labels_needed=labels)


def mixed(found: Certified, frontier: str, seed: int) -> Policy:
    """The policy with its share of the traffic, by a hash of the task."""
    if found.share >= 1:
        return found.inner
    share = _rounded(found.share)
    return Mix((found.inner, fixed(frontier)), (share, round(1 - share, DIGITS)), f"tune-{seed}")


def expectation(measured: Measured, share: Floats | float) -> Measured:
    """The policy with its share of each task, the frontier with the rest: the mean over all draws."""
    return measured._replace(
        quality=share * measured.quality + (1 - share) * measured.frontier,
        cost=share * measured.cost + (1 - share) * measured.frontier_cost,
    )


def _made(tuning: Tuning, target: Target, policy: Policy, measured: Measured) -> Promise:
    cases = [*tuning.halves.fit, *tuning.halves.certify]
    groups = [case.group for case in tuning.halves.certify] if tuning.halves.grouped else None
    driven = drive_all(policy, cases)
    scores = [one.score(case) for one, case in zip(driven, cases, strict=True)]
    spent = sum(one.spent for one in driven)
    frontier_cost = float(np.mean([case.attempts[tuning.space.frontier, 0].spent for case in cases]))
    cost_ratio = _ratio(measured.cost, measured.frontier_cost, groups, tuning.grounds.seed)
    saving = frontier_cost - tuning.oracle_cost
    return Promise(
        target=target,
        certified=False,
        policy=policy,
        words=describe(policy, cases),
        reason=None,
        quality_ratio=_ratio(measured.quality, measured.frontier, groups, tuning.grounds.seed),
        cost_ratio=cost_ratio,
        cost=float(measured.cost.mean()) / 1e9,
        captured=(1 - cost_ratio.value) * frontier_cost / saving if saving > NOTHING_TO_SAVE * frontier_cost else None,
        expected=False,
        realised=(sum(score or 0.0 for score in scores) / len(cases), usd(spent) / len(cases)),
    )


def _ratio(over: Floats, under: Floats, groups: Sequence[str] | None, seed: int) -> Interval:
    """Without an interval where the frontier has nothing to divide by."""
    if not under.any():
        return Interval(math.nan, math.nan, math.nan)
    ends = bootstrap_ratio(over, under, groups=groups, seed=seed)
    return Interval(float(over.mean() / under.mean()), ends.low, ends.high)


def _rounded(share: float, digits: int = DIGITS) -> float:
    """Rounded down; what a float falls short of the number that was meant by less than a billionth is not lost."""
    unit: float = 10.0**digits
    return math.floor(share * unit + 1e-9) / unit


# Why nothing was certified ------------------------------------------------------------------------------------------


def _refused(tuning: Tuning, target: Target, aim: Aim) -> Promise | None:
    """What can be said before any policy is tested."""
    frontier, certify = tuning.space.frontier, tuning.halves.certify
    have = len(certify) if target.kind == "share" else tuning.evidence.labels
    if not tuning.paths:
        return nothing(tuning, target, f"no worker is cheaper than the frontier '{frontier}'", labels=None)
    if aim.within is not None and aim.within >= 1:
        reason = f"at its own cost the frontier '{frontier}' alone keeps all of its quality"
        return nothing(tuning, target, reason, labels=None)
    least = fewest(target, aim.delta, tuning.level)
    if have >= least:
        return None
    needed = labels_needed(tuning.space, tuning.paths, aim, least=least)
    reason = (
        f"{tuning.labels} labelled tasks are too few: {len(tuning.halves.fit)} choose the policy, and with the other {have} nothing can be "
        f"certified. That takes at least {least}, so {in_all(least)} in all, and in practice two to four times as many"
    )
    if needed is None:
        reason += f". Nor would labels alone do, as it looks: {_too_bad(tuning, aim)}"
    return nothing(tuning, target, reason, labels=needed)


def _too_dear(tuning: Tuning, aim: Aim) -> str:
    least = min(float(path.cost.mean(axis=0).min()) for path in tuning.paths)
    return (
        f"no policy that was tried costs as little as {aim.within:.0%} of the frontier's; the cheapest costs {least:.1%}. Allow that much "
        "(--max-cost), or record a cheaper worker on the same tasks"
    )


def _nothing_kept(tuning: Tuning, aim: Aim) -> str:
    return (
        f"at {aim.within:.0%} of the frontier's cost, the {len(tuning.halves.certify)} labelled tasks that test it do not show that anything of its "
        "quality is kept. Allow a higher cost (--max-cost), label more tasks, or record a better cheap worker"
    )


def _too_much(tuning: Tuning) -> str:
    return (
        f"all of the frontier's quality is asked for, and no policy that was tried is shown to be as good as '{tuning.space.frontier}'. "
        "Ask for a little less (--target 0.99)"
    )


def _too_bad(tuning: Tuning, aim: Aim) -> str:
    loss = least_loss(tuning.space, tuning.paths, aim)
    lost = "of the quality" if aim.worth is None else "of the tasks"
    return (
        f"the best cheap policy that was tried loses about {loss:.0%} {lost}, and {aim.loss:.0%} may be lost. Record another worker, better than the "
        f"cheap ones and cheaper than '{tuning.space.frontier}'"
    )
