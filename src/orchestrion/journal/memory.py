"""A journal that forgets everything when the process ends: for replay, rehearsals and tests."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable
from dataclasses import dataclass, field

from orchestrion.domain import Attempt, Call
from orchestrion.errors import UsageError
from orchestrion.journal.protocol import FUNDS, Basis, Key, NewRun, RunRecord, StepMemory, done_future


@dataclass(slots=True)
class MemoryRunLog:
    """One run's notes: ``asks`` as they were made, ``attempts`` by hold, ``accepted`` holds."""

    new: NewRun
    created: float
    asks: dict[Key, list[tuple[str, str | None, list[tuple[int, Call]]]]] = field(default_factory=dict)
    attempts: dict[int, tuple[Attempt, bool]] = field(default_factory=dict)
    accepted: dict[int, bool] = field(default_factory=dict)
    signals: dict[str, str] = field(default_factory=dict)
    taken: set[str] = field(default_factory=set)
    cost: int = 0
    status: str = "running"
    owned: bool = True
    cancel: bool = False
    wants: str | None = None
    result: str | None = None
    error: str | None = None
    _left: set[Key] = field(default_factory=set)
    _reopened: dict[Key, int] = field(default_factory=dict)
    _judged_since: set[int] = field(default_factory=set)
    _forgot: bool = False
    _done: asyncio.Future[None] | None = None

    @property
    def account(self) -> str:
        return self.new.account

    def recall(self, key: Key) -> StepMemory | None:
        if key not in self._left:
            return None
        self._left.discard(key)
        return self._remembered(key)

    def _remembered(self, key: Key) -> StepMemory:
        asks = self.asks[key]
        memory = StepMemory(asks[0][0], asks[0][1], turns=len(asks))
        for i, (_, _, calls) in enumerate(asks):
            before = len(memory.history)
            reopened = i < self._reopened.get(key, 0)
            if not calls:
                memory.short = not reopened
                memory.forgotten += reopened
            for hold, call in calls:
                if hold not in self.attempts:
                    memory.lost += ((hold, call),)
                    continue
                attempt, checked = self.attempts[hold]
                if attempt.failure and not attempt.rejected and reopened:
                    memory.forgotten += 1
                    continue
                memory.history += (attempt,)
                memory.before[hold] = before
                if not checked or (reopened and attempt.broken and hold not in self._judged_since):
                    memory.unchecked |= {hold}
                if hold in self.accepted:
                    memory.accepted, memory.constrained = hold, self.accepted[hold]
        return memory

    def unvisited(self, scope: str | None = None) -> list[Key]:
        if not self._left or self._forgot:
            return []
        return sorted(key for key in self._left if "~" not in key.scope and (scope is None or key.scope == scope))

    def ask(
        self,
        key: Key,
        turn: int,
        digest: str,
        input: str | None,
        calls: list[tuple[int, Call]],
        basis: Basis | None = None,  # evidence is read from databases only
    ) -> None:
        self.asks.setdefault(key, []).append((digest, input, calls))

    def attempt(self, attempt: Attempt, *, checked: bool) -> None:
        self.attempts[attempt.hold] = (attempt, checked)

    def judged(self, attempt: Attempt) -> None:
        self.attempts[attempt.hold] = (attempt, True)
        self._judged_since.add(attempt.hold)

    def accept(self, hold: int, *, constrained: bool) -> None:
        self.accepted[hold] = constrained

    def take(self, signal: str) -> None:
        self.taken.add(signal)

    def durable(self) -> Awaitable[None]:
        if self._done is None:
            self._done = done_future()
        return self._done

    async def finish(
        self, status: str, *, result: str | None = None, error: str | None = None, wants: str | None = None
    ) -> None:
        self.status, self.result, self.error, self.wants, self.owned = status, result, error, wants, False

    def release(self) -> None:
        self.owned = False


class MemoryJournal:
    """All runs of one process, while it lives."""

    def __init__(self) -> None:
        self.runs: dict[str, MemoryRunLog] = {}

    def find(self, run_id: str) -> RunRecord | None:
        log = self.runs.get(run_id)
        if log is None:
            return None
        new = log.new
        return RunRecord(
            id=new.id,
            workflow=new.workflow,
            batch=new.batch,
            task_id=new.task_id,
            input=new.input,
            digest=new.digest,
            tags=new.tags,
            reference=new.reference,
            account=new.account,
            policy=new.policy,
            status=log.status,
            owned=log.owned,
            wants=log.wants,
            result=log.result,
            error=log.error,
            cancel=log.cancel,
            created=log.created,
            updated=log.created,
            cost=log.cost,
        )

    def start(self, new: NewRun) -> MemoryRunLog:
        log = self.runs[new.id] = MemoryRunLog(new, time.time())
        return log

    async def resume(self, run_id: str) -> MemoryRunLog:
        log = self._log(run_id)
        log._left = set(log.asks)
        memories = [log._remembered(key) for key in log._reopened]
        log._forgot = any(memory.forgotten and memory.accepted is None for memory in memories)
        log.status, log.wants, log.owned, log._done = "running", None, True, None
        return log

    async def reopen(self, run_id: str) -> None:
        log = self._log(run_id)
        if log.status in ("failed", "cancelled"):
            log.status, log.error, log.cancel = "running", None, False
            log._reopened = {key: len(asks) for key, asks in log.asks.items()}
            log._judged_since = set()

    async def signal(self, run_id: str, name: str, value: str) -> None:
        log = self._log(run_id)
        if log.status == "done":
            raise UsageError(f"run '{run_id}' is done: it takes no signal any more.")
        if name in log.taken and log.signals[name] != value:
            raise UsageError(f"run '{run_id}' has taken its signal '{name}' already: {log.signals[name]}.")
        log.signals[name] = value

    async def cancel(self, run_id: str) -> None:
        log = self._log(run_id)
        if log.status in ("running", "waiting"):
            log.cancel = True
            log.status = log.status if log.owned else "cancelled"

    def ready(self, run_id: str | None = None) -> list[str]:
        return [
            found
            for found, log in self.runs.items()
            if log.status == "waiting" and not log.owned and run_id in (None, found)
            if log.wants in log.signals or (log.wants or "").startswith(FUNDS)
        ]

    def _log(self, run_id: str) -> MemoryRunLog:
        if run_id not in self.runs:
            raise UsageError(f"there is no run '{run_id}'.")
        return self.runs[run_id]
