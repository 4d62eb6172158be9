"""Where in a run the code stands: which branch, and how many calls of each step came before.

A step's number is allotted when it is called, not when it is awaited, and each branch of ``gather`` and ``map`` has a
scope of its own: so a key means the same call again when a run is resumed, in whatever order the branches finish.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from contextvars import ContextVar, Token
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from orchestrion.errors import WorkflowError
from orchestrion.journal.protocol import FUNDS, Key

if TYPE_CHECKING:
    from orchestrion.engine.execution import Execution

T = TypeVar("T")
I = TypeVar("I")  # noqa: E741  # an item
_here: ContextVar[Scope] = ContextVar("orchestrion_scope")


class Scope:
    """One branch of a run."""

    __slots__ = ("_blocks", "_counts", "execution", "path")

    def __init__(self, execution: Execution, path: str = "") -> None:
        self.execution = execution
        self.path = path
        self._counts: dict[str, int] = {}
        self._blocks = 0

    def key(self, step: str) -> Key:
        """The next key of a step in this branch."""
        n = self._counts.get(step, 0)
        self._counts[step] = n + 1
        return Key(self.path, step, n)

    def called(self, key: Key) -> bool:
        """Whether a step of this branch was called so often that this key is allotted."""
        return key.n < self._counts.get(key.step, 0)

    def block(self) -> str:
        """The path of the next gather or map in this branch."""
        self._blocks += 1
        return f"{self.path}{self._blocks - 1}."

    def enter(self) -> Token[Scope]:
        """Stand in this branch, in the current asyncio task, until ``leave``."""
        return _here.set(self)

    @staticmethod
    def leave(token: Token[Scope]) -> None:
        """Stand where the task stood before."""
        _here.reset(token)


class Parted(BaseException):  # not an error
    """Leaves a workflow before its end. Not an Exception: a workflow's own ``except Exception`` must not hold it."""


class Interrupted(Parted):
    """The app is stopping: the run goes on when it is resumed."""


REVIEW = "review "
"""What a run wants that waits for a person: this, and the request's id."""


class Waits(Parted):
    """The run waits for a signal, or for a person, and leaves memory.

    ``problem`` says what was wrong with the value that came, ``question`` what the person asks of the task's owner.
    """

    def __init__(self, name: str, *, problem: str | None = None, question: str | None = None) -> None:
        super().__init__(name)
        self.name = name
        self.problem = problem
        self.question = question


def here() -> Scope:
    """The branch that the caller stands in. Raises WorkflowError outside a workflow."""
    scope = _here.get(None)
    if scope is None:
        raise WorkflowError(
            "a step was called outside a workflow: call it in an async function under @workflow, and run that with Orchestrion.run."
        )
    return scope


async def gather(*branches: Awaitable[T]) -> list[T]:
    """Await all branches at once, each in a scope of its own; their results in order.

    All branches end before an error goes on: what was asked is paid for, and its answer is kept. Of several errors the
    first branch's is raised.
    """
    scope = here()
    block = scope.block()

    async def branch(i: int, awaitable: Awaitable[T]) -> T:
        Scope(scope.execution, f"{block}{i}/").enter()
        return await awaitable

    tasks = [asyncio.ensure_future(branch(i, awaitable)) for i, awaitable in enumerate(branches)]
    try:
        if tasks:
            await asyncio.wait(tasks)
    except asyncio.CancelledError:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        raise
    errors = [error for task in tasks if (error := asyncio.CancelledError() if task.cancelled() else task.exception())]
    if errors:
        raise next((error for error in errors if not isinstance(error, Waits)), errors[0])
    return [task.result() for task in tasks]


async def map(function: Callable[[I], Awaitable[T]], items: Iterable[I], *, limit: int = 16) -> list[T]:  # noqa: A001  # read as orchestrion.map
    """``gather`` of an async function over items, at most ``limit`` at a time."""
    slots = asyncio.Semaphore(limit)

    async def one(item: I) -> T:
        async with slots:
            return await function(item)

    return await gather(*(one(item) for item in items))


async def wait_for(name: str, *, output: Any = str) -> Any:
    """The value of a signal, as ``output``'s type. Until it has come the run waits, in the database only.

    Code before a wait runs again when the run comes back, its steps from the journal. A value that has not the type is
    refused: the run goes on waiting, and another may be sent.
    """
    for taken in (REVIEW, FUNDS):
        if name.startswith(taken):
            raise WorkflowError(f"a signal's name does not begin with {taken!r}, as that of {name!r} does.")
    log = here().execution.log
    text = log.signals.get(name)
    if text is None:
        raise Waits(name)
    try:
        value = TypeAdapter(output).validate_json(text)
    except ValidationError as error:
        said = error.errors(include_url=False)[0]["msg"]
        raise Waits(name, problem=f"its signal '{name}' was refused: {said}, got {text[:80]}. Send it again.") from None
    log.take(name)
    return value
