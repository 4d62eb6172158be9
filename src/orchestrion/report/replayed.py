"""Facts of policies put over recorded outcomes. Nothing was asked, and nothing spent."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from orchestrion.domain import Outcome
from orchestrion.engine.replay import Baseline, Replay, TaskKey
from orchestrion.report.advice import advise
from orchestrion.report.facts import Alone, Ended, Estimate, Quality, Report, Way, total
from orchestrion.report.intervals import difference, share
from orchestrion.report.tally import Counted, Tally
from orchestrion.report.words import short, summarise, with_words

MOST = 0.5
"""Where every worker was recorded on this part of the tasks or more, the others are left out."""


class Comparable(NamedTuple):
    """Records on which workers can be compared; ``left_out`` counts the tasks that lack one."""

    outcomes: list[Outcome]
    left_out: int


def comparable(outcomes: Iterable[Outcome], *, step: str | None = None) -> Comparable:
    """The tasks that every worker was recorded on, if they are half of all or more; else all of them.

    Records of live runs are the other kind: there the frontier was asked the hard tasks only.
    """
    everything = list(outcomes)
    given = [one for one in everything if not step or one.step == step]
    if len({one.step for one in given}) != 1:
        return Comparable(everything, 0)  # none, or several: the replay refuses them
    workers: dict[TaskKey, set[str]] = {}
    for one in given:
        asked = workers.setdefault((one.workload, one.step, one.task_id), set())
        if one.context is None and one.sample == 0 and not one.failure:
            asked.add(one.worker)
    everybody = {one.worker for one in given}
    whole = {key for key, asked in workers.items() if asked == everybody}
    if len(whole) < MOST * len(workers):
        return Comparable(given, 0)
    return Comparable(
        [one for one in given if (one.workload, one.step, one.task_id) in whole], len(workers) - len(whole)
    )


class Tried(NamedTuple):
    """One policy by its name, and what it did."""

    name: str
    replay: Replay


def report_replay(
    tried: Sequence[Tried], *, records: Iterable[str], workers: Iterable[str], step: str | None, incomplete: int = 0
) -> Report:
    """The report of the first policy, beside the others and every worker alone.

    ``workers`` are all that the records have: those not recorded on every task are named as left out.
    ``incomplete`` counts the tasks that were left out because they lack one.
    """
    name, first = tried[0]
    tally = Tally()
    quality = _count(first, tally, step or "all tasks")
    cells = tally.cells(simulated=(), quality=quality)
    alone = {baseline.worker for baseline in first.alone}
    scores = [one.score for one in first.tasks if one.accepted and one.score is not None]
    report = Report(
        kind="replay",
        title=short(name),
        workflows=(),
        source=", ".join(records),
        made=time.time(),
        began=None,
        until=None,
        tasks=len(first.tasks),
        ended=Ended(answered=len(first.tasks) - first.stopped, flagged=first.stopped),
        figures=total(cell.figures for cell in cells),
        cells=cells,
        visits={cells[0].step: len(first.tasks)} if cells else {},
        refusals=tally.refusals(),
        quality=Quality(
            right=share(scores),
            sources={"reference": len(scores)} if scores else {},
            accepted=tally.accepted,
            unseen=tally.unseen,
            despite=tally.despite,
            constrained=tally.constrained,
        ),
        alone=_alone(first),
        cases=(),
        waiting=(),
        simulated="none",
        ways=(*(_policy(one, first) for one in tried), *(_worker(baseline) for baseline in first.alone)),
        incomplete=incomplete,
        tokens_estimated=any(attempt.usage.estimated for one in first.tasks for attempt in one.attempts),
        left_out=tuple(worker for worker in workers if worker not in alone),
    )
    return with_words(report, summary=summarise(report), advice=advise(report))


def _count(replay: Replay, tally: Tally, step: str) -> dict[tuple[str, str], Estimate | None]:
    """Count every attempt; quality by worker, of the answers that were accepted."""
    scores: dict[tuple[str, str], list[float]] = {}
    for task in replay.tasks:
        for attempt in task.attempts:
            tally.add(
                Counted(
                    run=task.task_id,
                    step=step,
                    worker=attempt.call.worker,
                    judging=False,
                    answered=attempt.failure is None,
                    accepted=int(attempt is task.accepted),
                    verdicts=attempt.verdicts,
                    tokens=(attempt.usage.input_tokens, attempt.usage.output_tokens),
                    posted=("post", attempt.spent),  # with what asking its checks cost
                    held=None,
                )
            )
        if task.accepted and task.score is not None:
            scores.setdefault((step, task.accepted.call.worker), []).append(task.score)
    return {key: share(found) for key, found in scores.items()}


def _policy(tried: Tried, first: Replay) -> Way:
    replay, frontier = tried.replay, tried.replay.frontier
    scores = [one.score for one in replay.tasks]
    pairs = [
        (ours, theirs)
        for ours, theirs in zip(scores, frontier.scores if frontier else (), strict=bool(frontier))
        if ours is not None and theirs is not None
    ]
    return Way(
        name=tried.name,
        kind="policy",
        tasks=len(replay.tasks),
        unrecorded=replay.unrecorded,
        stopped=replay.stopped,
        cost=replay.cost,
        quality=share([score for score in scores if score is not None]),
        against=difference([ours for ours, _ in pairs], [theirs for _, theirs in pairs]),
        same_tasks=[one.task_id for one in replay.tasks] == [one.task_id for one in first.tasks],
    )


def _worker(baseline: Baseline) -> Way:
    return Way(
        name=baseline.worker,
        kind="worker",
        tasks=len(baseline.scores),
        unrecorded=0,
        stopped=0,
        cost=baseline.cost,
        quality=share([score for score in baseline.scores if score is not None]),
    )


def _alone(replay: Replay) -> Alone:
    frontier = replay.frontier
    if frontier is None:
        how = "the frontier was not recorded on every task that was replayed (live, it is asked the hard ones only)"
        return Alone(worker=None, cost=None, estimated=False, left_out=0, how=how)
    how = f"{frontier.worker}'s own recorded first answer to each of the same tasks."
    return Alone(worker=frontier.worker, cost=frontier.cost, estimated=False, left_out=0, how=how)
