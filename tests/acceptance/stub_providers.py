"""Anthropic's Messages API and Google's Gemini API on loopback: their wire formats, misbehaving on purpose, keeping count.

`async with StubAnthropic(say) as stub: … stub.base_url … stub.billed`. `say` is what the model answers to a request's body.
Each request takes the next of `fates`; when there are none left, it is served:

    served   the answer            cut       the connection closes halfway    500, 400   an error of the API
    429      a rate limit          slow      no answer for a long time        length     stopped at the output limit
    busy     overloaded            garbage   half an answer, well delivered   endless    stopped, to be continued (Google)
    late     overloaded, in a stream that had begun                          unbilled   the answer without its usage
"""

import asyncio
import json
from abc import abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Self

from aiohttp import web

Json = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Bill:
    """The tokens of one request as its provider bills them: each token once, at its own price."""

    fresh: int = 0
    cache_read: int = 0
    cache_write: int = 0
    output: int = 0
    reasoning: int = 0  # of the output


class StubProvider:
    """What both servers have in common: fates, counts, and how an answer comes whole or in pieces."""

    def __init__(
        self, say: Callable[[Json], str] = lambda body: "42", *, fates: Iterable[str] = (), bill: Bill | None = None
    ) -> None:
        self._say, self._fates = say, iter(fates)
        self._bill = bill or Bill(fresh=11, output=7)
        self.requests: list[tuple[dict[str, str], Json]] = []
        self.billed: list[Bill] = []

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    async def __aenter__(self) -> Self:
        app = web.Application(client_max_size=64 * 2**20)
        app.router.add_post("/{path:.*}", self._answer)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0, backlog=1024).start()
        self._port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.requests.append((dict(request.headers), body))
        fate = next(self._fates, "served")
        error = self.error(fate, request)
        if error:
            return error
        if fate == "slow":
            await asyncio.sleep(30)
        if fate not in ("late",):
            self.billed.append(self._bill)
        streamed = self.streamed(request, body)
        chunks = self.events(body, fate) if streamed else [json.dumps(self.whole(body, fate)).encode()]
        return await deliver(request, chunks, fate, "text/event-stream" if streamed else "application/json")

    @abstractmethod
    def error(self, fate: str, request: web.Request) -> web.Response | None: ...

    @abstractmethod
    def streamed(self, request: web.Request, body: Json) -> bool: ...

    @abstractmethod
    def whole(self, body: Json, fate: str) -> Json: ...

    @abstractmethod
    def events(self, body: Json, fate: str) -> list[bytes]: ...


async def deliver(request: web.Request, chunks: list[bytes], fate: str, kind: str) -> web.StreamResponse:
    whole = b"".join(chunks)
    half = whole[: len(whole) // 2]
    headers = {"Content-Type": kind} | ({"Content-Length": str(len(whole))} if fate == "cut" else {})
    response = web.StreamResponse(headers=headers)
    await response.prepare(request)
    for chunk in [half] if fate in ("cut", "garbage") else chunks:
        await response.write(chunk)
    if fate == "cut" and request.transport:
        request.transport.close()
    return response


class StubAnthropic(StubProvider):
    """POST /v1/messages. `input_tokens` leaves out what was read from the cache or written to it."""

    def error(self, fate: str, request: web.Request) -> web.Response | None:
        key = request.headers.get("Authorization") or request.headers.get("X-Api-Key")
        words = {
            "400": (400, "invalid_request_error", f"max_tokens: must be smaller. You sent {key}."),
            "429": (429, "rate_limit_error", "Number of requests has exceeded your rate limit"),
            "500": (500, "api_error", "Internal server error"),
            "503": (503, "api_error", "upstream connect error"),
            "busy": (529, "overloaded_error", "Overloaded"),
        }
        if fate not in words:
            return None
        status, kind, message = words[fate]
        headers = {"retry-after": "0"} if fate in ("429", "busy") else None
        return web.json_response(
            {"type": "error", "error": {"type": kind, "message": message}}, status=status, headers=headers
        )

    def streamed(self, request: web.Request, body: Json) -> bool:
        return bool(body.get("stream"))

    def usage(self) -> Json:
        bill = self._bill
        cache = {"ephemeral_5m_input_tokens": bill.cache_write, "ephemeral_1h_input_tokens": 0}
        return {
            "input_tokens": bill.fresh,
            "cache_creation_input_tokens": bill.cache_write,
            "cache_read_input_tokens": bill.cache_read,
            "cache_creation": cache,
            "output_tokens": bill.output,
            "output_tokens_details": {"thinking_tokens": bill.reasoning},
            "service_tier": "standard",
        }

    def message(self, body: Json, **more: Any) -> Json:
        frame = {"id": "msg_01", "type": "message", "role": "assistant", "model": body["model"], "stop_sequence": None}
        return frame | more

    def whole(self, body: Json, fate: str) -> Json:
        said = self._say(body)
        if body.get("tools"):
            tool = body["tools"][0]["name"]
            content: Json = {"type": "tool_use", "id": "toolu_01", "name": tool, "input": json.loads(said)}
        else:
            content = {"type": "text", "text": said}
        stop = "max_tokens" if fate == "length" else "tool_use" if body.get("tools") else "end_turn"
        usage = {} if fate == "unbilled" else {"usage": self.usage()}
        return self.message(body, content=[content], stop_reason=stop, **usage)

    def events(self, body: Json, fate: str) -> list[bytes]:
        whole = self.whole(body, fate)
        block = whole["content"][0]
        if block["type"] == "text":
            empty, key, kind, text = block | {"text": ""}, "text", "text_delta", block["text"]
        else:
            empty, key, kind, text = (
                block | {"input": {}},
                "partial_json",
                "input_json_delta",
                json.dumps(block["input"]),
            )
        size = max(1, -(-len(text) // 4))
        begun = self.message(body, content=[], stop_reason=None, usage=self.usage() | {"output_tokens": 1})
        events: list[Json] = [
            {"type": "message_start", "message": begun},
            {"type": "content_block_start", "index": 0, "content_block": empty},
            {"type": "ping"},
        ]
        for start in range(0, len(text), size):
            delta = {"type": kind, key: text[start : start + size]}
            events.append({"type": "content_block_delta", "index": 0, "delta": delta})
        if fate == "late":
            events.append({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}})
        else:
            stop = {"stop_reason": whole["stop_reason"], "stop_sequence": None}
            events.append({"type": "content_block_stop", "index": 0})
            events.append({"type": "message_delta", "delta": stop, "usage": {"output_tokens": self._bill.output}})
            events.append({"type": "message_stop"})
        if fate == "garbage":
            events.insert(2, {"type": "content_block_delta", "index": 0, "delta": "{"})
        return [f"event: {one['type']}\ndata: {json.dumps(one)}\n\n".encode() for one in events]


class StubGoogle(StubProvider):
    """POST /v1beta/models/MODEL:generateContent and :streamGenerateContent. `promptTokenCount` includes what was cached;
    thoughts stand beside the candidates' tokens, and are output that is billed, too."""

    def error(self, fate: str, request: web.Request) -> web.Response | None:
        key = request.headers.get("x-goog-api-key")
        retry = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "0s"}
        words: dict[str, tuple[int, str, str, list[Json]]] = {
            "400": (400, "INVALID_ARGUMENT", f"Request contains an invalid argument. You sent {key}.", []),
            "429": (429, "RESOURCE_EXHAUSTED", "You exceeded your current quota of requests per minute.", [retry]),
            "500": (500, "INTERNAL", "An internal error has occurred.", []),
            "503": (503, "UNAVAILABLE", "The service is currently unavailable.", []),
            "busy": (503, "UNAVAILABLE", "The model is overloaded. Please try again later.", [retry]),
        }
        if fate not in words:
            return None
        code, status, message, details = words[fate]
        error = {"code": code, "message": message, "status": status, "details": details}
        return web.json_response({"error": error}, status=code)

    def streamed(self, request: web.Request, body: Json) -> bool:
        return "streamGenerateContent" in request.path

    def usage(self) -> Json:
        bill = self._bill
        prompt = bill.fresh + bill.cache_read + bill.cache_write
        return {
            "promptTokenCount": prompt,
            "cachedContentTokenCount": bill.cache_read,
            "candidatesTokenCount": bill.output - bill.reasoning,
            "thoughtsTokenCount": bill.reasoning,
            "totalTokenCount": prompt + bill.output,
        }

    def chunk(self, text: str, finish: str | None, *, usage: bool) -> Json:
        candidate: Json = {"content": {"parts": [{"text": text}], "role": "model"}, "index": 0}
        if finish:
            candidate["finishReason"] = finish
        if finish == "CONTINUATION":
            candidate["continuationToken"] = "bW9yZQ=="
        told = {"usageMetadata": self.usage()} if usage else {}
        return {"candidates": [candidate], **told, "modelVersion": "gemini-2.5-flash", "responseId": "r1"}

    def whole(self, body: Json, fate: str) -> Json:
        finish = {"length": "MAX_TOKENS", "endless": "CONTINUATION"}.get(fate, "STOP")
        return self.chunk(self._say(body), finish, usage=fate != "unbilled")

    def events(self, body: Json, fate: str) -> list[bytes]:
        text = self._say(body)
        size = max(1, -(-len(text) // 4))
        pieces = [text[start : start + size] for start in range(0, len(text), size)]
        finish = {"length": "MAX_TOKENS", "endless": "CONTINUATION"}.get(fate, "STOP")
        chunks = [self.chunk(piece, None, usage=False) for piece in pieces]
        if fate == "late":
            message = "The model is overloaded. Please try again later."
            chunks.append({"error": {"code": 503, "message": message, "status": "UNAVAILABLE"}})
        else:
            chunks.append(self.chunk("", finish, usage=True))
        return [f"data: {json.dumps(chunk)}\r\n\r\n".encode() for chunk in chunks]
