"""Workflows and their runs: an async function over steps, and one durable execution of it."""

from __future__ import annotations

import asyncio
import inspect
import traceback
from collections.abc import Awaitable, Callable, Mapping
from contextlib import nullcontext
from functools import cached_property
from pathlib import Path
from typing import Any, Generic, TypeVar, get_type_hints

import msgspec
from pydantic import TypeAdapter, ValidationError
from pydantic_core import from_json, to_json

from orchestrion.domain import Money, digest, dollars, usd
from orchestrion.engine.execution import Execution, House, SavedPolicy
from orchestrion.engine.perform import mismatch
from orchestrion.engine.scope import REVIEW, Interrupted, Scope, Waits
from orchestrion.engine.step import Step
from orchestrion.errors import (
    FundsExhausted,
    JournalMismatch,
    OrchestrionError,
    RunBusy,
    RunCancelled,
    RunError,
    RunWaiting,
    StoreError,
    WorkflowError,
    WorkflowFailed,
)
from orchestrion.journal.protocol import FUNDS, Journal, NewRun, RunLog, RunRecord

T = TypeVar("T")


class Workflow(Generic[T]):
    """An async function of one argument over steps. Calling it within another workflow is a plain call.

    ``ref`` says where it can be found again: "module:name", or "file.py:name" where the command line loaded it.
    """

    def __init__(
        self, function: Callable[[Any], Awaitable[T]], *, name: str | None = None, ref: str | None = None
    ) -> None:
        self.function = function
        self.name = name or function.__name__
        self.ref = ref or f"{function.__module__}:{self.name}"

    def __call__(self, value: Any) -> Awaitable[T]:
        return self.function(value)

    def __repr__(self) -> str:
        return f"Workflow({self.ref!r})"

    @cached_property
    def input(self) -> TypeAdapter[Any]:
        """The type of the argument; anything where it is not annotated."""
        parameters = list(inspect.signature(self.function).parameters)
        return TypeAdapter(self._hints.get(parameters[0], Any) if parameters else Any)

    @cached_property
    def output(self) -> TypeAdapter[Any]:
        """The type of what it returns."""
        return TypeAdapter(self._hints.get("return", Any))

    def read_input(self, value: Any) -> Any:
        """The input as the workflow's type. Raises WorkflowError with what does not fit."""
        try:
            return self.input.validate_python(value)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            at = ".".join(map(str, first["loc"]))
            more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
            raise WorkflowError(
                f"the input does not fit workflow '{self.name}': {f'{at}: ' if at else ''}{first['msg']}, got {str(first['input'])[:80]!r}{more}."
            ) from None

    def write_input(self, value: Any) -> bytes:
        """An input of the workflow's type as JSON. Raises WorkflowError for what JSON cannot hold."""
        try:
            return self.input.dump_json(value)
        except ValueError as error:  # pydantic's and Unicode's are
            raise WorkflowError(f"the input of workflow '{self.name}' cannot be written as JSON: {error}.") from None

    @cached_property
    def _hints(self) -> dict[str, Any]:
        return get_type_hints(self.function)


def workflow(function: Callable[[Any], Awaitable[T]]) -> Workflow[T]:
    """Make an async function of one argument a workflow."""
    if not inspect.iscoroutinefunction(function) or len(inspect.signature(function).parameters) != 1:
        raise TypeError(f"a workflow is an async function of one argument; {function.__name__} is not")
    return Workflow(function)


def one_step(step: Step[T]) -> Workflow[T]:
    """A workflow of a single step."""

    async def perform(value: Any) -> T:
        return await step(value)

    perform.__annotations__["return"] = step.output
    return Workflow(perform, name=step.name)


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """One durable execution of a workflow. ``status``: running (interrupted), waiting, done, failed or cancelled.

    A waiting run ``wants`` a signal, a person's decision (``review``), or money on its account (``funds``; ``error`` says how
    much). ``question`` is what that person asks first.

    ``cost`` is the sum of its entries in nano-dollars, those of earlier processes included.
    """

    id: str
    task_id: str
    status: str
    cost: Money
    workflow: Workflow[Any]
    error: RunError | None = None
    wants: str | None = None
    question: str | None = None
    text: str | None = None

    @property
    def review(self) -> str | None:
        """The id of the review request that it waits for."""
        return self.wants.removeprefix(REVIEW) if self.wants and self.wants.startswith(REVIEW) else None

    @property
    def funds(self) -> str | None:
        """The account whose limits it waits for."""
        return self.wants.removeprefix(FUNDS) if self.wants and self.wants.startswith(FUNDS) else None

    @property
    def cost_usd(self) -> float:
        """The cost in dollars."""
        return usd(self.cost)

    @property
    def result(self) -> Any:
        """What the workflow returned. Raises the run's error where it did not."""
        if self.error:
            raise self.error
        if self.status != "done":
            raise RunWaiting(f"run '{self.id}' has no result yet: it {self.waits_for}.")
        if self.text is None:
            raise RunError(
                f"the result of run '{self.id}' was not kept (record, redact and keep_days in the settings)."
            )
        try:
            return self.workflow.output.validate_json(self.text)
        except ValidationError as error:
            raise RunError(
                f"the result of run '{self.id}' is not of its workflow's type: {error.errors(include_url=False)[0]['msg']}, got {self.text[:80]}."
            ) from None

    @property
    def waits_for(self) -> str:
        """What has to happen before it goes on, in words."""
        if self.question:
            return f"needs information for request {self.review}: {self.question}"
        if self.review:
            return f"waits for a person to decide request {self.review}"
        if self.funds:
            return f"waits for money on account '{self.funds}'"
        return (
            f"waits for the signal '{self.wants}'" if self.wants else "was interrupted and goes on when it is run again"
        )

    def __repr__(self) -> str:
        return f"Run(id={self.id!r}, status={self.status!r}, cost={self.cost}, error={self.error!r})"

    def __str__(self) -> str:
        return f"run '{self.id}': {self.status}, {dollars(self.cost)}"

    def _repr_html_(self) -> str:
        from orchestrion.markup import card  # notebooks only

        waits = self.waits_for if self.status == "waiting" else ""
        return card(
            f"run {self.id}", self.status, dollars(self.cost), waits, text=str(self.error) if self.error else self.text
        )


class Start(msgspec.Struct, frozen=True, kw_only=True):
    """What a run is started with. ``policies`` replaces those of steps, by the step's name.

    Without an ``account``, one that was begun keeps its own; for another see ``House.account``.
    """

    id: str
    task_id: str
    input: Any
    tags: Mapping[str, str] = {}
    reference: Any = None
    account: str | None = None
    batch: str | None = None
    policies: Mapping[str, SavedPolicy] = {}

    @property
    def policy(self) -> str | None:
        """How the journal names the replaced policies: JSON of {step: {"name", "digest"}}; None where there are none."""
        if not self.policies:
            return None
        named = {step: {"name": saved.name, "digest": saved.digest} for step, saved in sorted(self.policies.items())}
        return to_json(named).decode()


class Runner:
    """Performs runs of workflows over one journal."""

    def __init__(
        self, journal: Journal, house: House, *, ended: Callable[[int], Awaitable[None]] | None = None
    ) -> None:
        """``ended`` is called with the number of each run that has just ended."""
        self._journal = journal
        self._house = house
        self._ended = ended
        self._live: dict[str, asyncio.Future[Run]] = {}
        self._released: dict[str, RunLog] = {}

    @property
    def stopping(self) -> bool:
        """Whether no new call starts any more."""
        return self._house.stopping

    async def run(self, workflow: Workflow[Any], start: Start, *, again: bool = False) -> Run:
        """Perform a run, or go on with it, or say how it ended. ``again``: a failed or cancelled one is resumed, too.

        Raises WorkflowError for an input that does not fit, RunBusy where another process performs it, JournalMismatch
        for an id that was started with something else, StoreError where the database fails.
        """
        value = workflow.read_input(start.input)
        text = workflow.write_input(value)
        while live := self._live.get(start.id):
            try:
                run = await asyncio.shield(live)
            except asyncio.CancelledError:
                task = asyncio.current_task()
                if not live.cancelled() or (task and task.cancelling()):
                    raise
                continue  # whoever started it was cancelled, not we: go on with it
            record = self._journal.find(start.id)
            if record:
                _refuse_another(record, workflow, start, text)
            return run
        future: asyncio.Future[Run] = asyncio.get_running_loop().create_future()
        self._live[start.id] = future
        try:
            log = await self._log(workflow, start, text, again=again)
            run = log if isinstance(log, Run) else await self._perform(workflow, start, value, log)
            future.set_result(run)
            return run
        except asyncio.CancelledError:
            future.cancel()  # whoever joined goes on with it
            raise
        except BaseException as error:
            gone = RunBusy(f"run '{start.id}' was left by the task that performed it; run it again to go on.")
            future.set_exception(error if isinstance(error, Exception) else gone)
            future.exception()  # whoever joined hears of it; nobody must
            raise
        finally:
            del self._live[start.id]

    async def _log(self, workflow: Workflow[Any], start: Start, text: bytes, *, again: bool) -> RunLog | Run:
        """The journal of a run to begin or to go on with; the Run itself where it has ended."""
        released = self._released.pop(start.id, None)
        if released:
            await released.durable()  # what a cancelled task noted of this run, its claim perhaps
        record = self._journal.find(start.id)
        if record is None:
            new = NewRun(
                id=start.id,
                workflow=workflow.ref,
                input=text.decode(),
                digest=digest(text),
                task_id=start.task_id,
                tags=start.tags,
                reference=start.reference,
                account=self._house.account(start.account),
                batch=start.batch,
                policy=start.policy,
            )
            return self._journal.start(new)
        _refuse_another(record, workflow, start, text)
        if record.status == "done" or (record.status in ("failed", "cancelled") and not again):
            return ended(record, workflow)
        if record.status == "waiting" and not again and not self._journal.ready(start.id):
            return ended(record, workflow)  # nothing has come: not worth a look at its journal
        if record.status in ("failed", "cancelled"):
            # Only what a run ended with is asked again: a failure that its policy has gone on from (to a person, say) stands.
            await self._journal.reopen(start.id)
        try:
            return await self._journal.resume(start.id)
        except RunBusy:
            now = self._journal.find(start.id)  # its process may have ended it meanwhile
            if now and now.status not in ("running", "waiting"):
                return ended(now, workflow)
            raise

    async def _perform(self, workflow: Workflow[Any], start: Start, value: Any, log: RunLog) -> Run:
        try:
            return await self._execute(workflow, start, value, log)
        finally:
            no = getattr(log, "no", None)
            if no is not None:
                self._house.ledger.ended(no)

    async def _execute(self, workflow: Workflow[Any], start: Start, value: Any, log: RunLog) -> Run:
        execution = Execution(
            self._house,
            log,
            no=getattr(log, "no", None),
            run_id=start.id,
            task_id=start.task_id,
            tags=start.tags,
            account=log.account,
            policies=start.policies,
            reference=start.reference,
        )
        tracing = self._house.tracing
        entered = Scope(execution).enter()
        status = "done"
        text: str | None = None
        error: RunError | None = None
        wants: str | None = None
        question: str | None = None
        try:
            with tracing.run(workflow.name, start.id) if tracing.on else nullcontext():
                result = await workflow.function(value)
            text = _text(workflow, execution, result)
        except Interrupted:
            status = "running"
        except Waits as waits:
            status, wants, question = "waiting", waits.name, waits.question
            execution.went_on()
            error = RunWaiting(f"run '{start.id}' waits: {waits.problem}") if waits.problem else None
        except RunCancelled as cancelled:
            status, error = "cancelled", cancelled
        except FundsExhausted as short:
            status, error, wants = "waiting", short, f"{FUNDS}{log.account}"
        except (StoreError, RunBusy):
            raise  # nothing can be written, or another process writes it
        except RunError as failed:
            status, error = "failed", failed
        except OrchestrionError as failed:
            await log.finish("running")  # a mistake in the settings, not in the run: it goes on when that is mended
            raise failed
        except Exception as raised:
            status, error = "failed", _workflow_failed(workflow, raised)
        except asyncio.CancelledError as cancelled_within:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                log.release()
                self._released[start.id] = log
                raise
            status, error = "failed", _workflow_failed(workflow, cancelled_within)  # nobody cancelled the run itself
        finally:
            Scope.leave(entered)
        if status in ("failed", "cancelled") or (status == "done" and execution.reviewed):
            execution.withdraw()
        await log.finish(status, result=text, error=str(error) if error else None, wants=wants)
        cost = log.cost
        if execution.reviewed and (record := self._journal.find(start.id)):
            cost = record.cost  # wages are posted by whoever decides
            if record.status == "cancelled" and status in ("waiting", "running"):  # while its question was being put
                status, error, wants, question = "cancelled", ended(record, workflow).error, None, None
                execution.withdraw()
                await log.durable()
        if self._ended and execution.no is not None and status in ("done", "failed", "cancelled"):
            await self._ended(execution.no)
        return Run(
            id=start.id,
            task_id=start.task_id,
            status=status,
            cost=cost,
            workflow=workflow,
            error=error,
            wants=wants,
            question=question,
            text=text,
        )


def _text(workflow: Workflow[Any], execution: Execution, result: Any) -> str:
    """The result as JSON. Raises JournalMismatch where the journal remembers steps that were not called this time."""
    left = execution.log.unvisited()
    if left:
        raise mismatch(execution.id, left)
    try:
        return workflow.output.dump_json(result, warnings="error").decode()
    except ValueError as error:  # pydantic's and Unicode's are
        raise WorkflowFailed(
            f"workflow '{workflow.name}' returned what does not fit its return type or JSON: {str(result)[:80]!r}: {error}"
        ) from None


def ended(record: RunRecord, workflow: Workflow[Any]) -> Run:
    """A run as the journal has it."""
    error: RunError | None = RunError(record.error) if record.error else None
    if record.status == "cancelled":
        error = RunCancelled(record.error or f"run '{record.id}' was cancelled; what was answered before is kept.")
    return Run(
        id=record.id,
        task_id=record.task_id,
        status=record.status,
        cost=record.cost,
        workflow=workflow,
        error=error,
        wants=record.wants,
        question=record.question,
        text=record.result,
    )


def _refuse_another(record: RunRecord, workflow: Workflow[Any], start: Start, text: bytes) -> None:
    """An id stands for one run: the same workflow, input, policies and account."""
    way_out = "Use another id (--batch on the command line), or start it as it was."
    if record.workflow.rpartition(":")[2] != workflow.ref.rpartition(":")[2]:
        raise JournalMismatch(f"run '{record.id}' is a run of {record.workflow}, not of {workflow.ref}. {way_out}")
    if record.digest != digest(text):
        then, now = record.input or "(not kept)", text.decode()
        raise JournalMismatch(
            f"run '{record.id}' was started with another input.\n  then: {then[:300]}\n  now:  {now[:300]}\n{way_out}"
        )
    if record.policy != start.policy:
        raise JournalMismatch(
            f"run '{record.id}' was started with {_policies(record.policy)}, not with {_policies(start.policy)}. {way_out}"
        )
    if start.account is not None and record.account != start.account:
        raise JournalMismatch(
            f"run '{record.id}' was started on account '{record.account}', not on '{start.account}'. {way_out}"
        )


def _policies(stored: str | None) -> str:
    """The policies of a run in words."""
    if not stored:
        return "its steps' own policies"
    return "the policies " + ", ".join(
        f"{step}={p['name']} ({p['digest'][:8]})" for step, p in from_json(stored).items()
    )


def _workflow_failed(workflow: Workflow[Any], raised: BaseException) -> WorkflowFailed:
    """Where the workflow's own code raised: its innermost frame outside this package."""
    package = str(Path(__file__).parents[1])
    frames = [frame for frame in traceback.extract_tb(raised.__traceback__) if not frame.filename.startswith(package)]
    at = f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    failed = WorkflowFailed(f"workflow '{workflow.name}' raised {type(raised).__name__}{at}: {raised}")
    failed.__cause__ = raised
    return failed
