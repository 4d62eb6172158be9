"""A person within a step: what they are shown, and what becomes of their decision."""

from __future__ import annotations

import time
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from pydantic_core import from_json

from orchestrion.domain import REJECTED, Attempt, Call, Failure
from orchestrion.engine.scope import REVIEW, Waits
from orchestrion.errors import RunError
from orchestrion.review.requests import (
    DEADLINE,
    Decision,
    Note,
    ReviewRequest,
    Shown,
    proposal,
    request_id,
    shown_answer,
)
from orchestrion.workers.people import Person

if TYPE_CHECKING:
    from orchestrion.engine.perform import Site


def put(site: Site, hold: int, person: Person, history: tuple[Attempt, ...]) -> None:
    """Put a question to a person, in the commit that notes the Ask and its holds."""
    execution, step = site.execution, site.step
    shown = Shown(
        step=step.name,
        instructions=step.instructions,
        task=from_json(site.input),
        answers=tuple(map(shown_answer, history)),
        proposal=proposal(history),
        schema=step.output_schema,
        notes=tuple(site.notes),
        deadline=None if person.deadline_s is None else time.time() + person.deadline_s,
        otherwise=person.otherwise,
    )
    key, run = str(site.key), execution.no
    assert run is not None  # noqa: S101  # where there is a database, runs have numbers
    execution.reviews.ask(
        hold, run=run, key=key, worker=person.name, wage=person.wage, minutes=person.minutes, shown=shown
    )


def take_up(site: Site, lost: Iterable[tuple[int, Call]], history: tuple[Attempt, ...]) -> tuple[Attempt, ...]:
    """Go on with what people said of this step's calls: the history with their decisions.

    A request that is open stays pending. One that was answered with information, or with an answer that has not the step's
    type, leaves a note: the policy asks again, and the person is shown it. Raises RunError where a decision was not kept.
    """
    reviews = site.execution.reviews
    requests = reviews.of_run(site.execution.no or 0)
    for hold, call in lost:
        request = requests.get(hold)
        if request is None:
            continue  # a call that was in flight when its process died
        if request.state == "open" and request.deadline is not None and request.deadline <= time.time():
            request = reviews.expire(request)
        if request.state in ("open", "asked"):
            site.pending.append((call, request))
            continue
        decision = request.decision
        if decision and request.shown is None:  # what is left of it must not pass for what was decided
            raise RunError(
                f"run '{site.execution.id}' cannot go on: the decision on request {request.id} was not kept (record, redact and "
                "keep_days in the settings). Start a new run under another id."
            )
        if request.information:
            site.notes.append(Note(decision.text or "" if decision else "", request.information))
        elif decision and decision.kind != "ask":
            attempt = _attempt(site, call, request, decision)
            if attempt:
                history += (attempt,)
                site.execution.log.attempt(attempt, checked=True)
        reviews.take(hold)
    return history


def waits(hold: int, *, question: str | None = None) -> Waits:
    """What a step raises that waits for a person."""
    return Waits(f"{REVIEW}{request_id(hold)}", question=question)


def _attempt(site: Site, call: Call, request: ReviewRequest, decision: Decision) -> Attempt | None:
    """A decision as an attempt; None, and a note, where its answer has not the step's type (a validator may say more than a schema)."""
    took, cost = max(0.0, decision.at - request.asked), decision.cost
    if decision.kind == "reject":
        failure = _rejection(request, decision)
        return Attempt(call, failure=failure, cost=cost, latency_s=took, hold=request.hold)
    proposed = request.shown.proposed if request.shown else None
    output = (proposed if decision.kind == "approve" else decision.text) or ""
    value, answer, problems = site.step.read(output, None, None)
    if problems:
        site.notes.append(Note(output, f"this answer could not be used: {problems[0].reason}"))
        return None
    return Attempt(call, output, value, answer, cost=cost, latency_s=took, hold=request.hold)


def _rejection(request: ReviewRequest, decision: Decision) -> Failure:
    if decision.by == DEADLINE:
        until = f"{datetime.fromtimestamp(request.deadline or decision.at, UTC):%Y-%m-%d %H:%M} UTC"
        return Failure("expired", f"{request.worker} did not decide until {until}")
    return Failure(REJECTED, f"{request.worker} rejected it: {decision.text}")
