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
import os
import queue
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import apsw

from orchestrion.errors import StoreError

Row = Sequence[Any]
KEPT = "Everything that was committed before is kept; the same command goes on from there."


class Writer:
    """The only writer of this process. Bound to the event loop that runs when it is first used."""

    def __init__(
        self, connection: apsw.Connection, statements: Mapping[str, str], *, claims: str | None = None
    ) -> None:
        """``claims`` names a statement that may leave rows out (on conflict do nothing): see ``lost``."""
        self._connection = connection
        self._statements = statements
        self._claims = claims
        self._loop: asyncio.AbstractEventLoop | None = None
        self._gathered: dict[str, list[Row]] = {}
        self.batch = 0
        self._waiters: list[asyncio.Future[None]] = []
        self._writing = False
        self._scheduled = False
        self._queue: queue.SimpleQueue[tuple[dict[str, list[Row]], list[asyncio.Future[None]]] | None] = (
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
        self.batch += 1
        batch, waiters = self._gathered, self._waiters
        self._gathered, self._waiters = {}, []
        self._queue.put((batch, waiters))

    def _write_batches(self) -> None:
        assert self._loop is not None  # noqa: S101  # the thread starts with it, for the type checker
        while (work := self._queue.get()) is not None:
            batch, waiters = work
            error, lost = None, ()
            try:
                lost = self._write(batch)
            except apsw.Error as cause:
                error = store_error(cause, self._connection.filename)
            except Exception as cause:  # a value that SQLite does not take: whoever waits must hear of it
                error = StoreError(
                    f"writing {self._connection.filename} failed: {type(cause).__name__}: {cause}. {KEPT}"
                )
            try:
                self._loop.call_soon_threadsafe(self._done, waiters, error, lost)
            except RuntimeError:
                return  # the loop was closed under us: nobody waits any more

    def _write(self, batch: dict[str, list[Row]]) -> tuple[Any, ...]:
        if not batch:
            return ()
        connection, lost = self._connection, ()
        connection.execute("begin immediate")
        try:
            for name, statement in self._statements.items():
                rows = batch.get(name)
                if rows is None:
                    continue
                before = connection.total_changes()
                connection.executemany(statement, rows)
                if name == self._claims and connection.total_changes() - before < len(rows):
                    lost = self._lost(rows)
            connection.execute("commit")
        except BaseException:
            if connection.in_transaction:
                connection.execute("rollback")
            raise
        return lost

    def _lost(self, rows: list[Row]) -> tuple[Any, ...]:
        present = {
            no for (no,) in self._connection.execute("select no from run where no >= ?", (min(row[0] for row in rows),))
        }
        return tuple(row[0] for row in rows if row[0] not in present)

    def _done(self, waiters: list[asyncio.Future[None]], error: StoreError | None, lost: tuple[Any, ...]) -> None:
        self._writing = False
        self.lost.update(lost)
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


def _read_only(cause: apsw.Error, file: str) -> bool:
    """Whether a file that cannot be opened is there, in a folder that cannot be written."""
    path = Path(file)
    return (
        isinstance(cause, apsw.CantOpenError)
        and path.exists()
        and not (os.access(path, os.W_OK) and os.access(path.parent, os.W_OK))
    )


def store_error(cause: apsw.Error, file: str) -> StoreError:
    """What an SQLite error means for a person, and the way out."""
    kept = KEPT
    if isinstance(cause, apsw.FullError):
        return StoreError(f"the disk that holds {file} is full. Make room and start again. {kept}")
    if isinstance(cause, apsw.ReadOnlyError | apsw.PermissionsError | apsw.AuthError) or _read_only(cause, file):
        return StoreError(
            f"{file} cannot be written: the file or its folder is read-only. Change its permissions, or name another database in the settings. {kept}"
        )
    if isinstance(cause, apsw.CantOpenError):
        return StoreError(
            f"{file} cannot be opened: its folder is missing or not writable. Create the folder, or name another database in the settings."
        )
    if isinstance(cause, apsw.BusyError | apsw.LockedError):
        return StoreError(
            f"{file} is being written by another process and stayed locked for 30 s. End that process, or wait for it. {kept}"
        )
    if isinstance(cause, apsw.NotADBError | apsw.CorruptError):
        return StoreError(
            f"{file} is not a database of Orchestrion, or is damaged ({cause}). Name another database in the settings, or restore a copy."
        )
    return StoreError(f"writing {file} failed: {cause}. {kept}")
