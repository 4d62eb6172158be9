"""A worker whose bound is raised: its provider bills more than the request's bytes and its output limit tell."""

from __future__ import annotations

import math

from orchestrion.domain import Money, Reply, Request
from orchestrion.workers.protocol import OnDelta, Worker, tokens_bound
from orchestrion.workers.wrapper import Wrapper


class WiderWorker(Wrapper):
    """Asks the worker inside; what is held for a call is ``margin`` times its bound."""

    def __init__(self, worker: Worker, margin: float) -> None:
        super().__init__(worker)
        self._margin = margin

    @property
    def margin(self) -> float:
        return self._margin

    def bound(self, request: Request) -> Money:
        return math.ceil(self._worker.bound(request) * self._margin)

    def tokens(self, request: Request) -> int:
        return math.ceil(tokens_bound(self._worker, request) * self._margin)

    async def reply(self, request: Request, on_delta: OnDelta | None = None) -> Reply:
        return await self._worker.reply(request, on_delta)
