"""The tuning: records → table → fit and certify halves → paths → choice → certificate. One screen; each part has a file of its own."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from orchestrion.domain import Outcome, Price, usd
from orchestrion.errors import RecordsError
from orchestrion.policy.certificate import Target
from orchestrion.tuning.advise import advice, tasks_to_label
from orchestrion.tuning.bounds import batch_delta, fewest_labels
from orchestrion.tuning.choose import Aim, paths
from orchestrion.tuning.evidence import Evidence
from orchestrion.tuning.facts import Point, Promise, Tuned, Wish, WorkerFacts
from orchestrion.tuning.ground import Grounds
from orchestrion.tuning.halves import Halves, split
from orchestrion.tuning.promise import Tuning, promise
from orchestrion.tuning.space import Space
from orchestrion.tuning.table import Case, read_table, scored

MOST_POINTS = 2000
"""So many of the policies tried are kept for the plot, the hull among them."""


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
    table = read_table(
        outcomes,
        prices=prices or {},
        workers=wish.workers,
        frontier=wish.frontier,
        step=wish.step,
        workload=wish.workload,
        group_by=wish.group_by,
    )
    halves = split(table, wish)
    frontier = wish.frontier or _best(halves.fit, table.workers)
    n_min = _fewest(wish, frontier, halves)
    grounds = Grounds(table, prices or {}, models or {}, seed=wish.seed, group_by=wish.group_by)
    evidence = Evidence(halves.certify, table.unlabelled, frontier, grouped=halves.grouped, seed=wish.seed)
    space = Space(
        [*halves.fit, *halves.certify, *table.unlabelled], np.arange(len(halves.fit)), frontier, table.samples
    )
    aims = [_aim(target, wish, halves) for target in targets(wish)]
    found = paths(space, aims[0]) if len(halves.certify) >= n_min else []
    everything = [*halves.fit, *halves.certify]
    oracle = _oracle(frontier, table.workers, everything)
    tuning = Tuning(space, found, evidence, halves, grounds, n_min, oracle.cost * 1e9)
    promises = [promise(tuning, target, aim) for target, aim in zip(targets(wish), aims, strict=True)]
    return Tuned(
        promises=tuple(promises),
        frontier=_alone(frontier, everything),
        workers=tuple(_alone(worker, everything) for worker in table.workers),
        oracle=oracle,
        points=_points(space, found, table.workers, promises[0]),
        labels=len(everything),
        fit=len(halves.fit),
        certify=len(halves.certify),
        unlabelled=len(table.unlabelled),
        spared=evidence.spared(promises[0].policy),
        n_min=n_min,
        seed=wish.seed,
        notes=(*table.notes, *halves.notes, *_not_best(frontier, wish, halves.fit, table.workers)),
        advice=advice(tuning, promises[0], aims[0]),
        seconds=time.perf_counter() - began,
        label_next=tasks_to_label(tuning, promises[0], wish.label_next),
    )


def targets(wish: Wish) -> list[Target]:
    """What is promised: what was asked for first, then what else a user may want to pay less for. Each holds by itself."""
    sure = wish.confidence
    share = Target(kind="share", quality=wish.target, share=wish.share or 0.9, confidence=sure)
    mean = Target(quality=wish.target, confidence=sure)
    cheaper = Target(quality=0.9, confidence=sure)
    if wish.max_cost is not None:
        return [Target(quality=0.0, confidence=sure), mean, cheaper]
    asked = [share, mean, cheaper] if wish.share is not None else [mean, cheaper, share]
    return list(dict.fromkeys(asked))


def _aim(target: Target, wish: Wish, halves: Halves) -> Aim:
    delta = 1 - target.confidence
    if wish.batch:
        delta = batch_delta(delta, len(halves.certify), wish.batch)
    if target.kind == "share":
        return Aim(1 - (target.share or 0), delta, len(halves.certify), worth=target.quality)
    within = wish.max_cost if not target.quality else None
    return Aim(1 - target.quality, delta, len(halves.certify), within=within)


def _best(cases: Sequence[Case], workers: Sequence[str]) -> str:
    """The worker that is right most often on the fit half; of equals the dearest."""
    return max(workers, key=lambda worker: (sum(scored(case, worker) for case in cases), workers.index(worker)))


def _fewest(wish: Wish, frontier: str, halves: Halves) -> int:
    """The fewest labelled tasks in the certify half that could certify anything. Raises RecordsError where nothing can be kept."""
    quality = float(np.mean([scored(case, frontier) for case in (*halves.fit, *halves.certify)]))
    if not quality:
        raise RecordsError(
            f"'{frontier}' got none of the {len(halves.fit) + len(halves.certify)} labelled tasks right: there is no quality to keep a share of. "
            "Name another worker with --frontier, or look at the scores."
        )
    target = min(wish.target, 0.999)
    return fewest_labels(target, 1 - wish.confidence, quality)


def _alone(worker: str, cases: Sequence[Case]) -> WorkerFacts:
    cost = sum(case.attempts[worker, 0].spent for case in cases)
    quality = sum(scored(case, worker) for case in cases) / len(cases)
    return WorkerFacts(name=worker, quality=quality, cost=usd(cost) / len(cases), tasks=len(cases))


def _oracle(frontier: str, workers: Sequence[str], cases: Sequence[Case]) -> WorkerFacts:
    """Hindsight: of each task the cheapest answer that is as good as the frontier's."""
    quality, cost = 0.0, 0
    for case in cases:
        least = scored(case, frontier)
        spent, score = min(
            (case.attempts[worker, 0].spent, -scored(case, worker))
            for worker in workers
            if scored(case, worker) >= least
        )
        quality, cost = quality - score, cost + spent
    return WorkerFacts(
        name="hindsight oracle", quality=quality / len(cases), cost=usd(cost) / len(cases), tasks=len(cases)
    )


def _points(space: Space, found: list, workers: Sequence[str], chosen: Promise) -> tuple[Point, ...]:  # type: ignore[type-arg]
    return ()


def _not_best(frontier: str, wish: Wish, cases: Sequence[Case], workers: Sequence[str]) -> list[str]:
    """That the frontier that was named is not the best worker, on the fit half."""
    best = _best(cases, workers)
    ours, theirs = (sum(scored(case, worker) for case in cases) / len(cases) for worker in (frontier, best))
    if not wish.frontier or theirs <= ours:
        return []
    return [f"'{frontier}' is not the best worker: on the fit half it scores {ours:.3f}, and '{best}' {theirs:.3f}."]
