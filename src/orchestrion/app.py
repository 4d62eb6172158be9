"""The composition root: Settings → every object, once, visibly."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable, Mapping
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from pydantic_core import to_json

from orchestrion.domain import Outcome, Price, digest
from orchestrion.engine.batch import run_batch
from orchestrion.engine.execution import House, SavedPolicy
from orchestrion.engine.saved import find_policy
from orchestrion.engine.scope import Interrupted
from orchestrion.engine.step import Step
from orchestrion.engine.workflow import Run, Runner, Start, Workflow, ended, one_step
from orchestrion.errors import SettingsError, StoreError, WorkflowError
from orchestrion.evidence.recorded import outcomes
from orchestrion.evidence.recordings import Recordings
from orchestrion.evidence.records import read_answers
from orchestrion.journal.embedded import EmbeddedJournal, statements
from orchestrion.ledger.entries import EntryLedger
from orchestrion.ledger.prices import listed_price
from orchestrion.settings import ModelSettings, Settings, read_settings, secret
from orchestrion.store.database import Database
from orchestrion.telemetry import Tracing
from orchestrion.workers.limited import LimitedWorker
from orchestrion.workers.protocol import Worker
from orchestrion.workers.simulated import SimulatedWorker
from orchestrion.workers.traced import TracedWorker

if TYPE_CHECKING:
    from orchestrion.workers.openai_wire import Session

CANCEL_POLL_S = 0.5


class Orchestrion:
    """Everything open: workers, journal, ledger. Made by ``open``; an async context manager.

    async with Orchestrion.open("orchestrion.yaml") as o:
        run = await o.run(tax_return, case, id="h-17", account="company/tax")
        print(run.result, run.cost)
    """

    def __init__(self, settings: Settings, *, workers: Iterable[Worker] = ()) -> None:
        """``workers`` stand beside, and before, those of the settings. Raises SettingsError and StoreError."""
        self.settings = settings
        self._session: Session | None = None
        self._tracing = Tracing()
        self.workers: dict[str, Worker] = {name: self._worker(name, model) for name, model in settings.models.items()}
        self.workers |= {worker.name: worker for worker in workers}
        if self._tracing.on:
            self.workers = {name: TracedWorker(worker, self._tracing) for name, worker in self.workers.items()}
        self.database = Database(settings.database_path, statements=statements(), claims="claim")
        self.journal = EmbeddedJournal(self.database, record=settings.record, keep_days=settings.keep_days)
        self._house = House(self.workers, EntryLedger(self.database), self._tracing)
        self._runner = Runner(self.journal, self._house)
        self._watch: asyncio.Task[None] | None = None

    @classmethod
    def open(cls, settings: str | Path | Settings | None = None, *, workers: Iterable[Worker] = ()) -> Orchestrion:
        """By a settings file's path (default: ORCHESTRION_CONFIG, else orchestrion.yaml here) or by Settings."""
        return cls(settings if isinstance(settings, Settings) else read_settings(settings), workers=workers)

    async def __aenter__(self) -> Orchestrion:
        await self.journal.prune()
        self._watch = asyncio.create_task(self._watch_cancels())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self._watch:
                self._watch.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await self._watch
        finally:
            try:
                if self._session:
                    await self._session.close()
            finally:
                await self.database.close()

    async def run(
        self,
        workflow: Workflow[Any] | Step[Any],
        input: Any,
        *,
        id: str | None = None,
        account: str = "default",
        tags: Mapping[str, str] | None = None,
        policies: Mapping[str, str | SavedPolicy] | None = None,
        again: bool = False,
    ) -> Run:
        """Perform a run, or go on with it, or say how it ended: the same id is the same run.

        Without an id, one is made from the workflow and the input. ``policies`` puts saved policies (names from the
        settings, or paths) in place of steps' own. ``again`` resumes a failed or cancelled run, whose failed calls are
        then asked again. A run that failed is returned, not raised: its ``result`` raises.
        """
        flow = as_workflow(workflow)
        if id is None:
            id = f"{flow.name}/{digest(flow.write_input(flow.read_input(input)))[:16]}"
        chosen = {
            step: self.policy(saved) if isinstance(saved, str) else saved for step, saved in (policies or {}).items()
        }
        start = Start(id=id, task_id=id, input=input, tags=dict(tags or {}), account=account, policies=chosen)
        return await self._runner.run(flow, start, again=again)

    def run_all(
        self,
        workflow: Workflow[Any] | Step[Any],
        starts: Iterable[Start],
        *,
        concurrency: int = 64,
        again: bool = False,
    ) -> AsyncIterator[Run]:
        """Perform many runs, at most ``concurrency`` at once, and yield each as it ends."""
        return run_batch(self._runner, as_workflow(workflow), starts, concurrency=concurrency, again=again)

    async def signal(self, run_id: str, name: str, value: Any) -> None:
        """Deliver a signal to a run, durably; a run that waits for it goes on when it is run again."""
        await self.journal.signal(run_id, name, to_json(value).decode())

    async def cancel(self, run_id: str) -> None:
        """Cancel a run: at once where nobody performs it, else before its next call."""
        await self.journal.cancel(run_id)

    def stop(self) -> None:
        """Start no new call; what is under way ends and is kept. Runs are left to be resumed."""
        self._house.stopping = True

    def find(self, run_id: str, workflow: Workflow[Any] | Step[Any]) -> Run | None:
        """A run as the journal has it."""
        record = self.journal.find(run_id)
        return ended(record, as_workflow(workflow)) if record else None

    def outcomes(self, *, batch: str | None = None) -> Iterable[Outcome]:
        """Every recorded attempt, as evidence. It can be gone through again; a notebook shows the first few."""
        return Recordings(partial(outcomes, self.database, batch=batch))

    def policy(self, name: str) -> SavedPolicy:
        """A saved policy: a name from the settings, or a path. Raises PolicyError."""
        return find_policy(name, self.settings)

    def check_keys(self, names: Iterable[str]) -> None:
        """Look up the keys of these models now, rather than at their first call. Raises SettingsError."""
        for name in names:
            model = self.settings.models.get(name)
            if model and model.key:
                secret(model.key, owner=f"model '{name}'")

    def _worker(self, name: str, model: ModelSettings) -> Worker:
        """The worker of one model in the settings."""
        price = self._price(name, model)
        if model.model == "simulated":
            answers = read_answers(self.settings.path(model.answers)) if model.answers else None
            return SimulatedWorker(
                name,
                price=price,
                skill=model.skill,
                latency_s=model.latency_s,
                seed=model.seed,
                max_output=model.max_output,
                answers=answers,
            )
        from orchestrion.workers.openai_wire import (
            OpenAIWire,
            Session,
        )  # aiohttp takes 0.3 s, and simulated models do without

        self._session = self._session or Session()
        wire = OpenAIWire(
            name,
            model.model.partition(":")[2],
            session=self._session,
            price=price,
            base_url=model.base_url,
            key=partial(secret, model.key, owner=f"model '{name}'") if model.key else lambda: None,
            max_output=model.max_output,
            timeout_s=model.timeout_s,
            extra=model.request,
        )
        return LimitedWorker(
            wire,
            concurrency=model.concurrency,
            requests_per_minute=model.requests_per_minute,
            proceed=self._proceed,
        )

    def _proceed(self) -> None:
        """Raises Interrupted where no new call may start: what waited for its turn is not sent."""
        if self._house.stopping:
            raise Interrupted

    def _price(self, name: str, model: ModelSettings) -> Price:
        if model.price:
            return model.price.price()
        listed = (
            None if model.model == "simulated" else listed_price(model.model.partition(":")[2], base_url=model.base_url)
        )
        if listed is None:
            raise SettingsError(
                f"{self.settings.file or 'settings'}: model '{name}' ({model.model}) has no known price, and without one its calls cannot be bounded. "
                f"Give it one, in dollars per million tokens: `price: {{input: 0.10, output: 0.40}}` (0 for a local model)."
            )
        return listed

    async def _watch_cancels(self) -> None:
        """Runs are cancelled through the database: another process may ask for it."""
        while True:
            await asyncio.sleep(CANCEL_POLL_S)
            with contextlib.suppress(StoreError):  # locked just now: asked again in a moment
                self._house.cancelled = self.journal.cancelled()


def as_workflow(workflow: Workflow[Any] | Step[Any]) -> Workflow[Any]:
    """The workflow itself, or one of a single step. Raises WorkflowError."""
    if isinstance(workflow, Workflow):
        return workflow
    if isinstance(workflow, Step):
        return one_step(workflow)
    raise WorkflowError(
        f"expected a workflow (an async function under @workflow) or a Step, got {type(workflow).__name__}."
    )
