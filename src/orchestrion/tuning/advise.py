"""What would make a tuning's result better, what was found on the way, and which tasks to label next."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from orchestrion.domain import Outcome
from orchestrion.engine.replay import TaskKey
from orchestrion.tuning.choose import Aim, choose
from orchestrion.tuning.facts import Promise, TaskToLabel, Wish
from orchestrion.tuning.promise import Made, Tuning, allowed
from orchestrion.tuning.table import Case, Cell, scored

WORTH = 0.02
"""Labels are advised where they are expected to save so much of the frontier's cost."""

SURELY = 0.999999
"""The chance of a task that was certain to be drawn. Its label stays one that was picked, and is not taken for a fair sample."""

NAMED = 3


# What would help -------------------------------------------------------------------------------------------------


def advice(tuning: Tuning, made: Made, aim: Aim) -> tuple[str, ...]:
    """Sentences for the user, the most useful first."""
    return (*_labels(tuning, made.promise, aim), *_values(made.promise), *_workers(tuning), *_unlabelled(tuning))


def _labels(tuning: Tuning, promise: Promise, aim: Aim) -> Iterator[str]:
    if promise.labels_needed is not None and not promise.certified:
        yield f"Label more tasks: about {promise.labels_needed:,} in all are likely to do, and there are {tuning.labels:,}."
        return
    if not tuning.paths or not promise.certified or aim.within is not None or promise.target.per_tag:
        return
    now = choose(tuning.space, aim, tuning.paths)
    more = choose(tuning.space, aim._replace(certify=3 * aim.certify), tuning.paths)
    cost = promise.cost_ratio.value
    if now.value - more.value >= WORTH and cost > more.value:  # luckier than expected, it may be there already
        yield (
            f"Three times as many labels ({3 * tuning.labels:,}) would probably bring the cost from {cost:.0%} to "
            f"{max(cost - (now.value - more.value), more.value):.0%} of the frontier's, or lower."
        )


def _values(promise: Promise) -> Iterator[str]:
    few = sorted((value for value, one in promise.by_tag.items() if not one.certified), key=str)
    if few and promise.certified:
        more = f" and {len(few) - NAMED} more" if len(few) > NAMED else ""
        yield f"Label more tasks of {', '.join(few[:NAMED])}{more}: too few have labels, so all of theirs go to the frontier."


def _workers(tuning: Tuning) -> Iterator[str]:
    if not tuning.paths:
        yield f"Record a worker that is cheaper than '{tuning.space.frontier}' on the same tasks: there is none to choose from."


def _unlabelled(tuning: Tuning) -> Iterator[str]:
    if tuning.evidence.more:
        yield "Of tasks without labels only those need one on which the answers differ: --label-next names the most useful ones."


# What was found --------------------------------------------------------------------------------------------------


class PassedOver:
    """Outcomes as they are read, with the scores of workers that --workers leaves out."""

    def __init__(self, outcomes: Iterable[Outcome], wish: Wish) -> None:
        self._outcomes = outcomes
        self._wish = wish
        self._scores: dict[str, dict[TaskKey, float]] = defaultdict(dict)

    def __iter__(self) -> Iterator[Outcome]:
        wish = self._wish
        for row in self._outcomes:
            here = wish.step in (None, row.step) and wish.workload in (None, row.workload)
            if wish.workers and here and row.sample == 0 and row.context is None and row.score is not None:
                self._scores[row.worker].setdefault((row.workload, row.step, row.task_id), row.score)
            yield row

    def better(self, frontier: str) -> list[str]:
        """Workers left out that score higher than the frontier on the tasks that both answered, in a sentence each."""
        ours = self._scores.get(frontier, {})
        said = []
        for worker, scores in self._scores.items():
            both = scores.keys() & ours.keys()
            if worker in self._wish.workers or worker == frontier or not both:
                continue
            theirs, mine = (sum(one[key] for key in both) / len(both) for one in (scores, ours))
            if theirs > mine:
                said.append(
                    f"--workers leaves out '{worker}', which scores {theirs:.3f} where the frontier '{frontier}' scores {mine:.3f} (the {len(both):,} "
                    "tasks that both answered)."
                )
        return said


def findings(
    tuning: Tuning, wish: Wish, workers: Sequence[str], passed_over: PassedOver, made: Sequence[Made]
) -> Iterator[str]:
    """What a user should know of the workers and promises. ``workers`` in order of their cost."""
    frontier, fit = tuning.space.frontier, tuning.space.fit
    quality = {worker: _mean(tuning, worker) for worker in workers} if len(fit) else {}
    best = max(workers, key=lambda worker: quality[worker])
    if wish.frontier and quality[best] > quality[frontier]:
        yield (
            f"'{frontier}' is not the best worker: on the fit half it scores {quality[frontier]:.3f}, and '{best}' {quality[best]:.3f}."
        )
    if not wish.frontier:
        yield from _outdone(tuning, workers)
    yield from passed_over.better(frontier)
    if len(workers) == 1:
        yield f"'{frontier}' is the only worker: there is nobody else to ask."
    elif workers[0] == frontier:
        which = "the best worker" if quality[frontier] >= quality[best] else "the yardstick"
        yield f"'{frontier}', {which}, is also the cheapest: there is nothing to save."
    for one in made:
        if one.free and one.promise.certified:
            target = one.promise.target
            yield (
                f"The labelled tasks say nothing for the policy of this promise: {target.words}. It holds all the same: {allowed(target):.0%} of the "
                "tasks may be given away without evidence, and no more are."
            )


def _outdone(tuning: Tuning, workers: Sequence[str]) -> Iterator[str]:
    """The frontier was chosen on the fit half; where another worker is better on all labelled tasks."""
    frontier, cases = tuning.space.frontier, (*tuning.halves.fit, *tuning.halves.certify)
    quality = {worker: sum(scored(case, worker) for case in cases) / len(cases) for worker in workers}
    best = max(workers, key=lambda worker: quality[worker])
    if quality[best] > quality[frontier] + 1e-9:
        yield (
            f"'{frontier}' was the best worker on the {len(tuning.halves.fit):,} tasks that chose it; on all {len(cases):,} it scores "
            f"{quality[frontier]:.3f}, and '{best}' {quality[best]:.3f}. --frontier '{best}' makes that one the yardstick."
        )


def _mean(tuning: Tuning, worker: str) -> float:
    """A worker's mean score on the fit half, 0 where its answer was refused."""
    fit = tuning.halves.fit
    return sum(case.scores[worker, 0] if case.attempts[worker, 0].passed else 0.0 for case in fit) / len(fit)


# What to label ---------------------------------------------------------------------------------------------------


class Labelling(NamedTuple):
    """The tasks to label next, and what is to be said of the draw."""

    tasks: tuple[TaskToLabel, ...] = ()
    notes: tuple[str, ...] = ()


def tasks_to_label(tuning: Tuning, made: Made, aim: Aim, most: int) -> Labelling:
    """Tasks without labels whose labels would help most: those on which a worker of the policy answers otherwise than the frontier.

    All of them have the same chance, never one by how hard they look, so that the labels are evidence afterwards. Where answers cannot
    be compared, a plain draw among all.
    """
    if not most:
        return Labelling()
    frontier = tuning.space.frontier
    cells = _cells(tuning, made, aim)
    used = [*cells, (frontier, 0)]
    waiting = [c for c in tuning.evidence.more if not c.picked and any(cell not in c.scores for cell in used)]
    if not waiting:
        return Labelling(notes=("There is no task without labels that a label could be asked for.",))
    workers = ", ".join(dict.fromkeys(worker for worker, _ in cells))
    comparable = [case for case in waiting if _comparable(case, used)]
    if not comparable:
        why = "drawn by chance among all tasks without labels"
        note = (
            "The answers to tasks without labels cannot be compared: those to label next are drawn among all of them."
        )
        return Labelling(_drawn(tuning, waiting, most, why), (note,))
    differ = [case for case in comparable if any(_differs(case, cell, frontier) for cell in cells)]
    if not differ:
        note = f"On all {len(comparable):,} tasks without labels {workers} and {frontier} give the same answer: none needs a label."
        return Labelling(notes=(note,))
    return Labelling(_drawn(tuning, differ, most, f"{workers} and {frontier} answer differently"))


def _drawn(tuning: Tuning, cases: Sequence[Case], most: int, why: str) -> tuple[TaskToLabel, ...]:
    order = np.random.default_rng(tuning.grounds.seed).permutation(len(cases))[:most]
    chance = min(most / len(cases), SURELY)
    return tuple(
        TaskToLabel(workload=cases[i].key[0], task_id=cases[i].task.id, probability=chance, why=why) for i in order
    )


def _cells(tuning: Tuning, made: Made, aim: Aim) -> list[Cell]:
    """The answers that the policy may accept beside the frontier's; where none is certified, those of the most promising one."""
    if made.spot:
        stage = made.spot.path.structure[-1]
    elif tuning.paths:
        stage = choose(tuning.space, aim, tuning.paths).path.structure[-1]
    else:
        stage = tuple((worker, 1) for worker in tuning.space.samples)
    return [(worker, n) for worker, times in stage for n in range(times) if worker != tuning.space.frontier]


def _comparable(case: Case, cells: Iterable[Cell]) -> bool:
    """Whether there is a text to compare for all that did not fail."""
    return all(case.attempts[cell].answer or case.attempts[cell].failure for cell in cells)


def _differs(case: Case, cell: Cell, frontier: str) -> bool:
    return case.attempts[cell].answer != case.attempts[frontier, 0].answer
