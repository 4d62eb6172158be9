"""Adds calls up, in one pass, whoever made them: a live run or a replay."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from orchestrion.domain import COMPLETE, SCHEMA, Money, Verdict
from orchestrion.report.facts import Cell, Estimate, Figures, Refusals

FORM = frozenset({SCHEMA, COMPLETE})
"""Checks that every answer goes through: they look at its form only."""


class Counted(NamedTuple):
    """One call as a report counts it.

    ``judging``: a check made it. ``answered`` is None where nothing came back. ``posted`` is the kind and the
    amount of the entry that closed its hold, None while that is open; ``held`` is the hold's, None in a replay, where nothing
    is held. ``person``: a question to somebody, who may have sent it back with one of theirs; ``decision`` is theirs, for which
    they took so many ``minutes``.
    """

    run: str
    step: str
    worker: str
    judging: bool
    answered: bool | None
    accepted: int
    verdicts: Sequence[Verdict]
    tokens: tuple[int, int]
    posted: tuple[str, Money] | None
    held: Money | None
    person: bool = False
    decision: str | None = None
    minutes: float = 0.0

    @property
    def passed(self) -> bool:
        """Whether no check refused it."""
        return all(verdict.passed for verdict in self.verdicts)

    @property
    def became(self) -> str:
        """What became of it: the field of Figures that counts it."""
        if self.answered:
            if self.judging or self.accepted:
                return "accepted"  # what a judge said was used, too
            return "unused" if self.passed else "refused"
        if self.answered is None and self.posted is None:
            return "open"
        if self.decision in ("approve", "modify") and self.answered is None:
            return "unused"
        if self.decision:
            return "declined"
        if self.answered is None:
            return "unsent" if self.posted and self.posted[0] == "void" else "lost"
        return "failed"


def add_to(sums: Counter[str], one: Counted) -> None:
    """Add a call to sums that Figures are made of."""
    came_in, came_out = one.tokens
    sums["calls"] += 1
    sums[one.became] += 1
    sums["tokens"] += came_in + came_out
    sums["tokens_in"] += came_in
    sums["tokens_out"] += came_out
    sums["counted"] += bool(came_in or came_out)
    if one.minutes:
        sums["minutes"] += one.minutes  # type: ignore[assignment]  # the one that is a float
    if one.held is not None:
        sums["reserved"] += one.held
    if one.posted is None:
        sums["held"] += one.held or 0
        return
    kind, cost = one.posted
    sums["cost"] += cost
    sums["unknown"] += cost if kind == "unknown" else 0
    sums["checks"] += cost if one.judging else 0
    sums["wages"] += cost if one.person else 0
    if one.held is not None:
        sums["released"] += max(0, one.held - cost)
        sums["over"] += max(0, cost - one.held)
        sums["voided"] += one.held - cost if kind == "void" else 0


def sums_by(calls: Iterable[Counted], key: Iterable[str]) -> dict[str, Figures]:
    """The sums of calls by a name of each, in the order of their first call."""
    sums: dict[str, Counter[str]] = {}
    for one, name in zip(calls, key, strict=True):
        add_to(sums.setdefault(name, Counter()), one)
    return {name: Figures(**found) for name, found in sums.items()}


class Tally:
    """Sums of counted calls."""

    def __init__(self) -> None:
        self._sums: dict[tuple[str, str, bool], Counter[str]] = {}
        self._answered: Counter[tuple[str, str]] = Counter()
        self._checks: dict[tuple[str, str, str], Counter[str]] = {}
        self._examples: dict[tuple[str, str, str], str] = {}
        self.accepted = self.unseen = self.despite = self.constrained = 0

    def add(self, one: Counted) -> None:
        """Count one call."""
        add_to(self._sums.setdefault((one.step, one.worker, one.judging), Counter()), one)
        self._answered[one.step, one.worker] += bool(one.answered) and not one.judging
        for verdict in one.verdicts:
            self._count(one, verdict)
        if one.accepted and not one.judging:
            self.accepted += 1
            self.despite += not one.passed
            self.constrained += one.accepted == 2
            self.unseen += not one.person and all(verdict.check in FORM for verdict in one.verdicts)

    def _count(self, one: Counted, verdict: Verdict) -> None:
        key = (one.step, one.worker, verdict.check)
        said = self._checks.setdefault(key, Counter())
        said["looked"] += 1
        if verdict.broken:
            said["broken"] += 1
        elif not verdict.passed:
            said["refused"] += 1
            self._examples.setdefault(key, one.run)

    def cells(self, *, simulated: Iterable[str], quality: dict[tuple[str, str], Estimate | None]) -> tuple[Cell, ...]:
        """One for each worker at each step, and for each check's own calls, in the order of their first call."""
        made_up = frozenset(simulated)
        return tuple(
            Cell(
                step=step,
                worker=worker,
                judging=judging,
                figures=Figures(**sums),
                simulated=worker in made_up,
                quality=None if judging else quality.get((step, worker)),
            )
            for (step, worker, judging), sums in self._sums.items()
        )

    def refusals(self) -> tuple[Refusals, ...]:
        """What each check said of each worker's answers; those that refused most often first.

        A check of the form is noted where it refuses only, and has looked at every answer.
        """
        found = [
            Refusals(
                step=key[0],
                worker=key[1],
                check=key[2],
                looked=self._answered[key[0], key[1]] if key[2] in FORM else said["looked"],
                refused=said["refused"],
                broken=said["broken"],
                example=self._examples.get(key),
            )
            for key, said in self._checks.items()
        ]
        return tuple(sorted(found, key=lambda one: -(one.refused + one.broken)))
