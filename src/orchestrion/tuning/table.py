"""Outcome records as a table: for each task every worker's attempts, with their true scores where they are known.

What is left out is counted and said. What would make a certificate false is refused: rows that a policy chose to ask for.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

from orchestrion.domain import Attempt, Call, Failure, Money, Outcome, Price, Task
from orchestrion.engine.replay import TaskKey, known_score, recorded_task, scores_by_answer
from orchestrion.engine.step import Step
from orchestrion.errors import RecordsError
from orchestrion.settings import nearest
from orchestrion.tuning.drawn import picked
from orchestrion.workers.replay import recorded_cost, recorded_reply

COVERED = 0.8
"""A worker that was recorded on a smaller share of the frontier's tasks is left out, rather than the tasks."""

SAMPLED = 0.98
"""So many of the tasks must have a worker's sample for the sample to be used."""

MOST_SAMPLES = 8

_READ = Step("tune")
"""Reads a recorded output as a replay does."""

Cell = tuple[str, int]  # worker, sample


class Case(NamedTuple):
    """One task with its recorded attempts, by worker and sample, and the true scores that are known.

    ``group`` names what is not independent of it (its own id where tasks are not grouped). ``picked``: the probability with which it
    was drawn among tasks whose answers differ, to be labelled; None where labels came by chance alone. ``weight``: one over the
    probability that all of its attempts are there.
    """

    key: TaskKey
    task: Task
    attempts: Mapping[Cell, Attempt]
    scores: Mapping[Cell, float]
    group: str
    picked: float | None = None
    weight: float = 1.0


class Table(NamedTuple):
    """The tasks on which every worker was recorded, in order of their names. ``samples`` says how many samples of each worker there are on
    every task; ``workers`` are in order of their mean cost. ``labelled`` tasks have a score of every attempt and were not picked;
    ``unlabelled`` are all others. ``models`` and ``prompts`` are what the records say of the workers' model ids and of the step's
    instructions."""

    workers: tuple[str, ...]
    samples: Mapping[str, int]
    labelled: tuple[Case, ...]
    unlabelled: tuple[Case, ...]
    notes: tuple[str, ...]
    models: Mapping[str, frozenset[str]] = {}
    prompts: frozenset[str] = frozenset()


class Rows(NamedTuple):
    """The rows of one task: all of them, and the plain first answers by worker and sample."""

    every: list[Outcome]
    plain: dict[Cell, Outcome]


ByTask = Mapping[TaskKey, Rows]


def read_table(
    outcomes: Iterable[Outcome],
    *,
    prices: Mapping[str, Price],
    workers: Collection[str] = (),
    frontier: str | None = None,
    step: str | None = None,
    workload: str | None = None,
    group_by: str | None = None,
    samples: Mapping[str, int] | None = None,
) -> Table:
    """Read the records of one step. Costs come from the tokens where a worker's price is given, else from ``cost_usd``.

    ``samples`` says how many samples of each worker are wanted; else as many as nearly all tasks have. Raises RecordsError: several
    steps and none named; a worker, step, workload or tag that the records do not have; a score that is no number in [0, 1]; no worker
    with a cost; no task that all have; rows that a policy selected.
    """
    notes: list[str] = []
    by_task = _by_task(outcomes, step, workload, notes)
    named = {*workers, *([frontier] if frontier else [])} if workers else set()
    _refuse_unknown([*workers, *([frontier] if frontier else [])], by_task)
    _refuse_no_tag(group_by, by_task)
    _refuse_selected(by_task, named, free=samples is None)
    chosen = _workers(by_task, prices, named, frontier, notes)
    many = samples or {worker: _samples(worker, by_task) for worker in chosen}
    wanted = [(worker, n) for worker in chosen for n in range(many.get(worker, 1))]
    whole = _whole(by_task, wanted, notes, free=samples is None)
    drawn = picked(whole, {key: list(found.plain.values()) for key, found in by_task.items()})
    weights = _weights(whole, wanted, notes)
    cases = [
        _case(key, found, wanted, prices, group_by)._replace(picked=drawn.get(key), weight=weights[key])
        for key, found in whole.items()
    ]
    labelled = _labelled(cases, whole, wanted, notes)
    mean = {worker: math.fsum(case.attempts[worker, 0].spent for case in cases) for worker in chosen}
    rows = {worker: [found.plain[worker, 0] for found in whole.values()] for worker in chosen}
    return Table(
        workers=tuple(sorted(chosen, key=lambda worker: (mean[worker], worker))),
        samples={worker: many.get(worker, 1) for worker in chosen},
        labelled=tuple(case for case in cases if case.key in labelled),
        unlabelled=tuple(case for case in cases if case.key not in labelled),
        notes=tuple(notes),
        models={worker: frozenset(row.model for row in rows[worker] if row.model) for worker in chosen},
        prompts=frozenset(row.instructions for of_one in rows.values() for row in of_one if row.instructions),
    )


def scored(case: Case, worker: str, *, without: Collection[str] = ()) -> float:
    """What asking this worker alone gives on a labelled task: its score, 0 where a check (but those named) refused the answer or there
    is none."""
    return case.scores[worker, 0] if passed(case.attempts[worker, 0], without) else 0.0


def passed(attempt: Attempt, without: Collection[str] = ()) -> bool:
    """Whether there is an answer that no check refused, but those named."""
    return attempt.failure is None and all(one.passed for one in attempt.verdicts if one.check not in without)


def cheapest_as_good(
    case: Case, workers: Iterable[str], frontier: str, *, without: Collection[str] = ()
) -> tuple[Money, float]:
    """Hindsight on a labelled task: the cheapest answer that is as good as the frontier's, of equals the best; its cost and score."""
    worth = {worker: scored(case, worker, without=without) for worker in {*workers, frontier}}
    spent, lost = min(
        (case.attempts[worker, 0].spent, -score) for worker, score in worth.items() if score >= worth[frontier]
    )
    return spent, -lost


def refuse_bad_numbers(row: Outcome) -> None:
    """Raises RecordsError for a score or a probability that is none, and for a cost that nobody can have."""
    where = f"task '{row.task_id}', worker '{row.worker}'"
    if row.score is not None and not 0 <= row.score <= 1:
        raise RecordsError(f"{where}: a score lies between 0 and 1, not {row.score}.")
    for name, chance in (("probability", row.probability), ("label_probability", row.label_probability)):
        if chance is not None and not 0 < chance <= 1:
            raise RecordsError(f"{where}: {name} is above 0 and at most 1, not {chance}.")
    if row.cost_usd is not None and not 0 <= row.cost_usd < math.inf:
        raise RecordsError(f"{where}: cost_usd is a number of dollars from 0, not {row.cost_usd}.")


def _by_task(
    outcomes: Iterable[Outcome], step: str | None, workload: str | None, notes: list[str]
) -> dict[TaskKey, Rows]:
    """The rows of each task, in order of the tasks' names: not in that of the records, so that another order changes nothing."""
    by_task: dict[TaskKey, Rows] = {}
    steps: set[str] = set()
    workloads: set[str | None] = set()
    left_out: Counter[str] = Counter()
    for row in outcomes:
        if row.step and row.step.endswith("~"):
            continue  # what a check asked: its cost is in the verdict
        steps.add(row.step or "")
        if step and row.step != step:
            continue
        workloads.add(row.workload)
        if workload and row.workload != workload:
            continue
        refuse_bad_numbers(row)
        found = by_task.setdefault((row.workload, row.step, row.task_id), Rows([], {}))
        found.every.append(row)
        if row.context is not None:
            left_out["are corrections or shown earlier answers"] += 1
        elif (row.worker, row.sample) in found.plain:
            left_out["are a second answer of the same worker and sample"] += 1
        else:
            found.plain[row.worker, row.sample] = row
    if step and step not in steps:
        raise RecordsError(f"the records have no step '{step}'.{nearest(step, sorted(filter(None, steps)))}")
    if not step and len(steps) > 1:
        raise RecordsError(
            f"the records are of several steps ({', '.join(sorted(steps))}), and a policy is one step's: name it with --step."
        )
    if workload and workload not in workloads:
        known = sorted(name for name in workloads if name)
        raise RecordsError(f"the records have no workload '{workload}'.{nearest(workload, known)}")
    if not by_task:
        raise RecordsError("there are no outcomes in these records.")
    if len(workloads) > 1 and not workload:
        several = ", ".join(sorted(str(name) for name in workloads))
        notes.append(
            f"several workloads are taken as one ({several}): the promise is about this mixture of them. --workload tunes one."
        )
    notes += [
        f"{count:,} {'row' if count == 1 else 'rows'} {why}, and were left out."
        for why, count in sorted(left_out.items())
    ]
    return {key: by_task[key] for key in sorted(by_task, key=lambda key: tuple(part or "" for part in key))}


def _refuse_unknown(names: Iterable[str], by_task: ByTask) -> None:
    known = {worker for found in by_task.values() for worker, _ in found.plain}
    for name in names:
        if name not in known:
            raise RecordsError(f"the records have no worker '{name}'.{nearest(name, sorted(known))}")


def _refuse_no_tag(tag: str | None, by_task: ByTask) -> None:
    known = {name for found in by_task.values() for row in found.every for name in row.tags}
    if tag and tag not in known:
        raise RecordsError(
            f"no task has the tag '{tag}', by which they are to be grouped.{nearest(tag, sorted(known))}"
        )


def _refuse_selected(by_task: ByTask, named: Collection[str], *, free: bool) -> None:
    """A live cascade asks its frontier the hard tasks only: on those that have all answers, nothing can be promised of the rest.
    ``free``: the user may choose other workers; a policy that is tested asks those that it asks."""
    asked = Counter(worker for found in by_task.values() for worker in {worker for worker, _ in found.plain})
    for found in by_task.values():
        for (worker, _), row in found.plain.items():
            if named and worker not in named:
                continue
            live = row.run_id is not None or row.selected_by not in (None, "shadow", "import")
            if live and row.probability is None and asked[worker] < len(by_task):
                others = "name with --workers those that were asked everything, " if free else ""
                by = f"by policy '{row.selected_by}'" if row.selected_by else "by a policy, while it ran"
                raise RecordsError(
                    f"'{worker}' was asked for {asked[worker]} of {len(by_task)} tasks, chosen {by}: the tasks that it answered are no fair sample, "
                    "and a certificate on them would be false. Record every worker on the same tasks (a run of each with --policy), "
                    f"{others}or sample with a known probability (the field 'probability')."
                )


def _workers(
    by_task: ByTask, prices: Mapping[str, Price], named: Collection[str], frontier: str | None, notes: list[str]
) -> list[str]:
    """The workers to choose among, sorted: those named, else all with known costs and scores that were recorded on most tasks."""
    rows: dict[str, list[Outcome]] = defaultdict(list)
    for found in by_task.values():
        for (worker, sample), row in found.plain.items():
            if sample == 0:
                rows[worker].append(row)
    unpriced = [worker for worker in named or rows if not all(_has_cost(row, prices) for row in rows[worker])]
    if frontier in unpriced:
        raise RecordsError(
            f"nobody knows what '{frontier}' cost: its rows have no cost_usd, and the settings no price for it."
        )
    priced = sorted(set(named or rows) - set(unpriced))
    if not priced:
        raise RecordsError(
            "no worker has a price or recorded costs: give rows a cost_usd, or price workers of the same name in the settings (--config)."
        )
    unscored = {worker for worker in priced if all(row.score is None for row in rows[worker])}
    if named or len(unscored) == len(priced):
        unscored = set()  # those that were named are taken at their word
    most = len(rows[frontier]) if frontier else max(len(rows[worker]) for worker in priced)
    few = {
        w for w in priced if len(rows[w]) < COVERED * most and not named and w != frontier and not _by_chance(rows[w])
    }
    for why, left_out in (
        ("nobody knows what they cost", unpriced),
        ("none of their answers has a score", unscored - few - {frontier}),
        ("they were recorded on few of the tasks", few),
    ):
        if left_out:
            anyway = " --workers takes them all the same, on the tasks that all have." if left_out is few else ""
            notes.append(f"left out, because {why}: {', '.join(sorted(left_out))}.{anyway}")
    return [worker for worker in priced if worker not in few | unscored or worker == frontier]


def _by_chance(rows: Iterable[Outcome]) -> bool:
    """Whether a worker was asked with known probabilities: few rows stand for many tasks."""
    return all(row.probability is not None for row in rows)


def _has_cost(row: Outcome, prices: Mapping[str, Price]) -> bool:
    by_tokens = row.worker in prices and row.input_tokens is not None and row.output_tokens is not None
    return bool(row.cost_usd is not None or by_tokens or row.failure)


def _samples(worker: str, by_task: ByTask) -> int:
    """How many samples of a worker nearly all tasks have that it was asked; where tasks are labelled, with scores of their own."""
    touched = [found for found in by_task.values() if _touched(found.plain.values())]
    have = []
    for found in touched or by_task.values():
        n = 0
        while (row := found.plain.get((worker, n))) and (not touched or row.score is not None or row.failure):
            n += 1
        have.append(n)
    asked = sorted(count for count in have if count)
    return min(asked[int((1 - SAMPLED) * len(asked))], MOST_SAMPLES) if asked else 1


def _whole(by_task: ByTask, wanted: Sequence[Cell], notes: list[str], *, free: bool) -> dict[TaskKey, Rows]:
    """The tasks that have all of these answers."""
    whole = {key: found for key, found in by_task.items() if all(cell in found.plain for cell in wanted)}
    if not whole:
        who = ", ".join(dict.fromkeys(worker for worker, _ in wanted))
        way_out = "Name those to compare with --workers." if free else "Record all of them on the same tasks."
        raise RecordsError(f"no task was recorded with all of these workers: {who}. {way_out}")
    if len(whole) < len(by_task):
        notes.append(
            f"{len(by_task) - len(whole):,} of {len(by_task):,} tasks lack an answer of some worker, and were left out."
        )
    return whole


def _weights(whole: ByTask, wanted: Sequence[Cell], notes: list[str]) -> dict[TaskKey, float]:
    """One over the probability that all answers to a task are there: each worker was asked by a chance of its own. 1 where all are
    as likely: then the tasks are a fair sample."""
    weights = {}
    for key, found in whole.items():
        chances: dict[str, float] = {}
        for worker, n in wanted:
            chances[worker] = min(chances.get(worker, 1.0), found.plain[worker, n].probability or 1.0)
        weights[key] = 1 / math.prod(chances.values())
    low, high = min(weights.values()), max(weights.values())
    if high - low < 1e-9 * high:
        return dict.fromkeys(weights, 1.0)
    notes.append(
        f"tasks were recorded with known probabilities, from {1 / high:.3g} to {1 / low:.3g}: each stands for as many as it was unlikely."
    )
    return weights


def _labelled(cases: Sequence[Case], whole: ByTask, wanted: Sequence[Cell], notes: list[str]) -> set[TaskKey]:
    """The tasks that count as labelled by chance alone.

    An answer that has no score may have that of an equal answer. But where some tasks are complete by this and others, whose answers
    differ, are not, the complete ones were chosen by their answers: then each answer's own score counts alone.
    """
    fair = [case for case in cases if case.picked is None and _touched(whole[case.key].plain[c] for c in wanted)]
    complete = {case.key for case in fair if len(case.scores) == len(wanted)}
    if len(complete) < len(fair):
        complete = {key for key in complete if all(_says(whole[key].plain[cell]) for cell in wanted)}
        notes.append(
            f"{len(fair) - len(complete):,} tasks have scores of some answers only: they count as not labelled."
        )
    return complete


def _touched(rows: Iterable[Outcome]) -> bool:
    return any(row.score is not None for row in rows)


def _says(row: Outcome) -> bool:
    return row.score is not None or bool(row.failure)


def _case(key: TaskKey, found: Rows, wanted: Sequence[Cell], prices: Mapping[str, Price], group_by: str | None) -> Case:
    task = recorded_task(found.every)
    rows = {cell: found.plain[cell] for cell in wanted}
    said = scores_by_answer(found.plain.values())
    known = {cell: known_score(row, said) for cell, row in rows.items()}
    group = task.tags.get(group_by) if group_by else None
    return Case(
        key=key,
        task=task,
        attempts={cell: read_attempt(row, prices.get(row.worker)) for cell, row in rows.items()},
        scores={cell: score for cell, score in known.items() if score is not None},
        group="\0".join(map(str, key)) if group is None else str(group),
    )


def read_attempt(row: Outcome, price: Price | None) -> Attempt:
    """The attempt that a replay of this row makes."""
    call = Call(row.worker, row.sample)
    cost = recorded_cost(row, price)
    if row.failure:
        kind, _, _ = row.failure.partition(":")
        return Attempt(call, failure=Failure(kind, row.failure), cost=cost)
    reply = recorded_reply(row, price)
    value, answer, _ = _READ.read(reply.output, reply.answer, None)  # a text has no wrong form
    return Attempt(
        call,
        output=reply.output,
        value=value,
        answer=answer,
        verdicts=reply.verdicts,
        usage=reply.usage,
        cost=cost,
        latency_s=reply.latency_s or 0.0,
    )
