"""Fakes for tests of your own steps and workflows: a worker that answers by script, a journal and a ledger in memory.

cheap = ScriptedWorker("cheap", ["not a number", "42"])
async with Orchestrion.open(Settings(database=":memory:"), workers=[cheap]) as o:
    run = await o.run(answer, "6 × 7?")
assert (run.result, cheap.asked) == ("42", 2)
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import TypeAlias

from orchestrion.domain import Money, Price, Reply, Request, Usage
from orchestrion.journal.memory import MemoryJournal
from orchestrion.ledger.memory import MemoryLedger
from orchestrion.workers.protocol import OnDelta, call_bound

__all__ = ["MemoryJournal", "MemoryLedger", "ScriptedWorker"]

Answer: TypeAlias = str | Reply | Exception
"""A text, a whole Reply, or what is raised: WorkerFailed for a call that fails."""

Script: TypeAlias = Callable[[Request], Answer | Awaitable[Answer]] | Iterable[Answer]

PRICE = Price(input=1_000_000_000, output=4_000_000_000)
"""$1 and $4 per million tokens."""

TOKENS = Usage(input_tokens=10, output_tokens=5)


class ScriptedWorker:
    """Answers by a function of the Request (plain or async), or with a list's items in turn; counts and keeps its calls.

    A text is a Reply of 10 input and 5 output tokens. A list that has come to its end raises AssertionError: the step
    asked more often than its test expects.
    """

    def __init__(
        self, name: str, script: Script, *, price: Price = PRICE, max_output: int = 100, model: str | None = None
    ) -> None:
        self.name = name
        self.model: str | None = model
        self.price: Price | None = price
        self.max_output = max_output
        self.requests: list[Request] = []
        self._price = price
        self._script = script if callable(script) else self._in_turn(iter(script))

    @property
    def asked(self) -> int:
        """How often it was asked."""
        return len(self.requests)

    def bound(self, request: Request) -> Money:
        return call_bound(self._price, request, self.max_output)

    async def reply(self, request: Request, on_delta: OnDelta | None = None) -> Reply:
        self.requests.append(request)
        said = self._script(request)
        answer = await said if inspect.isawaitable(said) else said
        if isinstance(answer, Exception):
            raise answer
        reply = Reply(answer, usage=TOKENS) if isinstance(answer, str) else answer
        if on_delta:
            on_delta(reply.output)
        return reply

    def _in_turn(self, answers: Iterator[Answer]) -> Callable[[Request], Answer]:
        def script(request: Request) -> Answer:
            answer = next(answers, None)
            if answer is None:
                raise AssertionError(
                    f"'{self.name}' was asked a {self.asked}. time, but its script has only {self.asked - 1} answers"
                )
            return answer

        return script
