"""Frozen facts: what is asked, what came back, what it cost, what was decided. No I/O.

They are msgspec Structs: immutable like frozen dataclasses, and made in a tenth of the time (a step makes a dozen).

Money is an integer number of nano-dollars everywhere; a price is nano-dollars per million tokens; times are seconds.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping
from decimal import ROUND_CEILING, Decimal, InvalidOperation
from typing import Any, Literal, TypeAlias

import msgspec
from pydantic_core import to_json

Money: TypeAlias = int
"""Nano-dollars (10⁻⁹ $). An int64 holds $9.2 billion."""

Message: TypeAlias = Mapping[str, Any]
"""One chat message in OpenAI's shape: {"role": ..., "content": ...} and whatever else the provider takes."""

NANOS_PER_DOLLAR = 1_000_000_000


def nanos(dollars: float | int | str | Decimal) -> Money:
    """Dollars as nano-dollars, rounded up. Raises ValueError for what is not a finite amount."""
    try:
        amount = Decimal(str(dollars))
        if not amount.is_finite():
            raise ValueError(f"not an amount of money: {dollars!r}")
        return int((amount * NANOS_PER_DOLLAR).to_integral_value(rounding=ROUND_CEILING))
    except InvalidOperation:
        raise ValueError(f"not an amount of money: {dollars!r}") from None


def dollars(amount: Money) -> str:
    """Nano-dollars for people: cents from a dollar on, below that three significant digits."""
    value = abs(amount) / NANOS_PER_DOLLAR
    sign = "-" if amount < 0 else ""
    if value >= 1:
        return f"{sign}${value:,.2f}"
    if not amount:
        return "$0"
    places = min(9, 2 - math.floor(math.log10(value)))
    return f"{sign}${value:.{places}f}"


def usd(amount: Money) -> float:
    """Nano-dollars as a float number of dollars, for JSON."""
    return amount / NANOS_PER_DOLLAR


def digest(data: bytes) -> str:
    """32 hex digits of BLAKE2b: names an input, a context, a policy."""
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def storable(text: str) -> str:
    """A text that UTF-8 can hold: half of a character, as broken JSON may leave it, becomes "?"."""
    return text.encode("utf-8", "replace").decode()


class Task(msgspec.Struct, frozen=True):
    """One unit of input. ``step`` names the step that it is put to, ``instructions`` are that step's; ``reference`` never
    reaches a policy."""

    id: str
    input: Any
    tags: Mapping[str, str] = {}
    reference: Any = None
    step: str = ""
    instructions: str = ""


class Usage(msgspec.Struct, frozen=True, gc=False):
    """Tokens of one call. ``input_tokens`` includes cache reads and writes, ``output_tokens`` includes reasoning."""

    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0
    estimated: bool = False


class Price(msgspec.Struct, frozen=True, gc=False):
    """Nano-dollars per million tokens. Cache prices default to the input price.

    ``tiers`` holds, in order, (tokens, price): what a whole call costs whose input is longer than so many tokens.
    """

    input: int
    output: int
    cache_read: int | None = None
    cache_write: int | None = None
    tiers: tuple[tuple[int, Price], ...] = ()

    def cost(self, usage: Usage) -> Money:
        """What a call with this usage costs, rounded up once."""
        for longer_than, price in reversed(self.tiers):
            if usage.input_tokens > longer_than:
                return price.cost(usage)
        read, write = usage.cache_read_tokens, usage.cache_write_tokens
        total = usage.input_tokens * self.input + usage.output_tokens * self.output
        if read and self.cache_read is not None:
            total += read * (self.cache_read - self.input)
        if write and self.cache_write is not None:
            total += write * (self.cache_write - self.input)
        return -(-total // 1_000_000)

    def bound(self, input_tokens: int, output_tokens: int) -> Money:
        """The most that a call with at most so many tokens can cost, at the dearest tier."""
        dearest = max(self.input, self.cache_write or 0, self.cache_read or 0)
        own = -(-(input_tokens * dearest + output_tokens * self.output) // 1_000_000)
        return max(own, *(price.bound(input_tokens, output_tokens) for _, price in self.tiers)) if self.tiers else own


FREE = Price(input=0, output=0)


FORGOTTEN = "forgotten"
"""Stands in the place of a call's messages whose texts were not to be kept: their digest."""


class Call(msgspec.Struct, frozen=True):
    """One worker to be asked: its name, the number of the sample, and the messages added to the step's own.

    A call is the identity of what is asked: a policy looks its attempts up by it, so an answer that exists is never
    asked for again.
    """

    worker: str
    sample: int = 0
    added: tuple[Message, ...] = ()

    @property
    def context(self) -> str | None:
        """Digest of what is sent beyond the plain task; None for the plain task."""
        if not self.added:
            return None
        kept: str | None = self.added[0].get(FORGOTTEN)
        return kept or digest(to_json(self.added))

    def forgotten(self) -> Call:
        """The same call without the texts of its messages: their digest stays."""
        return Call(self.worker, self.sample, ({FORGOTTEN: self.context},)) if self.added else self


class Request(msgspec.Struct, frozen=True):
    """What a worker is asked: messages, output schema, limits and raw provider fields.

    ``value`` is the step's input as a Python object, for workers that are functions. ``task_id``, ``step``, ``sample``
    and ``context`` say which call this is, for workers that look answers up.
    """

    messages: tuple[Message, ...]
    task_id: str
    step: str
    sample: int = 0
    context: str | None = None
    value: Any = None
    schema: Mapping[str, Any] | None = None
    max_output: int | None = None
    extra: Mapping[str, Any] = {}


class Reply(msgspec.Struct, frozen=True):
    """What came back. ``cost`` is None where the worker's price tells it from the usage, ``latency_s`` where the clock
    tells how long the answer took."""

    output: str
    usage: Usage = Usage()
    cost: Money | None = None
    answer: str | None = None
    finish_reason: str | None = None
    verdicts: tuple[Verdict, ...] = ()
    latency_s: float | None = None
    raw: Mapping[str, Any] | None = None


REJECTED = "rejected"
"""The kind of Failure that a person's rejection is."""


class Failure(msgspec.Struct, frozen=True, gc=False):
    """Why a worker did not answer. ``kind`` is one word: http_500, timeout, garbage, refused, exception …"""

    kind: str
    message: str


class Verdict(msgspec.Struct, frozen=True, gc=False):
    """What a check says of an attempt. ``score`` in [0, 1]; ``cost`` is what asking cost.

    ``broken``: the check could not be asked, which never passes; it is asked again where a failed run is resumed.
    """

    check: str
    passed: bool
    score: float
    reason: str | None = None
    cost: Money = 0
    broken: bool = False


class Attempt(msgspec.Struct, frozen=True, eq=False):
    """One worker asked once within a step: the call, the reply or the failure, and the verdicts.

    ``value`` is the parsed output (None where it does not parse), ``answer`` its canonical text, by which answers are
    compared. ``cost`` is what was posted, ``hold`` the id of the money that was set aside.
    """

    call: Call
    output: str | None = None
    value: Any = None
    answer: str | None = None
    failure: Failure | None = None
    verdicts: tuple[Verdict, ...] = ()
    usage: Usage = Usage()
    cost: Money = 0
    latency_s: float = 0.0
    finish_reason: str | None = None
    hold: int = 0

    def judged(self, verdicts: tuple[Verdict, ...]) -> Attempt:
        """The same attempt with these verdicts."""
        return Attempt(
            self.call,
            self.output,
            self.value,
            self.answer,
            self.failure,
            verdicts,
            self.usage,
            self.cost,
            self.latency_s,
            self.finish_reason,
            self.hold,
        )

    @property
    def spent(self) -> Money:
        """What it cost, and what asking its checks cost."""
        return self.cost + sum(verdict.cost for verdict in self.verdicts)

    @property
    def passed(self) -> bool:
        """A reply that no check refused."""
        return self.failure is None and all(verdict.passed for verdict in self.verdicts)

    @property
    def rejected(self) -> bool:
        """Whether a person refused to let anything pass: a decision, which stands, and no accident to be retried."""
        return self.failure is not None and self.failure.kind == REJECTED

    @property
    def broken(self) -> bool:
        """Whether a check of it could not be asked: no fault of the answer."""
        return any(verdict.broken for verdict in self.verdicts)

    @property
    def usable(self) -> bool:
        """A reply that at least has the form of an answer."""
        return self.failure is None and all(v.passed for v in self.verdicts if v.check in (SCHEMA, COMPLETE))

    @property
    def confidence(self) -> float:
        """The lowest score of its verdicts; 1 without any, 0 for a failure."""
        return 0.0 if self.failure else min([v.score for v in self.verdicts], default=1.0)


SCHEMA = "schema"
"""The name of the check that an output has the step's type. It is always asked first."""

COMPLETE = "complete"
"""The name of the check that an answer was not cut at its output limit, nor withheld."""

WITHHELD = "content_filter"
"""The finish reason of an answer that a provider's filter cut or withheld, or that the model refused."""


class Ask(msgspec.Struct, frozen=True):
    """Decision: ask these workers, at once."""

    calls: tuple[Call, ...]


class Accept(msgspec.Struct, frozen=True):
    """Decision: this attempt is the answer. ``constrained``: chosen because money was short."""

    attempt: Attempt
    confidence: float = 1.0
    constrained: bool = False


StopKind: TypeAlias = Literal["failed", "checks", "funds", "rejected"]


class Stop(msgspec.Struct, frozen=True):
    """Decision: no answer can be accepted. ``kind`` says what stood in the way, ``attempts`` what was looked at.

    The attempts are in the order in which the policy asks for them, whatever the order in which they were answered.
    """

    reason: str
    kind: StopKind = "checks"
    attempts: tuple[Attempt, ...] = ()


Decision: TypeAlias = Ask | Accept | Stop


def _no_bound(call: Call) -> Money:
    return 0


class Funds:
    """What may still be spent on this step: ``left`` in nano-dollars (None: no limit), and the bound of a call.

    ``covers`` says whether calls fit under every limit, those of tokens and of people's time included; without it,
    ``left`` alone counts. A ``left`` that is a function is asked when a policy looks at it, which few do.
    """

    __slots__ = ("_left", "bound", "covers")

    def __init__(
        self,
        left: Money | Callable[[], Money | None] | None = None,
        bound: Callable[[Call], Money] = _no_bound,
        covers: Callable[[tuple[Call, ...]], bool] | None = None,
    ) -> None:
        self._left = left
        self.bound = bound
        self.covers = covers

    @property
    def left(self) -> Money | None:
        """Nano-dollars; None where there is no limit."""
        return self._left() if callable(self._left) else self._left

    def pay(self, calls: tuple[Call, ...]) -> bool:
        """Whether all of these calls could be paid, at their bounds."""
        if self.covers:
            return self.covers(calls)
        left = self._left
        if left is None:
            return True
        if callable(left):
            left = left()
        return left is None or sum(map(self.bound, calls)) <= left


UNLIMITED = Funds()


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """A recorded attempt, perhaps with its true score: the evidence that tuning, replay and reports read.

    One line of a JSONL file. ``score`` in [0, 1] is truth only; what a check says is a verdict. ``context`` is None
    for the plain task. ``model`` is the worker's model id then, ``instructions`` the step's ``prompt_digest``. Unknown values
    are None.
    """

    workload: str | None = None
    task_id: str
    tags: Mapping[str, Any] = {}
    worker: str
    sample: int = 0
    prompt: str | None = None
    output: str | None = None
    answer: str | None = None
    reference: Any = None
    score: float | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_tokens: int | None = None
    cache_write_tokens: int | None = None
    tokens_estimated: bool | None = None
    cost_usd: float | None = None
    latency_s: float | None = None
    step: str | None = None
    run_id: str | None = None
    attempt: int | None = None
    context: str | None = None
    verdicts: Mapping[str, Mapping[str, Any]] | None = None
    failure: str | None = None
    accepted: bool | None = None
    label_source: Literal["reference", "person", "judge"] | None = None
    selected_by: str | None = None
    probability: float | None = None
    constrained: bool | None = None
    cached: bool | None = None
    label_probability: float | None = None
    model: str | None = None
    instructions: str | None = None

    def _repr_html_(self) -> str:
        from orchestrion.markup import card  # notebooks only

        said = {True: "accepted", False: "not accepted", None: ""}[self.accepted]
        score = "" if self.score is None else f"score {self.score:g}"
        return card(
            f"outcome of {self.task_id}", self.step or "", self.worker, said, score, text=self.failure or self.output
        )
