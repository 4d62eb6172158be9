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
    amount of the entry that closed its hold, None while ``held`` is open. ``person``: a question to somebody, who may have
    sent it back with one of theirs.
    """

    run: str
    step: str
    worker: str
    judging: bool
    answered: bool | None
    accepted: int
    verdicts: Sequence[Verdict]
    tokens: int
    posted: tuple[str, Money] | None
    held: Money
    person: bool = False


class Tally:
    """Sums of counted calls."""

    def __init__(self) -> None:
        self._sums: dict[tuple[str, str, bool], Counter[str]] = {}
        self._checks: dict[tuple[str, str, str], Counter[str]] = {}
        self._examples: dict[tuple[str, str, str], str] = {}
        self.accepted = self.unseen = self.despite = self.constrained = 0

    def add(self, one: Counted) -> None:
        """Count one call."""
        sums = self._sums.setdefault((one.step, one.worker, one.judging), Counter())
        passed = all(verdict.passed for verdict in one.verdicts)
        sums["calls"] += 1
        sums[_became(one, passed=passed)] += 1
        sums["answered"] += bool(one.answered)
        sums["tokens"] += one.tokens
        if one.posted is None:
            sums["held"] += one.held
        else:
            sums["cost"] += one.posted[1]
            sums["unknown"] += one.posted[1] if one.posted[0] == "unknown" else 0
        for verdict in one.verdicts:
            self._count(one, verdict)
        if one.accepted and not one.judging:
            self.accepted += 1
            self.despite += not passed
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
                figures=Figures(**{name: n for name, n in sums.items() if name != "answered"}),
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
                looked=self._sums[key[0], key[1], False]["answered"] if key[2] in FORM else said["looked"],
                refused=said["refused"],
                broken=said["broken"],
                example=self._examples.get(key),
            )
            for key, said in self._checks.items()
        ]
        return tuple(sorted(found, key=lambda one: -(one.refused + one.broken)))


def _became(one: Counted, *, passed: bool) -> str:
    if one.answered is None:
        if one.posted is None:
            return "open"
        return "unsent" if one.posted[0] == "void" else "failed" if one.person else "lost"
    if not one.answered:
        return "failed"
    if one.judging or one.accepted:
        return "accepted"  # what a judge said was used, too
    return "unused" if passed else "refused"
