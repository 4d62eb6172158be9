"""What a person is shown, and what they decided.

A request stands for one call of a person within a step, and is known by the call's hold. A decision names the digest of
what was shown, and is used once. A request that comes back (with information, or because the answer had not the step's
type) is another request, with a digest of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

import msgspec

from orchestrion.domain import Attempt, Money, digest, dollars
from orchestrion.store.database import SERIAL_BITS

DecisionKind: TypeAlias = Literal["approve", "modify", "reject", "ask"]
DeadlineRule: TypeAlias = Literal["approve", "reject"]

DEADLINE = "(deadline)"
"""Stands for the person where nobody decided in time."""


class ShownAnswer(msgspec.Struct, frozen=True):
    """An earlier answer: its text, or why there is none, and what the checks said: (check, passed, reason)."""

    worker: str
    output: str | None
    failure: str | None
    verdicts: tuple[tuple[str, bool, str | None], ...]


class Note(msgspec.Struct, frozen=True):
    """What was said in an earlier round: a question and its answer, or an answer and why it could not be used."""

    said: str
    reply: str


class Shown(msgspec.Struct, frozen=True, kw_only=True):
    """Exactly what a person sees. ``proposal`` is the place in ``answers`` of the one that "approve" approves.

    ``schema`` is the JSON schema of the answer (None: text). ``deadline`` is in seconds since 1970; then ``otherwise``
    is decided.
    """

    step: str
    instructions: str
    task: Any
    answers: tuple[ShownAnswer, ...]
    proposal: int | None
    schema: Mapping[str, Any] | None
    notes: tuple[Note, ...] = ()
    deadline: float | None = None
    otherwise: DeadlineRule = "reject"

    @property
    def text(self) -> str:
        """As it is kept: JSON, its fields in a fixed order."""
        return msgspec.json.encode(self).decode()

    @property
    def digest(self) -> str:
        """Names what was shown: 32 hex digits."""
        return digest(self.text.encode())

    @property
    def proposed(self) -> str | None:
        """The text of the answer that can be approved."""
        return None if self.proposal is None else self.answers[self.proposal].output


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """What a person decided, when (seconds since 1970), in how many minutes, and what that cost.

    ``text`` is the answer of a modify, the reason of a reject, the question of an ask.
    """

    kind: DecisionKind
    by: str
    at: float
    minutes: float
    cost: Money
    text: str | None = None

    def __str__(self) -> str:
        return f"{PAST[self.kind]} by {self.by}, {self.minutes:g} min, {dollars(self.cost)}"


PAST = {"approve": "approved", "modify": "modified", "reject": "rejected", "ask": "sent back with a question"}


class ReviewRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A question to a person. ``state``: open, asked (it needs information), informed, decided, taken or withdrawn.

    ``shown`` is None where the settings say that texts are not kept. ``wage`` is nano-dollars an hour, ``minutes`` what
    the question is expected to take.
    """

    hold: int
    run_id: str
    task_id: str
    workflow: str
    run_status: str
    key: str
    worker: str
    wage: Money
    minutes: float
    digest: str
    shown: Shown | None
    asked: float
    deadline: float | None
    state: str
    decision: Decision | None = None
    information: str | None = None
    informant: str | None = None

    @property
    def id(self) -> str:
        """How people name it: "3-17"."""
        return request_id(self.hold)

    @property
    def question(self) -> str | None:
        """What the person asks of the task's owner, while that is not answered."""
        return self.decision.text if self.decision and self.state == "asked" else None


def request_id(hold: int) -> str:
    """A hold's number as people name it."""
    return f"{hold >> SERIAL_BITS}-{hold & (1 << SERIAL_BITS) - 1}"


def hold_of(request_id: str) -> int | None:
    """The hold that an id names; None for what is no id."""
    process, dash, serial = request_id.partition("-")
    if not (dash and process.isdecimal() and serial.isdecimal() and len(process) < 10 and len(serial) < 11):
        return None
    return int(process) << SERIAL_BITS | int(serial)


def shown_answer(attempt: Attempt) -> ShownAnswer:
    """An attempt as a person sees it."""
    verdicts = tuple((verdict.check, verdict.passed, verdict.reason) for verdict in attempt.verdicts)
    failure = attempt.failure.message if attempt.failure else None
    return ShownAnswer(attempt.call.worker, attempt.output, failure, verdicts)


def proposal(history: tuple[Attempt, ...]) -> int | None:
    """The place of the answer that can be approved: one that has the step's type, the most confident, then the last."""
    usable = [i for i, attempt in enumerate(history) if attempt.usable]
    return max(usable, key=lambda i: (history[i].passed, history[i].confidence, i), default=None)


def wages(wage: Money, minutes: float) -> Money:
    """What so many minutes cost at a wage in nano-dollars an hour, rounded up."""
    return -(-wage * round(minutes * 60_000) // 3_600_000)
