"""A Python function as a worker: plain code within a workflow, journaled like any answer, at no cost."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from pydantic_core import to_json

from orchestrion.domain import FREE, Money, Price, Reply, Request
from orchestrion.errors import WorkerFailed
from orchestrion.workers.protocol import OnDelta


class FunctionWorker:
    """Calls a function (plain or async) with the step's input. What it returns becomes JSON, as any worker's output."""

    price: Price | None = FREE

    def __init__(self, name: str, function: Callable[..., Any], *, text: bool = False) -> None:
        """``text``: the function returns a string that is the output as it is, not a JSON value."""
        self.name = name
        self._function = function
        self._text = text

    def bound(self, request: Request) -> Money:
        return 0

    def tokens(self, request: Request) -> int:
        return 0

    async def reply(self, request: Request, on_delta: OnDelta | None = None) -> Reply:
        try:
            value = self._function(request.value)
            if inspect.isawaitable(value):
                value = await value
            return Reply(value if self._text and isinstance(value, str) else to_json(value).decode())
        except Exception as error:
            message = f"{self.name} raised {type(error).__name__}: {error}"
            raise WorkerFailed("exception", message, billed="no") from error
