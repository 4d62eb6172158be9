"""A test of a policy that exists, on fresh records: nothing is searched, so every labelled task is there to test it."""

from __future__ import annotations

import dataclasses
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from statistics import NormalDist
from typing import Any, NamedTuple

from msgspec.structs import replace

from orchestrion.domain import Outcome, Price, usd
from orchestrion.engine.execution import SavedPolicy
from orchestrion.errors import RecordsError, UsageError
from orchestrion.policy.certificate import Target, task_digest
from orchestrion.policy.combinators import Agreement, Fixed, Mix, fixed
from orchestrion.policy.learned import Deferral
from orchestrion.policy.protocol import Policy
from orchestrion.tuning.bounds import bootstrap_ratio, fewest_labels
from orchestrion.tuning.drive import Unrecorded, drive_all, needs
from orchestrion.tuning.evidence import Evidence, Measured, Test
from orchestrion.tuning.facts import Interval, Promise
from orchestrion.tuning.ground import Grounds
from orchestrion.tuning.halves import refuse_unlabelled
from orchestrion.tuning.learn import Floats
from orchestrion.tuning.table import COVERED, Case, Table, cheapest_as_good, read_table
from orchestrion.tuning.words import describe

LIKELY = 0.5
"""So many standard errors beyond the boundary a test is to be, with the labels that are advised: seven in ten times it then passes."""


class Split(NamedTuple):
    """A policy without the coin that may be tossed for it first: ``inner`` gets ``share`` of the tasks, the frontier the others."""

    inner: Policy
    share: float


def certify(
    saved: SavedPolicy,
    outcomes: Iterable[Outcome],
    target: Target,
    *,
    frontier: str | None,
    prices: Mapping[str, Price] | None = None,
    models: Mapping[str, str] | None = None,
    group_by: str | None = None,
    step: str | None = None,
    workload: str | None = None,
    seed: int = 0,
) -> Promise:
    """Whether a policy, as it is, keeps what ``target`` says of the frontier's quality; with its new certificate where it does.

    Tasks that the policy was chosen or certified on are left out; all others that are labelled test it. ``frontier`` None: the
    worker that scores best on them. ``group_by`` None: as the policy's certificate says. Raises RecordsError for records that show
    nothing of this policy, or only of tasks that were chosen by its own answers, UsageError for a target that ``tune`` alone tests.
    """
    if target.per_tag or target.batch:
        raise UsageError(
            "certify tests a promise about all tasks of the traffic: one of each tag or of a batch, tune does."
        )
    before = saved.certificate.fitted if saved.certificate else ()
    group_by = group_by or (saved.certificate.group_by if saved.certificate else None)
    fresh = _fresh(outcomes, frozenset(before), step, workload)
    yardstick = frontier or _best(row for row in fresh if step in (None, row.step) and workload in (None, row.workload))
    table = read_table(
        fresh,
        prices=prices or {},
        workers=list(saved.policy.calls()),
        frontier=yardstick,
        step=step,
        workload=workload,
        group_by=group_by,
        samples={yardstick: 1, **samples_of(saved.policy)},
    )
    table = _with_verdicts(table, saved)
    refuse_unlabelled(table, least=1)
    grouped = len({case.group for case in table.labelled}) < len(table.labelled)
    evidence = Evidence(table.labelled, table.unlabelled, yardstick, grouped=grouped, seed=seed, checks=saved.checks)
    n_min = _fewest(target, evidence)
    split = unfolded(saved.policy, yardstick)
    test = _test(evidence, split, target)
    promise = _measured(saved, table, evidence, split, target, seed)
    reason, labels = _short(promise, target, test, split, n_min=n_min, tasks=len(table.labelled))
    if reason:
        return replace(promise, reason=reason, labels_needed=labels, p_value=test.p_value(_allowed(target, split)))
    grounds = Grounds(
        table, prices or {}, models or {}, seed=seed, group_by=group_by, before=before, checks=saved.checks
    )
    certificate = grounds.certificate(
        saved.policy,
        target,
        frontier=yardstick,
        method=test.method,
        p_value=test.p_value(_allowed(target, split)),
        certified_on=len(table.labelled),
        quality_ratio=promise.quality_ratio.value,
        cost_ratio=promise.cost_ratio.value,
        expected=promise.expected,
    )
    return replace(promise, certified=True, certificate=certificate, p_value=certificate.p_value)


def unfolded(policy: Policy, frontier: str) -> Split:
    """The policy inside "with a chance this, else the frontier"; another one is its own. What is promised of a policy that a coin
    chooses is its expectation, which needs no coin to be tested."""
    if isinstance(policy, Mix) and len(policy.policies) == 2:
        for inner, other, share in zip(policy.policies, policy.policies[::-1], policy.shares, strict=True):
            if isinstance(other, Fixed) and other.worker == frontier and share > 0:
                return Split(inner, share / sum(policy.shares))
    return Split(policy, 1.0)


def samples_of(policy: Policy) -> dict[str, int]:
    """How many samples of each worker a policy may ask for. Of one that is not ours, as many as its calls."""
    samples: dict[str, int] = defaultdict(int)
    for worker, n in _samples(policy):
        samples[worker] = max(samples[worker], n)
    return dict(samples)


def _samples(part: Any) -> Iterable[tuple[str, int]]:
    if isinstance(part, Fixed):
        yield part.worker, 1
    elif isinstance(part, Agreement):
        yield from ((worker, part.samples) for worker in part.workers)
    elif isinstance(part, Mapping):
        for value in part.values():
            yield from _samples(value)
    elif isinstance(part, tuple | list):
        for value in part:
            yield from _samples(value)
    elif isinstance(part, Policy):
        if isinstance(part, Deferral):
            yield from part.workers.items()
        inside: list[Any] = (
            [getattr(part, field.name) for field in dataclasses.fields(part)] if dataclasses.is_dataclass(part) else []
        )
        found = list(_samples(inside))
        yield from found or part.calls().items()


def _fresh(
    outcomes: Iterable[Outcome], fitted: frozenset[str], step: str | None, workload: str | None
) -> list[Outcome]:
    """The rows of tasks that the policy was not made on. Raises RecordsError where there are none of this step and workload."""
    used: dict[str, bool] = {}
    here: set[str] = set()
    fresh = []
    for row in outcomes:
        if row.task_id not in used:
            used[row.task_id] = task_digest(row.task_id) in fitted
        if step in (None, row.step) and workload in (None, row.workload):
            here.add(row.task_id)
        if not used[row.task_id]:
            fresh.append(row)
    if here and all(used[task] for task in here):
        raise RecordsError(
            f"the policy was chosen or certified on all of these {len(here):,} tasks: they say nothing new of it. Record the workers on fresh tasks."
        )
    return fresh


def _best(rows: Iterable[Outcome]) -> str:
    """The worker whose answers score best on average, of those that answered most tasks: the hardest yardstick. Of equals the dearest."""
    scores: dict[str, list[float]] = defaultdict(list)
    costs: dict[str, list[float]] = defaultdict(list)
    for row in rows:
        if row.sample == 0 and row.context is None and row.score is not None:
            scores[row.worker].append(row.score)
            costs[row.worker].append(row.cost_usd or 0.0)
    if not scores:
        raise RecordsError("no answer in these records has a score: label tasks first (`orchestrion outcomes label`).")
    most = max(map(len, scores.values()))
    known = sorted(worker for worker, found in scores.items() if len(found) >= COVERED * most)
    return max(known, key=lambda worker: (math.fsum(scores[worker]) / len(scores[worker]), math.fsum(costs[worker])))


def _with_verdicts(table: Table, saved: SavedPolicy) -> Table:
    """Without the tasks on which the policy's judges were not asked about every answer. Raises RecordsError where none is left."""

    def judged(case: Case) -> bool:
        return not any(
            needs(attempt, saved.checks) for (worker, _), attempt in case.attempts.items() if worker in asked
        )

    asked = set(saved.policy.calls())
    labelled, unlabelled = tuple(filter(judged, table.labelled)), tuple(filter(judged, table.unlabelled))
    left_out = len(table.labelled) + len(table.unlabelled) - len(labelled) - len(unlabelled)
    if not left_out:
        return table
    judges = ", ".join(check.name for check in saved.checks if hasattr(check, "question"))
    if not labelled:
        raise RecordsError(
            f"the policy's answers are judged by '{judges}', and no labelled task has its word on all of them: record them with this check."
        )
    note = f"{left_out} tasks lack the word of '{judges}' on some answer, and were left out."
    return table._replace(labelled=labelled, unlabelled=unlabelled, notes=(*table.notes, note))


def _fewest(target: Target, evidence: Evidence) -> int:
    """The fewest labelled tasks that could certify anything. Raises RecordsError where there is no quality to keep."""
    delta = 1 - target.confidence
    if target.share is not None:
        return fewest_labels(min(target.share, 0.999), delta, 1.0)
    quality = float(evidence.measure(fixed(evidence.frontier)).frontier.mean())
    if not quality:
        raise RecordsError(
            f"'{evidence.frontier}' got none of the {len(evidence.cases)} labelled tasks right: there is no quality to keep a share of. "
            "Name another worker with --frontier, or look at the scores."
        )
    return fewest_labels(min(target.quality, 0.999), delta, min(quality, 1.0))


def _measured(saved: SavedPolicy, table: Table, evidence: Evidence, split: Split, target: Target, seed: int) -> Promise:
    """What the policy does on these tasks, beside the frontier; not certified as yet."""
    cases = table.labelled
    measured = _expected(evidence.measure(split.inner), split.share)
    groups = [case.group for case in cases] if evidence.grouped else None
    driven = drive_all(saved.policy, cases, saved.checks)
    scores = [one.score(case) or 0.0 for one, case in zip(driven, cases, strict=True)]
    cost, frontier_cost = float(measured.cost.mean()), float(measured.frontier_cost.mean())
    own = {check.name for check in saved.checks}
    oracle = [cheapest_as_good(case, table.workers, evidence.frontier, without=own)[0] * case.weight for case in cases]
    saving = frontier_cost - sum(oracle) / sum(case.weight for case in cases)

    def ratio(over: Floats, under: Floats) -> Interval:
        ends = bootstrap_ratio(over, under, groups=groups, seed=seed)
        return Interval(float(over.mean() / under.mean()) if under.any() else math.nan, ends.low, ends.high)

    return Promise(
        target=target,
        certified=False,
        policy=saved.policy,
        words=" ".join([describe(saved.policy, cases, saved.checks), *table.notes]),
        reason=None,
        quality_ratio=ratio(measured.quality, measured.frontier),
        cost_ratio=ratio(measured.cost, measured.frontier_cost),
        cost=cost / 1e9,
        captured=(frontier_cost - cost) / saving if saving > 0 else None,
        expected=split.share < 1,
        realised=(sum(scores) / len(cases), usd(sum(one.spent for one in driven)) / len(cases)),
    )


def _expected(one: Measured, share: float) -> Measured:
    return one._replace(
        quality=share * one.quality + (1 - share) * one.frontier,
        cost=share * one.cost + (1 - share) * one.frontier_cost,
    )


def _test(evidence: Evidence, split: Split, target: Target) -> Test:
    """The test of the policy without its coin. Raises RecordsError where it asks for what nobody recorded."""
    try:
        return evidence.test(split.inner, worth=target.quality if target.kind == "share" else None)
    except Unrecorded as missing:
        raise RecordsError(
            f"what the policy asks for was not recorded everywhere: {missing}. Whether it asks depends on the answers, so the tasks that do "
            "without are no fair sample, and nothing can be promised on them. Certify a policy that does not ask again (without "
            "'corrected' or 'retried')."
        ) from None


def _allowed(target: Target, split: Split) -> float:
    """The loss that the policy without its coin may have."""
    loss = 1 - target.quality if target.share is None else 1 - target.share
    return min(loss / split.share, 1.0)


def _short(
    promise: Promise, target: Target, test: Test, split: Split, *, n_min: int, tasks: int
) -> tuple[str | None, int | None]:
    """Why nothing is certified, and how many labels would probably do; None where it is certified."""
    if tasks < n_min:
        return f"{tasks} fresh labelled tasks are too few: at least {n_min} are needed", 2 * n_min
    p_value, delta = test.p_value(_allowed(target, split)), 1 - target.confidence
    if p_value <= delta:
        return None, None
    lost = min(1.0, split.share * test.bound(delta))
    sure = f"with confidence {target.confidence:.3g} no more than {1 - lost:.1%} can be promised"
    if target.share is not None:
        return f"{sure} of the tasks, and {target.share:.1%} were asked for", _enough(p_value, target, tasks)
    seen = f"on these tasks it keeps {promise.quality_ratio.value:.1%} of the frontier's quality"
    return f"{seen}; {sure}, and {target.quality:.1%} was asked for", _enough(p_value, target, tasks)


def _enough(p_value: float, target: Target, tasks: int) -> int | None:
    """Labels that would probably do if the policy is as good as it looks; None where it looks too bad for any number."""
    normal = NormalDist()
    seen = normal.inv_cdf(1 - min(max(p_value, 1e-9), 1 - 1e-9))
    if seen <= 0.1:
        return None
    return math.ceil(tasks * ((normal.inv_cdf(target.confidence) + LIKELY) / seen) ** 2 / 10) * 10
