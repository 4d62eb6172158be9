"""A policy over recorded outcomes: the same loop that runs live, with workers that answer what was recorded."""

from __future__ import annotations

import contextlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean
from typing import NamedTuple

import msgspec

from orchestrion.checks.protocol import AskingCheck, AskWorker
from orchestrion.domain import Attempt, Money, Outcome, Price, Task, Verdict
from orchestrion.engine.execution import Execution, House, SavedPolicy
from orchestrion.engine.perform import Site, perform
from orchestrion.engine.step import Step
from orchestrion.errors import RecordsError, StepFailed
from orchestrion.evidence.content import is_digest
from orchestrion.journal.memory import MemoryJournal
from orchestrion.journal.protocol import Key, NewRun
from orchestrion.ledger.memory import MemoryLedger
from orchestrion.settings import nearest
from orchestrion.telemetry import Tracing
from orchestrion.workers.replay import ReplayWorker, recorded_cost

TaskKey = tuple[str | None, str | None, str]  # workload, step, task id


class Replayed(NamedTuple):
    """One task: its attempts in order, which was accepted (None: the policy stopped), and that one's true score."""

    task_id: str
    attempts: tuple[Attempt, ...]
    accepted: Attempt | None
    score: float | None


class Baseline(NamedTuple):
    """One worker asked once for every task: mean score (None where labels are missing), cost, and the scores by task."""

    worker: str
    quality: float | None
    cost: Money
    scores: tuple[float | None, ...]


class Replay(msgspec.Struct, frozen=True, kw_only=True):
    """What a policy did on recorded outcomes, beside always-frontier and always-cheapest.

    ``quality`` is the mean score of accepted answers over the labelled tasks, where a stop counts 0. A baseline is None
    where its worker was not recorded on every task that was replayed; ``alone`` has one for each worker that was.
    ``unrecorded`` counts tasks that were left out
    because the policy asked for answers that nobody recorded.
    """

    tasks: tuple[Replayed, ...]
    quality: float | None
    cost: Money
    stopped: int
    frontier: Baseline | None
    cheapest: Baseline | None
    alone: tuple[Baseline, ...]
    calls: Mapping[str, int]
    unrecorded: int


async def replay(
    outcomes: Iterable[Outcome],
    saved: SavedPolicy,
    *,
    step: str | None = None,
    workload: str | None = None,
    frontier: str | None = None,
    prices: Mapping[str, Price] | None = None,
) -> Replay:
    """Replay a policy over the records of one step. ``frontier`` defaults to the worker that scores best.

    Without a ``workload``, the records of all are replayed. Raises RecordsError where the records hold several steps and none is
    named, lack a worker or the workload, or hold no task at all.
    """
    by_task: dict[TaskKey, list[Outcome]] = defaultdict(list)
    workers: dict[str, None] = {}
    steps: dict[str, None] = {}
    workloads: dict[str, None] = {}
    for outcome in outcomes:
        if outcome.step and outcome.step.endswith("~"):
            continue  # what a check asked: its cost is in the verdict
        steps.setdefault(outcome.step or "")
        if step and outcome.step != step:
            continue
        workloads.setdefault(outcome.workload or "")
        if workload and outcome.workload != workload:
            continue
        by_task[outcome.workload, outcome.step, outcome.task_id].append(outcome)
        workers.setdefault(outcome.worker)
    if step and step not in steps:
        raise RecordsError(f"the records have no step '{step}'.{nearest(step, steps)}")
    if not step and len(steps) > 1:
        raise RecordsError(
            f"the records are of several steps ({', '.join(steps)}), and a policy is one step's: name it with --step."
        )
    if workload and workload not in workloads:
        raise RecordsError(f"the records have no workload '{workload}'.{nearest(workload, workloads)}")
    if not by_task:
        raise RecordsError("there are no outcomes in these files.")
    for name in [*saved.policy.calls(), *([frontier] if frontier else [])]:
        if name not in workers:
            raise RecordsError(f"the records have no worker '{name}'.{nearest(name, workers)}")
    priced = prices or {}
    done = [await _one(key, rows, saved, priced) for key, rows in by_task.items()]
    replayed = [one for one in done if one]
    kept = [rows for one, rows in zip(done, by_task.values(), strict=True) if one]
    if not replayed:
        raise RecordsError(
            "the policy asks for answers that were recorded for none of the tasks (other samples, corrections, or what a "
            "judge says)."
        )
    scores = [one.score for one in replayed if one.score is not None]
    baselines = [found for name in workers if (found := _baseline(name, kept, priced))]
    return Replay(
        tasks=tuple(replayed),
        quality=fmean(scores) if scores else None,
        cost=sum(attempt.spent for one in replayed for attempt in one.attempts),
        stopped=sum(one.accepted is None for one in replayed),
        frontier=next((b for b in baselines if b.worker == (frontier or _best(kept, priced))), None),
        cheapest=min(baselines, key=lambda b: b.cost, default=None),
        alone=tuple(baselines),
        calls=dict(Counter(attempt.call.worker for one in replayed for attempt in one.attempts)),
        unrecorded=len(done) - len(replayed),
    )


async def _one(key: TaskKey, rows: list[Outcome], saved: SavedPolicy, prices: Mapping[str, Price]) -> Replayed | None:
    """One task through the policy; None where it asks for what was not recorded."""
    task_id = key[2]
    house = House({}, MemoryLedger(), _SILENT)
    house.workers = {
        name: ReplayWorker(name, [row for row in rows if row.worker == name], price=prices.get(name))
        for name in {row.worker for row in rows} | set(saved.policy.calls())
    }
    step = Step("replay")
    task = recorded_task(rows)
    log = MemoryJournal().start(NewRun(id=task_id, workflow="replay", input="", digest="", task_id=task_id, tags={}))
    judges = [_Recorded(check.name) for check in saved.checks if isinstance(check, AskingCheck)]
    rules = [check for check in saved.checks if not isinstance(check, AskingCheck)]
    policies = {step.name: SavedPolicy(saved.policy, (*rules, *judges), saved.name)}
    execution = Execution(
        house, log, no=None, run_id=task_id, task_id=task_id, tags=task.tags, account="replay", policies=policies
    )
    site = Site(execution, step, task, Key("", step.name, 0))
    with contextlib.suppress(StepFailed):  # the policy stopped: that is its answer
        await perform(site)
    accepted = site.accepted.attempt if site.accepted else None
    attempts = tuple(attempt for attempt, _ in log.attempts.values())
    if any(attempt.failure and attempt.failure.kind == "unrecorded" for attempt in attempts):
        return None
    if any(judge.missed for judge in judges):
        return None
    labelled = any(row.score is not None for row in rows)
    if accepted is None:
        return Replayed(task_id, attempts, None, 0.0 if labelled else None)
    same = [a for a in attempts if a.call == accepted.call]
    records = [
        r
        for r in rows
        if (r.worker, r.sample, r.context) == (accepted.call.worker, accepted.call.sample, accepted.call.context)
    ]
    return Replayed(task_id, attempts, accepted, known_score(records[same.index(accepted)], scores_by_answer(rows)))


def recorded_task(rows: Sequence[Outcome]) -> Task:
    """The task of these rows as a policy sees it: input and tags of the first row that has them, whoever answered there.

    A digest in the place of a prompt that was not kept is no prompt: its signals would be noise.
    """
    first = rows[0]
    prompt = next((row.prompt for row in rows if row.prompt is not None and not is_digest(row.prompt)), None)
    tags = next((row.tags for row in rows if row.tags), {})
    return Task(first.task_id, prompt, dict(tags), None, first.step or "")


def scores_by_answer(rows: Iterable[Outcome]) -> dict[str, float]:
    """What the answers to one task are worth, as far as it was said, and said alike."""
    said: dict[str, set[float]] = defaultdict(set)
    for row in rows:
        if row.score is not None and row.answer and not row.failure:
            said[row.answer].add(row.score)
    return {answer: next(iter(scores)) for answer, scores in said.items() if len(scores) == 1}


def known_score(row: Outcome, said: Mapping[str, float]) -> float | None:
    """The score of a row: its own, else that of an equal answer to the same task (``said``: see ``scores_by_answer``); 0 for a failure."""
    if row.failure:
        return 0.0
    return said.get(row.answer or "") if row.score is None else row.score


class _Recorded:
    """A check that asks somebody, in a replay: its recorded verdict stands, and where there is none, nobody is asked."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.missed = False

    async def __call__(self, task: Task, attempts: tuple[Attempt, ...], ask: AskWorker) -> Verdict:
        self.missed = True
        return Verdict(self.name, False, 0.0, "its verdict was not recorded", broken=True)


class _Silent(Tracing):
    """No spans: nothing is asked."""

    def __init__(self) -> None:
        self.on = False


_SILENT = _Silent()


def _baseline(worker: str, tasks: list[list[Outcome]], prices: Mapping[str, Price]) -> Baseline | None:
    """A worker's first plain answer to each task; None where one is missing or failed."""
    scores: list[float | None] = []
    cost = 0
    for rows in tasks:
        row = next(
            (r for r in rows if r.worker == worker and r.context is None and r.sample == 0 and not r.failure), None
        )
        if row is None:
            return None
        scores.append(row.score)
        cost += recorded_cost(row, prices.get(worker))
    known = [score for score in scores if score is not None]
    return Baseline(worker, fmean(known) if len(known) == len(scores) else None, cost, tuple(scores))


def _best(tasks: Iterable[list[Outcome]], prices: Mapping[str, Price]) -> str:
    """The worker whose plain first answers score best on average; of equals, and without labels, the dearest."""
    scores: dict[str, list[float]] = defaultdict(list)
    costs: dict[str, list[Money]] = defaultdict(list)
    for rows in tasks:
        for row in rows:
            if row.context is None and row.sample == 0 and not row.failure:
                costs[row.worker].append(recorded_cost(row, prices.get(row.worker)))
                if row.score is not None:
                    scores[row.worker].append(row.score)
    return max(costs, key=lambda worker: (fmean(scores[worker] or [0.0]), fmean(costs[worker])), default="")
