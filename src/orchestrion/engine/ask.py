"""The one metered ask: hold → reply → post. Nothing else may call a paid worker."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable
from time import perf_counter
from typing import TYPE_CHECKING

import msgspec
from pydantic_core import to_json

from orchestrion.checks.protocol import AskWorker, Check
from orchestrion.domain import (
    COMPLETE,
    FREE,
    SCHEMA,
    Attempt,
    Call,
    Failure,
    Message,
    Money,
    Reply,
    Request,
    Task,
    Usage,
    Verdict,
    digest,
)
from orchestrion.engine.scope import Parted
from orchestrion.errors import RunBusy, StepFailed, UsageError, WorkerFailed
from orchestrion.journal.protocol import Key
from orchestrion.workers.protocol import NotSent, Worker

if TYPE_CHECKING:
    from orchestrion.engine.execution import Execution
    from orchestrion.engine.perform import Site


class Held(msgspec.Struct, frozen=True):
    """A call whose money is set aside: ``amount`` nano-dollars under the id ``hold``."""

    hold: int
    amount: Money
    call: Call
    worker: Worker
    request: Request


def hold(site: Site, calls: tuple[Call, ...], turn: int) -> list[Held]:
    """Note an Ask with its holds: they are in one commit, for which the caller waits before it calls anybody."""
    execution, step = site.execution, site.step
    prepared = []
    for call in calls:
        worker = execution.worker(call.worker, step)
        request = step.request(site.task, call, site.input)
        prepared.append((worker.bound(request), call, worker, request))
    # Nothing is held before all are known: a worker that is not there must not leave the others' money set aside.
    held = [Held(execution.hold(amount), amount, call, worker, request) for amount, call, worker, request in prepared]
    noted = [(one.hold, one.call) for one in held]
    execution.log.ask(site.key, turn, site.digest, site.input if turn == 0 else None, noted)
    return held


def let_go(site: Site, held: list[Held]) -> None:
    """No call was made, and none will be."""
    for one in held:
        site.execution.post(one.hold, 0, "void")


async def answers(site: Site, held: list[Held], history: tuple[Attempt, ...]) -> tuple[Attempt, ...]:
    """Call several workers at once; their attempts in the order of the calls. All end before an error goes on."""
    attempts = await asyncio.gather(*(answer(site, one, history) for one in held), return_exceptions=True)
    for attempt in attempts:
        if isinstance(attempt, BaseException):
            raise attempt
    return tuple(attempt for attempt in attempts if isinstance(attempt, Attempt))


async def answer(site: Site, held: Held, history: tuple[Attempt, ...]) -> Attempt:
    """One call and its verdicts. The attempt is in the journal before anything that may take time or fail."""
    call, hold = held.call, held.hold
    answered = await metered(site.execution, hold, held.amount, held.worker, held.request)
    reply, log = answered.reply, site.execution.log
    if reply is None:
        attempt = Attempt(call, failure=answered.failure, cost=answered.cost, latency_s=answered.latency_s, hold=hold)
        log.attempt(attempt, checked=True)
        return attempt
    value, text, problems = site.step.read(reply.output, reply.answer, reply.finish_reason)
    attempt = Attempt(
        call,
        reply.output,
        value,
        text,
        None,
        problems,
        reply.usage,
        answered.cost,
        answered.latency_s,
        reply.finish_reason,
        hold,
    )
    verdicts, pending = _judge(site, history, attempt, reply.verdicts)
    if verdicts:
        attempt = attempt.judged(verdicts)
    log.attempt(attempt, checked=not pending)
    if pending:
        attempt = attempt.judged((*verdicts, *[await verdict for verdict in pending]))
        log.judged(attempt)
    return attempt


async def rejudge(site: Site, history: tuple[Attempt, ...], attempt: Attempt) -> Attempt:
    """Ask the checks about a remembered attempt whose verdicts were not noted before its process ended."""
    verdicts, pending = _judge(site, history, attempt, ())
    judged = attempt.judged((*verdicts, *[await verdict for verdict in pending]))
    site.execution.log.judged(judged)
    return judged


def _judge(
    site: Site, history: tuple[Attempt, ...], attempt: Attempt, recorded: tuple[Verdict, ...]
) -> tuple[tuple[Verdict, ...], list[Awaitable[Verdict]]]:
    """The verdicts that are there at once, and those to await. An output of the wrong form is not judged further.

    ``recorded`` verdicts, in a replay, keep their order; those of checks that are at hand are asked again in their place.
    """
    if attempt.verdicts or any(verdict.check in (SCHEMA, COMPLETE) for verdict in recorded):
        return attempt.verdicts or recorded, []
    if not site.checks:
        return recorded, []
    verdicts: list[Verdict] = []
    pending: list[Awaitable[Verdict]] = []
    checks = {check.name: check for check in site.checks}
    attempts = (*history, attempt)
    asker = asker_for(site, attempt)
    for before in recorded:
        check = checks.pop(before.check, None)
        verdicts.append(before if check is None else _ask_at_once(check, site.task, attempts, asker, before))
    for check in checks.values():
        said = _ask(check, site.task, attempts, asker)
        if isinstance(said, Verdict):
            verdicts.append(said)
        else:
            pending.append(_awaited(check, said))
    return tuple(verdicts), pending


def _ask(check: Check, task: Task, attempts: tuple[Attempt, ...], asker: AskWorker) -> Verdict | Awaitable[Verdict]:
    try:
        return check(task, attempts, asker)
    except Exception as error:
        return _broken(check, error)


def _ask_at_once(
    check: Check, task: Task, attempts: tuple[Attempt, ...], asker: AskWorker, recorded: Verdict
) -> Verdict:
    """A rule's verdict; of a check that would have to wait for somebody, the recorded one."""
    said = _ask(check, task, attempts, asker)
    if isinstance(said, Verdict):
        return said
    if inspect.iscoroutine(said):
        said.close()
    return recorded


async def _awaited(check: Check, said: Awaitable[Verdict]) -> Verdict:
    try:
        return await said
    except Exception as error:
        return _broken(check, error)


def _broken(check: Check, error: Exception) -> Verdict:
    """What cannot be asked does not pass."""
    return Verdict(check.name, False, 0.0, f"the check raised {type(error).__name__}: {error}", broken=True)


class Answered(msgspec.Struct, frozen=True):
    """What a metered call came to: a reply or a failure, what was posted, and the seconds it took."""

    reply: Reply | None
    failure: Failure | None
    cost: Money
    latency_s: float


async def metered(execution: Execution, hold: int, amount: Money, worker: Worker, request: Request) -> Answered:
    """Call a worker whose hold is durable, and post what it cost."""
    started = perf_counter()
    try:
        reply = await worker.reply(request)
        _refuse_no_text(worker.name, reply.output)
    except WorkerFailed as failed:
        # What was recorded of a failed call is replayed with the cost that was posted for it.
        recorded = failed.raw.get("cost") if isinstance(failed.raw, dict) else None
        cost = recorded or (0 if failed.billed == "no" else amount)
        execution.post(hold, cost, "post" if recorded else "void" if failed.billed == "no" else "unknown")
        return Answered(None, Failure(failed.kind, failed.message), cost, perf_counter() - started)
    except (UsageError, NotSent, Parted):
        execution.post(hold, 0, "void")  # a missing key, or stopped while it waited for its turn: nothing was sent
        raise
    except BaseException:
        # Cancelled, or a bug in a worker: the call may have been charged, and nobody will hear of it.
        execution.post(hold, amount, "unknown")
        raise
    latency = perf_counter() - started
    cost = reply.cost if reply.cost is not None else (worker.price or FREE).cost(reply.usage)
    execution.post(hold, cost, "post")
    if reply.raw and "latency_s" in reply.raw:
        latency = reply.raw["latency_s"] or 0.0  # a recorded answer took as long as it took
    return Answered(reply, None, cost, latency)


def _refuse_no_text(worker: str, output: object) -> None:
    """The journal and the next worker need a text that UTF-8 can hold."""
    if isinstance(output, str):
        if output.isascii():
            return
        try:
            output.encode()
        except UnicodeEncodeError as error:
            raise WorkerFailed("garbage", f"{worker}: the answer is not text: {error.reason}") from None
    else:
        raise WorkerFailed("garbage", f"{worker}: the answer is not text but {type(output).__name__}")


def asker_for(site: Site, attempt: Attempt) -> AskWorker:
    """How a check of this attempt asks a worker of its own: metered, and remembered under the attempt's hold."""
    asked = 0

    async def ask_worker(name: str, messages: tuple[Message, ...]) -> Reply:
        nonlocal asked
        execution, log = site.execution, site.execution.log
        key = Key(f"{site.key}~{attempt.hold}/", name, asked)
        asked += 1
        text = to_json(messages)
        memory = log.recall(key)
        for remembered in memory.history if memory else ():
            if not remembered.failure and memory and memory.digest == digest(text):
                return Reply(remembered.output or "", usage=remembered.usage, cost=remembered.cost)
        execution.proceed()
        worker = execution.worker(name, site.step)
        request = Request(
            messages=messages, task_id=site.task.id, step=f"{site.step.name}~", sample=attempt.call.sample
        )
        amount = worker.bound(request)
        hold = execution.hold(amount)
        call = Call(name, attempt.call.sample)
        log.ask(key, memory.turns if memory else 0, digest(text), text.decode(), [(hold, call)])
        try:
            await log.durable()
        except (asyncio.CancelledError, RunBusy):
            execution.post(hold, 0, "void")
            raise
        answered = await metered(execution, hold, amount, worker, request)
        reply, usage = answered.reply, answered.reply.usage if answered.reply else Usage()
        said = Attempt(
            call,
            reply.output if reply else None,
            failure=answered.failure,
            usage=usage,
            cost=answered.cost,
            latency_s=answered.latency_s,
            hold=hold,
        )
        log.attempt(said, checked=True)
        if reply is None:
            reason = f"the worker of its check did not answer: {said.failure.message if said.failure else ''}"
            raise StepFailed(step=site.step.name, reason=reason, history=(said,), cost=said.cost)
        return reply

    return ask_worker
