"""The journal in SQLite: every note is a row for the one writer, and ``durable`` waits for its next commit.

The ledger's entries go through the same writer, so an Ask and its holds are in one commit, and so are an attempt and its
post.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Iterable
from typing import Any

from pydantic_core import from_json, to_json

from orchestrion.domain import Attempt, Call, storable
from orchestrion.errors import RunBusy, UsageError
from orchestrion.journal.codec import (
    decode_attempt,
    decode_calls,
    encode_body,
    encode_calls,
    judged_in,
    pack,
    unpack,
    whole,
)
from orchestrion.journal.protocol import Basis, Key, NewRun, RunRecord, StepMemory
from orchestrion.store.database import Database
from orchestrion.store.queries import queries

WRITES = (
    "claim",
    "basis",
    "ask",
    "attempt",
    "judged",
    "accept",
    "take",
    "taken",
    "signal",
    "finish",
    "cancel",
    "reopen",
)


def statements() -> dict[str, str]:
    """What the writer runs for the journal, inserts before the updates that rely on them."""
    sql = queries("journal")
    return {name: sql[name] for name in WRITES}


class Bases:
    """What this process has asked under so far. Each basis is one row, and the Asks carry its number: they are thousands."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._numbers: dict[Basis, int] = {}

    def number(self, basis: Basis) -> int:
        """The number of a basis; its row goes into the commit of the first Ask that carries it."""
        no = self._numbers.get(basis)
        if no is None:
            no = self._numbers[basis] = self._database.serial()
            models = {worker: model for worker, model in basis.models if model}
            self._database.writer.put("basis", (no, basis.instructions, to_json(models).decode()))
        return no


class EmbeddedRunLog:
    """The journal of one run. Two lists of remembered rows are read when a run is resumed, none when it starts."""

    __slots__ = (
        "_bases",
        "_batch",
        "_database",
        "_forgot",
        "_fresh",
        "_memory",
        "_mine",
        "_reopened",
        "_writer",
        "account",
        "cost",
        "id",
        "no",
        "signals",
    )

    def __init__(self, database: Database, bases: Bases, no: int, run_id: str, account: str) -> None:
        self._database = database
        self._bases = bases
        self._writer = database.writer
        self.no = no
        self.id = run_id
        self.account = account
        self.cost = 0
        self.signals: dict[str, str] = {}
        self._memory: dict[Key, StepMemory] | None = None
        self._forgot = False
        self._reopened = 0
        self._mine = False
        self._fresh: list[Any] | None = None
        self._batch = 0

    def remember(self, *, cost: int) -> None:
        """Read what earlier processes noted."""
        sql, read = queries("journal"), self._database.read
        self.cost = cost
        [(self._reopened,)] = read(sql["reopened"], (self.no,))
        self.signals = {name: unpack(value) or "" for name, value in read(sql["signals"], (self.no,))}
        attempts = {row[0]: row for row in read(sql["attempts"], (self.no,))}
        self._memory = {}
        asks = read(sql["asks"], (self.no,))
        for i, (scope, step, n, _turn, input_digest, stored, calls, *_) in enumerate(asks):
            key = Key(scope, step, n)
            memory = self._memory.setdefault(key, StepMemory(input_digest, unpack(stored)))
            reopened = self._reopened if i < self._reopened else 0
            _recall(memory, decode_calls(calls), attempts, reopened=reopened)
        self._forgot = any(memory.forgotten and memory.accepted is None for memory in self._memory.values())

    def recall(self, key: Key) -> StepMemory | None:
        return self._memory.pop(key, None) if self._memory else None

    def unvisited(self, scope: str | None = None) -> list[Key]:
        if not self._memory or self._forgot:
            return []
        # A check's own asks are read with it.
        return sorted(key for key in self._memory if "~" not in key.scope and (scope is None or key.scope == scope))

    def ask(
        self,
        key: Key,
        turn: int,
        digest: str,
        input: str | None,
        calls: list[tuple[int, Call]],
        basis: Basis | None = None,
    ) -> None:
        row = (self.no, key.scope, key.step, key.n, turn, digest, pack(input), encode_calls(calls))
        self._writer.put("ask", (*row, self._bases.number(basis) if basis else None))

    def attempt(self, attempt: Attempt, *, checked: bool) -> None:
        body = encode_body(attempt, checked=checked)
        row = [attempt.hold, attempt.call.worker, attempt.cost, 0, pack(attempt.output), body]
        self._fresh, self._batch = row, self._writer.put("attempt", row)

    def judged(self, attempt: Attempt) -> None:
        self._writer.put("judged", (encode_body(attempt, checked=True, reopened=self._reopened), attempt.hold))

    def accept(self, hold: int, *, constrained: bool) -> None:
        accepted, fresh = 2 if constrained else 1, self._fresh
        if fresh and fresh[0] == hold and self._batch == self._writer.batch:
            fresh[3] = accepted  # its row still gathers: most answers are accepted in the commit that notes them
        else:
            self._writer.put("accept", (accepted, hold))

    def take(self, signal: str) -> None:
        self._writer.put("taken", (pack(self.signals[signal]), self.no, signal))

    def durable(self) -> Awaitable[None]:
        return self._writer.durable() if self._mine else self._claimed()

    async def _claimed(self) -> None:
        """The first commit tells whether the run is this process's: another may have started it at the same moment."""
        await self._writer.durable()
        if self.no in self._writer.lost:
            raise RunBusy(f"run '{self.id}' was started by another process at the same moment; it goes on there.")
        self._mine = True

    async def finish(
        self, status: str, *, result: str | None = None, error: str | None = None, wants: str | None = None
    ) -> None:
        if self.no in self._writer.lost:
            return
        self._writer.put("finish", (status, pack(result), error and storable(error), wants, time.time(), self.no))
        await self._writer.durable()

    def release(self) -> None:
        if not self._writer.broken:
            self._writer.put("finish", ("running", None, None, None, time.time(), self.no))


class EmbeddedJournal:
    """All runs of one database."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._writer = database.writer
        self._bases = Bases(database)
        self._sql = queries("journal")

    def find(self, run_id: str) -> RunRecord | None:
        if not self._database.read(
            self._sql["exists"], (run_id,)
        ):  # most runs are new, and this takes a fifth of the time
            return None
        return _run_record(self._database.read(self._sql["find"], (run_id,))[0])

    def start(self, new: NewRun) -> EmbeddedRunLog:
        log = EmbeddedRunLog(self._database, self._bases, self._database.serial(), new.id, new.account)
        now = time.time()
        tags = to_json(dict(new.tags)).decode() if new.tags else None
        reference = None if new.reference is None else to_json(new.reference).decode()
        row = (
            log.no,
            new.id,
            new.workflow,
            new.batch,
            new.task_id,
            pack(new.input),
            new.digest,
            tags,
            reference,
            new.account,
            new.policy,
        )
        self._writer.put("claim", (*row, self._database.process, now, now))
        return log

    async def resume(self, run_id: str) -> EmbeddedRunLog:
        await self._writer.durable()
        no, now = self.number(run_id), time.time()
        # Runs that are taken at once share a commit. Whether this one was free then is read afterwards: no other taking
        # leaves this process and this moment in its row.
        self._writer.put("take", (self._database.process, now, no))
        await self._writer.durable()
        taken = self._database.read(self._sql["find"], (run_id,))
        if (taken[0][12], taken[0][18]) != (self._database.process, now):
            raise RunBusy(
                f"run '{run_id}' is being performed by another process. Wait for it, or end that process first."
            )
        log = EmbeddedRunLog(self._database, self._bases, no, run_id, taken[0][9])
        log._mine = True
        log.remember(cost=taken[0][-1])
        return log

    async def reopen(self, run_id: str) -> None:
        await self._update("reopen", run_id)

    async def cancel(self, run_id: str) -> None:
        await self._update("cancel", run_id, time.time())

    async def signal(self, run_id: str, name: str, value: str) -> None:
        no = self.number(run_id)
        record = self.find(run_id)
        if record and record.status == "done":
            raise UsageError(f"run '{run_id}' is done: it takes no signal any more.")
        self._writer.put("signal", (no, name, pack(value), time.time()))
        await self._writer.durable()
        stored = {key: unpack(text) for key, text in self._database.read(self._sql["signals"], (no,))}
        if stored[name] != value:
            raise UsageError(f"run '{run_id}' has taken its signal '{name}' already: {stored[name]}.")

    def cancelled(self) -> set[int]:
        """Runs of this process that somebody asked to cancel."""
        return {no for (no,) in self._database.read(self._sql["cancelled"], (self._database.process,))}

    def ready(self, run_id: str | None = None) -> list[str]:
        sql = self._sql["ready" if run_id is None else "ready_one"]
        rows = self._database.read(sql, {"id": run_id, "now": time.time()})
        return [found for (found,) in rows]

    def statuses(self, batch: str) -> dict[str, tuple[str, bool]]:
        """Id → (status, whether a process performs it) of every run of a batch."""
        rows = self._database.read(self._sql["ids_of_batch"], (batch,))
        return {run_id: (status, owner is not None) for run_id, status, owner in rows}

    def unknown(self, batch: str) -> tuple[int, int]:
        """How many calls of a batch nobody knows the cost of (booked in full), and their nano-dollars."""
        [(calls, amount)] = self._database.read(self._sql["unknown_of_batch"], (batch,))
        return calls, amount

    async def _update(self, statement: str, run_id: str, *before: Any) -> None:
        self._writer.put(statement, (*before, self.number(run_id)))
        await self._writer.durable()

    def number(self, run_id: str) -> int:
        """The number by which the tables know a run. Raises UsageError where there is none of this id."""
        rows = self._database.read(self._sql["find"], (run_id,))
        if not rows:
            raise UsageError(f"there is no run '{run_id}'. `orchestrion runs list` shows what there is.")
        return int(rows[0][0])


def _recall(memory: StepMemory, calls: Iterable[tuple[int, Call]], attempts: dict[int, Any], *, reopened: int) -> None:
    """Add one Ask to what is remembered of a step. ``reopened``: its run was, after this Ask, with so many of them."""
    memory.turns += 1
    before = len(memory.history)
    calls = list(calls)
    if not calls:
        memory.short, memory.forgotten = not reopened, memory.forgotten + bool(reopened)
    for hold, call in calls:
        row = attempts.get(hold)
        if row is None:
            memory.lost += ((hold, call),)
            continue
        _, _, cost, accepted, output, body = row
        attempt, checked = decode_attempt(call, hold, cost, output, body)
        if not whole(body):
            memory.input = None  # what was redacted, or a digest, must not pass for what was answered
        if attempt.failure and not attempt.rejected and reopened:
            memory.forgotten += 1
            continue
        memory.history += (attempt,)
        memory.before[hold] = before
        if not checked or (attempt.broken and judged_in(body) < reopened):
            memory.unchecked |= {hold}
        if accepted:
            memory.accepted, memory.constrained = hold, accepted == 2


def _run_record(row: tuple[Any, ...]) -> RunRecord:
    return RunRecord(
        id=row[1],
        workflow=row[2],
        batch=row[3],
        task_id=row[4],
        input=unpack(row[5]),
        digest=row[6],
        tags=from_json(row[7]) if row[7] else {},
        reference=from_json(row[8]) if row[8] else None,
        account=row[9],
        policy=row[10],
        status=row[11],
        owned=row[12] is not None,
        wants=row[13],
        result=unpack(row[14]),
        error=row[15],
        cancel=bool(row[16]),
        created=row[17],
        updated=row[18],
        question=unpack(row[19]),
        cost=row[20],
    )
