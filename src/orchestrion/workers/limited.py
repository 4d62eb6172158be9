"""A limit on how many calls of a worker are under way, and on how many start in a minute."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from orchestrion.domain import Reply, Request
from orchestrion.workers.protocol import OnDelta, Worker, unsent
from orchestrion.workers.wrapper import Wrapper


class LimitedWorker(Wrapper):
    """Asks the worker inside when there is room. Starts are spaced evenly: a provider counts in windows of its own.

    A call that waits here has its money held already: what is asked is bounded before it is queued. ``proceed`` is called
    when its turn comes, and raises where no new call may start any more.
    """

    def __init__(
        self,
        worker: Worker,
        *,
        concurrency: int,
        requests_per_minute: float | None = None,
        proceed: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__(worker)
        self._proceed = proceed
        self._slots = asyncio.Semaphore(concurrency)
        self._pause_s = 60 / requests_per_minute if requests_per_minute else 0.0
        self._next = 0.0

    async def reply(self, request: Request, on_delta: OnDelta | None = None) -> Reply:
        with unsent():
            await self._slots.acquire()
        try:
            if self._pause_s:
                now = asyncio.get_running_loop().time()
                start = max(now, self._next)
                self._next = start + self._pause_s
                with unsent():
                    await asyncio.sleep(start - now)
            self._proceed()
            return await self._worker.reply(request, on_delta)
        finally:
            self._slots.release()
