"""From the database's rows to outcomes, and to the tree of a run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from pydantic_core import from_json

from orchestrion.domain import Attempt, Call, Outcome, usd
from orchestrion.journal.codec import decode_attempt, decode_calls, unpack
from orchestrion.review.requests import ReviewRequest
from orchestrion.review.reviews import Reviews
from orchestrion.store.database import Database
from orchestrion.store.queries import queries


class Asked(NamedTuple):
    """One call that a step made: its attempt, or None where it was in flight when a process died.

    ``posted`` is the entry that closed its hold: its kind and amount; None while the hold is open. ``review`` is the
    question that it is, where a person was asked.
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
    review: ReviewRequest | None = None


def calls_of(database: Database, no: int) -> list[Asked]:
    """Every call of a run in the order in which it was asked."""
    sql = queries("journal")
    attempts = {row[0]: row for row in database.read(sql["attempts"], (no,))}
    posts = {hold: (kind, amount) for hold, kind, amount in database.read(sql["posts"], (no,))}
    asked: list[Asked] = []
    inputs: dict[tuple[str, str, int], str | None] = {}
    reviews = Reviews(database).of_run(no)
    for scope, step, n, turn, _, stored, calls in database.read(sql["asks"], (no,)):
        inputs.setdefault((scope, step, n), unpack(stored))
        for hold, call in decode_calls(calls):
            row = attempts.get(hold)
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
                )
            )
    asked.sort(key=lambda one: one.hold)
    return asked


def outcomes(database: Database, *, batch: str | None = None) -> Iterator[Outcome]:
    """Every attempt of every run (of a batch) as an outcome.

    Where a run's workflow is a single step and its task has a reference answer, the score is 1 for an answer that is the
    same text, else 0; other scores are not known.
    """
    for run in database.read(queries("journal")["runs_for_outcomes"], {"batch": batch}):
        yield from _of_run(database, *run)


def _of_run(
    database: Database,
    no: int,
    run_id: str,
    workflow: str,
    task: str,
    tags: str | None,
    reference: str | None,
    policy: str | None,
) -> Iterator[Outcome]:
    name = workflow.rpartition(":")[2]
    truth = from_json(reference) if reference else None
    chosen = {step: p["name"] for step, p in from_json(policy).items()} if policy else {}
    seen: dict[tuple[Any, ...], int] = {}
    for asked in calls_of(database, no):
        attempt, call = asked.attempt, asked.call
        if attempt is None:
            continue
        task_id = task if not asked.scope and not asked.n else f"{task}#{asked.scope}{asked.n}"
        key = (asked.step, task_id, call.worker, call.sample, call.context)
        seen[key] = seen.get(key, -1) + 1
        known = not attempt.failure
        whole = asked.step == name and truth is not None and not call.added
        yield Outcome(
            workload=name,
            task_id=task_id,
            tags=from_json(tags) if tags else {},
            worker=call.worker,
            sample=call.sample,
            prompt=_plain(asked.input),
            output=attempt.output,
            answer=attempt.answer,
            reference=truth,
            score=float(_same(attempt.answer, truth)) if whole and known and attempt.answer is not None else None,
            input_tokens=attempt.usage.input_tokens if known else None,
            output_tokens=attempt.usage.output_tokens if known else None,
            cache_read_tokens=attempt.usage.cache_read_tokens if known else None,
            cache_write_tokens=attempt.usage.cache_write_tokens if known else None,
            tokens_estimated=attempt.usage.estimated if known else None,
            cost_usd=usd(attempt.cost),
            latency_s=round(attempt.latency_s, 6),
            step=_step(asked),
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
            failure=f"{attempt.failure.kind}: {attempt.failure.message}" if attempt.failure else None,
            accepted=bool(asked.accepted),
            label_source="reference" if whole and known else None,
            selected_by=chosen.get(asked.step),
            constrained=asked.accepted == 2,
        )


def _step(asked: Asked) -> str:
    """The step's name; what one of its checks asked is of "STEP~", so that nobody takes it for the step's own."""
    before, tilde, _ = asked.scope.partition("~")
    return before.rpartition("#")[0].rpartition("/")[2] + tilde if tilde else asked.step


def _plain(text: str | None) -> str | None:
    """A step's input as its worker saw it: a string without its JSON quotes."""
    return from_json(text) if text is not None and text.startswith('"') else text


def _same(answer: str | None, truth: Any) -> bool:
    return answer is not None and answer.strip() == (truth.strip() if isinstance(truth, str) else str(truth))
