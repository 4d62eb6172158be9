"""One writer with group commit.

Rows are put from the event loop and cost it a list append. A thread takes everything that has gathered, writes it in one
transaction and commits it (with fsync: synchronous is FULL); meanwhile the next batch gathers. So under load one fsync
serves every step that waits, and alone a step waits for one commit. A batch is all or nothing. After a failed commit the
writer takes nothing more: whoever waits gets the StoreError, and what was committed before stands.

Within a batch statements run in the order in which ``statements`` lists them, and rows of one statement in the order in
which they were put: list inserts before the updates that rely on them.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from collections.abc import Callable, Mapping
from typing import Any

from orchestrion.errors import StoreError
from orchestrion.store.errors import KEPT
from orchestrion.store.session import Connection, Keeper, Row


class Writer:
    """The only writer of this process. Bound to the event loop that runs when it is first used."""

    def __init__(
        self,
        connection: Connection,
        statements: Mapping[str, str],
        *,
        name: str,
        claims: str | None = None,
        keeper: Keeper | None = None,
    ) -> None:
        """``name`` is the database's, for errors. ``claims`` names a statement that may leave rows out (on conflict do
        nothing): see ``lost``. ``keeper`` works within each transaction; what it returns is given to ``applied``, on
        the loop, with the batch's number."""
        self._connection = connection
        self._statements = statements
        self._name = name
        self._claims = claims
        self._keeper = keeper
        self.applied: Callable[[int, Any], None] = lambda number, result: None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._gathered: dict[str, list[Row]] = {}
        self.batch = 0
        self._waiters: list[asyncio.Future[None]] = []
        self._writing = False
        self._scheduled = False
        self._queue: queue.SimpleQueue[tuple[int, dict[str, list[Row]], list[asyncio.Future[None]]] | None] = (
            queue.SimpleQueue()
        )
        self._thread: threading.Thread | None = None
        self.broken: StoreError | None = None
        self.lost: set[Any] = set()
        """First values of rows whose claim another process had made before."""

    def put(self, statement: str, row: Row) -> int:
        """Add a row to the next commit; ``durable`` tells when it is done. Raises StoreError after a failed commit.

        Returns the batch's number: while ``batch`` is the same, the row still gathers, and a list may be changed.
        """
        if self.broken:
            raise self.broken
        rows = self._gathered.get(statement)
        if rows is None:
            self._gathered[statement] = [row]
            if not self._scheduled and not self._writing:
                self._schedule()
        else:
            rows.append(row)
        return self.batch

    def durable(self) -> asyncio.Future[None]:
        """A future that is done when everything put so far is on disk. Raises StoreError where that failed.

        Each waiter has one of its own: a task that is cancelled cancels what it waits for.
        """
        if self.broken:
            raise self.broken
        if not self._scheduled and not self._writing:
            self._schedule()
        assert self._loop is not None  # noqa: S101  # set by _schedule, for the type checker
        waiter = self._loop.create_future()
        self._waiters.append(waiter)
        return waiter

    async def close(self) -> None:
        """Write what is left and end the thread."""
        with contextlib.suppress(StoreError):  # whoever waited for that commit has heard of it
            while (self._gathered or self._writing or self._scheduled) and not self.broken:
                await self.durable()
        if self._thread:
            self._queue.put(None)
            self._thread.join()
            self._thread = None

    def _start(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._write_batches, name="orchestrion-writer", daemon=True)
        self._thread.start()

    def _schedule(self) -> None:
        if self._loop is None:
            self._start()
        assert self._loop is not None  # noqa: S101  # set by _start, for the type checker
        self._scheduled = True
        self._loop.call_soon(self._flush)  # behind every task that is ready now: they join this batch

    def _flush(self) -> None:
        self._scheduled = False
        self._writing = True
        number, batch, waiters = self.batch, self._gathered, self._waiters
        self.batch += 1
        self._gathered, self._waiters = {}, []
        self._queue.put((number, batch, waiters))

    def _write_batches(self) -> None:
        assert self._loop is not None  # noqa: S101  # the thread starts with it, for the type checker
        while (work := self._queue.get()) is not None:
            number, batch, waiters = work
            error, lost, result = None, (), None
            try:
                lost, result = self._write(number, batch)
            except (
                Exception
            ) as cause:  # of the database; or a value that it does not take: whoever waits must hear of it
                error = self._connection.explained(cause) or StoreError(
                    f"writing {self._name} failed: {type(cause).__name__}: {cause}. {KEPT}"
                )
            try:
                self._loop.call_soon_threadsafe(self._done, number, waiters, error, lost, result)
            except RuntimeError:
                return  # the loop was closed under us: nobody waits any more

    def _write(self, number: int, batch: dict[str, list[Row]]) -> tuple[tuple[Any, ...], Any]:
        if not batch:
            return (), None
        connection, lost = self._connection, ()
        connection.begin()
        try:
            result = self._keeper.apply(connection, batch, number) if self._keeper else None
            for name, statement in self._statements.items():
                rows = batch.get(name)
                if not rows:
                    continue
                changed = connection.executemany(statement, rows)
                if name == self._claims and changed < len(rows):
                    lost = self._lost(rows)
            connection.commit()
        except BaseException:
            connection.rollback()
            raise
        return lost, result

    def _lost(self, rows: list[Row]) -> tuple[Any, ...]:
        present = {
            no for (no,) in self._connection.execute("select no from run where no >= ?", (min(row[0] for row in rows),))
        }
        return tuple(row[0] for row in rows if row[0] not in present)

    def _done(
        self,
        number: int,
        waiters: list[asyncio.Future[None]],
        error: StoreError | None,
        lost: tuple[Any, ...],
        result: Any,
    ) -> None:
        self._writing = False
        self.lost.update(lost)
        if result is not None:
            try:
                self.applied(number, result)
            except StoreError as cause:  # it was written; but who cannot read any more shall not go on
                error = cause
        if error:
            self.broken = error
            waiters, self._waiters = waiters + self._waiters, []
        for waiter in waiters:
            if waiter.done():
                continue  # its task was cancelled
            if error:
                waiter.set_exception(error)
                waiter.exception()  # somebody may wait for it or nobody: no warning either way
            else:
                waiter.set_result(None)
        if (self._gathered or self._waiters) and not error:
            self._schedule()
