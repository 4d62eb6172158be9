"""Outcomes as a value: gone through as often as one likes, and shown in a notebook."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice

from orchestrion.domain import Outcome

FEW = 10
COLUMNS = ("task", "step", "worker", "answer", "accepted", "score", "cost")
ANSWER = 120


class Recordings:
    """Iterating reads them, each time as of now."""

    def __init__(self, read: Callable[[], Iterator[Outcome]]) -> None:
        self._read = read

    def __iter__(self) -> Iterator[Outcome]:
        return self._read()

    def _repr_html_(self) -> str:
        from orchestrion.markup import card, rows  # notebooks only

        first = list(islice(self, FEW + 1))
        many = f"the first {FEW}" if len(first) > FEW else f"{len(first)} in all"
        return card("outcomes", many, table=rows(COLUMNS, map(_cells, first[:FEW])))


def _cells(one: Outcome) -> tuple[object, ...]:
    answer = one.failure or one.answer
    short = answer if answer is None or len(answer) <= ANSWER else f"{answer[:ANSWER]}…"
    accepted = None if one.accepted is None else "yes" if one.accepted else "no"
    cost = None if one.cost_usd is None else f"${one.cost_usd:.6f}"
    return one.task_id, one.step, one.worker, short, accepted, one.score, cost
