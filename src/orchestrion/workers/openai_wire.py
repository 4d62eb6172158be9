"""OpenAI's chat completions over aiohttp: the fast path, for OpenAI and everything that speaks like it.

The wire asks again by itself only what certainly was not billed: a refused connection, and status 429. Whatever else goes
wrong is a WorkerFailed that the policy sees. It is "not billed" only where the provider refused the request (4xx); a 5xx,
a cut connection, a timeout or an unreadable answer may have been charged, and its hold is booked in full.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import aiohttp
from pydantic_core import from_json, to_json

from orchestrion.domain import WITHHELD, Money, Price, Reply, Request, Usage
from orchestrion.errors import WorkerFailed
from orchestrion.settings import OPENAI
from orchestrion.workers.again import NotBilled, asked
from orchestrion.workers.protocol import OnDelta, input_bound, likely, refuse_extra, text_of

LARGEST_ANSWER = 32 * 2**20
CONNECT_S = 30
LONGEST_MESSAGE = 400
"""Characters of a provider's error that are shown."""


class Session:
    """One aiohttp session, made when it is first needed, shared by all wires and closed by the app."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None

    def get(self) -> aiohttp.ClientSession:
        """The session. Workers are limited one by one (workers.limited), so the connector is not."""
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0), json_serialize=lambda v: to_json(v).decode()
            )
        return self._session

    async def close(self) -> None:
        """Close the connections."""
        if self._session:
            await self._session.close()


class OpenAIWire:
    """One model behind an OpenAI-compatible endpoint. ``key`` is called when the first request needs it."""

    def __init__(
        self,
        name: str,
        model: str,
        *,
        session: Session,
        price: Price,
        base_url: str | None = None,
        key: Callable[[], str | None] = lambda: None,
        max_output: int = 4096,
        timeout_s: float = 600.0,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        self.name = name
        self.price: Price | None = price
        self._price = price
        self._model = model
        self.model = f"openai-chat:{model}"
        self._session = session
        self._url = (base_url or OPENAI).rstrip("/") + "/chat/completions"
        # OpenAI's own models take max_completion_tokens (reasoning included); what speaks like OpenAI knows max_tokens.
        self._limit_field = "max_completion_tokens" if base_url is None else "max_tokens"
        self._key = key
        self.max_output = max_output
        self._timeout = aiohttp.ClientTimeout(total=timeout_s, sock_connect=CONNECT_S)
        self._extra = dict(extra or {})
        self._extra_tokens = len(to_json(self._extra))

    def bound(self, request: Request) -> Money:
        refuse_extra(self.name, "openai-chat", request)
        return self._price.bound(input_bound(request) + self._extra_tokens, request.max_output or self.max_output)

    def tokens(self, request: Request) -> int:
        return input_bound(request) + self._extra_tokens + (request.max_output or self.max_output)

    async def reply(self, request: Request, on_delta: OnDelta | None = None) -> Reply:
        body = self._body(request, stream=on_delta is not None)
        key = self._key()
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})
        return await asked(self.name, partial(self._try, body, headers, on_delta), key=key)

    def _body(self, request: Request, *, stream: bool) -> bytes:
        body: dict[str, Any] = {
            "model": self._model,
            "messages": request.messages,
            self._limit_field: request.max_output or self.max_output,
        }
        if request.schema:
            body["response_format"] = {
                "type": "json_schema",
                "json_schema": {"name": "answer", "schema": request.schema},
            }
        if request.sample:
            body["seed"] = request.sample  # another sample is another draw; providers without seeds pass it over
        body |= self._extra
        body |= request.extra
        if stream:
            body |= {"stream": True, "stream_options": {"include_usage": True}}
        return to_json(body)

    async def _try(self, body: bytes, headers: Mapping[str, str], on_delta: OnDelta | None) -> Reply:
        try:
            async with self._session.get().post(
                self._url, data=body, headers=headers, timeout=self._timeout, allow_redirects=False
            ) as response:
                if response.status == 429:
                    raw = await response.read()
                    if _error_code(raw) == "insufficient_quota":
                        raise WorkerFailed(
                            "http_429", f"{self.name}: the provider says that the quota is used up", billed="no"
                        )
                    raise NotBilled(
                        "http_429",
                        "the provider asks for fewer requests (429)",
                        _seconds(response.headers.get("Retry-After")),
                    )
                if 300 <= response.status < 400:  # followed, the request would arrive as another, or elsewhere
                    to = response.headers.get("Location", "nowhere")[:200]
                    message = f"{self.name}: {self._url} has moved to {to}: correct base_url in the settings"
                    raise WorkerFailed(f"http_{response.status}", message, billed="no")
                if response.status != 200:
                    raise self._refusal(response.status, await response.content.read(4096))
                if on_delta:
                    return await _streamed(response, on_delta)
                return self._parsed(await _bounded(response))
        except aiohttp.ClientConnectorError as error:
            why = error.os_error.strerror or error.os_error
            raise NotBilled("refused", f"no connection to {self._url}: {why}") from None
        except aiohttp.ConnectionTimeoutError:
            raise NotBilled("refused", f"no connection to {self._url} within {CONNECT_S} s") from None
        except aiohttp.InvalidURL:
            raise WorkerFailed("http_url", f"{self.name}: {self._url} is no address", billed="no") from None
        except TimeoutError:
            raise WorkerFailed(
                "timeout", f"{self.name}: no answer within {self._timeout.total:g} s", billed="unknown"
            ) from None
        except (aiohttp.ClientError, ConnectionError) as error:
            raise WorkerFailed(
                "cut", f"{self.name}: the connection broke: {error or type(error).__name__}", billed="unknown"
            ) from None

    def _refusal(self, status: int, raw: bytes) -> WorkerFailed:
        said = _error_message(raw)
        billed = "no" if 400 <= status < 500 else "unknown"
        return WorkerFailed(
            f"http_{status}", f"{self.name}: status {status}{f': {said}' if said else ''}", billed=billed
        )

    def _parsed(self, raw: bytes) -> Reply:
        try:
            data = from_json(raw)
            if error := _error_in(data):  # gateways wrap a provider's error in a 200
                raise WorkerFailed("garbage", f"{self.name}: {_said(error)}", billed="unknown")
            choice = data["choices"][0]
            text, refusal = _text(choice["message"].get("content")), choice["message"].get("refusal")
            usage = usage_from(data["usage"])
        except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
            message = f"{self.name}: the answer is not a chat completion with usage ({type(error).__name__}: {str(error)[:100]})"
            raise WorkerFailed("garbage", message, billed="unknown") from None
        if refusal and not text:  # the model's refusal to answer stands beside the content
            return Reply(_text(refusal), usage=usage, finish_reason=WITHHELD, raw=data)
        return Reply(text, usage=usage, finish_reason=choice.get("finish_reason"), raw=data)


def _text(content: Any) -> str:
    """The text of an answer: a string, or a list of parts as some providers send. Raises ValueError for anything else."""
    if content is None or isinstance(content, str | list):
        return text_of(content)
    raise ValueError(f"its content is no text but {type(content).__name__}")


def usage_from(data: Mapping[str, Any]) -> Usage:
    """OpenAI's usage object. ``prompt_tokens`` includes cached ones, ``completion_tokens`` reasoning.

    What the total has beyond both is reasoning that a provider (xAI, Gemini) counts apart, and bills as output.
    Raises ValueError for numbers that cannot be: negative, absurd, or more cached tokens than there are.
    """
    details_in = data.get("prompt_tokens_details") or {}
    details_out = data.get("completion_tokens_details") or {}
    read, written = data["prompt_tokens"], data["completion_tokens"]
    cached, reasoning = details_in.get("cached_tokens") or 0, details_out.get("reasoning_tokens") or 0
    total = data.get("total_tokens") or 0
    if not all(isinstance(number, int | float) for number in (read, written, cached, reasoning, total)):
        raise ValueError(f"its usage says {str(data)[:200]}")
    apart = total - read - written
    if apart > 0:
        written, reasoning = written + apart, max(reasoning, apart)
    return likely(Usage(read, written, cache_read_tokens=cached, reasoning_tokens=reasoning))


async def _bounded(response: aiohttp.ClientResponse) -> bytes:
    parts, size = [], 0
    async for part in response.content.iter_any():
        parts.append(part)
        size += len(part)
        if size > LARGEST_ANSWER:
            raise WorkerFailed("garbage", f"the answer is larger than {LARGEST_ANSWER // 2**20} MiB", billed="unknown")
    return b"".join(parts)


async def _streamed(response: aiohttp.ClientResponse, on_delta: OnDelta) -> Reply:
    """Server-sent events, until [DONE]; without a usage at the end nobody knows what was charged."""
    texts: list[str] = []
    usage: Usage | None = None
    finish: str | None = None
    try:
        async for line in response.content:
            if not line.startswith(b"data:"):
                continue
            data = line[5:].strip()
            if data == b"[DONE]":
                break
            event = from_json(data)
            if error := _error_in(event):
                raise WorkerFailed("garbage", f"the stream broke off: {_said(error)}", billed="unknown")
            if event.get("usage"):
                usage = usage_from(event["usage"])
            for choice in event.get("choices", ()):
                finish = choice.get("finish_reason") or finish
                piece = (choice.get("delta") or {}).get("content")
                if piece:
                    texts.append(piece)
                    on_delta(piece)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise WorkerFailed(
            "garbage", f"the stream is not one of chat completion chunks: {str(error)[:100]}", billed="unknown"
        ) from None
    if usage is None:
        raise WorkerFailed("garbage", "the stream ended without its usage", billed="unknown")
    return Reply("".join(texts), usage=usage, finish_reason=finish)


def _error_of(raw: bytes) -> Mapping[str, Any]:
    try:
        return _error_in(from_json(raw))
    except ValueError:
        return {}


def _error_in(data: Any) -> Mapping[str, Any]:
    error = data.get("error") if isinstance(data, dict) else None
    return error if isinstance(error, dict) else {"message": str(error)} if error else {}


def _said(error: Mapping[str, Any]) -> str:
    return " ".join(str(error.get("message") or dict(error)).split())[:LONGEST_MESSAGE]


def _error_message(raw: bytes) -> str:
    error = _error_of(raw)
    return _said(error or {"message": raw.decode(errors="replace")}) if raw.strip() else ""


def _error_code(raw: bytes) -> str | None:
    return _error_of(raw).get("code")


def _seconds(header: str | None) -> float | None:
    try:
        return max(0.0, float(header)) if header is not None else None
    except ValueError:
        return None
