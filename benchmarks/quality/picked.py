"""The tuner with half of its labels where they are worth most: a tuning on labels drawn at random names the tasks to label next, and a second one
has both, as `orchestrion tune --label-next` goes. The number of labels is that of the other methods; answers without scores are free."""

from __future__ import annotations

import dataclasses
from typing import Any

from msgspec.structs import replace

from benchmarks.quality.methods import Decision, Method, Rng, Sample, frontier_alone
from benchmarks.quality.tuned import expected
from orchestrion.domain import Outcome
from orchestrion.errors import RecordsError

ANSWERED = 1000
"""So many tasks beside the labelled ones have answers of everybody."""


def picked(sample: Sample, rng: Rng, target: float, delta: float, **wish: Any) -> Decision:
    """``wish``: fields of the tuner's Wish, instead of the mean quality of ``target``."""
    from orchestrion.tuning.facts import Wish
    from orchestrion.tuning.tune import tune

    w = sample.workload
    n = len(sample.labelled)
    drawn, others = sample.labelled[: n // 2], [*sample.labelled[n // 2 :], *sample.unlabelled[:ANSWERED]]
    bare = {row.task_id: i for i in others for row in w.rows[i][:1]}
    rows = [row for i in drawn for row in w.rows[i]]
    rows += [replace(row, score=None, reference=None) for i in others for row in w.rows[i]]
    asked: dict[str, Any] = {"target": target, "confidence": 1 - delta, "frontier": w.frontier, **wish}
    seed = int(rng.integers(2**31))
    try:
        first = tune(rows, Wish(**asked, seed=seed, label_next=n - n // 2))
        chances = {bare[task.task_id]: task.probability for task in first.label_next}
        used = {*first.promises[0].policy.calls(), w.frontier}
        workers = tuple(sorted(used)) if len(used) > 1 else ()
        found = tune([_labelled(row, chances, w.rows, bare) for row in rows], Wish(**asked, seed=seed, workers=workers))
    except RecordsError as refused:
        return dataclasses.replace(frontier_alone(sample, rng, target, delta), words=str(refused))
    promise = found.promises[0]
    quality, cost, _ = expected(promise.policy, w, promise.target.quality)
    return Decision(quality, cost, promise.certified, promise.words, promised=promise.target.quality)


def _labelled(row: Outcome, chances: dict[int, float], known: Any, bare: dict[str, int]) -> Outcome:
    """The row with its score, where its task was named."""
    i = bare.get(row.task_id, -1)
    if i not in chances:
        return row
    truth = next(one for one in known[i] if (one.worker, one.sample) == (row.worker, row.sample))
    return replace(row, score=truth.score, label_source="person", label_probability=chances[i])


PICKED: dict[str, Method] = {"orchestrion picked": picked}
