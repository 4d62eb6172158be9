"""Labelling in a spreadsheet: which attempts to show, and what came back."""

from __future__ import annotations

import heapq
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple

from msgspec.structs import replace
from pydantic_core import to_json

from orchestrion.domain import Outcome, digest
from orchestrion.evidence.content import Content, is_digest
from orchestrion.evidence.labels import Label, Labels, Question, same
from orchestrion.evidence.recorded import recorded
from orchestrion.evidence.retention import keep_label
from orchestrion.evidence.spreadsheet import BEYOND, Table, uncell
from orchestrion.store.database import Database

COLUMNS = ("id", "task", "step", "worker", "input", "output", "score", "reference", "comment", "sampled")
WITHDRAWN = "-"
TRUE = {"true", "wahr", "vrai", "verdadero", "vero", "waar", "yes", "ja", "oui"}
FALSE = {"false", "falsch", "faux", "falso", "onwaar", "no", "nein", "non"}


class Item(NamedTuple):
    """An attempt that can be labelled: a stable id, the question that it answers, its place, and what may be shown of it."""

    id: str
    question: Question
    hold: int
    outcome: Outcome


def id_of(outcome: Outcome) -> str:
    """Finds an attempt again, in the database or the file where it came from and nowhere else. No spreadsheet changes it."""
    what = (outcome.workload, outcome.step, outcome.run_id, outcome.task_id, outcome.worker)
    which = (outcome.sample, outcome.attempt, outcome.context)
    return "a" + digest(to_json([*what, *which]))[:15]


def items_of(database: Database, content: Content, *, batch: str | None = None) -> Iterator[Item]:
    """The answers of a database whose text may be shown; not what checks asked."""
    for one in recorded(database, batch=batch, content=content):
        outcome = one.leaving(content)
        if "~" not in one.asked.scope and _shown(outcome):
            yield Item(id_of(outcome), one.question, one.asked.hold, outcome)


def items_in(outcomes: Iterable[Outcome]) -> Iterator[Item]:
    """The same of a records file: an attempt's place is its line's."""
    for i, outcome in enumerate(outcomes):
        if _shown(outcome):
            yield Item(id_of(outcome), question_of(outcome), i, outcome)


def question_of(outcome: Outcome) -> Question:
    """What an outcome of a records file answers: its task stands for the input."""
    return Question(outcome.workload or "", outcome.step or "", outcome.task_id)


def _shown(outcome: Outcome) -> bool:
    return not outcome.failure and outcome.output is not None and not is_digest(outcome.output)


class Drawn(NamedTuple):
    """Items drawn to be labelled, and of how many questions theirs were chosen."""

    items: list[Item]
    chosen: int
    questions: int


def draw(items: Callable[[], Iterable[Item]], *, sample: int, seed: int, step: str | None = None) -> Drawn:
    """Every answer to so many questions, each question as likely as any other. Those of a smaller sample are among them.

    Chance is a hash of seed and question: the same seed draws the same questions, whatever else has come since.
    """

    def place(question: Question) -> str:
        return digest(to_json([seed, *question]))

    questions = {item.question for item in items() if not step or item.question.step == step}
    chosen = set(heapq.nsmallest(sample, questions, key=place))
    found = [item for item in items() if item.question in chosen]
    # Within a question by id: who stands first says nothing about who was asked first.
    found.sort(key=lambda item: (place(item.question), item.id))
    return Drawn(found, len(chosen), len(questions))


def of_tasks(items: Iterable[Item], chances: Mapping[tuple[str | None, str], float], *, step: str | None) -> list[Item]:
    """Every answer to some tasks, by (workload, task id), in the order in which the tasks are named."""
    place = {key: i for i, key in enumerate(chances)}

    def key(item: Item) -> tuple[str | None, str]:
        return item.outcome.workload, item.outcome.task_id

    found = [item for item in items if key(item) in place and (not step or item.question.step == step)]
    return sorted(found, key=lambda item: (place[key(item)], item.id))  # by id, as above


def sheet(
    items: Iterable[Item], labels: Labels, *, sampled: Callable[[Item], str], blind: bool = False
) -> tuple[list[str], Iterator[list[str]]]:
    """Column names, and a row for each item. ``sampled`` says by what chance an item is here: "5 of 20", or 0.25.

    ``blind`` leaves out who answered.
    """
    columns = [name for name in COLUMNS if not (blind and name == "worker")]

    def rows() -> Iterator[list[str]]:
        for item in items:
            o, said = item.outcome, labels.scores.get(item.hold)
            row = {
                "id": item.id,
                "task": o.task_id,
                "step": o.step or "",
                "worker": o.worker,
                "input": o.prompt or "",
                "output": o.output or "",
                "score": "" if said is None or said.score is None else f"{said.score:g}",
                "reference": _text(o.reference),
                "comment": (said.comment if said else None) or "",
                "sampled": sampled(item),
            }
            yield [row[name] for name in columns]

    return columns, rows()


class Bad(NamedTuple):
    """A cell that cannot be used: where it stands, and what is allowed there."""

    row: int
    column: str
    value: str
    allowed: str

    def __str__(self) -> str:
        value = self.value if len(self.value) <= 60 else f"{self.value[:60]}…"
        return f"row {self.row}, column {self.column}: {value!r}: {self.allowed}."


class Read(NamedTuple):
    """What a sheet says: labels that are new or changed, rows as before, rows without a label, and cells that are bad.

    ``apart`` counts answers that a new reference cannot score, because their texts are not there to compare.
    """

    labels: list[Label]
    unchanged: int
    unlabelled: int
    bad: list[Bad]
    apart: int


def read_sheet(table: Table, items: Iterable[Item], labels: Labels, *, who: str, content: Content) -> Read:
    """What is to be said after this sheet. Cells as they were, or empty, say nothing new; "-" takes a label back."""
    known = {item.id: item for item in items}
    bad: list[Bad] = []
    rows = _rows(table, known, bad)
    references = _references(rows, labels, bad, content=content)
    found: list[Label] = []
    unchanged = unlabelled = apart = 0
    for row in rows:
        before = labels.scores.get(row.item.hold) or Label(row.item.question)
        score = before.score if row.score is None else None if row.score < 0 else row.score
        comment = keep_label(content, None, row.comment or before.comment)[1]
        if (score, comment) != (before.score, before.comment):
            found.append(Label(row.item.question, row.item.hold, score, comment=comment, who=who, chance=row.chance))
        elif row.item.question in references:
            pass
        elif row.score is None and not row.reference:
            unlabelled += 1
        else:
            unchanged += 1
    for question, (reference, chance) in references.items():
        found.append(Label(question, reference=keep_label(content, reference, None)[0], who=who, chance=chance))
        if reference is not None:
            apart += sum(item.question == question and _answer(item.outcome) is None for item in known.values())
    return Read(found, unchanged, unlabelled, bad, apart)


class _Row(NamedTuple):
    no: int
    item: Item
    score: float | None  # -1: taken back
    reference: str
    comment: str
    chance: float | None


def _rows(table: Table, known: dict[str, Item], bad: list[Bad]) -> list[_Row]:
    rows: dict[str, _Row] = {}
    for no, cells in table.rows:
        if BEYOND in cells:
            slipped = "this row has more cells than there are columns: has a comma in it made two cells of one?"
            bad.append(Bad(no, BEYOND, cells[BEYOND], slipped))
            continue
        name = cells.get("id", "").strip()
        item = known.get(name)
        if item is None:
            bad.append(
                Bad(no, "id", name, "no answer has this id here: it is that of `outcomes label --out`, unchanged")
            )
            continue
        try:
            score = _score(cells.get("score", ""))
        except ValueError:
            allowed = "a number from 0 (wrong) to 1 (right), TRUE, FALSE, or - to take it back"
            bad.append(Bad(no, "score", cells["score"], allowed))
            continue
        row = _Row(
            no,
            item,
            score,
            uncell(cells.get("reference", "").strip()),
            uncell(cells.get("comment", "").strip()),
            _chance(cells.get("sampled", "")),
        )
        first = rows.setdefault(name, row)
        if first[2:5] != row[2:5]:
            bad.append(Bad(no, "id", name, f"row {first.no} is about the same answer and says something else"))
    return list(rows.values())


def _references(
    rows: list[_Row], labels: Labels, bad: list[Bad], *, content: Content
) -> dict[Question, tuple[str | None, float | None]]:
    """New right answers by question (None: taken back). All rows of a question may repeat it; two new ones are bad."""
    found: dict[Question, tuple[str | None, float | None]] = {}
    said: dict[Question, _Row] = {}
    for row in rows:
        question = row.item.question
        given = labels.references.get(question)
        before = _text(row.item.outcome.reference)
        if row.reference in ("", before) or (given and row.reference == WITHDRAWN and given.reference is None):
            continue
        if content.record == "none":
            allowed = "record: none keeps no answers that could be compared with it: give scores"
            bad.append(Bad(row.no, "reference", row.reference, allowed))
            continue
        first = said.setdefault(question, row)
        if first.reference != row.reference:
            allowed = f"row {first.no} has another right answer for the same task and step ({first.reference[:60]!r})"
            bad.append(Bad(row.no, "reference", row.reference, allowed))
            continue
        found[question] = (None if row.reference == WITHDRAWN else row.reference, row.chance)
    return found


def _score(text: str) -> float | None:
    """A score as people and spreadsheets write it; None where there is none, -1 where it is taken back. Raises ValueError."""
    text = text.strip().lower().lstrip("'").replace("\u00a0", "").replace(" ", "")
    if not text:
        return None
    if text == WITHDRAWN:
        return -1.0
    if text in TRUE or text in FALSE:
        return float(text in TRUE)
    if not re.fullmatch(r"\+?(\d+([.,]\d*)?|[.,]\d+)%?", text):
        raise ValueError(text)
    score = float(text.rstrip("%").replace(",", ".")) / (100 if text.endswith("%") else 1)
    if not 0 <= score <= 1:
        raise ValueError(text)
    return score


def _chance(text: str) -> float | None:
    """Chosen of how many, or a decimal, as a probability."""
    match = re.fullmatch(r"\s*(\d+) of (\d+)\s*", text)
    if match:
        return int(match[1]) / int(match[2]) if int(match[2]) >= int(match[1]) > 0 else None
    match = re.fullmatch(r"\s*'?([01]|[01]?[.,]\d+)\s*", text)  # a spreadsheet may write 0,25 for it
    chance = float(match[1].replace(",", ".")) if match else 0.0
    return chance if 0 < chance <= 1 else None


def _text(reference: object) -> str:
    if reference is None:
        return ""
    return reference if isinstance(reference, str) else to_json(reference).decode()


def _answer(outcome: Outcome) -> str | None:
    """The canonical answer; of records without one, all that was said."""
    return outcome.answer if outcome.answer is not None else outcome.output


def labels_in(outcomes: Iterable[Outcome]) -> Labels:
    """What people have said of the outcomes of a records file, by their places. A score that the reference tells is not said."""
    found = []
    for i, outcome in enumerate(outcomes):
        answer, truth = _answer(outcome), outcome.reference
        told = truth is not None and answer is not None and float(same(answer, truth)) == outcome.score
        if outcome.label_source == "person" and outcome.score is not None and not told:
            found.append(Label(question_of(outcome), i, outcome.score, chance=outcome.label_probability))
    return Labels(found)


def labelled(outcomes: Iterable[Outcome], labels: Labels) -> Iterator[Outcome]:
    """The outcomes of a records file with what was said of them, by their places."""
    for i, outcome in enumerate(outcomes):
        question, answer = question_of(outcome), None if outcome.failure else _answer(outcome)
        given = labels.references.get(question)
        judged = labels.judge(question, i, answer)
        if given is None and i not in labels.scores:
            yield outcome
        else:
            yield replace(
                outcome,
                reference=given.reference if given else outcome.reference,
                score=judged.score,
                label_source=judged.source,
                label_probability=judged.chance,
            )
