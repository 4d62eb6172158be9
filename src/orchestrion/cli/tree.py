"""A run as a tree, for a terminal and as JSON."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import groupby
from typing import Any

import click
from pydantic_core import from_json

from orchestrion.cli.review_text import request_json
from orchestrion.domain import Money, dollars, usd
from orchestrion.evidence.recorded import Asked
from orchestrion.journal.protocol import FUNDS, RunRecord
from orchestrion.review.requests import ReviewRequest

WIDTH = 100


def tree_lines(
    record: RunRecord, asked: list[Asked], *, full: bool, shown: Callable[[Money], str] = dollars
) -> Iterator[str]:
    """The run, its steps, and the attempts of each."""
    status = "interrupted" if record.status == "running" and not record.owned else record.status
    wants = f", waits for {_wanted(record.wants)}" if record.wants else ""
    yield f"{click.style(record.id, bold=True)}  {status}{wants}  {shown(record.cost)}  {record.workflow}"
    if record.input is not None:
        yield f"input: {_cut(record.input, full)}"
    for (scope, step, n), calls in _steps(asked):
        took = sum(one.attempt.latency_s for one in calls if one.attempt)
        cost = sum(one.posted[1] for one in calls if one.posted)
        by, check, _ = scope.partition("~")
        title = f"{by}~ a check asks {step}" if check else f"{scope}{step}{f' #{n}' if n else ''}"
        yield f"├─ {click.style(title, bold=True)}  {shown(cost)}  {took:.2f} s"
        for one in calls:
            for i, line in enumerate(_call_lines(one, full=full, shown=shown)):
                yield f"│  {'├─' if i == 0 else '│    '} {line}"
    if record.error:
        yield click.style(f"└─ {record.error}", fg="red")
    elif record.result is not None:
        yield f"└─ {click.style('result', bold=True)}: {_cut(record.result, full)}"
    else:
        yield f"└─ {status}"


def _wanted(wants: str) -> str:
    return f"money on account '{wants.removeprefix(FUNDS)}'" if wants.startswith(FUNDS) else wants


def _call_lines(one: Asked, *, full: bool, shown: Callable[[Money], str]) -> Iterator[str]:
    who = (
        one.call.worker
        + (f" (sample {one.call.sample})" if one.call.sample else "")
        + (" corrected" if one.call.added else "")
    )
    attempt = one.attempt
    if one.review:
        yield from _review_lines(one, one.review, full=full, shown=shown)
        return
    if attempt is None:
        if one.posted and one.posted[0] == "void":
            yield click.style(f"{who}  not sent: it waited when its run was stopped", fg="yellow")
            return
        booked = f"booked in full, {shown(one.posted[1])}, and asked again" if one.posted else "still held"
        yield click.style(f"{who}  in flight when its process died: {booked}", fg="yellow")
        return
    tokens = (
        f"{attempt.usage.input_tokens}+{attempt.usage.output_tokens} tokens"
        if attempt.usage.input_tokens or attempt.usage.output_tokens
        else ""
    )
    facts = "  ".join(part for part in (shown(attempt.cost), tokens, f"{attempt.latency_s:.2f} s") if part)
    yield f"{who}  {facts}{_mark(one)}"
    if attempt.failure:
        yield click.style(f"✗ {attempt.failure.kind}: {attempt.failure.message}", fg="red")
    for verdict in attempt.verdicts:
        mark = click.style("✓", fg="green") if verdict.passed else click.style("✗", fg="red")
        yield f"{mark} {verdict.check}{f': {verdict.reason}' if verdict.reason else ''}"
    if attempt.output is not None:
        yield f"→ {_cut(attempt.output, full)}"


def _review_lines(one: Asked, review: ReviewRequest, *, full: bool, shown: Callable[[Money], str]) -> Iterator[str]:
    """A question to a person: what they decided, or that they have not yet."""
    decision = review.decision
    if decision is None:
        yield click.style(f"{review.worker}  request {review.id}: {review.state}", fg="yellow")
        return
    yield f"{review.worker}  {decision.by}: {decision.kind}  {shown(decision.cost)}  {decision.minutes:g} min{_mark(one)}"
    if decision.text:
        yield f"→ {_cut(decision.text, full)}"
    if review.information:
        yield f"  {review.informant} answered: {_cut(review.information, full)}"


def _mark(one: Asked) -> str:
    if not one.accepted:
        return ""
    return click.style("  ✓ accepted", fg="green") + (" (money was short)" if one.accepted == 2 else "")


def tree_json(record: RunRecord, asked: list[Asked]) -> dict[str, Any]:
    """The same as plain JSON values."""
    steps = []
    for (scope, step, n), calls in _steps(asked):
        attempts = []
        for one in calls:
            attempt = one.attempt
            entry: dict[str, Any] = {
                "worker": one.call.worker,
                "sample": one.call.sample,
                "context": one.call.context,
                "lost": attempt is None and one.review is None,
                "accepted": bool(one.accepted),
                "constrained": one.accepted == 2,
                "review": request_json(one.review, full=False) if one.review else None,
                "booked": one.posted[0] if one.posted else None,
                "cost_usd": usd(one.posted[1]) if one.posted else None,
            }
            if attempt:
                entry |= {
                    "output": attempt.output,
                    "failure": {"kind": attempt.failure.kind, "message": attempt.failure.message}
                    if attempt.failure
                    else None,
                    "verdicts": [
                        {"check": v.check, "passed": v.passed, "score": v.score, "reason": v.reason}
                        for v in attempt.verdicts
                    ],
                    "input_tokens": attempt.usage.input_tokens,
                    "output_tokens": attempt.usage.output_tokens,
                    "latency_s": attempt.latency_s,
                }
            attempts.append(entry)
        steps.append({"step": step, "scope": scope, "n": n, "attempts": attempts})
    return {
        "id": record.id,
        "task_id": record.task_id,
        "workflow": record.workflow,
        "batch": record.batch,
        "status": "interrupted" if record.status == "running" and not record.owned else record.status,
        "account": record.account,
        "wants": record.wants,
        "cost_usd": usd(record.cost),
        "input": from_json(record.input) if record.input else None,
        "result": from_json(record.result) if record.result else None,
        "error": record.error,
        "steps": steps,
    }


def _steps(asked: list[Asked]) -> Iterator[tuple[tuple[str, str, int], list[Asked]]]:
    """Calls by the step that made them, steps in the order of their first call."""
    first: dict[tuple[str, str, int], int] = {}
    for i, one in enumerate(asked):
        first.setdefault((one.scope, one.step, one.n), i)
    ordered = sorted(asked, key=lambda one: first[one.scope, one.step, one.n])
    for key, calls in groupby(ordered, key=lambda one: (one.scope, one.step, one.n)):
        yield key, list(calls)


def _cut(text: str, full: bool) -> str:  # private, and named at its calls
    flat = text if full else " ".join(text.split())
    return flat if full or len(flat) <= WIDTH else f"{flat[: WIDTH - 1]}…"
