"""The one metered ask: hold → reply → post. Nothing else may call a paid worker."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Mapping
from functools import partial
from itertools import count
from time import perf_counter
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec.structs import replace
from pydantic_core import to_json

from orchestrion.checks.protocol import Check
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
    Usage,
    Verdict,
    digest,
)
from orchestrion.engine.holding import MOST, NOTHING, Held, is_amount, plan, secured
from orchestrion.engine.review import put, waits
from orchestrion.engine.scope import Parted, Waits, here
from orchestrion.errors import FundsExhausted, RunBusy, RunCancelled, StepFailed, UsageError, WorkerFailed
from orchestrion.journal.protocol import Basis, Key
from orchestrion.ledger.accounts import Amounts
from orchestrion.ledger.overruns import OVERRUN
from orchestrion.ledger.protocol import Posting
from orchestrion.workers.people import Person
from orchestrion.workers.protocol import NotSent, margin_of, model_of

if TYPE_CHECKING:
    from orchestrion.engine.execution import Execution
    from orchestrion.engine.perform import Site


NO_COST: Mapping[str, Money] = {}


def hold(site: Site, calls: tuple[Call, ...], history: tuple[Attempt, ...]) -> Awaitable[list[Held]]:
    """Set aside what an Ask takes, and note it; a question to a person is put with it. Raises FundsExhausted."""
    # Nothing is held before all are known: a worker that is not there must not leave the others' money set aside.
    asked = [plan(site, call, site.step.request(site.task, call, site.input)) for call in calls]
    return secured(site, asked, partial(_note, site, history), history)


def _note(site: Site, history: tuple[Attempt, ...], held: list[Held]) -> None:
    """Write an Ask down."""
    execution, turn = site.execution, site.turn
    if execution.short:
        execution.went_on(here().path)
    noted = [(one.hold, one.call) for one in held]
    basis = Basis(site.step.prompt_digest, tuple([(one.call.worker, model_of(one.worker)) for one in held]))
    execution.log.ask(site.key, turn, site.digest, None if turn else site.input, noted, basis)
    site.turn = turn + 1
    for one in held:
        if isinstance(one.worker, Person):
            put(site, one.hold, one.worker, history)


async def answers(site: Site, held: list[Held], history: tuple[Attempt, ...]) -> tuple[Attempt, ...]:
    """Call several workers at once; their attempts in the order of the calls. All end before an error goes on."""
    try:
        attempts = await asyncio.gather(*(answer(site, one, history) for one in held), return_exceptions=True)
    except asyncio.CancelledError:
        for one in held:  # one that had not begun was not charged; of the others, a second post changes nothing
            if not isinstance(one.worker, Person):
                site.execution.post(one.hold, NOTHING, "void")
        raise
    errors = [attempt for attempt in attempts if isinstance(attempt, BaseException)]
    if errors:
        raise next((error for error in errors if not isinstance(error, Waits)), errors[0])
    return tuple(attempt for attempt in attempts if isinstance(attempt, Attempt))


async def answer(site: Site, held: Held, history: tuple[Attempt, ...]) -> Attempt:
    """One call and its verdicts. The attempt is in the journal before anything that may take time or fail.

    A person is not waited for here: the run leaves memory.
    """
    call, hold = held.call, held.hold
    if isinstance(held.worker, Person):
        raise waits(hold)
    answered = await metered(site.execution, held)
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
        attempt = attempt.judged((*verdicts, *await _said(pending)))
        log.judged(attempt)
    return attempt


async def rejudge(
    site: Site, history: tuple[Attempt, ...], attempt: Attempt, *, anew: Mapping[str, Money] = NO_COST
) -> Attempt:
    """Ask the checks about a remembered attempt whose verdicts were not noted before its process ended.

    What they asked is remembered, too. The checks named in ``anew`` ask again all the same, beyond what they cost before.
    """
    verdicts, pending = _judge(site, history, attempt, (), anew)
    judged = attempt.judged((*verdicts, *await _said(pending)))
    site.execution.log.judged(judged)
    return judged


async def _said(pending: list[Awaitable[Verdict]]) -> list[Verdict]:
    """What checks say that ask somebody, all at once; in their order. All end before an error goes on."""
    if len(pending) == 1:
        return [await pending[0]]
    verdicts = await asyncio.gather(*pending, return_exceptions=True)
    for verdict in verdicts:
        if isinstance(verdict, BaseException):
            raise verdict
    return [verdict for verdict in verdicts if isinstance(verdict, Verdict)]


def _judge(
    site: Site,
    history: tuple[Attempt, ...],
    attempt: Attempt,
    recorded: tuple[Verdict, ...],
    anew: Mapping[str, Money] = NO_COST,
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
    asked: dict[Key, int] = {}
    for before in recorded:
        check = checks.pop(before.check, None)
        verdicts.append(before if check is None else _ask_at_once(site, check, attempts, before))
    for check in checks.values():
        asker = Asker(site, attempt, asked, anew=anew.get(check.name))
        said = _ask(site, check, attempts, asker)
        if isinstance(said, Verdict):
            verdicts.append(said)
        else:
            pending.append(_awaited(check, said, asker))
    return tuple(verdicts), pending


def _ask(site: Site, check: Check, attempts: tuple[Attempt, ...], asker: Asker) -> Verdict | Awaitable[Verdict]:
    task = site.task
    if getattr(check, "reference", None) is True:  # no other check, and no policy, ever sees it
        task = replace(task, reference=site.execution.reference)
    try:
        return check(task, attempts, asker)
    except Exception as error:
        return _broken(check, error)


def _ask_at_once(site: Site, check: Check, attempts: tuple[Attempt, ...], recorded: Verdict) -> Verdict:
    """A rule's verdict; of a check that would have to wait for somebody, the recorded one."""
    said = _ask(site, check, attempts, Asker(site, attempts[-1], {}))
    if isinstance(said, Verdict):
        return said
    if inspect.iscoroutine(said):
        said.close()
    return recorded


async def _awaited(check: Check, said: Awaitable[Verdict], asker: Asker) -> Verdict:
    """A check's verdict, with what asking for it cost. What concerns the whole run is no verdict on an answer."""
    try:
        verdict = await said
    except (UsageError, RunBusy, RunCancelled):
        raise
    except Exception as error:
        verdict = _broken(check, error)
    if asker.short:  # whatever the check made of it: an answer that could not be judged is judged when there is money
        raise asker.short
    return replace(verdict, cost=asker.cost) if asker.cost else verdict


def _broken(check: Check, error: Exception) -> Verdict:
    """What cannot be asked does not pass."""
    return Verdict(check.name, False, 0.0, f"the check raised {type(error).__name__}: {error}", broken=True)


class Answered(msgspec.Struct, frozen=True):
    """What a metered call came to: a reply or a failure, what was posted, and the seconds it took."""

    reply: Reply | None
    failure: Failure | None
    cost: Money
    latency_s: float


async def metered(execution: Execution, held: Held) -> Answered:
    """Call a worker whose hold is durable, and post what it took."""
    hold, worker = held.hold, held.worker
    if execution.overruns and (
        why := execution.overruns.refusal(worker.name, bound=held.demand.money, margin=margin_of(worker))
    ):
        execution.post(hold, NOTHING, "void")
        return Answered(None, Failure(OVERRUN, why), 0, 0.0)
    started = perf_counter()
    try:
        reply = await worker.reply(held.request)
        _refuse_no_text(worker.name, reply.output)
        took, kind = _took(held, reply)
    except WorkerFailed as failed:
        took, kind = _billed(failed, held)
        execution.post(hold, took, kind)
        if took.money > held.demand.money:
            _overrun(execution, held, took)
        return Answered(None, Failure(failed.kind, failed.message), took.money, perf_counter() - started)
    except (UsageError, NotSent, Parted):
        execution.post(
            hold, NOTHING, "void"
        )  # a missing key, or stopped while it waited for its turn: nothing was sent
        raise
    except BaseException:
        # Cancelled, or a bug in a worker: the call may have been charged, and nobody will hear of it.
        execution.post(hold, held.demand, "unknown")
        raise
    latency = perf_counter() - started if reply.latency_s is None else reply.latency_s
    execution.post(hold, took, kind)
    if took.money > held.demand.money or 0 < held.demand.tokens < took.tokens:
        _overrun(execution, held, took)
    return Answered(reply, None, took.money, latency)


def _took(held: Held, reply: Reply) -> tuple[Amounts, Posting]:
    """What a call took. A cost that is none is garbage: it must not raise what is left.

    Where neither the answer nor a price tells the cost, nobody knows it: what was held is booked in full.
    """
    worker, usage = held.worker, reply.usage
    kind: Posting = "post"
    cost = reply.cost
    if cost is None and worker.price is None and held.demand.money:
        cost, kind = held.demand.money, "unknown"
    elif cost is None:
        cost = (worker.price or FREE).cost(usage)
    tokens = usage.input_tokens + usage.output_tokens
    if not (type(cost) is int is type(tokens) and 0 <= cost <= MOST and 0 <= tokens <= MOST):
        raise WorkerFailed(
            "garbage", f"{worker.name}: the answer says that it cost {cost!r} nano-dollars and {tokens!r} tokens"
        )
    return Amounts(cost, tokens), kind


def _billed(failed: WorkerFailed, held: Held) -> tuple[Amounts, Posting]:
    """What a call took that came to nothing: nothing, what it says, or, where nobody knows, what was held."""
    if failed.cost and is_amount(failed.cost):
        return held.demand._replace(money=failed.cost), "post"
    if failed.billed == "no" and not failed.cost:
        return NOTHING, "void"
    return held.demand, "unknown"


def _overrun(execution: Execution, held: Held, took: Amounts) -> None:
    """More was billed than was held: booked as it is, and its worker is refused from now on."""
    if execution.overruns is not None:
        demand = held.demand
        by_tokens = 0 < demand.tokens < took.tokens and took.money * demand.tokens <= took.tokens * demand.money
        note = partial(execution.overruns.note, held.hold, held.worker.name, margin=margin_of(held.worker))
        if by_tokens:
            note(bound=demand.tokens, actual=took.tokens, unit="tokens")
        else:
            note(bound=demand.money, actual=took.money)


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


class Asker:
    """How a check asks workers of its own about an attempt: metered, and remembered under the attempt's hold.

    What is asked is known by its text: whichever answer comes first, and whichever check of several asks first, a
    resumed run finds its own. ``cost`` adds up what was asked, remembered answers included. ``anew`` is what asking has
    cost before, where what was said could not be used and nothing is to be remembered. ``short`` is why somebody could not
    be paid.
    """

    __slots__ = ("_asked", "_attempt", "_recalls", "_site", "cost", "short")

    def __init__(self, site: Site, attempt: Attempt, asked: dict[Key, int], *, anew: Money | None = None) -> None:
        """``asked`` counts what all checks of the attempt have asked: two may ask the very same."""
        self._site = site
        self._attempt = attempt
        self._asked = asked
        self._recalls = anew is None
        self.cost: Money = anew or 0
        self.short: FundsExhausted | None = None

    def __call__(
        self, worker: str, messages: tuple[Message, ...], *, schema: Mapping[str, Any] | None = None
    ) -> Awaitable[Reply]:
        text = to_json(messages)
        key = Key(f"{self._site.key}~{self._attempt.hold}.{digest(text)[:16]}/", worker, 0)
        again = self._asked.get(key, 0)
        self._asked[key] = again + 1
        return self._ask(replace(key, n=again), messages, text, schema)

    async def _ask(
        self, key: Key, messages: tuple[Message, ...], text: bytes, schema: Mapping[str, Any] | None
    ) -> Reply:
        site, execution, log = self._site, self._site.execution, self._site.execution.log
        memory = log.recall(key)
        remembered = memory.history if memory and self._recalls else ()
        self.cost += sum(said.cost for said in remembered)
        answers = [said for said in remembered if not said.failure]
        if answers:
            return Reply(answers[-1].output or "", usage=answers[-1].usage, cost=answers[-1].cost)
        execution.proceed()
        sample = self._attempt.call.sample
        request = Request(
            messages=messages, task_id=site.task.id, step=f"{site.step.name}~", sample=sample, schema=schema
        )
        call = Call(key.step, sample)
        turns = count(memory.turns if memory else 0)

        def note(held: list[Held]) -> None:
            basis = Basis(None, tuple([(one.call.worker, model_of(one.worker)) for one in held]))
            log.ask(key, next(turns), digest(text), text.decode(), [(one.hold, one.call) for one in held], basis)

        try:
            [held] = await secured(site, [plan(site, call, request)], note, ())
        except FundsExhausted as short:
            self.short = short
            raise
        answered = await metered(execution, held)
        reply, failure = answered.reply, answered.failure
        said = Attempt(
            call,
            reply.output if reply else None,
            failure=failure,
            usage=reply.usage if reply else Usage(),
            cost=answered.cost,
            latency_s=answered.latency_s,
            hold=held.hold,
        )
        log.attempt(said, checked=True)
        self.cost += said.cost
        if reply is None:
            reason = f"the worker of its check did not answer: {failure.message if failure else ''}"
            raise StepFailed(step=site.step.name, reason=reason, history=(said,), cost=said.cost)
        return reply
