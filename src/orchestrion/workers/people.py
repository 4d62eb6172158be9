"""A person, or a team, as a worker: a wage, the minutes that a question takes, and who may decide.

A person is not called: the step's call becomes a review request, and its run leaves memory until somebody has decided.
"""

from __future__ import annotations

from typing import Literal

from orchestrion.domain import Money, Price, Reply, Request
from orchestrion.errors import WorkerFailed
from orchestrion.review.requests import wages
from orchestrion.workers.protocol import OnDelta


class Person:
    """Somebody who is asked through review requests.

    ``wage`` is nano-dollars an hour, ``minutes`` what a question is expected to take: their product is held while it is
    open. ``members`` may decide (empty: anybody). After ``deadline_s`` seconds (None: never), ``otherwise`` is decided.
    """

    price: Price | None = None

    def __init__(
        self,
        name: str,
        *,
        wage: Money,
        minutes: float = 5.0,
        members: tuple[str, ...] = (),
        deadline_s: float | None = None,
        otherwise: Literal["approve", "reject"] = "reject",
    ) -> None:
        self.name = name
        self.wage = wage
        self.minutes = minutes
        self.members = members
        self.deadline_s = deadline_s
        self.otherwise = otherwise

    def bound(self, request: Request) -> Money:
        return wages(self.wage, self.minutes)

    def tokens(self, request: Request) -> int:
        return 0

    async def reply(self, request: Request, on_delta: OnDelta | None = None) -> Reply:
        raise WorkerFailed(
            "person", f"{self.name} is a person: a policy can ask them, a check cannot wait for them", billed="no"
        )
