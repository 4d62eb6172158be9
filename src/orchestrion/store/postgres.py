"""A ledger on Postgres: opening, migrating, reading, writing; which processes are alive.

The same shape as ``Database``, for the ledger's tables only, which stand in a schema of their own ("orchestrion"). A process
has one connection. Every transaction takes one advisory lock, so that transactions of the ledger run one after the other,
wherever they come from: nobody writes balances beside the books, and nothing can deadlock. A process lives for as long as
its connection holds the advisory lock of its number: the server frees it when the process or its machine dies.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from orchestrion.errors import StoreError
from orchestrion.store.queries import migrations, queries
from orchestrion.store.session import Keeper, Row, Session
from orchestrion.store.writer import Writer

if TYPE_CHECKING:
    import psycopg

SERIAL_BITS = 32
SCHEMA = "orchestrion"
LEDGER_LOCK = (
    0x6F726368  # "orch": the two halves of an advisory lock's key; the second is 0 for the ledger, else a process
)
CONNECT_S = 10
SETTINGS = (
    f"set search_path = {SCHEMA}; set client_min_messages = warning; "
    # Who falls silent within a transaction holds up every machine; who falls silent otherwise is to count as dead soon.
    "set idle_in_transaction_session_timeout = '10s'; set lock_timeout = '30s'; "
    "set tcp_keepalives_idle = 30; set tcp_keepalives_interval = 10; set tcp_keepalives_count = 3"
)
"""Of every connection. Not in the address's options: poolers refuse those."""

AT_ONCE = (64, 16, 4, 1)
"""Rows of one insert: few sizes, so that the server keeps them prepared."""

KEPT = "What was committed before is kept; nothing new is held until it is back."
VALUES = re.compile(r"values \((\$\d+(?:, \$\d+)*)\)")
UPSERT = re.compile(r"on conflict \((.+?)\) do update")


class PostgresConnection:
    """Statements and transactions on one connection of Postgres, which is made anew where it was lost.

    Used by several threads: a transaction is one thread's from ``begin`` to ``commit`` or ``rollback``.
    """

    def __init__(self, url: str) -> None:
        """Raises StoreError."""
        self._url = url
        self._turn = threading.RLock()
        self._within: int | None = None
        self.name = _name(url)
        self._connection: Any = None
        self._failed: tuple[float, Exception] | None = None
        self.connections = 0
        """How often a connection was made: another one is another process, as far as the server can tell."""
        self.begun: Callable[[], None] = lambda: None
        """Called before every transaction."""

    def execute(self, statement: str, row: Row | Mapping[str, Any] = ()) -> list[tuple[Any, ...]]:
        cursor = self._cursor.execute(statement, row or None)
        return cursor.fetchall() if cursor.description else []

    def executemany(self, statement: str, rows: Sequence[Row]) -> int:
        changed, start = 0, 0
        one = VALUES.search(statement)
        if upsert := UPSERT.search(statement):  # one insert may not write a key twice; its columns stand first
            key = upsert[1].count(",") + 1
            rows = list({tuple(row[:key]): row for row in rows}.values())
        while start < len(rows):
            size = next(size for size in AT_ONCE if size <= len(rows) - start) if one else 1
            text = _for_many(statement, size) if size > 1 else statement
            cursor = self._cursor.execute(text, [value for row in rows[start : start + size] for value in row])
            changed += max(0, cursor.rowcount)
            start += size
        return changed

    def begin(self) -> None:
        self._turn.acquire()
        self._within = threading.get_ident()
        try:
            self.connect()
            self.begun()
            # As one text: a transaction is a round trip shorter.
            self._cursor.execute(f"begin; select pg_advisory_xact_lock({LEDGER_LOCK}, 0)", prepare=False)
        except BaseException:
            self.rollback()
            raise

    def commit(self) -> None:
        try:
            self._cursor.execute("commit")
        except BaseException:
            self._drop()  # nobody knows whether it was committed
            raise
        finally:
            self._end()

    def rollback(self) -> None:
        """End a transaction without its changes; nothing where this thread is in none."""
        if self._within != threading.get_ident():
            return
        try:
            if self._connection is not None:
                self._cursor.execute("rollback")
        except Exception:
            self._drop()  # it was lost, and its transaction with it
        finally:
            self._end()

    def _end(self) -> None:
        self._within = None
        self._turn.release()

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Statements outside of transactions, while no other thread is within one."""
        with self._turn:
            self.connect()
            yield

    def connect(self) -> None:
        """Make the connection where there is none. What took long to fail is not tried again for as long. Raises psycopg's
        errors."""
        if self._connection is not None and not self._connection.closed:
            return
        began = time.monotonic()
        if self._failed and began < self._failed[0]:
            raise self._failed[1]
        driver = _driver()
        try:
            connection = driver.connect(
                self._url,
                autocommit=True,
                connect_timeout=CONNECT_S,
                application_name="orchestrion",
                keepalives_idle=30,
                keepalives_interval=10,
                keepalives_count=3,
                tcp_user_timeout=30_000,
                cursor_factory=driver.RawCursor,
            )
            connection.execute(SETTINGS)
        except driver.Error as error:
            now = time.monotonic()
            self._failed = now + (now - began), error
            raise
        _teach(connection)
        self._connection, self._cursor = connection, connection.cursor()
        self.connections += 1

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()

    def cut(self) -> None:
        """From any thread: whoever waits for an answer gets an error instead."""
        with contextlib.suppress(Exception), socket.socket(fileno=os.dup(self._connection.fileno())) as line:
            line.shutdown(socket.SHUT_RDWR)

    def explained(self, cause: BaseException) -> StoreError | None:
        return store_error(cause, self.name) if isinstance(cause, _driver().Error) else None

    def _drop(self) -> None:
        with contextlib.suppress(Exception):
            self._connection.close()


class Postgres:
    """An open ledger on Postgres. ``process`` numbers this process there; ids made by ``serial`` carry it in their upper bits."""

    def __init__(
        self,
        url: str,
        *,
        token: str = "",
        statements: Mapping[str, str] | None = None,
        keeper: Keeper | None = None,
    ) -> None:
        """Nothing is connected yet: that is done when it is first used. Raises StoreError for an address that is none, and
        where psycopg is missing.

        ``token`` is this process's in its own SQLite file. ``keeper`` keeps the balances of what the ``writer`` writes, and
        posts what dead processes left open; who opens a ledger without one clears up after nobody.
        """
        self.connection = PostgresConnection(url)
        self.name = self.connection.name
        self.process = 0
        self._token = token
        self._keeper = keeper
        self._sql = queries("shared")
        self._serial = 0
        self._ready = False
        self._joined = 0
        self.writer = Writer(self.connection, statements or {}, name=self.name, keeper=keeper)
        self.connection.begun = self._join
        if keeper:
            self._bury()

    def serial(self) -> int:
        """A new id, unique among all processes on this ledger, and all SQLite files."""
        self._serial += 1
        return self.process << SERIAL_BITS | self._serial

    def read(self, statement: str, row: Row = ()) -> list[tuple[Any, ...]]:
        """The rows of a query, as of the last commit. Raises StoreError."""
        with self.reading() as session:
            return session.execute(statement, row)

    @contextlib.contextmanager
    def reading(self) -> Iterator[Session]:
        """Queries one after the other. Raises StoreError."""
        with self._explained(), self.connection.alone():
            self._prepare()
            yield self.connection

    @contextlib.contextmanager
    def transaction(self) -> Iterator[Session]:
        """One transaction, alone on this ledger. An error within it leaves everything as it was. Raises StoreError.

        Where the connection was lost it is made anew, and this process has another number: see ``process``.
        """
        connection = self.connection
        with self._explained():
            with connection.alone():
                self._prepare()
            connection.begin()
            try:
                yield connection
                connection.commit()
            except BaseException:
                connection.rollback()
                raise

    def dead(self, session: Session) -> list[tuple[int, str]]:
        """Processes that ended without a word, with their tokens. Called in a transaction, for which they stay so."""
        rows = session.execute(self._sql["dead"], (self.process, LEDGER_LOCK))
        return [(no, token) for no, token in rows]

    def ended(self, session: Session, process: int, *, guessed: bool = False) -> None:
        """Note a process's end. ``guessed``: what it left open was posted in full, and its own file knows better."""
        session.execute(self._sql["end"], (guessed, process))

    async def close(self) -> None:
        """Write what is left, and leave."""
        try:
            await self.writer.close()
            if not self.writer.broken:
                with self.transaction() as session:
                    if self._keeper:
                        self._leave(session, self.process)
                    else:
                        self.ended(session, self.process)
        finally:
            self.connection.close()

    def _bury(self) -> None:
        with self.transaction() as session:
            for process, _ in self.dead(session):
                self._leave(session, process)

    def _leave(self, session: Session, process: int) -> None:
        assert self._keeper is not None  # noqa: S101  # for the type checker
        first = process << SERIAL_BITS
        [(now,)] = session.execute(self._sql["now"])
        self._keeper.leave(session, first, first | (1 << SERIAL_BITS) - 1, now)
        self.ended(session, process)

    def _join(self) -> None:
        """Register this process, on the connection that then holds its lock: no later transaction takes it back."""
        if self._joined == self.connection.connections:
            return
        row = (self._token, os.getpid(), socket.gethostname(), LEDGER_LOCK)
        [(process, _)] = self.connection.execute(self._sql["start"], row)
        self.process, self._joined = process, self.connection.connections

    def _prepare(self) -> None:
        """Bring the schema up to date. Two processes may open a new ledger at once: one does it, the other finds it done."""
        if self._ready:
            return
        known, connection = migrations("shared"), self.connection
        if self._version() != known[-1][0]:
            connection.execute("begin")
            try:
                connection.execute(f"select pg_advisory_xact_lock({LEDGER_LOCK}, 0)")
                self._migrate(known)
                connection.execute("commit")
            except BaseException:
                with contextlib.suppress(Exception):
                    connection.execute("rollback")
                raise
        self._ready = True

    def _migrate(self, known: list[tuple[int, str]]) -> None:
        connection = self.connection
        connection.execute(f"create schema if not exists {SCHEMA}")
        version = self._version()
        if version > known[-1][0]:
            raise StoreError(
                f"the ledger on {self.name} was written by a newer version of Orchestrion (its format is {version}, this "
                f"version knows {known[-1][0]}). Upgrade with `pip install -U orchestrion`, or name another database."
            )
        if not version:
            connection.execute("create table format (version bigint not null)")
            connection.execute("insert into format (version) values (0)")
        for number, text in known:
            if number > version:
                connection.execute(text)
                connection.execute("update format set version = $1", (number,))

    def _version(self) -> int:
        [(table,)] = self.connection.execute("select to_regclass($1)", (f"{SCHEMA}.format",))
        return int(self.connection.execute("select version from format")[0][0]) if table else 0

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except StoreError:
            raise
        except Exception as cause:
            error = self.connection.explained(cause)
            if error is None:
                raise
            raise error from None  # the driver's own words may name what nobody should read


@lru_cache(maxsize=64)
def _for_many(statement: str, count: int) -> str:
    """An insert of several rows."""
    found = VALUES.search(statement)
    width = found[1].count("$") if found else 0
    rows = (", ".join(f"${i * width + n}" for n in range(1, width + 1)) for i in range(count))
    return VALUES.sub(lambda _: "values " + ", ".join(f"({row})" for row in rows), statement, count=1)


def _driver() -> Any:
    """psycopg, which comes with an extra. Raises StoreError where it is missing."""
    try:
        import psycopg
    except ImportError:
        raise StoreError(
            "a ledger on Postgres needs psycopg: pip install 'orchestrion[postgres]'. Nothing was started."
        ) from None
    return psycopg


def _teach(connection: psycopg.Connection[Any]) -> None:
    """Integers are bigint whatever their size (psycopg would send the smallest type that holds one, and sums of those
    overflow); sums of them come back as integers."""
    from psycopg.adapt import Loader
    from psycopg.types.numeric import Int8BinaryDumper, Int8Dumper

    class Whole(Loader):
        def load(self, data: Any) -> int:
            return int(bytes(data))

    connection.adapters.register_dumper(int, Int8Dumper)
    connection.adapters.register_dumper(int, Int8BinaryDumper)
    connection.adapters.register_loader("numeric", Whole)


def _name(url: str) -> str:
    """How a server is called in errors: user@host/db, without a password. Raises StoreError."""
    driver = _driver()
    try:
        parts = driver.conninfo.conninfo_to_dict(url)
    except driver.Error:
        raise _unreadable() from None
    if (
        "@" in f"{parts.get('host')}{parts.get('port')}{parts.get('dbname')}"
    ):  # a piece of a password, read as something else
        raise _unreadable()
    host = parts.get("host") or parts.get("hostaddr") or "localhost"
    port = f":{parts['port']}" if parts.get("port") else ""
    user = f"{parts['user']}@" if parts.get("user") else ""
    return f"{user}{host}{port}/{parts.get('dbname') or ''}"


def _unreadable() -> StoreError:
    return StoreError(
        "the ledger's address cannot be read: it is written postgresql://USER@HOST:PORT/DATABASE, with %40 for an @ and "
        "%2F for a / within a name or a password."
    )


def store_error(cause: Any, name: str) -> StoreError:
    """What an error of Postgres means for a person, and the way out."""
    said, state = str(cause).strip().lower(), getattr(cause, "sqlstate", None)
    if "password" in said or "authentication" in said or "pg_hba" in said:
        return StoreError(
            f"the ledger's server {name} does not let us in: the user or the password is wrong, or missing. Mend `ledger:` in the "
            "settings (env:NAME takes the address from a variable, so that the password stays out of the file)."
        )
    if state == "42501":
        return StoreError(
            f"the ledger's user may not do this on {name}: {_first_line(cause)}. Opening a ledger for the first time creates the schema "
            f"'{SCHEMA}' (grant create on database … to …); after that its tables are read and written. {KEPT}"
        )
    if state == "55P03":
        return StoreError(f"the ledger on {name} has been busy for 30 s with what another process does. {KEPT}")
    if "does not exist" in said and ("database" in said or "role" in said):
        return StoreError(
            f"the server is there, but {_first_line(cause)} ({name}). Create it (createdb, createuser), or mend `ledger:` in the settings."
        )
    if isinstance(cause, _driver().OperationalError | _driver().InterfaceError):
        return StoreError(
            f"the ledger's server {name} cannot be reached: {_first_line(cause)}. Start it, or mend `ledger:` in the settings. {KEPT}"
        )
    return StoreError(f"the ledger on {name} failed: {type(cause).__name__}: {_first_line(cause)}. {KEPT}")


def _first_line(cause: Any) -> str:
    """What the server says, or the library: of several attempts to connect the last."""
    diagnosis = getattr(cause, "diag", None)
    lines = [line.strip() for line in str(cause).splitlines() if line.strip() and not line.endswith("?")]
    said = (diagnosis and diagnosis.message_primary) or (lines[-1] if lines else type(cause).__name__)
    return str(said).rpartition("FATAL:")[2].strip().rstrip(".")
