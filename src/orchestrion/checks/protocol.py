"""What a check is, and how a plain function becomes one.

A check is a question about attempts: given the task and the attempts of a step so far, it says whether the last of them
is good enough. It does not see the reference. Most checks are plain functions of the step's output:

    def totals_tie_out(facts): return None if facts.total == sum(facts.amounts) else "the total is not the sum"

True or None passes, False refuses, a string refuses with that reason, a number is a score in [0, 1] (below 0.5 refuses),
and a Verdict says it all. A second parameter, if there is one, receives the Task.
"""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Protocol, runtime_checkable

from orchestrion.domain import Attempt, Message, Reply, Task, Verdict


class AskWorker(Protocol):
    """Asks a worker by name, metered and journaled: for checks that are themselves answered by a model."""

    def __call__(
        self, worker: str, messages: tuple[Message, ...], *, schema: Mapping[str, Any] | None = None
    ) -> Awaitable[Reply]:
        """What the worker replies; the cost is noted in the verdict. Raises StepFailed where it does not answer."""
        ...


@runtime_checkable
class Check(Protocol):
    """Answers one question about the last of a step's attempts."""

    @property
    def name(self) -> str:
        """The verdict's name."""
        ...

    def __call__(self, task: Task, attempts: tuple[Attempt, ...], ask: AskWorker) -> Verdict | Awaitable[Verdict]:
        """The verdict; awaitable where the check asks somebody."""
        ...


@runtime_checkable
class AskingCheck(Check, Protocol):
    """A check that says beforehand whom it asks: its calls count in the bound of a run.

    One with an attribute ``reference`` that is True is given the task with its reference; no other check is.
    """

    def calls(self) -> Counter[str]:
        """Whom it asks about one attempt, and how often at most."""
        ...

    def question(self, task: Task, *answers: str) -> tuple[Message, ...]:
        """What it asks about an answer."""
        ...


class CodeCheck:
    """A check that is a plain function of the output's value, and of the task if it takes two arguments."""

    __slots__ = ("_function", "_passed", "_takes_task", "name")

    def __init__(self, function: Callable[..., Any], *, name: str | None = None) -> None:
        self.name: str = name or getattr(function, "__name__", None) or type(function).__name__
        self._function = function
        self._passed = Verdict(self.name, True, 1.0)
        positional = [
            p
            for p in inspect.signature(function).parameters.values()
            if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
        ]
        self._takes_task = len(positional) > 1

    def __call__(self, task: Task, attempts: tuple[Attempt, ...], ask: AskWorker) -> Verdict | Awaitable[Verdict]:
        value = attempts[-1].value
        said: Any = self._function(value, task) if self._takes_task else self._function(value)
        if said is None or said is True:
            return self._passed
        return self._await(said) if inspect.isawaitable(said) else verdict(self.name, said)

    async def _await(self, said: Awaitable[Any]) -> Verdict:
        return verdict(self.name, await said)


def verdict(name: str, said: Any) -> Verdict:
    """What a check function returned, as a Verdict. Raises TypeError for what is none of the allowed answers."""
    if said is None or said is True:
        return Verdict(name, True, 1.0)
    if said is False:
        return Verdict(name, False, 0.0)
    if isinstance(said, str):
        return Verdict(name, False, 0.0, said)
    if isinstance(said, int | float):
        if not 0 <= said <= 1:
            raise ValueError(f"a score lies between 0 and 1, not {said}")
        return Verdict(name, said >= 0.5, float(said))
    if isinstance(said, Verdict):
        return said
    raise TypeError(
        f"a check answers with True, False, None, a reason, a score or a Verdict, not {type(said).__name__}"
    )


def as_check(check: Check | Callable[..., Any], *, nameless: str = "check") -> Check:
    """The check itself, or a plain function as one; ``nameless`` is what a lambda's is called."""
    if isinstance(check, Check):
        return check
    as_code: Check = CodeCheck(check, name=nameless if getattr(check, "__name__", "") == "<lambda>" else None)
    return as_code


def refuse_namesakes(checks: Iterable[Check]) -> None:
    """Raises ValueError where two checks have one name: verdicts are kept, and asked for again, by name."""
    seen: set[str] = set()
    for check in checks:
        if check.name in seen:
            raise ValueError(f"two checks are called {check.name!r}: give each a name of its own (name=…)")
        seen.add(check.name)
