"""Every call that money was set aside for, read from the entries: the one source of a report's figures, and of who spent what."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal, NamedTuple, TypeAlias

from pydantic_core import from_json

from orchestrion.domain import Money, Usage, Verdict
from orchestrion.evidence.recorded import PROBES, step_of
from orchestrion.report.tally import Counted
from orchestrion.review.requests import DEADLINE
from orchestrion.store.database import Database
from orchestrion.store.queries import queries

Purpose: TypeAlias = Literal["work", "check", "probe", "none"]
"""What a call was for: a step's own work, a check's question, `orchestrion models --check`, or nothing that a run knows of."""

NO_RUN = "(no run)"
"""Stands for step and worker of an entry that no run made."""

PROBE = "models --check"
"""The step, as reports name it, of what `orchestrion models --check` asked."""


KINDS: Mapping[str, str] = {
    "accepted": "answers that were accepted",
    "refused": "answers that a check refused",
    "unused": "answers that were not taken",
    "failed": "calls that brought no answer",
    "lost": "calls that were lost with their process",
    "people": "people",
    "checks": "checks' own calls",
    PROBE: "orchestrion models --check",
    "held": "open calls and questions",
    "unsent": "calls that were not made",
    NO_RUN: "calls without a run",
}
"""What calls were spent on, in the order in which it is told, and that in words."""


class BookedCall(NamedTuple):
    """A hold, what was posted for it, and the call that it was made for.

    ``visit`` names the one performance of a step that it belongs to, None where no run made it. ``plain``: not a correction.
    ``person`` is who decided, "" where somebody is asked and has not, None where no person is asked.
    """

    hold: int
    account: str
    at: float
    held: Money
    posted: tuple[str, Money] | None
    run: int | None
    run_id: str
    visit: tuple[int, str, str, int] | None
    step: str
    worker: str
    purpose: Purpose
    plain: bool
    answered: bool | None
    accepted: int
    verdicts: tuple[Verdict, ...]
    usage: Usage
    person: str | None
    decision: str | None
    minutes: float

    @property
    def cost(self) -> Money:
        """What is booked for it."""
        return self.posted[1] if self.posted else 0

    @property
    def kind(self) -> str:
        """What it was spent on: one of KINDS."""
        if self.purpose == "none":
            return NO_RUN
        if self.posted is None:
            return "held"
        if self.purpose != "work":
            return "checks" if self.purpose == "check" else PROBE
        return "people" if self.person is not None else self.counted.became

    @property
    def counted(self) -> Counted:
        """The same as a report counts it."""
        return Counted(
            run=self.run_id,
            step=self.step,
            worker=self.worker,
            judging=self.purpose in ("check", "probe"),
            answered=self.answered,
            accepted=self.accepted,
            verdicts=self.verdicts,
            tokens=(self.usage.input_tokens, self.usage.output_tokens),
            posted=self.posted,
            held=self.held,
            person=self.person is not None,
            decision=self.decision,
            minutes=self.minutes,
        )


def calls_of_runs(database: Database, *, batch: str | None = None, run: str | None = None) -> Iterator[BookedCall]:
    """The calls of a batch, of one run, or of all runs, in the order of their holds."""
    return _read(database, "of_runs", batch=batch, run=run)


def calls_of_entries(
    database: Database,
    *,
    account: str | None = None,
    batch: str | None = None,
    since: float | None = None,
    until: float | None = None,
) -> Iterator[BookedCall]:
    """What every entry was for whose hold was made on an account, or on one below it, in [since, until)."""
    return _read(database, "of_entries", account=account, batch=batch, since=since, until=until)


def _read(database: Database, which: str, **selected: str | float | None) -> Iterator[BookedCall]:
    sql, everything = queries("report"), dict.fromkeys(("account", "batch", "run", "since", "until"))
    statement = "\n".join((sql["asked"], sql[which], sql["calls"]))
    return (_booked(*row) for row in database.read(statement, {**everything, **selected}))


def _booked(
    hold: int,
    account: str,
    at: float,
    held: Money,
    kind: str | None,
    amount: Money | None,
    run: int | None,
    run_id: str | None,
    scope: str | None,
    step: str | None,
    n: int | None,
    worker: str | None,
    added: int | None,
    accepted: int | None,
    body: str | None,
    asked: int,
    decision: str | None,
    decider: str | None,
    minutes: float | None,
) -> BookedCall:
    data = from_json(body) if body else None
    probe = bool(run_id and run_id.startswith(PROBES))
    return BookedCall(
        hold=hold,
        account=account,
        at=at,
        held=held,
        posted=(kind, amount or 0) if kind else None,
        run=run,
        run_id=run_id or NO_RUN,
        visit=None if run is None or scope is None or step is None or n is None else (run, scope, step, n),
        step=PROBE if probe else step_of(scope, step).rstrip("~") if scope is not None and step else NO_RUN,
        worker=worker or NO_RUN,
        purpose="none" if scope is None else "probe" if probe else "check" if "~" in scope else "work",
        plain=not added,
        answered="failure" not in data if data else None,
        accepted=accepted or 0,
        verdicts=tuple(Verdict(*verdict) for verdict in data.get("verdicts", ())) if data else (),
        usage=Usage(*data["tokens"]) if data else Usage(),
        person=(decider or "") if asked else None,
        decision=decision,
        minutes=minutes or 0.0 if decision and decider != DEADLINE else 0.0,
    )
