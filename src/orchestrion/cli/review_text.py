"""A review request as a person reads it in a terminal, and as JSON."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import click
import msgspec
from pydantic_core import from_json

from orchestrion.domain import usd
from orchestrion.review.requests import ReviewRequest, Shown, ShownAnswer


def request_lines(request: ReviewRequest) -> Iterator[str]:
    """Everything that is decided on, and nothing else: the digest is of this."""
    yield f"{click.style(f'request {request.id}', bold=True)}  {request.state}  to {request.worker}  run '{request.run_id}'"
    if request.shown is None:
        yield f"What was shown was not kept (record in the settings). Its digest: {request.digest}"
    else:
        yield from _shown_lines(request.shown)
        yield f"digest: {request.digest[:12]}"
    decision = request.decision
    if decision:
        yield f"{click.style(_visible(str(decision)), bold=True)}{f': {_visible(decision.text)}' if decision.text else ''}"
    if request.information:
        yield f"{_visible(request.informant or '')} answered: {_visible(request.information)}"


def _shown_lines(shown: Shown) -> Iterator[str]:
    if shown.instructions:
        yield from _titled(f"step {shown.step}", shown.instructions)
    yield from _titled("task", _readable(shown.task))
    for i, answer in enumerate(shown.answers):
        yield from _answer_lines(answer, proposed=i == shown.proposal)
    if not shown.answers:
        yield "No answer yet: yours is the first."
    elif shown.proposal is None:
        yield "None of these can be approved: they have not the answer's form."
    for note in shown.notes:
        yield from _titled("said before", f"{note.said}\n→ {note.reply}")
    if shown.schema is not None:
        yield from _titled("an answer has this form", _form(shown.schema))
    if shown.deadline:
        past = "approved" if shown.otherwise == "approve" and shown.proposal is not None else "rejected"
        yield f"If nobody decides {until(shown.deadline)}, it is {past}."


def _answer_lines(answer: ShownAnswer, *, proposed: bool) -> Iterator[str]:
    mark = click.style("  ← approve takes this one", fg="green") if proposed else ""
    if answer.output is None:
        yield f"{click.style(answer.worker, bold=True)}: no answer: {_visible(answer.failure or '')}"
        return
    yield from _titled(f"{answer.worker}'s answer{mark}", _readable(_json_or_text(answer.output)))
    for check, passed, reason in answer.verdicts:
        sign = click.style("✓", fg="green") if passed else click.style("✗", fg="red")
        yield f"  {sign} {check}{f': {_visible(reason)}' if reason else ''}"


def _titled(title: str, text: str) -> Iterator[str]:
    yield click.style(title, bold=True)
    yield from (f"  {_visible(line)}" for line in text.split("\n"))


HIDDEN = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u115f\u1160\u180e\u200b\u200e\u200f\u202a-\u202e\u2028\u2029\u2060-\u206f\u3164\ufeff"
    r"\uffa0\ufff9-\ufffb\U000e0000-\U000e0fff]"
)
"""Characters that would change what a terminal shows: escape sequences, turned writing, what has no width (but for the
joiners of Persian, Indic scripts and emoji), and Unicode's tags, in which a whole text can hide."""


def _visible(line: str) -> str:
    """A decision is on what is there: nothing in an answer may hide or repaint another part of it."""
    return HIDDEN.sub(lambda found: f"\\u{ord(found[0]):04x}", line)


def _json_or_text(text: str) -> Any:
    try:
        return from_json(text) if text.lstrip().startswith(("{", "[")) else text
    except ValueError:
        return text


def _readable(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, indent=2, ensure_ascii=False)


def _form(schema: Any) -> str:
    """The fields of an object with their types, or the schema itself."""
    properties = schema.get("properties")
    if not properties:
        return json.dumps(schema, ensure_ascii=False)
    needed = schema.get("required", ())
    fields = [
        f"{name}: {_type(one)}{'' if name in needed else ' (may be left out)'}" for name, one in properties.items()
    ]
    for name, one in schema.get("$defs", {}).items():
        fields += (
            [f"{name}:", *(f"  {line}" for line in _form(one).split("\n"))]
            if "properties" in one
            else [f"{name}: {_type(one)}"]
        )
    return "\n".join(fields)


def _type(schema: Any) -> str:
    if "enum" in schema:
        return " | ".join(map(str, schema["enum"]))
    if "const" in schema:
        return str(schema["const"])
    if "anyOf" in schema:
        return " | ".join(_type(one) for one in schema["anyOf"])
    if schema.get("type") == "array":
        return f"list of {_type(schema.get('items', {}))}"
    return str(schema.get("type") or schema.get("$ref", "any").rpartition("/")[2])


def request_json(request: ReviewRequest, *, full: bool) -> dict[str, Any]:
    """A request as plain JSON values; ``full``: with what is shown."""
    decision = request.decision
    said: dict[str, Any] = {
        "id": request.id,
        "state": "needs_information" if request.state == "asked" else request.state,
        "to": request.worker,
        "run_id": request.run_id,
        "task_id": request.task_id,
        "step": request.key,
        "digest": request.digest,
        "asked": request.asked,
        "deadline": request.deadline,
        "question": request.question,
        "decision": None
        if decision is None
        else {
            "kind": decision.kind,
            "by": decision.by,
            "at": decision.at,
            "minutes": decision.minutes,
            "cost_usd": usd(decision.cost),
            "text": decision.text,
        },
        "information": request.information,
    }
    if full:
        said["shown"] = msgspec.to_builtins(request.shown) if request.shown else None
    return said


def until(deadline: float | None) -> str:
    """A deadline in the reader's time."""
    return f"until {datetime.fromtimestamp(deadline).astimezone():%Y-%m-%d %H:%M %Z}" if deadline else ""


def ago(then: float) -> str:
    """How long ago, in the largest unit that fits."""
    seconds = max(0.0, time.time() - then)
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
