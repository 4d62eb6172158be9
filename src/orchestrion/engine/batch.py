"""Many tasks through one workflow, a bounded number at a time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable

from orchestrion.engine.workflow import Run, Runner, Start, Workflow
from orchestrion.errors import JournalMismatch, RunBusy, WorkflowError


async def run_batch(
    runner: Runner, workflow: Workflow[object], starts: Iterable[Start], *, concurrency: int, again: bool = False
) -> AsyncIterator[Run]:
    """Perform the starts, at most ``concurrency`` at once, and yield each run as it ends.

    An input that does not fit, a run that another process has, or an id that means another run is a failed Run; an
    error that concerns all (settings, database) ends the batch.
    """
    waiting = iter(starts)
    live: set[asyncio.Task[Run]] = set()

    async def one(start: Start) -> Run:
        try:
            return await runner.run(workflow, start, again=again)
        except WorkflowError as error:
            return _refused(workflow, start, JournalMismatch(str(error)))
        except (JournalMismatch, RunBusy) as error:
            return _refused(workflow, start, error)

    def fill() -> None:
        while len(live) < concurrency and not runner.stopping:
            start = next(waiting, None)
            if start is None:
                return
            live.add(asyncio.create_task(one(start)))

    try:
        fill()
        while live:
            done, pending = await asyncio.wait(live, return_when=asyncio.FIRST_COMPLETED)
            live = pending
            fill()
            for task in done:
                yield task.result()
    finally:
        for task in live:
            task.cancel()
        if live:
            await asyncio.wait(live)


def _refused(workflow: Workflow[object], start: Start, error: JournalMismatch | RunBusy) -> Run:
    return Run(id=start.id, task_id=start.task_id, status="failed", cost=0, workflow=workflow, error=error)
