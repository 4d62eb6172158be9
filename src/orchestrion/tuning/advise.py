"""What would make a tuning's result better, and which tasks to label next."""

from __future__ import annotations

import numpy as np

from orchestrion.tuning.choose import Aim, choose
from orchestrion.tuning.facts import Promise, TaskToLabel
from orchestrion.tuning.promise import Tuning

WORTH = 0.02
"""Labels are advised where they are expected to save so much of the frontier's cost."""


def advice(tuning: Tuning, promise: Promise, aim: Aim) -> tuple[str, ...]:
    """Sentences for the user, the most useful first."""
    return tuple(_labels(tuning, promise, aim) + _workers(tuning, promise) + _unlabelled(tuning))


def _labels(tuning: Tuning, promise: Promise, aim: Aim) -> list[str]:
    have = len(tuning.halves.fit) + len(tuning.halves.certify)
    if promise.labels_needed is not None and not promise.certified:
        return [f"Label more tasks: about {promise.labels_needed} in all are likely to do, and there are {have}."]
    if not tuning.paths or aim.within is not None:
        return []
    now = choose(tuning.space, aim, tuning.paths)
    more = choose(tuning.space, aim._replace(certify=3 * aim.certify), tuning.paths)
    if now.value - more.value < WORTH:
        return []
    return [
        f"Three times as many labels ({3 * have}) would probably bring the cost from {now.value:.0%} to {more.value:.0%} of the frontier's, or lower."
    ]


def _workers(tuning: Tuning, promise: Promise) -> list[str]:
    if tuning.paths or len(tuning.halves.certify) < tuning.n_min:
        return []
    return ["Record a cheaper worker on the same tasks: there is none to choose from."]


def _unlabelled(tuning: Tuning) -> list[str]:
    if not tuning.evidence.more:
        return []
    return [
        "Of tasks without labels only those need one on which the answers differ: --label-next names the most useful ones."
    ]


def tasks_to_label(tuning: Tuning, promise: Promise, most: int) -> tuple[TaskToLabel, ...]:
    """Tasks without labels whose labels would help most: those where a worker of the policy answers otherwise than the frontier, drawn
    by chance, so that the labels are evidence afterwards. Where nothing can be told by answers, of all alike."""
    space = tuning.space
    workers = [worker for worker in _asked(tuning, promise) if worker != space.frontier]
    waiting = [case for case in tuning.evidence.more if not case.scores]
    differ = [
        case
        for case in waiting
        if any(case.attempts[worker, 0].answer != case.attempts[space.frontier, 0].answer for worker in workers)
    ]
    drawn = np.random.default_rng(tuning.grounds.seed).permutation(len(differ))[:most]
    chance = min(1.0, most / len(differ)) if differ else 1.0
    why = f"{', '.join(workers)} and {space.frontier} answer differently"
    return tuple(
        TaskToLabel(workload=differ[i].key[0], task_id=differ[i].task.id, probability=chance, why=why) for i in drawn
    )


def _asked(tuning: Tuning, promise: Promise) -> list[str]:
    if promise.certified:
        return list(promise.policy.calls())
    if tuning.paths:
        return [worker for worker, _ in tuning.paths[0].structure[-1]]
    return [worker for worker in tuning.space.samples if worker != tuning.space.frontier]
