"""What happened, read from a database: every figure on the demo's screen is a sum of these rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pydantic import ValidationError

from orchestrion.demo.cases import Case, Opinion, Result, Status, grade
from orchestrion.domain import Money
from orchestrion.evidence.recorded import Asked, calls_of
from orchestrion.journal.embedded import EmbeddedJournal
from orchestrion.store.database import Database
from orchestrion.store.queries import queries

ALL_RUNS = 1_000_000
CONSTRAINED = 2
"""How the journal marks such an answer (`attempt.accepted`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """One household's run: its calls in order, and how it ended (`result` is None where it has not, or failed).

    ``error`` says why it failed, or why it waits.
    """

    id: str
    status: str
    cost: Money
    calls: tuple[Asked, ...]
    result: Result | None = None
    error: str | None = None

    @property
    def ended(self) -> bool:
        return self.status in ("done", "failed", "cancelled")

    @property
    def waiting(self) -> bool:
        """Whether it waits for money."""
        return self.status == "waiting"

    @property
    def constrained(self) -> int:
        """Answers that were accepted because a dearer one could not be paid."""
        return sum(one.accepted == CONSTRAINED for one in self.calls)

    @property
    def answered(self) -> list[Asked]:
        """Calls of models that came back, with an answer or a failure. Plain code counts for nothing here."""
        return [one for one in self.calls if one.attempt and one.step != "compute"]

    @property
    def in_flight(self) -> list[Asked]:
        """Calls whose money is held, and of which nothing is known yet."""
        return [one for one in self.calls if one.attempt is None and one.posted is None and one.step != "compute"]

    @property
    def lost(self) -> list[Asked]:
        """Calls that were in flight when their process died: booked in full (entries of kind "unknown")."""
        return [one for one in self.calls if one.attempt is None and one.posted and one.step != "compute"]


class Books:
    """Reads the stories of one batch. What has ended does not change any more and is read once."""

    def __init__(self, database: Database, batch: str) -> None:
        self._database = database
        self._journal = EmbeddedJournal(database)
        self._batch = batch
        self._ended: dict[str, Story] = {}

    def stories(self) -> list[Story]:
        """In the order of the households."""
        named = {"status": None, "batch": self._batch, "limit": ALL_RUNS}
        rows = self._database.read(queries("journal")["list_runs"], named)
        found = [self._ended.get(row[0]) or self._read(row[0], row[3]) for row in rows]
        return sorted(found, key=lambda story: story.id)

    def _read(self, run_id: str, status: str) -> Story:
        calls = tuple(calls_of(self._database, self._journal.number(run_id)))
        record = self._journal.find(run_id)
        cost, text = (record.cost, record.result) if record else (0, None)
        result = Result.model_validate_json(text) if text else None
        error = record.error if record else None
        story = Story(id=run_id, status=status, cost=cost, calls=calls, result=result, error=error)
        if story.ended:
            self._ended[run_id] = story
        return story


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """Sums over stories. Money in nano-dollars; a household whose run failed counts as flagged."""

    households: int = 0
    ended: int = 0
    failed: int = 0
    right: int = 0
    wrong: int = 0
    flagged: int = 0
    prepared: int = 0
    clients_asked: int = 0
    left_to_a_person: int = 0
    refused: int = 0
    corrected: int = 0
    escalated: int = 0
    reread: int = 0
    audits: int = 0
    objections: int = 0
    constrained: int = 0
    waiting: int = 0
    calls: int = 0
    tokens: int = 0
    cost: Money = 0
    in_flight: int = 0
    lost: int = 0
    lost_cost: Money = 0
    asked_again: int = 0
    paid_twice: int = 0
    seconds: float = 0.0


def figures(
    stories: Iterable[Story], cases: Mapping[str, Case], *, frontier: str = "frontier", seconds: float = 0.0
) -> Figures:
    """Add everything up. ``cases`` by run id: only here, after the fact, is a truth looked at."""
    total: Counter[str] = Counter()
    for story in stories:
        total.update(_of_one(story, frontier))
        if story.ended:
            total["ended"] += 1
            total[grade(cases[story.id], story.result) if story.result else "flagged"] += 1
    return Figures(**total, seconds=seconds)


def _of_one(story: Story, frontier: str) -> dict[str, int]:
    attempts = [one.attempt for one in story.answered if one.attempt]
    identities = Counter(_identity(one) for one in story.answered if one.attempt and not one.attempt.failure)
    opinions = [_opinion(one) for one in story.answered if one.step == "audit" and one.accepted]
    return {
        "households": 1,
        "failed": story.status == "failed",
        "prepared": bool(story.result and story.result.status is Status.PREPARED),
        "clients_asked": bool(story.result and story.result.status is Status.NEEDS_INFORMATION),
        "left_to_a_person": bool(story.result and story.result.status is Status.NEEDS_PERSON),
        "refused": sum(not attempt.failure and not attempt.passed for attempt in attempts),
        "corrected": sum(bool(one.call.added) and bool(one.accepted) for one in story.answered),
        "escalated": any(one.step == "extract" and one.call.worker == frontier for one in story.calls),
        "reread": any(one.step == "reread" for one in story.calls),
        "audits": sum(opinion is not None for opinion in opinions),
        "objections": sum(opinion is not None and not opinion.agree for opinion in opinions),
        "constrained": story.constrained,
        "waiting": story.waiting,
        "calls": len(story.answered),
        "tokens": sum(attempt.usage.input_tokens + attempt.usage.output_tokens for attempt in attempts),
        "cost": story.cost,
        "in_flight": len(story.in_flight),
        "lost": len(story.lost),
        "lost_cost": sum(one.posted[1] for one in story.lost if one.posted),
        "asked_again": sum(_identity(one) in identities for one in story.lost),
        "paid_twice": sum(n - 1 for n in identities.values()),
    }


def _identity(one: Asked) -> tuple[str, str, int, str, int, str | None]:
    """Which question it was: the same one asked twice has it twice."""
    return (one.scope, one.step, one.n, one.call.worker, one.call.sample, one.call.context)


def _opinion(one: Asked) -> Opinion | None:
    try:
        return Opinion.model_validate_json((one.attempt.output if one.attempt else None) or "")
    except ValidationError:
        return None
