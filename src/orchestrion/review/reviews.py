"""Review requests in the database: put by runs, listed for people, decided once."""

from __future__ import annotations

import contextlib
import math
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import msgspec
from pydantic_core import to_json

from orchestrion.domain import Money, storable
from orchestrion.errors import ReviewError
from orchestrion.journal.codec import pack, unpack
from orchestrion.ledger.accounts import Amounts
from orchestrion.ledger.books import Books
from orchestrion.ledger.protocol import Ledger, Posting
from orchestrion.review.requests import (
    DEADLINE,
    PAST,
    Decision,
    DecisionKind,
    ReviewRequest,
    Shown,
    hold_of,
    wages,
)
from orchestrion.store.database import Database
from orchestrion.store.queries import queries
from orchestrion.store.session import Session

LONGEST_MINUTES = 60 * 24 * 7


def statements() -> dict[str, str]:
    """What the writer runs for reviews."""
    sql = queries("review")
    return {name: sql[name] for name in ("review", "review_taken", "review_of_ended")}


class Reviews:
    """The review requests of one database."""

    def __init__(self, database: Database, ledger: Ledger | None = None) -> None:
        """Without a ledger they can only be read."""
        self._database = database
        self._ledger = ledger
        self._books = Books()
        self._put = database.writer.put
        self._sql = queries("review")

    def ask(self, hold: int, *, run: int, key: str, worker: str, wage: Money, minutes: float, shown: Shown) -> None:
        """Put a question, in the commit that holds its money."""
        text = shown.text
        row = (hold, run, key, worker, wage, shown.digest, pack(text), time.time(), shown.deadline, minutes)
        self._put("review", row)

    def take(self, hold: int) -> None:
        """Note that the run has gone on with a decision, or asks again."""
        self._put("review_taken", (hold,))

    def withdraw(self, run: int) -> None:
        """Nobody needs to decide for a run that has ended; what was held for it is let go."""
        self._put("review_of_ended", (run,))
        assert self._ledger is not None  # noqa: S101  # who only reads does not withdraw
        for (hold,) in self._database.read(queries("ledger")["open_questions_of_run"], (run,)):
            self._ledger.post(hold, Amounts(0), kind="void")

    def find(self, request_id: str) -> ReviewRequest:
        """A request by its id. Raises ReviewError."""
        hold = hold_of(request_id)
        found = self._read("of_hold", hold=hold) if hold is not None else []
        if not found:
            raise ReviewError(
                f"there is no review request '{request_id}' in {self._database.path}. `orchestrion review list` shows what there is."
            )
        return found[0]

    def of_run(self, run: int) -> dict[int, ReviewRequest]:
        """A run's requests by their holds."""
        return {request.hold: request for request in self._read("of_run", run=run)}

    def open(self, *, batch: str | None = None) -> list[ReviewRequest]:
        """Requests that wait for a decision or for information, the oldest first."""
        return self._read("of_batch", open=1, batch=batch)

    def all(self, *, batch: str | None = None) -> list[ReviewRequest]:
        """Every request, the oldest first."""
        return self._read("of_batch", open=0, batch=batch)

    def decide(
        self,
        request: ReviewRequest,
        kind: DecisionKind,
        *,
        seen: str,
        by: str,
        members: Sequence[str] = (),
        value: Any = None,
        text: str | None = None,
        minutes: float | None = None,
    ) -> Decision:
        """Decide, durably and once. ``value`` is a modified answer as a JSON value, ``text`` a reason or a question.

        ``seen`` is the digest (or its first eight or more digits) of what the person was shown. Raises ReviewError:
        for a request that is decided or withdrawn, another digest, a person who may not decide, a value that has not
        the answer's type, a reason or question that is missing, minutes that are no time.
        """
        if kind not in PAST:
            raise ReviewError(f"{kind!r} is no decision on request {request.id}: {', '.join(PAST)}.")
        _refuse_closed(request)
        if not isinstance(seen, str) or len(seen) < 8 or not request.digest.startswith(seen):
            raise ReviewError(
                f"request {request.id} does not show what was decided on (digest {str(seen or '(none)')[:32]}, now {request.digest[:12]}). "
                f"Look at it again, `orchestrion review show {request.id}`, and decide on what is there."
            )
        if members and by not in members:
            raise ReviewError(f"'{by}' is not one of {request.worker}: {', '.join(members)}. (people in the settings)")
        spent = request.minutes if minutes is None else minutes
        if not (isinstance(spent, int | float) and math.isfinite(spent) and 0 <= spent <= LONGEST_MINUTES):
            raise ReviewError(f"{minutes!r} minutes are no time that a decision takes: give 0 to {LONGEST_MINUTES}.")
        said = _said(request, kind, value, text)
        cost = wages(request.wage, spent)
        return self._commit(request, Decision(kind=kind, by=by, at=time.time(), minutes=spent, cost=cost, text=said))

    def expire(self, request: ReviewRequest) -> ReviewRequest:
        """Decide as the request says for when nobody did in time: it costs nothing. The request as it is now: somebody may have been faster."""
        kind = request.shown.otherwise if request.shown and request.shown.proposal is not None else "reject"
        late = Decision(kind=kind, by=DEADLINE, at=time.time(), minutes=0.0, cost=0, text="nobody decided in time")
        with contextlib.suppress(ReviewError):
            self._commit(request, late)
        return self.find(request.id)

    def inform(self, request: ReviewRequest, information: str, *, by: str) -> None:
        """Answer the question that a person asked; they are shown it when the run goes on. Raises ReviewError."""
        if request.state != "asked":
            raise ReviewError(f"nobody asks for information with request {request.id}: it is {request.state}.")
        if not information.strip():
            raise ReviewError(f"the information for request {request.id} is empty. It asks: {request.question}")
        row = (request.hold, pack(storable(information)), by)
        if not self._database.take(self._sql["inform"], row):
            raise ReviewError(f"request {request.id} was answered a moment ago by somebody else.")

    def _commit(self, request: ReviewRequest, decision: Decision) -> Decision:
        row = (request.hold, decision.kind, decision.by, decision.at, decision.minutes, pack(decision.text))
        kind: Posting = "post" if decision.by != DEADLINE else "void"
        wage = Amounts(decision.cost, 0, round(decision.minutes * 60))

        def settle(session: Session) -> None:
            self._books.settle(session, request.hold, wage, kind, decision.at)

        if not self._database.take(self._sql["decide"], row, then=settle):
            _refuse_closed(self.find(request.id))
        return decision

    def _read(self, clause: str, **bound: int | str | None) -> list[ReviewRequest]:
        rows = self._database.read(f"{self._sql['reviews']}\n{self._sql[clause]}", bound)
        return [_request(row) for row in rows]


def _refuse_closed(request: ReviewRequest) -> None:
    """Raises ReviewError where nobody can decide any more."""
    if request.state in ("decided", "taken", "asked", "informed"):
        said = f"{PAST[request.decision.kind]} by {request.decision.by}" if request.decision else request.state
        raise ReviewError(f"request {request.id} has been decided already: {said}. A decision is used once.")
    if request.state == "withdrawn" or request.run_status in ("failed", "cancelled", "done"):
        raise ReviewError(
            f"request {request.id} is not open any more: its run '{request.run_id}' has ended ({request.run_status})."
        )


def _said(request: ReviewRequest, kind: DecisionKind, value: Any, text: str | None) -> str | None:
    """What stays of a decision as text: the answer, the reason or the question. Raises ReviewError."""
    if kind == "approve":
        if request.shown is None or request.shown.proposed is None:
            raise ReviewError(
                f"request {request.id} shows no answer that could be approved. Give one (modify), reject it, or ask for information."
            )
        return None
    if kind == "modify":
        return answer_text(request, value)
    if not isinstance(text, str) or not text.strip():
        wanted = "a reason" if kind == "reject" else "the question"
        raise ReviewError(f"to {'reject' if kind == 'reject' else 'send back'} request {request.id}, give {wanted}.")
    return storable(text)


def answer_text(request: ReviewRequest, value: Any) -> str:
    """A modified answer as its output's text. Raises ReviewError, with what does not fit the answer's type."""
    schema = request.shown.schema if request.shown else None
    if schema is None:
        if not isinstance(value, str) or not value.strip():
            raise ReviewError(f"the answer to request {request.id} is a text, not {str(value)[:80]!r}.")
        return storable(value)
    errors = sorted(_validator(schema).iter_errors(value), key=lambda error: list(map(str, error.absolute_path)))
    if errors:
        said = "; ".join(f"{'.'.join(map(str, e.absolute_path)) or 'the answer'}: {e.message}" for e in errors[:3])
        raise ReviewError(f"the answer to request {request.id} does not have its type: {said}. Nothing was decided.")
    return storable(to_json(value).decode())


def _validator(schema: Mapping[str, Any]) -> Any:
    """Checks a value by a schema, but for what only the type itself can tell, when the run goes on: a pattern that
    Python's regular expressions do not know, and multiples of binary fractions."""
    from jsonschema import Draft202012Validator, validators  # 60 ms, and only a modified answer needs it

    rules = Draft202012Validator.VALIDATORS

    def known(name: str) -> Callable[..., Iterator[Any]]:
        def checked(*given: Any) -> Iterator[Any]:
            with contextlib.suppress(re.error):
                yield from rules[name](*given) or ()

        return checked

    own = {"pattern": known("pattern"), "patternProperties": known("patternProperties"), "multipleOf": lambda *_: ()}
    checks: Any = validators.extend(Draft202012Validator, own)  # type: ignore[no-untyped-call]  # it has no types
    return checks(dict(schema))


def _request(row: Sequence[Any]) -> ReviewRequest:
    decided = row[13] is not None
    shown = unpack(row[9])
    return ReviewRequest(
        hold=row[0],
        run_id=row[1],
        task_id=row[2],
        workflow=row[3],
        run_status=row[4],
        key=row[5],
        worker=row[6],
        wage=row[7],
        digest=row[8],
        shown=msgspec.json.decode(shown, type=Shown) if shown else None,
        asked=row[10],
        deadline=row[11],
        state=row[12],
        decision=Decision(
            kind=row[13], by=row[14], at=row[15], minutes=row[16], text=unpack(row[17]), cost=row[20] or 0
        )
        if decided
        else None,
        minutes=row[16],
        information=unpack(row[18]),
        informant=row[19],
    )
