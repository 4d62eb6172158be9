"""The tuner as one of the methods: it reads the labelled rows, and its policy is judged by its own ``next`` over recorded attempts."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from functools import lru_cache, partial
from itertools import accumulate, pairwise, product
from math import prod
from typing import Any, NamedTuple

import numpy as np
from msgspec.structs import replace

from benchmarks.quality.methods import Decision, Method, Rng, Sample
from benchmarks.quality.workloads import Floats, Workload
from orchestrion.domain import UNLIMITED, Accept, Ask, Attempt, Call, Outcome, Task, usd
from orchestrion.engine.replay import recorded_task
from orchestrion.engine.step import Step
from orchestrion.policy.combinators import Mix
from orchestrion.policy.learned import ScoredRouter
from orchestrion.policy.protocol import Policy
from orchestrion.policy.signals import form_of
from orchestrion.tuning.facts import Promise, Wish
from orchestrion.tuning.tune import tune
from orchestrion.workers.replay import recorded_cost, usage_of

_READ = Step("replay")


class Recorded(NamedTuple):
    """A task with its recorded attempts and their true scores, by worker and sample."""

    task: Task
    attempts: Mapping[tuple[str, int], Attempt]
    scores: Mapping[tuple[str, int], float]


def tuned(sample: Sample, rng: Rng, target: float, delta: float, **wish: float) -> Decision:
    """The promise that was asked for. ``wish``: fields of the tuner's Wish beside the target."""
    return _decided(sample, _promises(sample, target, delta, tuple(wish.items()))[0])


def beside(sample: Sample, rng: Rng, target: float, delta: float, *, n: int) -> Decision:
    """The n-th of the promises that are made beside the one that was asked for."""
    promises = _promises(sample, target, delta, ())
    return _decided(sample, promises[min(n, len(promises) - 1)])


@lru_cache(maxsize=2000)  # one tuning makes several promises
def _promises(sample: Sample, target: float, delta: float, wish: tuple[tuple[str, float], ...]) -> tuple[Promise, ...]:
    """Raises RecordsError."""
    seed = int(sample.labelled.sum())
    asked = Wish(
        target=target,
        confidence=1 - delta,
        frontier=sample.workload.frontier,
        seed=seed,
        **dict(wish),  # type: ignore[arg-type]
    )
    return tune(rows(sample), asked).promises


def _decided(sample: Sample, promise: Promise) -> Decision:
    quality, cost, kept = expected(promise.policy, sample.workload, promise.target.quality)
    by_share = promise.target.kind == "share"
    return Decision(
        quality,
        cost,
        promise.certified,
        promise.words,
        promised=promise.target.share if by_share else promise.target.quality,
        kept=kept if by_share else None,
    )


def rows(sample: Sample) -> list[Outcome]:
    """The rows of the labelled tasks, and those of the unlabelled ones without score and reference; a task drawn twice is two tasks."""
    w = sample.workload
    labelled = [
        row if n == 0 else replace(row, task_id=f"{row.task_id}#{n}")
        for i, n in _numbered(sample.labelled.tolist())
        for row in w.rows[i]
    ]
    return labelled + [
        replace(row, score=None, reference=None) for i in sample.unlabelled.tolist() for row in w.rows[i]
    ]


def _numbered(drawn: list[int]) -> Iterator[tuple[int, int]]:
    """Each index with how often it was there before."""
    seen: dict[int, int] = {}
    for i in drawn:
        yield i, seen.setdefault(i, 0)
        seen[i] += 1


def expected(policy: Policy, workload: Workload, worth: float) -> tuple[Floats, Floats, Floats]:
    """Score, dollars and the chance of an answer worth ``worth`` of the frontier's on each task, over the policy's own chance."""
    least = worth * workload.quality(workload.frontier) - 1e-9
    quality, cost, kept = np.zeros((3, len(workload)))
    for share, branch in branches(policy):
        for i, recorded in enumerate(_recorded(workload)):
            score, spent = driven(branch, recorded)
            quality[i] += share * score
            cost[i] += share * spent
            kept[i] += share * (score >= least[i])
    return quality, cost, kept


def driven(policy: Policy, recorded: Recorded) -> tuple[float, float]:
    """True score (a stop is worth 0) and dollars of one task. Raises KeyError where an answer is asked for that nobody recorded."""
    history: tuple[Attempt, ...] = ()
    while isinstance(decision := policy.next(recorded.task, history, UNLIMITED), Ask):
        history += tuple(recorded.attempts[call.worker, call.sample] for call in decision.calls)
    spent = usd(sum(attempt.spent for attempt in history))
    if not isinstance(decision, Accept):
        return 0.0, spent
    call = decision.attempt.call
    return recorded.scores[call.worker, call.sample], spent


def branches(policy: Policy) -> list[tuple[float, Policy]]:
    """The policies without chance that it may be, each with its probability. Mixes and routers of one salt draw one number."""
    edges: dict[str, set[float]] = {}
    for salt, found in _edges(policy):
        edges.setdefault(salt, {0.0, 1.0}).update(min(max(edge, 0.0), 1.0) for edge in found)
    spans = [[(salt, a, b) for a, b in pairwise(sorted(found)) if b > a] for salt, found in edges.items()]
    return [
        (prod(b - a for _, a, b in chosen), _fixed(policy, {salt: (a + b) / 2 for salt, a, b in chosen}))
        for chosen in product(*spans)
    ]


def _edges(part: Any) -> Iterator[tuple[str, list[float]]]:
    """The salts of all draws, with the numbers at which what they choose changes."""
    if isinstance(part, Mix):
        yield part.salt, list(accumulate(part.shares))
    if isinstance(part, ScoredRouter):
        yield from _router_edges(part)
    if isinstance(part, Mapping):
        part = tuple(part.values())
    if isinstance(part, tuple):
        for one in part:
            yield from _edges(one)
    elif isinstance(part, Policy):
        yield from _edges(_fields(part))


def _router_edges(router: ScoredRouter) -> Iterator[tuple[str, list[float]]]:
    """Of a router whose score is a draw and the values of one tag, as the tuner makes them with --per-tag. Raises ValueError for others."""
    draws = {name: value for name, value in router.score.items() if form_of(name) == "chance"}
    if not draws:
        return
    tags = [name for name in router.score if name not in draws]
    keys = {name.partition("=")[0] for name in tags}
    if len(draws) > 1 or len(keys) > 1 or not all(form_of(name) == "tag" for name in tags):
        raise ValueError(f"nobody knows the chance of a router by {', '.join(router.score)}")
    [(name, slope)] = draws.items()
    yield (
        name.partition(":")[2],
        [(router.least - score) / slope for score in (0.0, *(router.score[tag] for tag in tags))],
    )


def _fixed(part: Any, draws: Mapping[str, float]) -> Any:
    """The policy as it is where its mixes and routers draw these numbers."""
    if isinstance(part, Mix):
        edges = list(accumulate(part.shares))
        n = next((i for i, edge in enumerate(edges) if draws[part.salt] < edge), len(edges) - 1)
        return _fixed(part.policies[n], draws)
    if isinstance(part, ScoredRouter):
        drawn = {name: value for name, value in part.score.items() if form_of(name) == "chance"}
        if drawn:
            score = {name: value for name, value in part.score.items() if name not in drawn}
            score["one"] = sum(value * draws[name.partition(":")[2]] for name, value in drawn.items())
            part = ScoredRouter(score, part.least, part.above, part.below)
    if isinstance(part, Mapping):
        return {key: _fixed(one, draws) for key, one in part.items()}
    if isinstance(part, tuple):
        return tuple(_fixed(one, draws) for one in part)
    return type(part)(**_fixed(_fields(part), draws)) if isinstance(part, Policy) else part


def _fields(policy: Policy) -> dict[str, Any]:
    """What a policy's dataclass is made of: what its JSON carries."""
    return {field.name: getattr(policy, field.name) for field in dataclasses.fields(policy) if field.init}  # type: ignore[arg-type]


@lru_cache(maxsize=4)
def _recorded(workload: Workload) -> list[Recorded]:
    found = []
    for rows in workload.rows:
        task = recorded_task(rows)
        found.append(
            Recorded(
                task,
                {(row.worker, row.sample): _attempt(row) for row in rows},
                {(row.worker, row.sample): row.score or 0.0 for row in rows},
            )
        )
    return found


def _attempt(row: Outcome) -> Attempt:
    """As a replay makes it."""
    output = row.output if row.output is not None else row.answer or ""
    value, answer, problems = _READ.read(output, row.answer, None)
    cost = recorded_cost(row, None)
    return Attempt(
        Call(row.worker, row.sample),
        output,
        value,
        answer,
        None,
        problems,
        usage_of(row),
        cost,
        row.latency_s or 0.0,
    )


TUNED: Mapping[str, Method] = {
    "orchestrion": tuned,
    "orchestrion .90": lambda sample, rng, target, delta: tuned(sample, rng, 0.9, delta),
    "orchestrion share": partial(tuned, share=0.9),
    "orchestrion tenth": partial(tuned, max_cost=0.1),
    "beside: mean .90": partial(beside, n=1),
    "beside: share .9": partial(beside, n=2),
}
"""Asked for itself; and what one tuning says beside the promise that was asked for."""
