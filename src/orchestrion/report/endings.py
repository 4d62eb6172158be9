"""How runs ended: answered, or who has to look at them."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from pydantic_core import from_json

from orchestrion.journal.codec import unpack
from orchestrion.journal.protocol import FUNDS
from orchestrion.report.facts import Case, Ended, Waiting

SAID = {"needs_information": "informed", "needs_person": "personal"}
"""A workflow whose result is an object with one of these as its ``status`` says that the task is not answered."""

WHY = ("reasons", "missing", "reason", "question", "problem", "message")
"""Fields of such a result that say why; the first that is there is shown."""


class RunRow(NamedTuple):
    """A run as report.sql reads it."""

    no: int
    id: str
    workflow: str
    task: str
    status: str
    wants: str | None
    error: str | None
    result: str | bytes | None
    created: float
    updated: float


def endings(
    runs: Iterable[RunRow], replied: set[tuple[str, str]], reviews: Iterable[Waiting]
) -> tuple[Ended, tuple[Case, ...], tuple[Waiting, ...]]:
    """How many runs ended how, those that a person is to look at, and those that wait.

    ``replied`` holds the (run, step) pairs in which a worker replied: it tells a task that could not be answered from one
    that nobody got round to answering.
    """
    count: Counter[str] = Counter()
    cases: list[Case] = []
    waiting = list(reviews)
    reviewed = {one.run for one in waiting}
    for run in runs:
        how, why = _ending(run, replied)
        count[how] += 1
        if how in ("flagged", "broke", "informed", "personal"):
            cases.append(Case(ended=how, run=run.id, task=run.task, reason=why))  # type: ignore[arg-type]  # one of the four
        if how == "waiting" and run.id not in reviewed:
            waiting.append(_waiting(run))
    return Ended(**count), tuple(cases), tuple(waiting)


def _ending(run: RunRow, replied: set[tuple[str, str]]) -> tuple[str, str]:
    """How a run ended, and why where it did not answer."""
    match run.status:
        case "done":
            return _of_result(run.result)
        case "failed":
            error = run.error or "it says no reason"
            step = error.removeprefix("step '").partition("'")[0] if error.startswith("step '") else None
            return ("flagged" if step and (run.id, step) in replied else "broke"), error
        case "waiting" | "cancelled":
            return run.status, ""
        case _:
            return "unfinished", ""


def is_answer(stored: str | bytes | None) -> bool:
    """Whether a finished run's result is an answer: it does not say that information, or a person, is needed."""
    return _of_result(stored)[0] == "answered"


def _of_result(stored: str | bytes | None) -> tuple[str, str]:
    text = unpack(stored)
    if text is None or not any(word in text for word in SAID):
        return "answered", ""
    result = from_json(text)
    said = SAID.get(str(result.get("status"))) if isinstance(result, dict) else None
    return (said, _reason(result)) if said else ("answered", "")


def _reason(result: Mapping[str, Any]) -> str:
    return next((text for name in WHY if (text := "; ".join(_texts(result.get(name))))), "it says no reason")


def _texts(value: Any) -> Iterator[str]:
    for one in value if isinstance(value, list) else [value]:
        if one:
            yield str(one)


def _waiting(run: RunRow) -> Waiting:
    wants = run.wants or ""
    if wants.startswith(FUNDS):
        account, why = wants.removeprefix(FUNDS), run.error or ""
        command = why.partition("`")[2].partition("`")[0] or f"orchestrion budget show {account}"
        return Waiting(kind="money", run=run.id, task=run.task, wants=account, since=run.updated, command=command)
    return Waiting(
        kind="signal",
        run=run.id,
        task=run.task,
        wants=wants,
        since=run.updated,
        command=f"orchestrion runs signal {shlex.quote(run.id)} {shlex.quote(wants)} VALUE",
    )
