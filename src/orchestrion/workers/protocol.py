"""What a worker is: it has a name, a price, a bound on what one call can cost, and a ``reply`` method."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from typing import Any, Protocol, TypeAlias

from pydantic_core import to_json

from orchestrion.domain import Money, Price, Reply, Request, Usage
from orchestrion.errors import UsageError
from orchestrion.settings import refuse_fields

OnDelta: TypeAlias = Callable[[str], None]
"""Called with every piece of text of a streamed answer."""

MESSAGE_OVERHEAD = 16
"""Tokens that a provider may add for each message (role, separators), generously."""

REQUEST_OVERHEAD = 64

PICTURE_TOKENS = 2**16
"""What a picture may count, whatever its size in bytes: the dearest way that is known (small models of OpenAI's, eight tiles
of 5,667 and 2,833) stays below."""

MAX_OUTPUT = 4096
"""The output limit of a worker that says nothing of its own."""

MOST_TOKENS = 2**40
"""More tokens than any call has: such a number is garbage."""


class Worker(Protocol):
    """Whoever can answer a Request.

    It may say more of itself: ``tokens(request)``, see ``tokens_bound``; ``margin``, see ``margin_of``; ``model``, see
    ``model_of``.
    """

    @property
    def name(self) -> str:
        """By which policies ask for it."""
        ...

    @property
    def price(self) -> Price | None:
        """What its tokens cost; None where each Reply says its own cost."""
        ...

    def bound(self, request: Request) -> Money:
        """The most that this request can cost: what is held before the call.

        Raises UsageError for a request whose cost has no bound.
        """
        ...

    async def reply(self, request: Request, on_delta: OnDelta | None = None) -> Reply:
        """Answer. Raises WorkerFailed where there is no answer, saying whether the call may have been billed."""
        ...


class NotSent(asyncio.CancelledError):
    """Cancelled while nothing was under way: the call is certainly not billed."""


@contextlib.contextmanager
def unsent() -> Iterator[None]:
    """Around what waits before a call is sent, or sent again: a cancellation there is NotSent."""
    try:
        yield
    except asyncio.CancelledError as cancelled:
        raise NotSent from cancelled


def input_bound(request: Request) -> int:
    """The most input tokens that a request can have: no tokenizer makes more tokens than there are UTF-8 bytes.

    What is no text counts beside its bytes as a picture does.
    """
    total = REQUEST_OVERHEAD
    for message in request.messages:
        content = message.get("content")
        if isinstance(content, str) and len(message) == 2:
            total += MESSAGE_OVERHEAD + len(content.encode())
        else:
            total += MESSAGE_OVERHEAD + len(to_json(message))
        if isinstance(content, list):
            total += PICTURE_TOKENS * sum(isinstance(part, dict) and part.get("type") != "text" for part in content)
    if request.schema:
        total += len(to_json(request.schema))
    if request.extra:
        total += len(to_json(request.extra))
    return total


def call_bound(price: Price, request: Request, max_output: int) -> Money:
    """The most that one call can cost at a price per token: its input at most, and its output limit."""
    return price.bound(input_bound(request), request.max_output or max_output)


def tokens_bound(worker: Worker, request: Request) -> int:
    """The most tokens that a call can take, in and out: asked where a limit counts them.

    A worker may say it itself, by a method ``tokens(request)``. Of others the request counts with its bytes, the answer with
    its limit (the worker's ``max_output`` where the request has none).
    """
    own: Callable[[Request], int] | None = getattr(worker, "tokens", None)
    if own is not None:
        return own(request)
    limit = request.max_output or int(getattr(worker, "max_output", MAX_OUTPUT))
    return input_bound(request) + limit


def margin_of(worker: Worker) -> float:
    """By what a worker's bound is raised: ``bound`` of a model in the settings, or the ``margin`` that a worker of the user's
    own says it has."""
    return float(getattr(worker, "margin", 1.0))


def model_of(worker: Worker) -> str | None:
    """Which model answers under a worker's name, as "KIND:NAME": what a worker says it has as its ``model``; None where it
    says nothing."""
    model = getattr(worker, "model", None)
    return model if isinstance(model, str) else None


def refuse_extra(worker: str, kind: str, request: Request) -> None:
    """Raise UsageError where a step's extra fields could make a call dearer than its bound, or nobody would heed them."""
    try:
        refuse_fields(kind, request.extra)
    except ValueError as error:
        raise UsageError(f"step '{request.step}' cannot ask '{worker}' with its extra fields: {error}.") from None


def likely(usage: Usage) -> Usage:
    """A usage as a server told it, in whole tokens.

    Raises ValueError for numbers that cannot be: negative, absurd, or more cached or reasoning tokens than there are.
    """
    read, written = usage.input_tokens, usage.output_tokens
    parts = (usage.cache_read_tokens, read), (usage.cache_write_tokens, read), (usage.reasoning_tokens, written)
    for part, whole in ((read, MOST_TOKENS), (written, MOST_TOKENS), *parts):
        if not isinstance(part, int | float) or not 0 <= part <= whole:
            raise ValueError(f"its usage says {part} tokens")
    cached = int(usage.cache_read_tokens), int(usage.cache_write_tokens)
    return Usage(int(read), int(written), *cached, int(usage.reasoning_tokens))


def text_of(content: Any) -> str:
    """The text of a message's content, which is a string or a list of parts."""
    if isinstance(content, str):
        return content
    return "".join(part.get("text", "") for part in content or () if isinstance(part, dict))
