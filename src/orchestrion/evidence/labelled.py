"""Answers that people have labelled: what a judge is tested on, and perhaps what it said of them.

Two layouts, one JSON object a line: outcomes with a ``score`` (docs/reference/outcomes.md), whose ``verdicts`` may hold a
judge's; and pairs, {"task_id", "prompt", "response_a", "response_b", "label": "A>B" | "B>A" | "A=B"}, where ``judge`` and
``decisions`` (asked with A first, then with B first, both in words of A and B) may stand beside.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec

from orchestrion.domain import Money, Outcome, nanos
from orchestrion.errors import RecordsError
from orchestrion.evidence.records import opened

Preference = Literal["A>B", "B>A", "A=B"]
ACCEPTED = 0.5
"""From this score on an answer counts as accepted by people."""


class Scored(msgspec.Struct, frozen=True, kw_only=True):
    """One answer with people's word on it. ``passed`` and ``score`` are the judge's; ``passed`` is None where it gave no
    usable answer. ``cluster`` names what is not independent of it: answers to one question."""

    task_id: str
    cluster: str
    prompt: str | None
    output: str | None
    reference: Any
    accepted: bool
    passed: bool | None = None
    score: float | None = None
    cost: Money | None = None


class Pair(msgspec.Struct, frozen=True, kw_only=True):
    """Two answers to one task with people's preference. ``decisions`` are the judge's, with A shown first and with B
    shown first; None for one without a usable answer."""

    task_id: str
    cluster: str
    prompt: str | None
    a: str
    b: str
    reference: Any
    label: Preference
    decisions: tuple[Preference | None, Preference | None] = (None, None)
    cost: Money | None = None


class Labelled(msgspec.Struct, kw_only=True):
    """What stands in the files: answers or pairs, never both; ``judges`` that were recorded with their rows, and how many
    lines were left out, by reason."""

    scored: list[Scored]
    pairs: list[Pair]
    judges: Counter[str]
    left_out: Counter[str]


class _PairLine(msgspec.Struct):
    task_id: str | int
    response_a: str
    response_b: str
    label: Preference | None = None
    prompt: str | None = None
    reference: Any = None
    judge: str | None = None
    decisions: tuple[Preference | None, Preference | None] | None = None
    cost_usd: float | None = None


_pair = msgspec.json.Decoder(_PairLine)
_outcome = msgspec.json.Decoder(Outcome)


def read_labelled(paths: Iterable[Path], *, judge: str | None = None) -> Labelled:
    """The labelled lines, with what ``judge`` said; without a name, each answer or pair once, and nobody's word.

    Raises RecordsError naming the file and the line.
    """
    found = Labelled(scored=[], pairs=[], judges=Counter(), left_out=Counter())
    seen: set[tuple[object, ...]] = set()
    for path in paths:
        line_no = 0
        with opened(path) as file:
            for line_no, line in enumerate(file, start=1):
                if line.strip():
                    try:
                        _read(line, judge, found, seen)
                    except msgspec.DecodeError as error:  # a ValidationError is one, too
                        said = str(error).replace("`", "'")
                        raise RecordsError(f"{path}:{line_no}: this is no labelled answer or pair: {said}.") from None
                    except ValueError as error:
                        raise RecordsError(f"{path}:{line_no}: {error}.") from None
                if found.scored and found.pairs:
                    raise RecordsError(f"{path}:{line_no}: pairs and single answers are mixed: test them one by one.")
    return found


def _read(line: str, judge: str | None, found: Labelled, seen: set[tuple[object, ...]]) -> None:
    """One line into what was found, or a reason why it is left out."""
    if '"response_a"' in line:
        _read_pair(_pair.decode(line), judge, found, seen)
    else:
        _read_scored(_outcome.decode(line), judge, found, seen)


def _read_pair(row: _PairLine, judge: str | None, found: Labelled, seen: set[tuple[object, ...]]) -> None:
    if row.judge is not None:
        found.judges[row.judge] += 1
    if judge is not None and row.judge != judge:
        return
    key = (row.task_id, row.response_a, row.response_b)
    if row.label is None:
        found.left_out["without a label"] += 1
    elif key in seen:
        found.left_out["the same again"] += judge is not None
    else:
        seen.add(key)
        pair = Pair(
            task_id=str(row.task_id),
            cluster=row.prompt or str(row.task_id),
            prompt=row.prompt,
            a=row.response_a,
            b=row.response_b,
            reference=row.reference,
            label=row.label,
            decisions=row.decisions or (None, None),
            cost=None if row.cost_usd is None else nanos(repr(row.cost_usd)),
        )
        found.pairs.append(pair)


def _read_scored(row: Outcome, judge: str | None, found: Labelled, seen: set[tuple[object, ...]]) -> None:
    found.judges.update(list(row.verdicts or ()))
    if row.score is not None and not 0 <= row.score <= 1:
        raise ValueError(f"score lies between 0 and 1, not {row.score}")
    verdict: Mapping[str, Any] | None = (row.verdicts or {}).get(judge) if judge else None
    if row.step and row.step.endswith("~"):
        return  # what a judge itself was asked
    if row.failure or row.output is None:
        found.left_out["without an answer"] += 1
    elif row.score is None:
        found.left_out["without a label"] += 1
    elif row.label_source == "judge":
        found.left_out["labelled by a judge, not by people"] += 1
    elif judge and verdict is None:
        found.left_out[f"not judged by '{judge}'"] += 1
    elif not judge and (row.task_id, row.prompt, row.output) in seen:
        found.left_out["the same answer again"] += 1
    else:
        seen.add((row.task_id, row.prompt, row.output))
        said = _said(verdict) if verdict is not None else (None, None, None)
        scored = Scored(
            task_id=row.task_id,
            cluster=row.prompt or row.task_id,
            prompt=row.prompt,
            output=row.output,
            reference=row.reference,
            accepted=row.score >= ACCEPTED,
            passed=said[0],
            score=said[1],
            cost=said[2],
        )
        found.scored.append(scored)


def _said(verdict: Mapping[str, Any]) -> tuple[bool | None, float | None, Money]:
    """Passed, score and cost of a recorded verdict. Raises ValueError for one that says neither."""
    passed, score = verdict.get("passed"), verdict.get("score")
    if not isinstance(passed, bool):
        raise ValueError(f'a verdict is {{"passed": true or false, "score": 0 to 1}}, not {dict(verdict)}')
    if score is not None and (not isinstance(score, int | float) or not 0 <= score <= 1):
        raise ValueError(f"a verdict's score lies between 0 and 1, not {score!r}")
    cost = nanos(repr(verdict.get("cost_usd") or 0))
    return (None, None, cost) if verdict.get("broken") else (passed, float(passed if score is None else score), cost)
