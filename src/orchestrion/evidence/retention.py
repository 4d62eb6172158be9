"""What becomes of the texts of ended runs: put under the content policy, in the database itself."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any, TypeAlias

from msgspec.structs import replace
from pydantic_core import from_json, to_json

from orchestrion.domain import Call, Failure
from orchestrion.evidence.content import GONE, Content, digested
from orchestrion.evidence.labels import Label, Labels, row_of
from orchestrion.evidence.recorded import recorded
from orchestrion.evidence.redaction import RedactionFailed
from orchestrion.journal.codec import decode_attempt, decode_calls, encode_body, encode_calls, pack, unpack
from orchestrion.store.database import Database
from orchestrion.store.queries import queries

DAY_S = 86_400
Row: TypeAlias = tuple[str, tuple[Any, ...]]
"""A statement of the writer, and what it is given."""

AT_ONCE = 500
"""Runs whose changes gather before they are committed."""


class Retention:
    """Puts ended runs under the policy. Scores, tokens, costs, times and ids always stay; so does an open run.

    A run's result is its user's until it is handed over: ``Orchestrion.run`` returns it, and for a batch
    ``orchestrion run`` writes its results file and then calls ``delivered``.
    """

    def __init__(self, database: Database, content: Content, *, keep_days: int | None = None) -> None:
        self._database = database
        self._writer = database.writer
        self._sql = queries("evidence")
        self._content = content
        self._keep_days = keep_days
        self.forgot = False

    async def ended(self, no: int) -> None:
        """A run has just ended."""
        if self._content.key is not None:
            self._put(no, self._content)
            await self._writer.durable()

    async def delivered(self, batch: str) -> None:
        """The results of a batch are in its results file."""
        if self._content.key is None:
            return
        for no, stored in self._read("undelivered", batch):
            self._writer.put("keep_result", (pack(self._unchanged(unpack(stored), self._content)), no))
            self.forgot = True
        await self._writer.durable()

    async def label(self, labels: Iterable[Label]) -> None:
        """Add what people said, in one commit."""
        for label in labels:
            self._writer.put("label", row_of(label))
        await self._writer.durable()

    async def sweep(self) -> int:
        """Put under today's policy whatever ended under another one, or nobody got to. How many runs."""
        if self._content.key is None and self._keep_days is None:
            return 0
        due = {}
        if self._content.key is not None:
            due = {no: self._content for (no,) in self._read("ended_otherwise", self._content.key)}
        if self._keep_days is not None:
            due |= {no: GONE for (no,) in self._read("ended_before", time.time() - self._keep_days * DAY_S)}
        for i, (no, content) in enumerate(due.items(), start=1):
            self._put(no, content, delivered=content is GONE)
            if i % AT_ONCE == 0:
                await self._writer.durable()
        await self._writer.durable()  # scores are settled by the labels as they were
        self._put_labels()
        await self._writer.durable()
        return len(due)

    def _read(self, name: str, value: Any) -> list[tuple[Any, ...]]:
        return self._database.read(self._sql[name], (value,))

    def _put(self, no: int, content: Content, *, delivered: bool = False) -> None:
        """Put one run under a policy: all of it, or nothing where a rule raises."""
        try:
            rows = [
                *self._run(no, content, delivered=delivered),
                *self._asks(no, content),
                *self._attempts(no, content),
                *self._reviews(no, content),
            ]
        except RedactionFailed as failed:
            self._content.complain(failed)
            return
        for label in self._settled(no):
            self._writer.put("label", row_of(label))
        for statement, row in rows:
            self._writer.put(statement, row)
        self.forgot = True

    def _run(self, no: int, content: Content, *, delivered: bool) -> list[Row]:
        [(batch, stored, reference, error, result)] = self._read("texts_of_run", no)
        given, returned = self._unchanged(unpack(stored), content), unpack(result)
        if delivered or batch is None:
            returned = self._unchanged(returned, content)
        truth = _digested(reference) if content.record == "digest" else self._unchanged(reference, content)
        said = content.keep(error) if content.record == "full" else _head(error)
        rows: list[Row] = [("keep_run", (pack(given), truth, said, pack(returned), content.key, no))]
        for name, value in self._database.read(queries("journal")["signals"], (no,)):
            text = unpack(value)
            if content.keep_json(text) != text:
                rows.append(("keep_signal", (no, name)))
        return rows

    @staticmethod
    def _unchanged(text: str | None, content: Content) -> str | None:
        """A run's own input or result is kept as it is or not at all: changed, it must not pass for what it was."""
        return text if content.keep_json(text) == text else None

    def _asks(self, no: int, content: Content) -> list[Row]:
        rows: list[Row] = []
        for rowid, stored, calls in self._read("asks_of_run", no):
            text = unpack(stored)
            kept = content.keep_json(text) if content.record == "full" else None
            decoded = decode_calls(calls)
            bare = [(hold, _bare(call, content)) for hold, call in decoded]
            if kept != text or bare != decoded:
                rows.append(("keep_ask", (pack(kept), encode_calls(bare), rowid)))
        return rows

    def _attempts(self, no: int, content: Content) -> list[Row]:
        rows: list[Row] = []
        words = content.keep if content.record == "full" else _nothing
        for hold, _, cost, _, output, body in self._database.read(queries("journal")["attempts"], (no,)):
            attempt, checked = decode_attempt(Call(""), hold, cost, output, body)
            failure = attempt.failure
            bare = replace(
                attempt,
                output=content.keep(attempt.output),
                answer=content.keep(attempt.answer),
                failure=failure and Failure(failure.kind, words(failure.message) or ""),
                verdicts=tuple(replace(v, reason=words(v.reason)) for v in attempt.verdicts),
            )
            if _texts(bare) != _texts(attempt):
                rows.append(
                    ("keep_attempt", (pack(bare.output), encode_body(bare, checked=checked, changed=True), hold))
                )
        return rows

    def _reviews(self, no: int, content: Content) -> list[Row]:
        """What people were shown stays as it is or not at all, for its digest names it; what they wrote is a text like any other.

        Where that changes, what they were shown goes, too: it tells the engine that the decision is whole.
        """
        words = content.keep if content.record == "full" else _nothing
        rows: list[Row] = []
        for hold, *stored in self._read("reviews_of_run", no):
            shown, said, information = map(unpack, stored)
            written = (words(said), words(information))
            whole = content.record == "full" and written == (said, information)
            kept = (self._unchanged(shown, content) if whole else None, *written)
            if kept != (shown, said, information):
                rows.append(("keep_review", (*map(pack, kept), hold)))
        return rows

    def _settled(self, no: int) -> list[Label]:
        """Scores that a reference tells while the answer is there."""
        labels = Labels.read(self._database, no=no)
        given = {hold for hold, label in labels.scores.items() if label.score is not None}
        return [
            Label(
                one.question,
                one.asked.hold,
                one.outcome.score,
                settled=True,
                source=one.outcome.label_source or "reference",
                who="",
                chance=one.outcome.label_probability,
            )
            for one in recorded(self._database, no=no)
            if one.outcome.score is not None and one.asked.hold not in given and one.asked.hold not in labels.settled
        ]

    def _put_labels(self) -> None:
        """People's references and comments are texts, too. One past its days is left as a digest: it still tells who is right."""
        before = 0.0 if self._keep_days is None else time.time() - self._keep_days * DAY_S
        for label in Labels.read(self._database).all:
            if label.reference is None and label.comment is None:
                continue
            old = Content("digest") if label.at < before and self._content.record == "full" else self._content
            reference, comment = keep_label(old, label.reference, label.comment)
            if (reference, comment) != (label.reference, label.comment):
                self._writer.put("keep_label", (reference, comment, label.no))
                self.forgot = True


def keep_label(content: Content, reference: str | None, comment: str | None) -> tuple[str | None, str | None]:
    """What may stay of a person's reference and comment.

    A reference that redaction changes stays as a digest: compared with redacted answers, two different ones would be equal.
    """
    left = content.leaves(reference)
    if content.record == "full" and reference is not None and left != reference:
        left = digested(reference)
    return left, content.leaves(comment) if content.record == "full" else None


def _bare(call: Call, content: Content) -> Call:
    """A call, its messages as a digest where a text in them changes."""
    if not call.added or (content.record == "full" and content.keep(text := str(call.added)) == text):
        return call
    return call.forgotten()


def _texts(attempt: Any) -> tuple[Any, ...]:
    return attempt.output, attempt.answer, attempt.failure, attempt.verdicts


def _nothing(text: str | None) -> None:
    return None


def _digested(reference: str | None) -> str | None:
    """The JSON of a right answer, as the JSON of its digest: it still tells which answers are the same."""
    if reference is None:
        return None
    value = from_json(reference)
    return to_json(digested(value if isinstance(value, str) else reference)).decode()


def _head(error: str | None) -> str | None:
    """Which step, workflow or run it was: what comes after it may quote a text."""
    if error is None:
        return None
    head = error.partition(": ")[0]
    named = head.startswith(("step '", "workflow '", "run '"))
    return f"{head} (the rest was not kept: record in the settings)" if named else "(not kept: record in the settings)"
