"""One SQLite file: opening, migrating, reading; which processes are alive, and what the dead ones left open."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import apsw

from orchestrion.errors import StoreError
from orchestrion.store.errors import store_error
from orchestrion.store.queries import migrations, queries
from orchestrion.store.session import Keeper, Row, Session, SqliteConnection
from orchestrion.store.writer import Writer

BUSY_MS = 30_000
SERIAL_BITS = 32
CHECKPOINT_PAGES = 8_000  # 32 MB: a checkpoint costs two more fsyncs, on somebody's commit


class Database:
    """An open database. ``process`` numbers this process; ids made by ``serial`` carry it in their upper bits."""

    def __init__(
        self,
        path: Path | None,
        *,
        statements: Mapping[str, str],
        claims: str | None = None,
        keeper: Keeper | None = None,
        secure: bool = False,
    ) -> None:
        """Open or create the file (None: one that vanishes when closed). Raises StoreError.

        ``keeper`` keeps the balances; who opens a database without one only looks, and clears up after nobody.
        ``secure``: what is overwritten or deleted is zeroed in the file, too.
        """
        self._secure = secure
        self._keeper = keeper
        self._temporary = tempfile.mkdtemp(prefix="orchestrion-") if path is None else None
        self.path = path if path is not None else Path(self._temporary or "") / "memory.db"
        with self._explained():
            self._connection = self._connect()
            self._migrate()
            self.reader = self._connect()
            self._join()
        self.writer = Writer(
            SqliteConnection(self._connection), statements, name=str(self.path), claims=claims, keeper=keeper
        )
        self._serial = 0

    def serial(self) -> int:
        """A new id, unique among all processes on this file."""
        self._serial += 1
        return self.process << SERIAL_BITS | self._serial

    def read(self, statement: str, row: Row | Mapping[str, Any] = ()) -> list[tuple[Any, ...]]:
        """The rows of a query, as of the last commit. Raises StoreError."""
        try:
            return self.reader.execute(statement, row).fetchall()
        except apsw.Error as cause:
            raise store_error(cause, str(self.path)) from cause

    @contextlib.contextmanager
    def reading(self) -> Iterator[Session]:
        """Several queries, each as of the last commit. Raises StoreError."""
        with self._explained():
            yield SqliteConnection(self.reader)

    @contextlib.contextmanager
    def transaction(self) -> Iterator[Session]:
        """One transaction at once, for what must be certain before anything goes on, and is rare: it does not wait for a
        batch. An error within it leaves the database as it was. Raises StoreError."""
        connection = SqliteConnection(self.reader)
        with self._explained():
            connection.begin()
            try:
                yield connection
                connection.commit()
            except BaseException:
                connection.rollback()
                raise

    def take(self, statement: str, row: Row, *, then: Callable[[Session], object] | None = None) -> bool:
        """Run one update at once; whether it changed a row. If it did, ``then`` works in the same transaction. Raises
        StoreError."""
        with self.transaction() as session:
            taken = bool(session.execute(statement, row))
            if taken and then:
                then(session)
            return taken

    async def close(self, *, compact: bool = False) -> None:
        """Write what is left, and leave. ``compact``: write the file anew, so that nothing deleted is left in its pages."""
        try:
            await self.writer.close()
            if not self.writer.broken:
                with self._explained():
                    self._leave(self.process)
                if compact:
                    self._compact()
        finally:
            self._shut()

    def truncate_log(self) -> None:
        """Bring the write-ahead log into the database and empty it; where it is in use, some other time. From any thread."""
        with contextlib.suppress(apsw.Error), contextlib.closing(self._connect()) as connection:
            connection.set_busy_timeout(100)
            connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)

    def _compact(self) -> None:
        """Zeroing is not all: where rows moved between pages, SQLite leaves copies behind. Another process that is on the
        database, or a full disk, puts it off to the next time."""
        with contextlib.suppress(apsw.Error):
            self._connection.set_busy_timeout(0)
            self._connection.execute("vacuum")
            self._connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)

    def _shut(self) -> None:
        for connection in (self.reader, self._connection):
            connection.close()
        os.close(self._lock)
        self._lock_file.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # other processes are on this database
            self._lock_file.parent.rmdir()
        if self._temporary:
            shutil.rmtree(self._temporary, ignore_errors=True)

    def _connect(self) -> apsw.Connection:
        connection = apsw.Connection(str(self.path))
        connection.set_busy_timeout(BUSY_MS)
        connection.pragma("journal_mode", "wal")
        connection.pragma("synchronous", "off" if self._temporary else "full")
        connection.pragma("wal_autocheckpoint", CHECKPOINT_PAGES)
        if self._secure:
            connection.pragma("secure_delete", "on")
        connection.pragma("fullfsync", 1)  # macOS: an fsync that reaches the disk
        return connection

    def _migrate(self) -> None:
        known = migrations()
        if self._version() == known[-1][0]:
            return
        connection = self._connection
        connection.execute("begin immediate")  # one process migrates; the others wait here and find it done
        try:
            version = self._version()
            if version > known[-1][0]:
                raise StoreError(
                    f"{self.path} was written by a newer version of Orchestrion (its format is {version}, this version "
                    f"knows {known[-1][0]}). Upgrade with `pip install -U orchestrion`, or name another database."
                )
            for number, text in known:
                if number > version:
                    connection.execute(text)
                    connection.pragma("user_version", number)
            connection.execute("commit")
        except BaseException:
            connection.execute("rollback")
            raise

    def _version(self) -> int:
        return int(str(self._connection.pragma("user_version")))

    def _join(self) -> None:
        """Register this process, under a lock file that the operating system frees when it dies, and clear up after dead ones.

        The file is locked before its name stands in the table, so whoever finds the name can tell living from dead.
        """
        token, sql = uuid.uuid4().hex, queries("process")
        self.token = token
        file = self.path.resolve()  # by whatever name it was opened: SQLite's own files stand beside this one, too
        folder = file.with_name(file.name + "-processes")
        self._lock_file = folder / f"{token}.lock"
        while True:
            folder.mkdir(exist_ok=True)
            with contextlib.suppress(FileNotFoundError):  # the last process to leave removed the folder just now
                self._lock = os.open(self._lock_file, os.O_CREAT | os.O_RDWR, 0o600)
                break
        fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with self._connection:
            row: Any = self._connection.execute(sql["start"], (token, os.getpid(), time.time())).fetchone()
        self.process = int(row[0])
        others: Any = self._connection.execute(sql["open"], (token,)).fetchall() if self._keeper else ()
        for process, other in others:
            if self._dead(folder / f"{other}.lock"):
                self._leave(process)

    @staticmethod
    def _dead(lock_file: Path) -> bool:
        try:
            lock = os.open(lock_file, os.O_RDWR)
        except FileNotFoundError:
            return True
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        finally:
            os.close(lock)
        lock_file.unlink(missing_ok=True)
        return True

    def _leave(self, process: int) -> None:
        """Book a process's open holds in full, set its runs free, and note its end: in one transaction."""
        sql, now = queries("process"), time.time()
        with self._connection:
            first = process << SERIAL_BITS
            self._connection.execute(sql["free_runs"], (process,))
            if self._keeper:
                self._keeper.leave(SqliteConnection(self._connection), first, first | (1 << SERIAL_BITS) - 1, now)
                self._connection.execute(sql["withdraw_cancelled"])  # with what they hold
            self._connection.execute(sql["end"], (now, process))

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except apsw.Error as cause:
            raise store_error(cause, str(self.path)) from cause
        except OSError as cause:
            raise StoreError(
                f"{self.path} cannot be used: {cause.strerror or cause}. Name another database in the settings, or mend the folder."
            ) from cause
