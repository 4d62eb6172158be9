"""What is known to be true: scores of attempts and right answers to questions, and which of them counts."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any, Literal, NamedTuple, TypeAlias, cast

from pydantic_core import from_json, to_json

from orchestrion.evidence.content import digested, is_digest
from orchestrion.store.database import Database
from orchestrion.store.queries import queries

Source: TypeAlias = Literal["person", "reference", "judge"]

WRITES = ("label", "keep_run", "keep_result", "keep_ask", "keep_attempt", "keep_review", "keep_signal", "keep_label")


def statements() -> dict[str, str]:
    """What the writer runs for the evidence."""
    sql = queries("evidence")
    return {name: sql[name] for name in WRITES}


class Question(NamedTuple):
    """What an attempt answers: a step of a workflow, given this input (its digest). A reference belongs to one."""

    workload: str
    step: str
    digest: str


class Label(NamedTuple):
    """One thing that was said: a score of an attempt (``hold``), or a question's right answer."""

    question: Question
    hold: int | None = None
    score: float | None = None
    reference: str | None = None
    comment: str | None = None
    settled: bool = False
    source: Source = "person"
    who: str = ""
    chance: float | None = None
    at: float = 0.0
    no: int = 0


class Judged(NamedTuple):
    """What the labels say of an attempt: its score, who says so, the right answer, and the chance of being labelled."""

    score: float | None = None
    source: Source | None = None
    reference: str | None = None
    chance: float | None = None


class Labels:
    """All labels, the last about each thing counting."""

    def __init__(self, labels: Iterable[Label]) -> None:
        self.all = list(labels)
        self.scores: dict[int, Label] = {}
        self.references: dict[Question, Label] = {}
        self.settled: dict[int, Label] = {}
        for label in self.all:
            if label.hold is None:
                self.references[label.question] = label
            else:
                (self.settled if label.settled else self.scores)[label.hold] = label

    @classmethod
    def read(cls, database: Database, *, no: int | None = None) -> Labels:
        """Those of a database, or those about what one run asked, by its number."""
        sql = queries("evidence")
        rows = database.read(sql["labels"]) if no is None else database.read(sql["labels_of_run"], (no,))
        names = ("hold", "score", "reference", "comment", "settled", "source", "who", "chance", "at")
        return cls(Label(Question(*row[1:4]), no=row[0], **dict(zip(names, row[4:], strict=True))) for row in rows)

    def judge(self, question: Question, hold: int, answer: str | None, own: Any = None) -> Judged:
        """What is known of an attempt.

        A person's score counts before a person's reference, and that before the task's ``own``; what was settled before
        the answer was forgotten comes last.
        """
        given, said = self.references.get(question), self.scores.get(hold)
        reference = given.reference if given else None
        chance = next((label.chance for label in (said, given) if label and label.chance is not None), None)
        if said and said.score is not None:
            return Judged(said.score, said.source, reference, chance)
        if given and reference is not None and answer is not None:
            return Judged(float(same(answer, reference)), given.source, reference, chance)
        if own is not None and answer is not None:
            return Judged(float(same(answer, own)), "reference", reference, chance)
        known = self.settled.get(hold)
        return Judged(known.score, known.source, reference, known.chance) if known else Judged(None, None, reference)


def row_of(label: Label) -> tuple[Any, ...]:
    """A label as the writer takes it."""
    return (
        *label.question,
        label.hold,
        label.score,
        label.reference,
        label.comment,
        int(label.settled),
        label.source,
        label.who,
        label.chance,
        label.at or time.time(),
    )


def same(answer: str, truth: Any) -> bool:
    """Whether an answer is the right one: the same text without surrounding blanks, or the same JSON value.

    A digest in an answer's place is compared with the digest of the text.
    """
    text = truth.strip() if isinstance(truth, str) else to_json(truth).decode()
    if is_digest(answer) or is_digest(text):
        return digested(answer) == digested(text)
    return answer.strip() == text or _same_value(_value(answer), _value(text))


_NO_VALUE = object()


def _value(text: str) -> object:
    """A JSON value that is more than a text; a spreadsheet writes true as TRUE."""
    try:
        value = from_json(text.lower() if text.strip().lower() in ("true", "false") else text)
    except ValueError:
        return _NO_VALUE
    return _NO_VALUE if isinstance(value, str) else cast(object, value)


def _same_value(one: object, other: object) -> bool:
    return one is not _NO_VALUE and isinstance(one, bool) == isinstance(other, bool) and one == other
