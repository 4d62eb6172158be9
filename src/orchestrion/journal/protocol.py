"""The durable memory of runs: what each step returned, and what each run waits for.

A key is (run, scope, step, n) with a digest of the step's input. The embedded journal (SQLite) and the one in memory
implement this; one conformance suite tests both.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import msgspec

from orchestrion.domain import Attempt, Call, Money

FUNDS = "funds "
"""What a run wants that waits for money: this, and the account."""


class Key(msgspec.Struct, frozen=True, order=True):
    """Where a step was called: the branch of the run, the step's name, and how many calls of it came before there."""

    scope: str
    step: str
    n: int

    def __str__(self) -> str:
        return f"{self.scope}{self.step}#{self.n}"


@dataclass(slots=True)
class StepMemory:
    """What the journal remembers of one call of a step.

    ``history`` lists the attempts in the order in which they were asked; ``lost`` the calls without one, by their holds: in
    flight when a process died (booked in full, and asked again), or put to a person. The ``value`` of an attempt is not stored: the
    engine parses its output again. ``forgotten`` counts failures left out because they are to be asked again. ``before``
    says of each hold how many attempts of the history were there when its Ask was made: what its checks could see. ``short``: it
    could not be paid, and the workflow's code went on without it.
    """

    digest: str
    input: str | None
    history: tuple[Attempt, ...] = ()
    unchecked: frozenset[int] = frozenset()
    accepted: int | None = None
    constrained: bool = False
    turns: int = 0
    lost: tuple[tuple[int, Call], ...] = ()
    forgotten: int = 0
    before: dict[int, int] = field(default_factory=dict)
    short: bool = False


class Basis(NamedTuple):
    """What an Ask was made under: the digest of its step's instructions and output schema (None for what a check asks), and
    (worker, model id) of each of its calls."""

    instructions: str | None
    models: tuple[tuple[str, str | None], ...]


class NewRun(msgspec.Struct, frozen=True, kw_only=True):
    """What a run starts from."""

    id: str
    workflow: str
    input: str
    digest: str
    task_id: str
    tags: Mapping[str, str]
    reference: Any = None
    account: str = "default"
    batch: str | None = None
    policy: str | None = None


class RunRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One run as the journal has it. ``cost`` is the sum of its entries, in nano-dollars.

    ``wants`` is the signal that it waits for, "review ID" or "funds ACCOUNT"; ``question`` what a person asks of the task's
    owner; ``error`` also why it waits.
    """

    id: str
    workflow: str
    batch: str | None
    task_id: str
    input: str | None
    digest: str
    tags: Mapping[str, str]
    reference: Any
    account: str
    policy: str | None
    status: str
    owned: bool
    wants: str | None
    question: str | None = None
    result: str | None
    error: str | None
    cancel: bool
    created: float
    updated: float
    cost: Money


class RunLog(Protocol):
    """The journal of one run that is being performed by this process."""

    cost: Money
    signals: dict[str, str]

    @property
    def account(self) -> str:
        """The account of the run."""
        ...

    def recall(self, key: Key) -> StepMemory | None:
        """What is remembered of a step's call."""
        ...

    def unvisited(self, scope: str | None = None) -> list[Key]:
        """Remembered calls (of one branch) that ``recall`` was not asked for.

        None where a step's failures were forgotten: asked again, it may end otherwise, and the code go another way.
        """
        ...

    def ask(
        self,
        key: Key,
        turn: int,
        digest: str,
        input: str | None,
        calls: list[tuple[int, Call]],
        basis: Basis | None = None,
    ) -> None:
        """Note calls that are about to be made, each with its hold; none where there was no money, and the code went on."""
        ...

    def attempt(self, attempt: Attempt, *, checked: bool) -> None:
        """Note what came of a call."""
        ...

    def judged(self, attempt: Attempt) -> None:
        """Note verdicts that came after the attempt was noted."""
        ...

    def accept(self, hold: int, *, constrained: bool) -> None:
        """Note which attempt is the answer."""
        ...

    def take(self, signal: str) -> None:
        """Note that the workflow has taken a signal: its value stands from now on."""
        ...

    def durable(self) -> Awaitable[None]:
        """Done when everything noted so far survives a crash. Raises RunBusy where another process has this run."""
        ...

    async def finish(
        self, status: str, *, result: str | None = None, error: str | None = None, wants: str | None = None
    ) -> None:
        """Note how the run ended, or what it waits for, and let go of it."""
        ...

    def release(self) -> None:
        """Let go of the run without waiting: somebody cancelled the task that performs it."""
        ...


class Journal(Protocol):
    """All runs."""

    def find(self, run_id: str) -> RunRecord | None:
        """A run by its id."""
        ...

    def start(self, new: NewRun) -> RunLog:
        """Begin a run that ``find`` does not know."""
        ...

    async def resume(self, run_id: str) -> RunLog:
        """Go on with a run that this process may take. Raises RunBusy where another process has it."""
        ...

    async def reopen(self, run_id: str) -> None:
        """Let a failed or cancelled run be resumed. Attempts that have failed so far count as never made from now on, checks
        that were broken are asked again once."""
        ...

    async def signal(self, run_id: str, name: str, value: str) -> None:
        """Deliver a signal, durably; it can be replaced until the workflow has taken it.

        Raises UsageError for a run that is done, and for another value than the one taken.
        """
        ...

    def ready(self, run_id: str | None = None) -> list[str]:
        """Ids of the waiting runs (or this one, if it is among them) whose signal or decision has come, whose deadline has
        passed, or that wait for money: whether there is enough is found out by asking."""
        ...

    async def cancel(self, run_id: str) -> None:
        """Ask for a run to be cancelled: at once where nobody performs it, else before its next call."""
        ...


def done_future() -> asyncio.Future[None]:
    """What a journal in memory answers when asked whether it is durable."""
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    future.set_result(None)
    return future
