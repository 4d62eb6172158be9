"""Outcome records as a table: for each task every worker's attempts, with their true scores where they are known.

What is left out is counted and said. What would make a certificate false is refused: rows that a policy chose to ask for.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from orchestrion.domain import Attempt, Call, Failure, Outcome, Price, Task
from orchestrion.engine.step import Step
from orchestrion.errors import RecordsError
from orchestrion.settings import nearest
from orchestrion.workers.replay import recorded_cost, recorded_reply

TaskKey = tuple[str | None, str | None, str]  # workload, step, task id

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

    ``group`` names what is not independent of it (its own id where tasks are not grouped). ``picked``: the workers whose answers were
    labelled because they differed (rows with a ``label_probability`` below 1); empty where labels came as they came.
    """

    key: TaskKey
    task: Task
    attempts: Mapping[Cell, Attempt]
    scores: Mapping[Cell, float]
    group: str
    picked: frozenset[str] = frozenset()


class Table(NamedTuple):
    """The tasks on which every worker was recorded. ``samples`` says how many samples of each worker there are on every task;
    ``workers`` are in order of their mean cost. ``labelled`` tasks have a score of every attempt and were not picked; ``unlabelled`` are all others. ``models`` and ``prompts`` are what the
    records say of the workers' model ids and of the step's instructions."""

    workers: tuple[str, ...]
    samples: Mapping[str, int]
    labelled: tuple[Case, ...]
    unlabelled: tuple[Case, ...]
    notes: tuple[str, ...]
    models: Mapping[str, frozenset[str]] = {}
    prompts: frozenset[str] = frozenset()


class _Rows(NamedTuple):
    first: Outcome
    rows: dict[Cell, Outcome]


def read_table(
    outcomes: Iterable[Outcome],
    *,
    prices: Mapping[str, Price],
    workers: Sequence[str] = (),
    frontier: str | None = None,
    step: str | None = None,
    workload: str | None = None,
    group_by: str | None = None,
) -> Table:
    """Read the records of one step. Costs come from the tokens where a worker's price is given, else from ``cost_usd``.

    Raises RecordsError: several steps and none named; a worker, step or workload that the records do not have; a score that is no
    number in [0, 1]; no worker with a cost; no task that all have; rows that a policy selected.
    """
    notes: list[str] = []
    by_task = _by_task(outcomes, step, workload, notes)
    _refuse_unknown([*workers, *([frontier] if frontier else [])], by_task)
    _refuse_selected(by_task, workers)
    chosen = _workers(by_task, prices, workers, frontier, notes)
    samples = {worker: _samples(worker, by_task) for worker in chosen}
    wanted = [(worker, n) for worker in chosen for n in range(samples[worker])]
    whole = {key: found for key, found in by_task.items() if all(cell in found.rows for cell in wanted)}
    if not whole:
        raise RecordsError(
            f"no task was recorded with all of these workers: {', '.join(chosen)}. Name those to compare with --workers."
        )
    if len(whole) < len(by_task):
        notes.append(
            f"{len(by_task) - len(whole)} of {len(by_task)} tasks lack an answer of some worker, and were left out."
        )
    cases = [_case(key, found, wanted, prices, group_by) for key, found in whole.items()]
    mean = {worker: math.fsum(case.attempts[worker, 0].spent for case in cases) for worker in chosen}
    labelled = tuple(case for case in cases if len(case.scores) == len(wanted) and not case.picked)
    return Table(
        workers=tuple(sorted(chosen, key=lambda worker: (mean[worker], worker))),
        samples=samples,
        labelled=labelled,
        unlabelled=tuple(case for case in cases if len(case.scores) < len(wanted) or case.picked),
        notes=tuple(notes),
        models={
            worker: frozenset(
                found.rows[worker, 0].model or "" for found in whole.values() if found.rows[worker, 0].model
            )
            for worker in chosen
        },
        prompts=frozenset(
            row.instructions for found in whole.values() for row in found.rows.values() if row.instructions
        ),
    )


def scored(case: Case, worker: str) -> float:
    """What asking this worker alone gives on a labelled task: its score, 0 where a check refused the answer or there is none."""
    return case.scores[worker, 0] if case.attempts[worker, 0].passed else 0.0


def _by_task(
    outcomes: Iterable[Outcome], step: str | None, workload: str | None, notes: list[str]
) -> dict[TaskKey, _Rows]:
    """The plain first answers of each task, by worker and sample."""
    by_task: dict[TaskKey, _Rows] = {}
    steps: dict[str, None] = {}
    workloads: dict[str | None, None] = {}
    left_out: Counter[str] = Counter()
    for row in outcomes:
        if row.step and row.step.endswith("~"):
            continue  # what a check asked: its cost is in the verdict
        steps.setdefault(row.step or "")
        if step and row.step != step:
            continue
        workloads.setdefault(row.workload)
        if workload and row.workload != workload:
            continue
        if row.score is not None and not 0 <= row.score <= 1:
            raise RecordsError(
                f"task '{row.task_id}', worker '{row.worker}': a score lies between 0 and 1, not {row.score}."
            )
        if row.context is not None:
            left_out["are corrections or shown earlier answers"] += 1
            continue
        found = by_task.setdefault((row.workload, row.step, row.task_id), _Rows(row, {}))
        if (row.worker, row.sample) in found.rows:
            left_out["are a second answer of the same worker and sample"] += 1
        else:
            found.rows[row.worker, row.sample] = row
    if step and step not in steps:
        raise RecordsError(f"the records have no step '{step}'.{nearest(step, steps)}")
    if not step and len(steps) > 1:
        raise RecordsError(
            f"the records are of several steps ({', '.join(sorted(steps))}), and a policy is one step's: name it with --step."
        )
    if workload and workload not in workloads:
        raise RecordsError(
            f"the records have no workload '{workload}'.{nearest(workload, [name for name in workloads if name])}"
        )
    if not by_task:
        raise RecordsError("there are no outcomes in these records.")
    if len(workloads) > 1 and not workload:
        named = ", ".join(sorted(str(name) for name in workloads))
        notes.append(
            f"several workloads are taken as one ({named}): the promise is about this mixture of them. --workload tunes one."
        )
    notes += [f"{count:,} rows {why}, and were left out." for why, count in left_out.items()]
    return by_task


def _refuse_unknown(names: Iterable[str], by_task: Mapping[TaskKey, _Rows]) -> None:
    known = {worker for found in by_task.values() for worker, _ in found.rows}
    for name in names:
        if name not in known:
            raise RecordsError(f"the records have no worker '{name}'.{nearest(name, sorted(known))}")


def _refuse_selected(by_task: Mapping[TaskKey, _Rows], wanted: Sequence[str]) -> None:
    """A live cascade asks its frontier the hard tasks only: on those that have all answers, nothing can be promised of the rest."""
    asked: dict[str, int] = Counter(
        worker for found in by_task.values() for worker, _ in {(w, 0) for w, _ in found.rows}
    )
    for found in by_task.values():
        for (worker, _), row in found.rows.items():
            if wanted and worker not in wanted:
                continue
            live = row.run_id is not None or row.selected_by not in (None, "shadow", "import")
            if live and row.probability is None and asked[worker] < len(by_task):
                by = f"by policy '{row.selected_by}'" if row.selected_by else "by a policy, while it ran"
                raise RecordsError(
                    f"'{worker}' was asked for {asked[worker]} of {len(by_task)} tasks, chosen {by}: the tasks that it answered are no fair sample, "
                    "and a certificate on them would be false. Record every worker on the same tasks (a run of each with --policy), name with "
                    "--workers those that were asked everything, or sample with a known probability (the field 'probability')."
                )


def _workers(
    by_task: Mapping[TaskKey, _Rows],
    prices: Mapping[str, Price],
    wanted: Sequence[str],
    frontier: str | None,
    notes: list[str],
) -> list[str]:
    """The workers to choose among: those named, else all with known costs that were recorded on most tasks."""
    rows: dict[str, list[Outcome]] = defaultdict(list)
    for found in by_task.values():
        for (worker, sample), row in found.rows.items():
            if sample == 0:
                rows[worker].append(row)
    named = [*dict.fromkeys([*wanted, *([frontier] if frontier else [])])] if wanted else list(rows)
    unpriced = [worker for worker in named if not all(_has_cost(row, prices) for row in rows[worker])]
    if frontier in unpriced:
        raise RecordsError(
            f"nobody knows what '{frontier}' cost: its rows have no cost_usd, and the settings no price for it."
        )
    if unpriced:
        notes.append(f"left out, because nobody knows what they cost: {', '.join(unpriced)}.")
    priced = [worker for worker in named if worker not in unpriced]
    if not priced:
        raise RecordsError(
            "no worker has a price or recorded costs: give rows a cost_usd, or price workers of the same name in the settings (--config)."
        )
    most = len(rows[frontier]) if frontier else max(len(rows[worker]) for worker in priced)
    sparse = [] if wanted else [w for w in priced if len(rows[w]) < COVERED * most and w != frontier]
    if sparse:
        notes.append(f"left out, because they were recorded on few of the tasks: {', '.join(sparse)}.")
    return [worker for worker in priced if worker not in sparse]


def _has_cost(row: Outcome, prices: Mapping[str, Price]) -> bool:
    by_tokens = row.worker in prices and row.input_tokens is not None and row.output_tokens is not None
    return bool(row.cost_usd is not None or by_tokens or row.failure)


def _samples(worker: str, by_task: Mapping[TaskKey, _Rows]) -> int:
    """How many samples of a worker nearly all tasks have that it was asked."""
    have = [sum(name == worker for name, _ in found.rows) for found in by_task.values()]
    asked = sorted(count for count in have if count)
    return min(asked[int((1 - SAMPLED) * len(asked))], MOST_SAMPLES)


def _case(
    key: TaskKey, found: _Rows, wanted: Sequence[Cell], prices: Mapping[str, Price], group_by: str | None
) -> Case:
    first = found.first
    rows = {cell: found.rows[cell] for cell in wanted}
    group = first.tags.get(group_by) if group_by else None
    picked = {row.worker for row in rows.values() if row.label_probability is not None and row.label_probability < 1}
    return Case(
        key=key,
        task=Task(first.task_id, first.prompt, dict(first.tags), None, first.step or ""),
        attempts={cell: read_attempt(row, prices.get(row.worker)) for cell, row in rows.items()},
        scores=_scores(rows),
        group="\0".join(map(str, key)) if group is None else str(group),
        picked=frozenset(picked),
    )


def _scores(rows: Mapping[Cell, Outcome]) -> dict[Cell, float]:
    """The known scores: given ones, those of equal answers to the same task, and 0 for a failure."""
    given = {row.answer: row.score for row in rows.values() if row.score is not None and row.answer}
    known: dict[Cell, float] = {}
    for cell, row in rows.items():
        score = (
            0.0
            if row.failure
            else row.score
            if row.score is not None
            else given.get(row.answer)
            if row.answer
            else None
        )
        if score is not None:
            known[cell] = score
    return known


def read_attempt(row: Outcome, price: Price | None) -> Attempt:
    """The attempt that a replay of this row makes."""
    call = Call(row.worker, row.sample)
    if row.failure:
        kind, _, _ = row.failure.partition(":")
        return Attempt(call, failure=Failure(kind, row.failure), cost=recorded_cost(row, price))
    reply = recorded_reply(row, price)
    value, answer, problems = _READ.read(reply.output, reply.answer, reply.finish_reason)
    cost = recorded_cost(row, price)
    return Attempt(
        call,
        output=reply.output,
        value=value,
        answer=answer,
        verdicts=(*problems, *reply.verdicts),
        usage=reply.usage,
        cost=cost,
        latency_s=reply.latency_s or 0.0,
    )
