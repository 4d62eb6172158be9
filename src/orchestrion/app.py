"""The composition root: Settings → every object, once, visibly."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections.abc import AsyncIterator, Iterable, Mapping
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from pydantic_core import to_json

from orchestrion.domain import Money, Outcome, digest
from orchestrion.engine.batch import run_batch
from orchestrion.engine.certified import Certificates
from orchestrion.engine.execution import House, SavedPolicy
from orchestrion.engine.saved import find_policy
from orchestrion.engine.scope import Interrupted
from orchestrion.engine.step import Step
from orchestrion.engine.workflow import Run, Runner, Start, Workflow, ended, one_step
from orchestrion.errors import FundsExhausted, ReviewError, StoreError, WorkflowError
from orchestrion.evidence.content import Content
from orchestrion.evidence.labels import statements as evidence_statements
from orchestrion.evidence.recorded import outcomes
from orchestrion.evidence.recordings import Recordings
from orchestrion.evidence.retention import Retention
from orchestrion.journal.embedded import EmbeddedJournal
from orchestrion.journal.embedded import statements as journal_statements
from orchestrion.ledger.books import Books
from orchestrion.ledger.books import statements as ledger_statements
from orchestrion.ledger.budgets import Seeded, accounts_of, differences, read_tree, seed
from orchestrion.ledger.entries import EntryLedger
from orchestrion.ledger.leases import LeasedLedger, Notes
from orchestrion.ledger.leases import statements as leased_statements
from orchestrion.ledger.overruns import Overruns
from orchestrion.ledger.overruns import statements as overrun_statements
from orchestrion.ledger.protocol import Shortage
from orchestrion.review.requests import Decision, DecisionKind, ReviewRequest
from orchestrion.review.reviews import Reviews
from orchestrion.review.reviews import statements as review_statements
from orchestrion.settings import Settings, ledger_address, read_settings
from orchestrion.staff import Staff
from orchestrion.store.database import Database
from orchestrion.store.postgres import Postgres
from orchestrion.telemetry import Tracing
from orchestrion.workers.people import Person
from orchestrion.workers.protocol import Worker, margin_of

if TYPE_CHECKING:
    pass

CANCEL_POLL_S = 0.5
TRUNCATE_POLLS = 60


class Orchestrion:
    """Everything open: workers, journal, ledger. Made by ``open``; an async context manager. ``seeded``: what its settings made of
    the accounts in the ``books``, which stand in the database, or on the ledger that machines share.

    async with Orchestrion.open("orchestrion.yaml") as o:
        run = await o.run(tax_return, case, id="h-17", account="company/tax")
        print(run.result, run.cost)
    """

    def __init__(self, settings: Settings, *, workers: Iterable[Worker] = ()) -> None:
        """``workers`` stand beside, and before, those of the settings. Raises SettingsError and StoreError."""
        self.settings = settings
        tracing = Tracing()
        self.workers = Staff(settings, workers, tracing=tracing, proceed=self._proceed)
        self.content = Content.of(settings)
        address = ledger_address(settings)
        books, entries = (Notes(), leased_statements()) if address else (Books(), ledger_statements())
        self.database = Database(
            settings.database_path,
            statements=journal_statements()
            | entries
            | overrun_statements()
            | review_statements()
            | evidence_statements(),
            claims="claim",
            keeper=books,
            secure=settings.forgets,
        )
        shared = Postgres(address, token=self.database.token) if address else None
        self.books: Database | Postgres = shared or self.database
        self.seeded = self._seed()
        self.journal = EmbeddedJournal(self.database)
        self.retention = Retention(self.database, self.content, keep_days=settings.keep_days)
        self._ledger = LeasedLedger(self.database, shared) if shared else EntryLedger(self.database, books)
        self._reviews = Reviews(self.database, self._ledger)
        self._overruns = Overruns(self.database)
        self.certificates = Certificates(self.workers, refuse=settings.certificates == "refuse")
        self._house = House(
            self.workers,
            self._ledger,
            tracing,
            self._reviews,
            overruns=self._overruns,
            pays=settings.account,
            certificates=self.certificates,
        )
        self._runner = Runner(self.journal, self._house, ended=self.retention.ended)
        self._watch: asyncio.Task[None] | None = None

    @classmethod
    def open(cls, settings: str | Path | Settings | None = None, *, workers: Iterable[Worker] = ()) -> Orchestrion:
        """By a settings file's path (default: ORCHESTRION_CONFIG, else orchestrion.yaml here) or by Settings."""
        return cls(settings if isinstance(settings, Settings) else read_settings(settings), workers=workers)

    async def __aenter__(self) -> Orchestrion:
        await self.retention.sweep()
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
                await self.workers.close()
                if isinstance(self._ledger, LeasedLedger):
                    await self._ledger.close()
            finally:
                await self.database.close(compact=self.retention.forgot)

    async def run(
        self,
        workflow: Workflow[Any] | Step[Any],
        input: Any,
        *,
        id: str | None = None,
        account: str | None = None,
        tags: Mapping[str, str] | None = None,
        reference: Any = None,
        policies: Mapping[str, str | SavedPolicy] | None = None,
        again: bool = False,
    ) -> Run:
        """Perform a run, or go on with it, or say how it ended: the same id is the same run.

        Without an id, one is made from the workflow and the input. ``policies`` puts saved policies (names from the
        settings, or paths) in place of steps' own. ``reference``
        is the right answer, which only checks see that were told to. ``again`` resumes a failed or cancelled run, whose failed calls are
        then asked again. A run that failed is returned, not raised: its ``result`` raises. ``account`` pays: without one, see ``account``.
        """
        flow = as_workflow(workflow)
        if id is None:
            id = f"{flow.name}/{digest(flow.write_input(flow.read_input(input)))[:16]}"
        chosen = {
            step: self.policy(saved) if isinstance(saved, str) else saved for step, saved in (policies or {}).items()
        }
        start = Start(
            id=id,
            task_id=id,
            input=input,
            tags=dict(tags or {}),
            reference=reference,
            account=account,
            policies=chosen,
        )
        return await self._runner.run(flow, start, again=again)

    def account(self, named: str | None = None) -> str:
        """The account that pays where this one, or none, is named. Raises UsageError where there is none of this name, and
        where accounts are kept and none is named (`account` in the settings names one for good)."""
        return self._house.account(named)

    def left(self, account: str) -> tuple[Money | None, Money | None]:
        """What the limits above an account leave now, and what they leave to any one run; None where there is no limit."""
        tree = self._ledger.tree
        books = Books()
        with self.books.reading() as session:
            lines = [line for line in tree.limits(account, time.time()).lines if not line.unit]
            free = [line.cap - sum(books.balance(session, line.key)) for line in lines]
        of_run = [cap.amount for _, cap in tree.caps(account) if (cap.unit, cap.period) == ("money", "run")]
        return max(0, min(free)) if free else None, min(of_run, default=None)

    def shortage(self, run: Run) -> Shortage | None:
        """What stands in the way of a run that was short of money, as it is now; None where nothing does any more."""
        if run.funds is None or not isinstance(run.error, FundsExhausted) or run.error.shortage is None:
            return None
        return self._ledger.shortage(run.funds, run.error.shortage.demand, run=self.journal.number(run.id))

    def news(self) -> list[str]:
        """What happened to the money since the last look: limits that are nearly spent, calls billed above their bound."""
        news: list[str] = []
        for source in (self._ledger.warnings, self._overruns.news):
            news += map(str, source)
            source.clear()
        return news

    def refused(self, worker: Worker) -> str | None:
        """Why a worker is not asked any more (a call was billed above its bound); None where it is."""
        return self._overruns.refusal(worker.name, bound=1, margin=margin_of(worker))

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
        """Cancel a run: at once where nobody performs it, else before its next call. Nobody needs to decide for it any more."""
        await self.journal.cancel(run_id)
        record = self.journal.find(run_id)
        if record and record.status == "cancelled":
            self._reviews.withdraw(self.journal.number(run_id))
            await self.database.writer.durable()
        await self.retention.sweep()

    def reviews(self, *, everything: bool = False, batch: str | None = None) -> list[ReviewRequest]:
        """Questions to people that wait for a decision or for information (or every one there was), the oldest first."""
        return self._reviews.all(batch=batch) if everything else self._reviews.open(batch=batch)

    def review(self, request_id: str) -> ReviewRequest:
        """A question to a person, with what they are shown. Raises ReviewError."""
        return self._reviews.find(request_id)

    async def decide(
        self,
        request_id: str,
        kind: DecisionKind,
        *,
        seen: str,
        by: str | None = None,
        value: Any = None,
        text: str | None = None,
        minutes: float | None = None,
    ) -> Decision:
        """Decide on a request, durably and once; its run goes on when it is run again.

        "approve" takes the proposed answer, "modify" the ``value`` (a JSON value of the answer's type), "reject" refuses
        with a reason (``text``), "ask" sends a question (``text``) back to the task's owner. ``seen`` is the digest of
        what was shown, ``by`` who decides (by default the only member), ``minutes`` what it took (by default what was
        expected): they are booked at the wage. Raises ReviewError, and nothing is decided.
        """
        request = self.review(request_id)
        person = self.workers.get(request.worker)
        if not isinstance(person, Person):
            raise ReviewError(
                f"request {request_id} is put to '{request.worker}', whom these settings do not name under people: they say who may decide."
            )
        by = by or (person.members[0] if len(person.members) == 1 else None)
        if by is None:
            raise ReviewError(f"say who decides on request {request_id}: {', '.join(person.members) or 'your name'}.")
        return self._reviews.decide(
            request,
            kind,
            seen=seen,
            by=by,
            members=person.members,
            value=value,
            text=text,
            minutes=minutes,
        )

    async def inform(self, request_id: str, information: str, *, by: str) -> None:
        """Answer the question that a person asked about a task. They are shown it when the run goes on. Raises ReviewError."""
        self._reviews.inform(self.review(request_id), information, by=by)

    def ready(self) -> list[str]:
        """Ids of the waiting runs that can go on: their signal or decision has come, or their deadline has passed; and those
        that wait for money, which find out whether there is enough by going on."""
        return self.journal.ready()

    def stop(self) -> None:
        """Start no new call; what is under way ends and is kept. Runs are left to be resumed."""
        self._house.stop()

    def find(self, run_id: str, workflow: Workflow[Any] | Step[Any]) -> Run | None:
        """A run as the journal has it."""
        record = self.journal.find(run_id)
        return ended(record, as_workflow(workflow)) if record else None

    def outcomes(self, *, batch: str | None = None) -> Iterable[Outcome]:
        """Every recorded attempt, as evidence, with the texts that ``record`` and ``redact`` let out.

        It can be gone through again; a notebook shows the first few.
        """
        return Recordings(partial(outcomes, self.database, batch=batch, content=self.content))

    def policy(self, name: str) -> SavedPolicy:
        """A saved policy: a name from the settings, or a path. Raises PolicyError."""
        return find_policy(name, self.settings)

    def _seed(self) -> Seeded:
        """Accounts of the settings that are not in the books are made."""
        accounts = accounts_of(self.settings)
        if not accounts:
            return Seeded()
        try:
            with self.books.reading() as session:
                if not differences(read_tree(session), accounts):
                    return Seeded()
            with self.books.transaction() as session:
                return seed(session, accounts)
        except StoreError:
            if self.books is self.database:
                raise
            return Seeded()  # the server is away: the first call that wants money hears of it

    def _proceed(self) -> None:
        """Raises Interrupted where no new call may start: what waited for its turn is not sent."""
        if self._house.stopping:
            raise Interrupted

    async def _watch_cancels(self) -> None:
        """Runs are cancelled through the database: another process may ask for it. Forgotten texts leave its log, too."""
        for poll in itertools.count(1):
            await asyncio.sleep(CANCEL_POLL_S)
            with contextlib.suppress(StoreError):  # locked just now: asked again in a moment
                self._house.cancel(self.journal.cancelled())
                if self.retention.forgot and poll % TRUNCATE_POLLS == 0:
                    await asyncio.to_thread(self.database.truncate_log)


def as_workflow(workflow: Workflow[Any] | Step[Any]) -> Workflow[Any]:
    """The workflow itself, or one of a single step. Raises WorkflowError."""
    if isinstance(workflow, Workflow):
        return workflow
    if isinstance(workflow, Step):
        return one_step(workflow)
    raise WorkflowError(
        f"expected a workflow (an async function under @workflow) or a Step, got {type(workflow).__name__}."
    )
