"""An OpenAI-compatible server on loopback: answers with recorded outputs, misbehaves on purpose, keeps its own count.

    python -m tests.acceptance.stub_server --records FILE.jsonl[.zst] --port 0 --latency 0.02 \
        --fault-seed 7 --faults http500=0.03,http429=0.05,cut=0.02,garbage=0.02 --log COUNTS.jsonl

Records are Orchestrion's outcome lines. The one that answers has the request's model as its `worker`, the last (else
first) user message as its `prompt`, or within that message, and the request's `seed` (else 0) as its `sample`. A fault
is a hash of the fault seed, the record and how often it was asked before: in any order, requests meet the same faults.
"""

import argparse
import asyncio
import hashlib
import io
import json
import signal
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, BinaryIO, Literal, Self

from aiohttp import web

from orchestrion.store.zstd import zstd

Json = dict[str, Any]
Fate = Literal["served", "429", "500", "cut", "garbage", "refused"]
BILLED = ("served", "cut", "garbage")  # the model has done its work: a provider asks for the money


@dataclass(frozen=True, kw_only=True)
class Faults:
    """The shares of requests, in [0, 1], that meet each fault; at most one fault a request."""

    http500: float = 0.0
    http429: float = 0.0
    cut: float = 0.0
    garbage: float = 0.0

    @classmethod
    def parse(cls, text: str) -> "Faults":
        """From `http500=0.03,cut=0.02`; TypeError for a name that is no fault, ValueError for what is no number."""
        pairs = (item.partition("=") for item in text.split(",") if item)
        return cls(**{name.strip(): float(share) for name, _, share in pairs})

    def draw(self, *key: object) -> Fate:
        """One request's fate: the same for the same key, on every machine."""
        chance = int.from_bytes(hashlib.sha256(repr(key).encode()).digest()[:8], "big") / 2**64
        shares: dict[Fate, float] = {"500": self.http500, "429": self.http429, "cut": self.cut, "garbage": self.garbage}
        for fate, share in shares.items():
            if chance < share:
                return fate
            chance -= share
        return "served"


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """One recorded answer."""

    worker: str
    prompt: str
    sample: int
    output: str
    input_tokens: int
    output_tokens: int

    def envelope(self, reply: str, kind: str) -> Json:
        return {"id": reply, "object": kind, "created": int(time.time()), "model": self.worker}

    def usage(self) -> Json:
        total = self.input_tokens + self.output_tokens
        tokens = {"prompt_tokens": self.input_tokens, "completion_tokens": self.output_tokens, "total_tokens": total}
        return {**tokens, "prompt_tokens_details": {"cached_tokens": 0}}

    def completion(self, reply: str) -> Json:
        message = {"role": "assistant", "content": self.output, "refusal": None}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
        return {**self.envelope(reply, "chat.completion"), "choices": [choice], "usage": self.usage()}

    def events(self, reply: str, *, usage: bool) -> Iterator[bytes]:
        """The answer as server-sent events: four at least, so that half of them is never all."""
        frame = self.envelope(reply, "chat.completion.chunk") | ({"usage": None} if usage else {})
        size = max(1, len(self.output) // 4)
        pieces = [self.output[start : start + size] for start in range(0, len(self.output), size)]
        deltas: list[Json] = [{"role": "assistant", "content": ""}, *({"content": piece} for piece in pieces), {}]
        for delta in deltas:
            choice = {"index": 0, "delta": delta, "finish_reason": None if delta else "stop"}
            yield event(frame | {"choices": [choice]})
        if usage:
            yield event(frame | {"choices": [], "usage": self.usage()})
        yield b"data: [DONE]\n\n"


class Count:
    """What the server saw, as a provider would bill it: in memory, and as a line in the log when a request arrives."""

    def __init__(self, log: Path | None) -> None:
        self._tallies: dict[tuple[str, Fate], Counter[str]] = defaultdict(Counter)
        # Unbuffered: a line is in the kernel's hands before its request is answered, whoever is killed then.
        self._log: BinaryIO | None = log.open("ab", buffering=0) if log else None

    def add(self, fate: Fate, *, model: str, prompt: str, recorded: Recorded | None = None) -> None:
        tokens = {"prompt_tokens": 0, "completion_tokens": 0}
        if recorded and fate in BILLED:
            tokens = {"prompt_tokens": recorded.input_tokens, "completion_tokens": recorded.output_tokens}
        self._tallies[model, fate].update({"requests": 1, **tokens})
        if self._log:
            digest = hashlib.sha256(prompt.encode()).hexdigest()
            line = {"model": model, "prompt": digest, "outcome": fate, **tokens}
            self._log.write(json.dumps(line).encode() + b"\n")

    def totals(self) -> Json:
        """{"total": T, "outcomes": {outcome: T}, "models": {model: {outcome: T}}}; T counts requests, prompt_tokens and
        completion_tokens."""
        total: Counter[str] = Counter(requests=0, prompt_tokens=0, completion_tokens=0)
        outcomes: dict[str, Counter[str]] = defaultdict(Counter)
        models: dict[str, dict[str, Counter[str]]] = defaultdict(dict)
        for (model, fate), tally in self._tallies.items():
            models[model][fate] = Counter(tally)
            outcomes[fate].update(tally)
            total.update(tally)
        return {"total": total, "outcomes": outcomes, "models": models}

    def close(self) -> None:
        if self._log:
            self._log.close()


class StubServer:
    """The server in this process: `async with StubServer(records) as stub: … stub.base_url … stub.counts()`.

    Records without a prompt or output are left out; of two for one (worker, prompt, sample) the first counts.
    """

    def __init__(
        self,
        records: Iterable[Mapping[str, Any]],
        *,
        port: int = 0,
        latency: float = 0.0,
        faults: Faults | None = None,
        fault_seed: int = 0,
        log: Path | None = None,
    ) -> None:
        self.port, self._latency, self._log = port, latency, log
        self._faults, self._fault_seed = faults or Faults(), fault_seed
        self._asked: Counter[Recorded] = Counter()
        self._records: dict[str, dict[str, dict[int, Recorded]]] = {}  # by worker, prompt and sample
        for record in records:
            if record["prompt"] and record["output"] is not None:
                recorded = Recorded(**{field.name: record[field.name] for field in fields(Recorded)})
                prompts = self._records.setdefault(recorded.worker, {})
                prompts.setdefault(recorded.prompt, {}).setdefault(recorded.sample, recorded)

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def counts(self) -> Json:
        """See Count.totals; also GET /counts."""
        return self._count.totals()

    async def __aenter__(self) -> Self:
        app = web.Application(client_max_size=64 * 2**20)
        app.router.add_post("/v1/chat/completions", self._complete)
        app.router.add_get("/v1/models", self._models)
        app.router.add_get("/counts", self._counts)
        self._count = Count(self._log)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port, backlog=1024).start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()
        self._count.close()

    async def _counts(self, _: web.Request) -> web.Response:
        return web.json_response(self.counts())

    async def _models(self, _: web.Request) -> web.Response:
        listed = [{"id": name, "object": "model", "created": 0, "owned_by": "stub"} for name in sorted(self._records)]
        return web.json_response({"object": "list", "data": listed})

    async def _complete(self, request: web.Request) -> web.StreamResponse:
        try:
            body = await request.json()
            model, texts, sample = body["model"], user_texts(body["messages"]), body.get("seed") or 0
            recorded = self._find(model, texts, sample)
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            self._count.add("refused", model="", prompt="")
            return refusal(400, f"not a chat completion request: {error!r}")
        if recorded is None:
            self._count.add("refused", model=model, prompt=texts[0])
            return refusal(404, f"no recorded answer of {model!r} to this prompt, sample {sample}", code="not_found")

        asked = self._asked[recorded]
        self._asked[recorded] += 1
        fate = self._faults.draw(self._fault_seed, model, recorded.prompt, recorded.sample, asked)
        self._count.add(fate, model=model, prompt=recorded.prompt, recorded=recorded)
        if fate == "429":
            return refusal(429, "Rate limit reached (injected)", code="rate_limit_exceeded")
        await asyncio.sleep(self._latency)
        if fate == "500":
            return refusal(500, "The server had an error while processing your request (injected)")
        reply = f"chatcmpl-{hashlib.sha256(repr((recorded, asked)).encode()).hexdigest()[:24]}"
        try:
            if body.get("stream"):
                usage = bool((body.get("stream_options") or {}).get("include_usage"))
                return await stream(request, fate, list(recorded.events(reply, usage=usage)))
            return await whole(request, fate, json.dumps(recorded.completion(reply)).encode())
        except ConnectionError:  # the client was killed: it is counted, and nobody is there to answer
            return web.Response()

    def _find(self, model: str, texts: list[str], sample: int) -> Recorded | None:
        prompts = self._records.get(model, {})
        for text in texts:
            if text in prompts:
                return prompts[text].get(sample)
        # The prompt within instructions: the longest, since one prompt may contain another.
        prompt = max((prompt for text in texts for prompt in prompts if prompt in text), key=len, default=None)
        return prompts[prompt].get(sample) if prompt else None


def user_texts(messages: list[Json]) -> list[str]:
    """The texts of the user's last message and of the first; LookupError if there is none."""
    contents = [message["content"] for message in messages if message["role"] == "user"]
    return [
        content if isinstance(content, str) else "".join(part.get("text", "") for part in content)
        for content in (contents[-1], contents[0])
    ]


async def whole(request: web.Request, fate: Fate, payload: bytes) -> web.StreamResponse:
    half = payload[: len(payload) // 2]
    if fate != "cut":
        return web.Response(body=payload if fate == "served" else half, content_type="application/json")
    response = web.StreamResponse(headers={"Content-Type": "application/json", "Content-Length": str(len(payload))})
    await response.prepare(request)
    await response.write(half)
    return hang_up(request, response)


async def stream(request: web.Request, fate: Fate, chunks: list[bytes]) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-cache"})
    await response.prepare(request)
    for chunk in chunks if fate == "served" else chunks[: len(chunks) // 2]:
        await response.write(chunk)
    if fate == "garbage":
        await response.write(chunks[0][: len(chunks[0]) // 2] + b"\n\n" + chunks[-1])
    return hang_up(request, response) if fate == "cut" else response


def hang_up(request: web.Request, response: web.StreamResponse) -> web.StreamResponse:
    """Close the connection on a client that was promised more."""
    if request.transport:
        request.transport.close()
    return response


def event(chunk: Json) -> bytes:
    return b"data: " + json.dumps(chunk).encode() + b"\n\n"


def refusal(status: int, message: str, *, code: str | None = None) -> web.Response:
    """An error as OpenAI's API words it."""
    kind = {429: "rate_limit_error", 500: "server_error"}.get(status, "invalid_request_error")
    error = {"message": message, "type": kind, "param": None, "code": code}
    return web.json_response({"error": error}, status=status, headers={"Retry-After": "0"} if status == 429 else None)


def read_records(path: Path) -> Iterator[Json]:
    """The outcome lines of a .jsonl or .jsonl.zst file."""
    with path.open("rb") as raw:
        plain = zstd.ZstdFile(raw) if path.suffix == ".zst" else raw
        for line in io.TextIOWrapper(plain, encoding="utf-8"):
            yield json.loads(line)


async def serve(*, records: Path, **options: Any) -> None:
    stop = asyncio.Event()
    for name in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(name, stop.set)
    async with StubServer(read_records(records), **options) as stub:
        print(f"listening on {stub.base_url}", flush=True)
        await stop.wait()


def main() -> None:
    parser = argparse.ArgumentParser(prog="stub_server", description="Recorded answers over an OpenAI-compatible API.")
    parser.add_argument("--records", type=Path, required=True, help="outcome lines, .jsonl or .jsonl.zst")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--latency", type=float, default=0.0, help="seconds before an answer")
    parser.add_argument("--faults", type=Faults.parse, default=Faults(), help="such as http500=0.03,cut=0.02")
    parser.add_argument("--fault-seed", type=int, default=0)
    parser.add_argument("--log", type=Path, help="append a JSON line for each request, when it arrives")
    asyncio.run(serve(**vars(parser.parse_args())))


if __name__ == "__main__":
    main()
