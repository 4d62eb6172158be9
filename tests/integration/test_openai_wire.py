"""The wire against real sockets on loopback: servers that answer, limit, stream, hang up, lie."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket

import pytest
from aiohttp import web

from orchestrion import Step, retried
from orchestrion.domain import Price, Request
from orchestrion.errors import StepFailed, UsageError, WorkerFailed
from orchestrion.workers import again, openai_wire
from orchestrion.workers.limited import LimitedWorker
from orchestrion.workers.openai_wire import OpenAIWire, Session
from orchestrion.workers.protocol import input_bound
from tests.acceptance.stub_server import Faults, StubServer
from tests.conftest import entries, kinds

PRICE = Price(input=1_000_000_000, output=4_000_000_000, cache_read=100_000_000)
KEY = "sk-very-secret-0123456789"
ASK = Request(messages=({"role": "user", "content": "How many?"},), task_id="t", step="s")
USAGE = {"prompt_tokens": 11, "completion_tokens": 7}


def completion(content="42", *, usage=USAGE, **more):
    return {
        "choices": [{"message": {"role": "assistant", "content": content}, "finish_reason": "stop"}],
        "usage": usage,
        **more,
    }


@pytest.fixture
async def server():
    """``await server(handler)``: a server whose every POST goes to the handler; its base_url."""
    async with contextlib.AsyncExitStack() as stack:

        async def serve(handler):
            app = web.Application(client_max_size=2**26)
            app.router.add_post("/v1/chat/completions", handler)
            runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
            await runner.setup()
            stack.push_async_callback(runner.cleanup)
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            return f"http://127.0.0.1:{runner.addresses[0][1]}/v1"

        yield serve


@pytest.fixture
async def wire():
    """``wire(base_url, **options)``: a wire under a session of the test's own."""
    session = Session()

    def make(base_url, **options):
        options = {"price": PRICE, "key": lambda: KEY, "max_output": 50, **options}
        return OpenAIWire("cheap", "gpt-x", session=session, base_url=base_url, **options)

    yield make
    await session.close()


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch):
    monkeypatch.setattr(again, "FIRST_PAUSE_S", 0.001)


def answers(*responses):
    """A handler that gives these in turn, and keeps what it was sent."""
    sent = []
    left = iter(responses)

    async def handler(request):
        sent.append((dict(request.headers), await request.json()))
        said = next(left)
        return said if isinstance(said, web.StreamResponse) else web.json_response(said)

    handler.sent = sent  # type: ignore[attr-defined]  # functions have room for it
    return handler


async def test_a_request_and_its_reply(server, wire):
    usage = {
        **USAGE,
        "prompt_tokens_details": {"cached_tokens": 4},
        "completion_tokens_details": {"reasoning_tokens": 3},
    }
    handler = answers(completion(usage=usage))
    worker = wire(await server(handler), extra={"temperature": 0})
    reply = await worker.reply(
        Request(
            messages=ASK.messages,
            task_id="t",
            step="s",
            sample=2,
            schema={"type": "object"},
            max_output=9,
            extra={"top_p": 1},
        )
    )
    [(headers, body)] = handler.sent
    assert headers["Authorization"] == f"Bearer {KEY}"
    assert body == {
        "model": "gpt-x",
        "messages": [{"role": "user", "content": "How many?"}],
        "max_tokens": 9,
        "response_format": {"type": "json_schema", "json_schema": {"name": "answer", "schema": {"type": "object"}}},
        "seed": 2,
        "temperature": 0,
        "top_p": 1,
    }
    assert (reply.output, reply.finish_reason) == ("42", "stop")
    assert (
        reply.usage.input_tokens,
        reply.usage.output_tokens,
        reply.usage.cache_read_tokens,
        reply.usage.reasoning_tokens,
    ) == (11, 7, 4, 3)
    assert PRICE.cost(reply.usage) == 7 * 1_000 + 4 * 100 + 7 * 4_000  # cached tokens once, at their own price
    assert worker.bound(ASK) >= PRICE.cost(reply.usage)


async def test_the_limit_is_named_as_the_endpoint_knows_it(monkeypatch, server, wire):
    handler = answers(completion(), completion())
    url = await server(handler)
    await wire(url).reply(ASK)
    monkeypatch.setattr(openai_wire, "OPENAI", url)
    await wire(None).reply(ASK)  # OpenAI itself
    (_, other), (_, openai) = handler.sent
    assert (other["max_tokens"], openai["max_completion_tokens"]) == (50, 50)
    assert "max_completion_tokens" not in other
    assert "max_tokens" not in openai
    assert "seed" not in other


async def test_no_key_no_header(server, wire):
    handler = answers(completion())
    await wire(await server(handler), key=lambda: None).reply(ASK)
    assert "Authorization" not in handler.sent[0][0]


@pytest.mark.parametrize("content", [None, "", [{"type": "text", "text": "4"}, {"type": "text", "text": "2"}]])
async def test_odd_contents_are_texts(server, wire, content):
    reply = await wire(await server(answers(completion(content)))).reply(ASK)
    assert reply.output == ("42" if content else "")


def limited(seconds):
    return web.json_response(
        {"error": {"message": "slow down", "code": "rate_limit_exceeded"}}, status=429, headers={"Retry-After": seconds}
    )


async def test_429_is_asked_again_after_the_pause_that_is_asked_for(monkeypatch, server, wire):
    paused = []
    sleep = asyncio.sleep

    async def slept(seconds):
        paused.append(seconds)
        await sleep(0)

    url = await server(answers(limited("7"), limited("600"), limited("soon"), completion()))
    monkeypatch.setattr(asyncio, "sleep", slept)
    reply = await wire(url).reply(ASK)
    monkeypatch.undo()
    assert reply.output == "42"
    assert paused[:2] == [7.0, again.LONGEST_PAUSE_S]
    assert 0 < paused[2] <= 0.01


async def test_429_for_ever_is_a_failure_that_costs_nothing(server, wire):
    with pytest.raises(
        WorkerFailed, match=r"cheap: the provider asks for fewer requests \(429\) \(6 tries\)"
    ) as caught:
        await wire(await server(answers(*(limited("0") for _ in range(6))))).reply(ASK)
    assert (caught.value.kind, caught.value.billed) == ("http_429", "no")


async def test_a_used_up_quota_is_not_asked_again(server, wire):
    response = web.json_response({"error": {"message": "pay", "code": "insufficient_quota"}}, status=429)
    handler = answers(response)
    with pytest.raises(WorkerFailed, match="quota is used up"):
        await wire(await server(handler)).reply(ASK)
    assert len(handler.sent) == 1


async def test_a_refused_connection_is_asked_again_and_then_named(wire):
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{nobody.getsockname()[1]}/v1"
        with pytest.raises(
            WorkerFailed, match=r"cheap: no connection to http://127\.0\.0\.1:\d+/v1/chat/completions: .*\(6 tries\)"
        ) as caught:
            await wire(url).reply(ASK)
    assert (caught.value.kind, caught.value.billed) == ("refused", "no")


@pytest.mark.parametrize(
    ("response", "kind", "billed"),
    [
        (lambda: web.json_response({"error": {"message": "broken"}}, status=500), "http_500", "unknown"),
        (lambda: web.Response(text="<html>Bad gateway</html>", status=502), "http_502", "unknown"),
        (lambda: web.json_response({"error": {"message": "no such model"}}, status=404), "http_404", "no"),
        (lambda: web.json_response({"error": "plain words"}, status=400), "http_400", "no"),
        (lambda: web.json_response(["odd"], status=401), "http_401", "no"),
        (lambda: web.Response(text="<html>", content_type="text/html"), "garbage", "unknown"),
        (lambda: web.Response(body=json.dumps(completion()).encode()[:-20]), "garbage", "unknown"),
        (lambda: web.json_response({}), "garbage", "unknown"),
        (lambda: web.json_response([1]), "garbage", "unknown"),
        (lambda: web.json_response({"choices": [], "usage": USAGE}), "garbage", "unknown"),
        (lambda: web.json_response({"choices": [None], "usage": USAGE}), "garbage", "unknown"),
        (lambda: web.json_response(completion(usage=None)), "garbage", "unknown"),
        (
            lambda: web.json_response(completion(usage={"prompt_tokens": "many", "completion_tokens": 1})),
            "garbage",
            "unknown",
        ),
        (
            lambda: web.json_response(completion(usage={"prompt_tokens": -5, "completion_tokens": 1})),
            "garbage",
            "unknown",
        ),
        (lambda: web.json_response(completion(42)), "garbage", "unknown"),
        (
            lambda: web.Response(
                body=b'{"choices": [{"message": {"content": "\\ud800"}}], "usage": {"prompt_tokens": 1, "completion_tokens": 1}}'
            ),
            "garbage",
            "unknown",
        ),
    ],
)
async def test_what_is_no_answer_is_a_failure(server, wire, response, kind, billed):
    with pytest.raises(WorkerFailed) as caught:
        await wire(await server(answers(response()))).reply(ASK)
    assert (caught.value.kind, caught.value.billed) == (kind, billed)
    assert caught.value.message.startswith("cheap: ")
    assert "\n" not in caught.value.message
    assert KEY not in str(caught.value)


async def test_a_cut_connection(server, wire):
    async def cut(request):
        response = web.StreamResponse(headers={"Content-Length": "1000"})
        await response.prepare(request)
        await response.write(b'{"choices"')
        request.transport.close()
        return response

    with pytest.raises(WorkerFailed) as caught:
        await wire(await server(cut)).reply(ASK)
    assert (caught.value.kind, caught.value.billed) == ("cut", "unknown")


async def test_a_timeout(server, wire):
    async def slow(request):
        await asyncio.sleep(30)

    with pytest.raises(WorkerFailed, match=r"cheap: no answer within 0\.05 s") as caught:
        await wire(await server(slow), timeout_s=0.05).reply(ASK)
    assert (caught.value.kind, caught.value.billed) == ("timeout", "unknown")


async def test_an_answer_that_never_ends_is_left(monkeypatch, server, wire):
    monkeypatch.setattr(openai_wire, "LARGEST_ANSWER", 100_000)

    async def huge(request):
        response = web.StreamResponse()
        await response.prepare(request)
        with contextlib.suppress(ConnectionError):
            for _ in range(1000):
                await response.write(b"x" * 10_000)
        return response

    url = await server(huge)
    with pytest.raises(WorkerFailed, match="the answer is larger than"):
        await wire(url).reply(ASK)


async def test_a_long_answer_comes_whole(server, wire):
    text = "wört " * 200_000
    assert (await wire(await server(answers(completion(text)))).reply(ASK)).output == text


@pytest.mark.parametrize("status", [400, 401, 500])
async def test_a_key_that_the_server_says_back_is_in_no_error(server, wire, status):
    async def parrot(request):
        return web.json_response(
            {"error": {"message": f"Incorrect key: {request.headers['Authorization']}"}}, status=status
        )

    with pytest.raises(WorkerFailed) as caught:
        await wire(await server(parrot)).reply(ASK)
    assert "Incorrect key" in str(caught.value)
    assert KEY not in str(caught.value)
    assert KEY not in repr(vars(caught.value))


async def test_no_more_at_once_than_allowed(server, wire):
    live, most = 0, 0

    async def counting(request):
        nonlocal live, most
        live += 1
        most = max(most, live)
        await asyncio.sleep(0.005)
        live -= 1
        return web.json_response(completion())

    worker = LimitedWorker(wire(await server(counting)), concurrency=3)
    await asyncio.gather(*(worker.reply(ASK) for _ in range(12)))
    assert most == 3


# Streams


def chunks(*events, done=True):
    async def handler(request):
        handler.body = await request.json()  # type: ignore[attr-defined]  # functions have room for it
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for event in events:
            await response.write(
                event if isinstance(event, bytes) else b"data: " + json.dumps(event).encode() + b"\n\n"
            )
        if done:
            await response.write(b"data: [DONE]\n\n")
        return response

    return handler


def delta(text, finish=None):
    return {
        "choices": [{"index": 0, "delta": {"content": text} if text else {}, "finish_reason": finish}],
        "usage": None,
    }


async def test_a_stream(server, wire):
    pieces: list[str] = []
    handler = chunks(b": keep-alive\n\n", delta("4"), delta("2"), delta("", "stop"), {"choices": [], "usage": USAGE})
    reply = await wire(await server(handler)).reply(ASK, pieces.append)
    assert (handler.body["stream"], handler.body["stream_options"]) == (True, {"include_usage": True})
    assert pieces == ["4", "2"]
    assert (reply.output, reply.finish_reason, reply.usage.input_tokens, reply.usage.output_tokens) == (
        "42",
        "stop",
        11,
        7,
    )


@pytest.mark.parametrize(
    ("handler", "said"),
    [
        (chunks(delta("42"), delta("", "stop")), "ended without its usage"),
        (chunks(delta("4"), b"data: {broken\n\n"), "not one of chat completion chunks"),
        (chunks(delta("4"), [1]), "not one of chat completion chunks"),
        (chunks(delta("4"), {"error": {"message": "overloaded"}}, done=False), "stream"),
    ],
)
async def test_a_stream_that_is_none(server, wire, handler, said):
    with pytest.raises(WorkerFailed, match=said) as caught:
        await wire(await server(handler)).reply(ASK, lambda piece: None)
    assert (caught.value.kind, caught.value.billed) == ("garbage", "unknown")


# In the house: what is booked


@pytest.mark.parametrize(
    ("faults", "failure", "kind"),
    [
        ("http500=1", "http_500", "unknown"),
        ("cut=1", "cut", "unknown"),
        ("garbage=1", "garbage", "unknown"),
        ("http429=1", "http_429", "void"),
    ],
)
async def test_what_a_fault_costs(open_app, faults, failure, kind):
    record = {"worker": "m", "prompt": "How many?", "sample": 0, "output": "42", "input_tokens": 11, "output_tokens": 7}
    step = Step("s", policy="cheap")
    async with StubServer([record], faults=Faults.parse(faults)) as stub:
        model = {"model": "openai-chat:m", "base_url": stub.base_url, "price": {"input": 1, "output": 4}}
        async with open_app(models={"cheap": model}) as o:
            run = await o.run(step, "How many?")
            assert isinstance(run.error, StepFailed)
            assert run.error.history[0].failure
            assert run.error.history[0].failure.kind == failure
            assert kinds(o) == {"hold": 1, kind: 1}
            held, booked = (next(amount for _, k, amount in entries(o) if k == which) for which in ("hold", kind))
            assert booked == (held if kind == "unknown" else 0)
            assert run.cost == booked


async def test_a_retried_fault_and_its_books(open_app):
    """Seeded so that some of the tasks' first tries fail: the policy asks again, and the books equal the server's count."""
    records = [
        {"worker": "m", "prompt": f"Task {n}.", "sample": 0, "output": str(n), "input_tokens": 11, "output_tokens": 7}
        for n in range(40)
    ]
    step = Step("s", policy=retried("cheap", times=4))
    async with StubServer(records, faults=Faults.parse("http500=0.2,http429=0.1"), fault_seed=3) as stub:
        model = {"model": "openai-chat:m", "base_url": stub.base_url, "price": {"input": 1, "output": 4}}
        async with open_app(models={"cheap": model}) as o:
            runs = await asyncio.gather(*(o.run(step, f"Task {n}.", id=str(n)) for n in range(40)))
            assert [run.result for run in runs] == [str(n) for n in range(40)]
            counts = stub.counts()["outcomes"]
            assert counts["500"]["requests"] > 0
            assert counts["429"]["requests"] > 0
            assert kinds(o) == {
                "hold": 40 + counts["500"]["requests"],
                "post": counts["served"]["requests"],
                "unknown": counts["500"]["requests"],
            }
            posted = sum(amount for _, kind, amount in entries(o) if kind == "post")
            assert posted == counts["served"]["prompt_tokens"] * 1_000 + counts["served"]["completion_tokens"] * 4_000


@pytest.mark.parametrize(
    "extra",
    [
        {"max_tokens": 10**6},
        {"max_completion_tokens": 10**6},
        {"n": 50},
        {"model": "dearer"},
        {"messages": []},
        {"stream": True},
        {"service_tier": "priority"},
        {"web_search_options": {}},
    ],
)
async def test_a_step_cannot_lift_its_bound(open_app, extra):
    step = Step("s", policy="cheap", extra=extra)
    model = {"model": "openai-chat:m", "base_url": "http://127.0.0.1:9/v1", "price": {"input": 1, "output": 4}}
    async with open_app(models={"cheap": model}) as o:
        with pytest.raises(
            UsageError, match=f"step 's' cannot ask 'cheap' with its extra fields: '{next(iter(extra))}'"
        ):
            await o.run(step, "How many?")
        assert entries(o) == []


async def test_fields_of_the_settings_count_in_the_bound(wire):
    tools = [{"type": "function", "function": {"name": "f", "description": "x" * 1000}}]
    plain, more = wire("http://127.0.0.1:9"), wire("http://127.0.0.1:9", extra={"tools": tools})
    assert more.bound(ASK) - plain.bound(ASK) >= 1000 * PRICE.input // 10**6


async def test_an_error_under_status_200_is_said(server, wire):
    error = {"error": {"message": "Provider returned\nan error", "code": 502}}
    with pytest.raises(WorkerFailed, match=r"^cheap: Provider returned an error$") as caught:
        await wire(await server(answers(web.json_response(error)))).reply(ASK)
    assert (caught.value.kind, caught.value.billed) == ("garbage", "unknown")


async def test_an_error_within_a_stream_is_said(server, wire):
    handler = chunks(delta("4"), {"error": {"message": "overloaded"}})
    with pytest.raises(WorkerFailed, match="the stream broke off: overloaded"):
        await wire(await server(handler)).reply(ASK, lambda piece: None)


async def test_a_moved_address_is_named_and_not_followed(server, wire):
    moved = web.Response(status=301, headers={"Location": "https://elsewhere.example/v1"})
    with pytest.raises(WorkerFailed, match=r"has moved to https://elsewhere.example/v1: correct base_url") as caught:
        await wire(await server(answers(moved))).reply(ASK)
    assert (caught.value.kind, caught.value.billed) == ("http_301", "no")


async def test_reasoning_that_is_counted_apart_is_billed(server, wire):
    """As xAI and Gemini tell their usage: the total has more than input and output."""
    usage = {"prompt_tokens": 37, "completion_tokens": 530, "total_tokens": 800}
    for details in ({}, {"completion_tokens_details": {"reasoning_tokens": 233}}):
        reply = await wire(await server(answers(web.json_response(completion(usage=usage | details))))).reply(ASK)
        assert (reply.usage.output_tokens, reply.usage.reasoning_tokens) == (763, 233)


@pytest.mark.parametrize(
    "message",
    [
        {"message": {"content": None, "refusal": "I cannot help."}, "finish_reason": "stop"},
        {"message": {"content": "Half of"}, "finish_reason": "content_filter"},
    ],
)
async def test_a_refusal_is_no_answer(server, open_app, message):
    url = await server(answers(web.json_response({"choices": [message], "usage": USAGE})))
    model = {"model": "openai-chat:m", "base_url": url, "price": {"input": 1, "output": 4}}
    async with open_app(models={"cheap": model}) as o:
        run = await o.run(Step("s", policy="cheap"), "How many?")
        assert "the model refused, or the provider's filter withheld the answer or cut it" in str(run.error)
        assert run.cost == 11 * 1000 + 7 * 4000


def test_pictures_and_tool_calls_count_in_the_bound():
    picture = {"type": "image_url", "image_url": {"url": "https://example.com/large.png"}}
    text = {"type": "text", "text": "What is this?"}
    bound = [
        input_bound(Request(({"role": "user", "content": content},), "t", "s")) for content in ([text], [text, picture])
    ]
    assert bound[1] - bound[0] > 2833 + 8 * 5667
    call = {"function": {"name": "f", "arguments": "x" * 1000}}
    assert input_bound(Request(({"role": "assistant", "content": "", "tool_calls": [call]},), "t", "s")) > 1000
