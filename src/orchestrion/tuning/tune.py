"""The tuning: records → table → fit and certify halves → paths → choice → certificate. One screen; each part has a file of its own."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from msgspec import structs

from orchestrion.domain import Outcome, Price, usd
from orchestrion.errors import RecordsError, UsageError
from orchestrion.policy.certificate import Target
from orchestrion.tuning.advise import PassedOver, advice, findings, tasks_to_label
from orchestrion.tuning.bounds import batch_delta
from orchestrion.tuning.choose import Aim, paths
from orchestrion.tuning.evidence import Evidence
from orchestrion.tuning.facts import Tuned, Wish, WorkerFacts
from orchestrion.tuning.ground import Grounds
from orchestrion.tuning.halves import Halves, split
from orchestrion.tuning.needed import fewest
from orchestrion.tuning.per_tag import promise_each
from orchestrion.tuning.points import points
from orchestrion.tuning.promise import Made, Tuning, promise
from orchestrion.tuning.space import Space
from orchestrion.tuning.table import Case, cheapest_as_good, read_table, scored


def tune(
    outcomes: Iterable[Outcome],
    wish: Wish,
    *,
    prices: Mapping[str, Price] | None = None,
    models: Mapping[str, str] | None = None,
) -> Tuned:
    """The cheapest policy that keeps what is wished, certified on labelled tasks; the frontier alone where nothing can be certified.

    ``prices`` and ``models`` by worker, as the settings have them now: costs come from tokens where there is a price, and both stand
    in the certificate. Deterministic for ``wish.seed``. Raises RecordsError for records that no tuning can start from.
    """
    began = time.perf_counter()
    passed_over = PassedOver(outcomes, wish)
    table = read_table(
        passed_over,
        prices=prices or {},
        workers=wish.workers,
        frontier=wish.frontier,
        step=wish.step,
        workload=wish.workload,
        group_by=wish.group_by,
    )
    halves = split(table, wish)
    frontier = wish.frontier or _best(halves.fit, table.workers)
    grounds = Grounds(table, prices or {}, models or {}, seed=wish.seed, group_by=wish.group_by)
    evidence = Evidence(halves.certify, table.unlabelled, frontier, grouped=halves.grouped, seed=wish.seed)
    everything = [*halves.fit, *halves.certify]
    space = Space(everything, np.arange(len(halves.fit)), frontier, table.samples)
    asked = targets(wish)
    aims = [_aim(target, wish, evidence) for target in asked]
    n_min = fewest(asked[0], aims[0].delta, _level(frontier, halves))
    found = paths(space, aims[0])
    oracle = _oracle(frontier, table.workers, everything)
    tuning = Tuning(space, found, evidence, halves, grounds, n_min, oracle.cost * 1e9)
    made = [_made(tuning, target, aim) for target, aim in zip(asked, aims, strict=True)]
    label = tasks_to_label(tuning, made[0], aims[0], wish.label_next)
    return Tuned(
        promises=tuple(one.promise for one in made),
        frontier=_alone(frontier, everything),
        workers=tuple(_alone(worker, everything) for worker in table.workers),
        oracle=oracle,
        points=points(space, found, table.workers, _oracle(frontier, table.workers, halves.fit), made, seed=wish.seed),
        labels=len(everything),
        fit=len(halves.fit),
        certify=len(halves.certify),
        unlabelled=len(table.unlabelled),
        spared=evidence.spared(made[0].promise.policy),
        n_min=n_min,
        seed=wish.seed,
        notes=(*table.notes, *halves.notes, *findings(tuning, wish, table.workers, passed_over, made), *label.notes),
        advice=advice(tuning, made[0], aims[0]),
        seconds=time.perf_counter() - began,
        label_next=label.tasks,
        tried=sum(path.cost.shape[1] for path in found),
        max_cost=wish.max_cost,
    )


def targets(wish: Wish) -> list[Target]:
    """What is promised: what was asked for first, then what else a user may want to pay less for. Each holds by itself."""
    sure, batch = wish.confidence, wish.batch
    mean = Target(quality=wish.target, confidence=sure, batch=batch)
    cheaper = Target(quality=0.9, confidence=sure, batch=batch)
    share = Target(
        kind="share",
        quality=0.95 if wish.share is None else wish.target,
        share=wish.share or 0.9,
        confidence=sure,
        batch=batch,
    )
    if wish.max_cost is not None and wish.per_tag is not None:
        raise UsageError(
            "--max-cost asks for one quality at a price, --per-tag for a price at a quality of each value. Give one."
        )
    if wish.max_cost is not None:
        first = [Target(quality=0.0, confidence=sure, batch=batch)]
    elif wish.per_tag is not None:
        first = [structs.replace(mean if wish.share is None else share, per_tag=wish.per_tag)]
    else:
        first = []
    asked = [share, mean, cheaper] if wish.share is not None else [mean, cheaper, share]
    return list(dict.fromkeys([*first, *asked]))


def _made(tuning: Tuning, target: Target, aim: Aim) -> Made:
    return promise_each(tuning, target, aim) if target.per_tag else promise(tuning, target, aim)


def _aim(target: Target, wish: Wish, evidence: Evidence) -> Aim:
    delta = 1 - target.confidence
    if target.batch:
        if delta >= 0.5:
            raise UsageError(f"a promise about a batch needs a confidence above 0.5, not {target.confidence:g}.")
        delta = batch_delta(delta, len(evidence.cases), target.batch)
    if target.kind == "share":
        return Aim(1 - (target.share or 0), delta, len(evidence.cases), worth=target.quality)
    within = wish.max_cost if not target.quality else None
    return Aim(1 - target.quality, delta, evidence.labels, within=within)


def _best(cases: Sequence[Case], workers: Sequence[str]) -> str:
    """The worker that is right most often on the fit half; of equals the dearest."""
    return max(workers, key=lambda worker: (sum(scored(case, worker) for case in cases), workers.index(worker)))


def _level(frontier: str, halves: Halves) -> float:
    """The frontier's mean score on the fit half. Raises RecordsError where there is nothing to keep."""
    if not any(scored(case, frontier) for case in (*halves.fit, *halves.certify)):
        raise RecordsError(
            f"'{frontier}' got none of the {len(halves.fit) + len(halves.certify)} labelled tasks right: there is no quality to keep a share of. "
            "Name another worker with --frontier, or look at the scores."
        )
    return float(np.mean([scored(case, frontier) for case in halves.fit]))


def _alone(worker: str, cases: Sequence[Case]) -> WorkerFacts:
    cost = sum(case.attempts[worker, 0].spent for case in cases)
    quality = sum(scored(case, worker) for case in cases) / len(cases)
    return WorkerFacts(name=worker, quality=quality, cost=usd(cost) / len(cases), tasks=len(cases))


def _oracle(frontier: str, workers: Sequence[str], cases: Sequence[Case]) -> WorkerFacts:
    """Hindsight: of each task the cheapest answer that is as good as the frontier's."""
    found = [cheapest_as_good(case, workers, frontier) for case in cases]
    quality, cost = sum(score for _, score in found), sum(spent for spent, _ in found)
    return WorkerFacts(
        name="hindsight oracle", quality=quality / len(cases), cost=usd(cost) / len(cases), tasks=len(cases)
    )
