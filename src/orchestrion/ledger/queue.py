"""Who is served first where money is scarce: calls that wait for what other calls hold.

Within an account the first come is the first served, whatever the others need: a dear call is not starved by cheap ones.
Of several accounts that wait for the same limit the higher class goes first; but one that was passed over PASSED_OVER times is
served next, so that no class starves. Who waits for another limit is not held up: a run that waits for its own limit stands
aside, with all its calls, until that has room.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Collection, Iterator
from time import time
from typing import TypeAlias

from orchestrion.errors import UsageError
from orchestrion.ledger.accounts import CLASSES, Amounts, Class, Key

PASSED_OVER = 16

Result: TypeAlias = "list[int] | None"


class Waiter:
    """Calls of one account that wait. ``future`` gets the ids of their holds, or None where waiting does not help."""

    __slots__ = ("account", "demands", "future", "order", "rank", "run", "since")

    def __init__(self, account: str, demands: tuple[Amounts, ...], run: int | None, order: int, rank: int) -> None:
        self.account = account
        self.rank = rank
        self.since = time()
        self.demands = demands
        self.run = run
        self.order = order
        self.future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()


class _Line:
    """The waiters of one account. ``passed`` counts how often somebody of a higher class went before its first; ``head`` is
    who is served next, and ``aside`` has the runs that wait for their own limit."""

    __slots__ = ("_turn", "aside", "head", "keys", "passed", "rank", "waiters")

    def __init__(self, rank: int, keys: Collection[Key]) -> None:
        self.rank = rank
        self.keys = frozenset(keys)
        self.passed = 0
        self.waiters: deque[Waiter] = deque()
        self.aside: set[int | None] = set()
        self.begin()

    def begin(self) -> None:
        """Begin with the first again: nobody is known to stand aside."""
        self.aside.clear()
        self._turn: Iterator[Waiter] | None = None
        self.advance()

    def advance(self) -> None:
        """On to the next."""
        waiters = self.waiters if self._turn is None else self._turn
        self.head: Waiter | None = next((one for one in waiters if one.run not in self.aside), None)

    def pass_by(self, run: int | None) -> None:
        """On to the next of another run: this one's own limit is in the way."""
        if self._turn is None:
            self._turn = iter(tuple(self.waiters))
        self.aside.add(run)
        self.advance()

    def place(self) -> tuple[int, int]:
        """Who has the smallest is served next."""
        assert self.head is not None  # noqa: S101  # for the type checker: a line without is not looked at
        return (-1 if self.passed >= PASSED_OVER else self.rank, self.head.order)


class Served:
    """What an attempt to serve a waiter says: holds, or the limits that stand in the way; ``hopeless`` where nothing that
    comes back would help, ``aside`` where its run's own limit is in the way."""

    __slots__ = ("aside", "blocked", "holds", "hopeless")

    def __init__(
        self, holds: Result = None, *, blocked: Collection[Key] = (), hopeless: bool = False, aside: bool = False
    ) -> None:
        self.holds = holds
        self.blocked = blocked
        self.hopeless = hopeless
        self.aside = aside


class Queue:
    """The calls of this process that wait for money."""

    def __init__(self) -> None:
        self._lines: dict[str, _Line] = {}
        self._order = 0

    def __bool__(self) -> bool:
        return bool(self._lines)

    def accounts(self) -> list[str]:
        """The accounts that calls wait on."""
        return list(self._lines)

    def blocks(self, keys: Collection[Key], account: str, run: int | None) -> bool:
        """Whether somebody waits for one of these limits, or for that of the same run: who comes now does not go before."""
        own = self._lines.get(account)
        return (own is not None and run in own.aside) or any(
            line.head is not None and not line.keys.isdisjoint(keys) for line in self._lines.values()
        )

    def first(self) -> Iterator[Waiter]:
        """Of each account the one who is served first."""
        return (line.head for line in self._lines.values() if line.head is not None)

    def add(
        self, account: str, demands: tuple[Amounts, ...], *, run: int | None, rank: Class, keys: Collection[Key]
    ) -> Waiter:
        """Stand behind the others of the account."""
        self._order += 1
        line = self._lines.get(account)
        if line is None:
            line = self._lines[account] = _Line(CLASSES.index(rank), keys)
        waiter = Waiter(account, demands, run, self._order, line.rank)
        line.waiters.append(waiter)
        if line.head is None and run not in line.aside:
            line.head = waiter
        return waiter

    def remove(self, waiter: Waiter) -> None:
        """Go away, served or not."""
        line = self._lines.get(waiter.account)
        if line and waiter in line.waiters:
            line.waiters.remove(waiter)
            if not line.waiters:
                del self._lines[waiter.account]
            elif line.head is waiter:
                line.advance()

    def serve(self, attempt: Callable[[Waiter], Served], keys: Callable[[str], Collection[Key]]) -> None:
        """Serve all that can be served now, in their order. ``keys``: the limits above an account as they are now; where it
        raises, the calls on that account hear of it."""
        for account, line in list(self._lines.items()):
            try:
                line.keys = frozenset(keys(account))
                line.begin()
            except UsageError as error:
                self._fail(account, error)
        blocked: set[Key] = set()
        tried: set[_Line] = set()
        while True:
            lines = (line for line in self._lines.values() if line not in tried and line.head is not None)
            open_lines = [line for line in lines if line.keys.isdisjoint(blocked)]
            if not open_lines:
                return
            line = min(open_lines, key=_Line.place)
            waiter = line.head
            assert waiter is not None  # noqa: S101  # for the type checker
            served = attempt(waiter)
            if served.aside:
                line.pass_by(waiter.run)
                continue
            if served.holds is None and not served.hopeless:
                tried.add(line)
                blocked.update(served.blocked)
                continue
            self.remove(waiter)
            if not waiter.future.done():  # else its time is over, and nobody listens
                waiter.future.set_result(served.holds)
            if served.holds is not None:
                self._pass_over(line)

    def fail(self, error: Exception) -> None:
        """Nobody can be served any more: all hear why."""
        for account in self.accounts():
            self._fail(account, error)

    def _fail(self, account: str, error: Exception) -> None:
        for waiter in self._lines.pop(account).waiters:
            if not waiter.future.done():
                waiter.future.set_exception(error)

    def _pass_over(self, served: _Line) -> None:
        served.passed = 0
        for line in self._lines.values():
            if line.rank > served.rank and not line.keys.isdisjoint(served.keys):
                line.passed += 1
