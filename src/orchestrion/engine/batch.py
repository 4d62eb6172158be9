"""Many tasks through one workflow, a bounded number at a time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable

from orchestrion.engine.workflow import Run, Runner, Start, Workflow
from orchestrion.errors import JournalMismatch, RunBusy, RunError, WorkflowError


async def run_batch(
    runner: Runner, workflow: Workflow[object], starts: Iterable[Start], *, concurrency: int, again: bool = False
) -> AsyncIterator[Run]:
    """Perform the starts, at most ``concurrency`` at once, and yield each run as it ends.

    An input that does not fit, a run that another process has, or an id that means another run is a failed Run; an
    error that concerns all (settings, database) ends the batch.
    """
    waiting = iter(starts)
    ended: asyncio.Queue[Run | None] = asyncio.Queue()
    error: BaseException | None = None

    async def lane() -> None:
        """Performs one start after the other; ends with None."""
        nonlocal error
        try:
            for start in waiting:
                if runner.stopping or error:
                    break
                try:
                    run = await runner.run(workflow, start, again=again)
                except WorkflowError as refused:
                    run = _refused(workflow, start, JournalMismatch(str(refused)))
                except JournalMismatch as refused:
                    run = _refused(workflow, start, refused)
                except RunBusy as busy:
                    run = _refused(workflow, start, busy, status="running")  # it goes on elsewhere
                ended.put_nowait(run)
        except BaseException as failed:
            error = error or failed
            raise
        finally:
            ended.put_nowait(None)

    lanes = [asyncio.create_task(lane()) for _ in range(concurrency)]
    try:
        left = len(lanes)
        while left:
            run = await ended.get()
            if run is None:
                left -= 1
            else:
                yield run
        if error:  # the other lanes have ended the runs that they had begun: what was asked is paid for
            raise error
    finally:
        for task in lanes:
            task.cancel()
        await asyncio.gather(*lanes, return_exceptions=True)


def _refused(workflow: Workflow[object], start: Start, error: RunError, *, status: str = "failed") -> Run:
    return Run(id=start.id, task_id=start.task_id, status=status, cost=0, workflow=workflow, error=error)
