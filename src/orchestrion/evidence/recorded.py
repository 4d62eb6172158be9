"""From the database's rows to outcomes, and to the tree of a run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from pydantic_core import from_json

from orchestrion.domain import Attempt, Call, Failure, Outcome, usd
from orchestrion.evidence.content import MARK, OPEN, Content, is_digest
from orchestrion.evidence.labels import Labels, Question
from orchestrion.journal.codec import decode_attempt, decode_calls, unpack, whole
from orchestrion.review.requests import ReviewRequest
from orchestrion.review.reviews import Reviews
from orchestrion.store.database import Database
from orchestrion.store.queries import queries

PROBES = "models-check/"
"""How the ids of runs begin that `orchestrion models --check` makes: they are in the books, and no evidence of any work."""


class Asked(NamedTuple):
    """One call that a step made: its attempt, or None where it was in flight when a process died.

    ``posted`` is the entry that closed its hold: its kind and amount; None while the hold is open. ``review`` is the
    question that it is, where a person was asked. ``model`` and ``instructions``: see Outcome.
    """

    scope: str
    step: str
    n: int
    turn: int
    input: str | None
    call: Call
    attempt: Attempt | None
    accepted: int
    hold: int
    posted: tuple[str, int] | None
    review: ReviewRequest | None
    digest: str
    whole: bool
    """Whether the attempt's texts are still those that were answered."""
    model: str | None
    instructions: str | None


def calls_of(database: Database, no: int) -> list[Asked]:
    """Every call of a run in the order in which it was asked; without those whose holds were refused: nobody was asked."""
    sql = queries("journal")
    attempts = {row[0]: row for row in database.read(sql["attempts"], (no,))}
    posts = {hold: (kind, amount) for hold, kind, amount in database.read(sql["posts"], (no,))}
    asked: list[Asked] = []
    inputs: dict[tuple[str, str, int], str | None] = {}
    reviews = Reviews(database).of_run(no)
    for scope, step, n, turn, input_digest, stored, calls, instructions, models in database.read(sql["asks"], (no,)):
        inputs.setdefault((scope, step, n), unpack(stored))
        models_then = from_json(models) if models else {}
        for hold, call in decode_calls(calls):
            row = attempts.get(hold)
            if row is None and hold not in posts and not database.read(sql["held"], (hold,)):
                continue
            attempt = decode_attempt(call, hold, row[2], row[4], row[5])[0] if row else None
            asked.append(
                Asked(
                    scope,
                    step,
                    n,
                    turn,
                    inputs[scope, step, n],
                    call,
                    attempt,
                    row[3] if row else 0,
                    hold,
                    posts.get(hold),
                    reviews.get(hold),
                    input_digest,
                    row is None or whole(row[5]),
                    models_then.get(call.worker),
                    instructions,
                )
            )
    asked.sort(key=lambda one: one.hold)
    return asked


class Recorded(NamedTuple):
    """An attempt as an outcome, with the call that it answers and the question that was asked."""

    asked: Asked
    question: Question
    outcome: Outcome
    kept: str | None

    def leaving(self, content: Content) -> Outcome:
        """The outcome as it may leave: redacted once, be it now or when its run ended."""
        return self.outcome if self.kept == content.key else content.outcome(self.outcome)


def outcomes(database: Database, *, batch: str | None = None, content: Content = OPEN) -> Iterator[Outcome]:
    """Every attempt of every run (of a batch) as an outcome, with the texts that ``content`` lets out.

    A score is known where a person gave one, or a reference for the question; and where the run's workflow is a single
    step and its task has a reference: 1 for an answer that is the same, else 0 (see ``labels.same``). A person's answer costs
    what all the rounds cost that it took.
    """
    return (one.leaving(content) for one in recorded(database, batch=batch, content=content))


def recorded(
    database: Database, *, batch: str | None = None, no: int | None = None, content: Content = OPEN
) -> Iterator[Recorded]:
    """The same, of all runs, of a batch, or of one run by its number, with texts as they are in the database.

    What `orchestrion models --check` asked is no evidence: it is there only where its run is named.
    """
    labels, sql = Labels.read(database, no=no), queries("evidence")
    runs = (
        database.read(sql["runs"], {"batch": batch, "probes": PROBES})
        if no is None
        else database.read(sql["run"], (no,))
    )
    for run in runs:
        yield from _of_run(database, labels, *run, digests=content.record == "digest")


def _of_run(
    database: Database,
    labels: Labels,
    no: int,
    run_id: str,
    workflow: str,
    task: str,
    tags: str | None,
    reference: str | None,
    policy: str | None,
    kept: str | None,
    *,
    digests: bool,
) -> Iterator[Recorded]:
    name = workflow.rpartition(":")[2]
    truth = from_json(reference) if reference else None
    chosen = {step: p["name"] for step, p in from_json(policy).items()} if policy else {}
    seen: dict[tuple[Any, ...], int] = {}
    rounds: dict[tuple[Any, ...], int] = {}
    for asked in calls_of(database, no):
        attempt, call = asked.attempt, asked.call
        person = (asked.scope, asked.step, asked.n, call.worker, call.sample, call.context)
        if attempt is None:
            if asked.review and asked.posted:  # a question of theirs, or an answer of another type: they answer later
                rounds[person] = rounds.get(person, 0) + asked.posted[1]
            continue
        task_id = task if not asked.scope and not asked.n else f"{task}#{asked.scope}{asked.n}"
        key = (asked.step, task_id, call.worker, call.sample, call.context)
        seen[key] = seen.get(key, -1) + 1
        known = not attempt.failure
        question = Question(name, asked.step, asked.digest)
        own = truth if asked.step == name and known and not call.added else None
        judged = labels.judge(question, asked.hold, _comparable(asked), own)
        outcome = Outcome(
            workload=name,
            task_id=task_id,
            tags=from_json(tags) if tags else {},
            worker=call.worker,
            sample=call.sample,
            prompt=MARK + asked.digest if digests or kept == "digest" else _plain(asked.input),
            output=attempt.output,
            answer=attempt.answer,
            reference=truth if judged.reference is None else judged.reference,
            score=judged.score,
            input_tokens=attempt.usage.input_tokens if known else None,
            output_tokens=attempt.usage.output_tokens if known else None,
            cache_read_tokens=attempt.usage.cache_read_tokens if known else None,
            cache_write_tokens=attempt.usage.cache_write_tokens if known else None,
            tokens_estimated=attempt.usage.estimated if known else None,
            cost_usd=usd(attempt.cost + rounds.pop(person, 0)),
            latency_s=round(attempt.latency_s, 6),
            step=step_of(asked.scope, asked.step),
            run_id=run_id,
            attempt=seen[key],
            context=call.context,
            verdicts={
                v.check: {
                    "passed": v.passed,
                    "score": v.score,
                    "reason": v.reason,
                    **({"cost_usd": usd(v.cost)} if v.cost else {}),
                    **({"broken": True} if v.broken else {}),
                }
                for v in attempt.verdicts
            },
            failure=_said(attempt.failure) if attempt.failure else None,
            accepted=bool(asked.accepted),
            label_source=judged.source,
            selected_by=chosen.get(asked.step),
            constrained=asked.accepted == 2,
            label_probability=judged.chance,
            model=asked.model,
            instructions=asked.instructions,
        )
        yield Recorded(asked, question, outcome, kept)


def _comparable(asked: Asked) -> str | None:
    """The answer, where it can be held against a right one: as it was given, or its digest."""
    answer = asked.attempt.answer if asked.attempt else None
    return answer if answer is not None and (asked.whole or is_digest(answer)) else None


def step_of(scope: str, step: str) -> str:
    """The step's name; what one of its checks asked is of "STEP~", so that nobody takes it for the step's own."""
    before, tilde, _ = scope.partition("~")
    return before.rpartition("#")[0].rpartition("/")[2] + tilde if tilde else step


def _plain(text: str | None) -> str | None:
    """A step's input as its worker saw it: a string without its JSON quotes."""
    return from_json(text) if text is not None and text.startswith('"') else text


def _said(failure: Failure) -> str:
    """A failure in one line: its kind alone where its words were not kept."""
    return f"{failure.kind}: {failure.message}" if failure.message else failure.kind
