"""Anthropic, Google and the rest through their real libraries, against servers on loopback that speak their wire format:
from the settings to outcomes and nano-dollars."""

from __future__ import annotations

import json
import socket
from typing import Any

import pytest
from pydantic import BaseModel

from orchestrion import Step, fallback, retried
from orchestrion.domain import Price, Request
from orchestrion.errors import SettingsError, StepFailed, UsageError, WorkerFailed
from orchestrion.workers import again
from orchestrion.workers.providers import ProviderWorker
from tests.acceptance.stub_providers import Bill, StubAnthropic, StubGoogle
from tests.acceptance.stub_server import StubServer
from tests.conftest import entries, kinds

KEY = "sk-very-secret-0123456789"
PRICE = {"input": 3, "output": 15, "cache_read": 0.3, "cache_write": 3.75}
BILL = Bill(fresh=100, cache_read=2000, output=50, reasoning=30)
WIRES = [
    pytest.param(StubAnthropic, "anthropic:claude-haiku-4-5", id="anthropic"),
    pytest.param(StubGoogle, "google:gemini-2.5-flash", id="google"),
]


class Clause(BaseModel):
    """What a contract says of its end."""

    months: int
    renews: bool


@pytest.fixture(autouse=True)
def _a_key_and_short_pauses(monkeypatch):
    monkeypatch.setattr(again, "FIRST_PAUSE_S", 0.001)
    monkeypatch.setenv("SOME_KEY", KEY)


def settings(stub: Any, model: str, **more: Any) -> dict[str, Any]:
    return {"m": {"model": model, "base_url": stub.base_url, "api_key": "env:SOME_KEY", "price": PRICE, **more}}


def billed(stub: Any) -> int:
    """What the server's own count comes to, in nano-dollars."""
    return sum(b.fresh * 3_000 + b.cache_read * 300 + b.cache_write * 3_750 + b.output * 15_000 for b in stub.billed)


def posted(o: Any) -> int:
    return sum(amount for _, kind, amount in entries(o) if kind == "post")


# What is asked, what comes back, what it costs


@pytest.mark.parametrize(("stub_of", "model"), WIRES)
async def test_a_text_and_its_bill(open_app, stub_of, model):
    step = Step("s", "Be brief.", policy="m")
    async with stub_of(lambda body: "forty-two", bill=BILL) as stub, open_app(models=settings(stub, model)) as o:
        run = await o.run(step, "How many?")
        assert run.result == "forty-two"
        [outcome] = o.outcomes()
        assert (outcome.input_tokens, outcome.output_tokens, outcome.cache_read_tokens) == (2100, 50, 2000)
        assert run.cost == posted(o) == billed(stub) == 100 * 3_000 + 2000 * 300 + 50 * 15_000
        [(hold, _, amount)] = [entry for entry in entries(o) if entry[1] == "hold"]
        assert amount >= 50 * 15_000, hold
    [(headers, body)] = stub.requests
    assert KEY in (headers.get("x-goog-api-key") or headers["Authorization"])
    limit = body.get("max_tokens") or body["generationConfig"]["maxOutputTokens"]
    assert limit == 4096
    assert "Be brief." in json.dumps(body.get("system") or body["systemInstruction"])


async def test_what_anthropic_writes_to_its_cache_is_counted_once(open_app):
    bill = Bill(fresh=10, cache_read=500, cache_write=2000, output=5)
    step = Step("s", "Be brief.", policy="m")
    async with (
        StubAnthropic(bill=bill) as stub,
        open_app(models=settings(stub, "anthropic:claude-haiku-4-5", request={"cache": True})) as o,
    ):
        run = await o.run(step, "How many?")
        [outcome] = o.outcomes()
        assert (outcome.input_tokens, outcome.cache_read_tokens, outcome.cache_write_tokens) == (2510, 500, 2000)
        assert run.cost == billed(stub) == 10 * 3_000 + 500 * 300 + 2000 * 3_750 + 5 * 15_000
    assert "cache_control" in json.dumps(stub.requests[0][1])


@pytest.mark.parametrize(
    ("stub_of", "model"), [*WIRES, pytest.param(StubAnthropic, "anthropic:claude-x", id="by-tool")]
)
async def test_structured_output(open_app, stub_of, model):
    answer = {"months": 12, "renews": True}
    step = Step("s", "Read the clause.", output=Clause, policy="m")
    async with stub_of(lambda body: json.dumps(answer)) as stub, open_app(models=settings(stub, model)) as o:
        run = await o.run(step, "It ends after a year, and goes on.")
        assert run.result == Clause(months=12, renews=True)
    sent = stub.requests[0][1]
    asked = [sent.get("output_config"), sent.get("tools"), sent.get("generationConfig", {}).get("responseJsonSchema")]
    assert sum(bool(one) for one in asked) == 1
    assert "months" in json.dumps([one for one in asked if one])


@pytest.mark.parametrize(("stub_of", "model"), WIRES)
async def test_an_answer_that_is_no_object(open_app, stub_of, model):
    """Some take objects only: a list travels in one, and comes out as the list that an OpenAI-compatible model says."""
    step = Step("s", output=list[int], policy="m")
    async with stub_of(lambda body: '{"value": [4, 2]}') as stub, open_app(models=settings(stub, model)) as o:
        run = await o.run(step, "Which?")
        assert run.result == [4, 2]
        [outcome] = o.outcomes()
        assert outcome.output == "[4,2]"


@pytest.mark.parametrize(("stub_of", "model"), WIRES)
async def test_an_answer_that_was_cut_is_refused(open_app, stub_of, model):
    async with stub_of(fates=["length"]) as stub, open_app(models=settings(stub, model)) as o:
        run = await o.run(Step("s", policy="m"), "How many?")
        assert isinstance(run.error, StepFailed)
        assert "cut" in str(run.error)
        assert run.cost == billed(stub)  # and paid for


async def test_google_does_not_go_on_by_itself(open_app):
    """Its library would ask again for the rest, with an output limit of its own, for which nothing is held."""
    async with StubGoogle(fates=["endless"]) as stub, open_app(models=settings(stub, "google:gemini-2.5-flash")) as o:
        run = await o.run(Step("s", policy="m"), "How many?")
        assert "cut" in str(run.error)
        assert len(stub.requests) == 1


async def test_thinking_stays_within_the_limit(open_app):
    more = {"request": {"thinking": "low"}, "max_output": 3000}
    async with StubGoogle(bill=BILL) as stub, open_app(models=settings(stub, "google:gemini-2.5-flash", **more)) as o:
        await o.run(Step("s", policy="m"), "How many?")
        [outcome] = o.outcomes()
        assert outcome.output_tokens == 50  # thoughts are part of it, and are paid for
    sent = stub.requests[0][1]["generationConfig"]
    assert sent["thinkingConfig"]
    assert sent["maxOutputTokens"] == 3000


# What goes wrong


@pytest.mark.parametrize(("stub_of", "model"), WIRES)
@pytest.mark.parametrize(
    ("fate", "failure", "kind"),
    [
        ("400", "http_400", "void"),
        ("500", "http_500", "unknown"),
        ("503", "http_503", "unknown"),
        ("slow", "timeout", "unknown"),
        ("cut", "cut", "unknown"),
        ("garbage", "garbage", "unknown"),
        ("unbilled", "garbage", "unknown"),
    ],
)
async def test_what_a_fault_costs(open_app, stub_of, model, fate, failure, kind):
    async with stub_of(fates=[fate]) as stub, open_app(models=settings(stub, model, timeout_s=1)) as o:
        run = await o.run(Step("s", policy="m"), "How many?")
        assert isinstance(run.error, StepFailed)
        [attempt] = run.error.history
        assert attempt.failure
        assert attempt.failure.kind == failure
        assert attempt.failure.message.startswith("m: ")
        assert KEY not in str(run.error)
        assert ("You sent" in attempt.failure.message) == (fate == "400")  # the server's words, without the key in them
        held = next(amount for _, one, amount in entries(o) if one == "hold")
        assert kinds(o) == {"hold": 1, kind: 1}
        assert run.cost == (held if kind == "unknown" else 0)
        assert len(stub.requests) == 1  # no library asks again by itself


@pytest.mark.parametrize(("stub_of", "model"), WIRES)
@pytest.mark.parametrize("fate", ["429", "busy"])
async def test_a_provider_without_room_is_asked_again_and_bills_nothing(open_app, stub_of, model, fate):
    async with stub_of(fates=[fate, fate]) as stub, open_app(models=settings(stub, model)) as o:
        run = await o.run(Step("s", policy="m"), "How many?")
        assert run.result == "42"
        assert len(stub.requests) == 3
        assert kinds(o) == {"hold": 1, "post": 1}
        assert run.cost == billed(stub)


@pytest.mark.parametrize(("stub_of", "model"), WIRES)
async def test_no_room_for_ever(open_app, stub_of, model):
    async with stub_of(fates=["busy"] * 6) as stub, open_app(models=settings(stub, model)) as o:
        run = await o.run(Step("s", policy="m"), "How many?")
        assert "verloaded" in str(run.error)
        assert "(6 tries)" in str(run.error)
        assert (run.cost, kinds(o)) == (0, {"hold": 1, "void": 1})
        assert len(stub.requests) == 6


async def test_nobody_at_the_address(open_app):
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{nobody.getsockname()[1]}"
        model = {"model": "anthropic:claude-haiku-4-5", "base_url": url, "price": PRICE}
        async with open_app(models={"m": model}) as o:
            run = await o.run(Step("s", policy="m"), "How many?")
            assert "no connection to anthropic" in str(run.error)
            assert (run.cost, kinds(o)) == (0, {"hold": 1, "void": 1})


async def test_one_provider_stands_in_for_another(open_app):
    step = Step("s", output=Clause, policy=fallback(retried("claude"), "gemini"))
    async with (
        StubAnthropic(fates=["500", "500"]) as broken,
        StubGoogle(lambda b: '{"months": 1, "renews": false}') as well,
    ):
        claude = settings(broken, "anthropic:claude-haiku-4-5")["m"]
        gemini = settings(well, "google:gemini-2.5-flash")["m"]
        async with open_app(models={"claude": claude, "gemini": gemini}) as o:
            run = await o.run(step, "It ends after a month.")
            assert run.result == Clause(months=1, renews=False)
            assert kinds(o) == {"hold": 3, "unknown": 2, "post": 1}
            assert posted(o) == billed(well)


# Streams


def worker(stub: Any, model: str, **more: Any) -> ProviderWorker:
    price = Price(input=3_000_000_000, output=15_000_000_000, cache_read=300_000_000)
    kind, _, name = model.partition(":")
    options: dict[str, Any] = {"price": price, "base_url": stub.base_url, "key": lambda: KEY, "timeout_s": 1.0, **more}
    return ProviderWorker("m", kind, name, **options)


ASK = Request(({"role": "user", "content": "How many?"},), "t", "s")


@pytest.mark.parametrize(("stub_of", "model"), WIRES)
async def test_a_stream(stub_of, model):
    pieces: list[str] = []
    async with stub_of(lambda body: "forty-two of them", bill=BILL) as stub:
        asked = worker(stub, model)
        reply = await asked.reply(ASK, pieces.append)
        await asked.close()
    assert len(pieces) > 2
    assert "".join(pieces) == reply.output == "forty-two of them"
    assert (reply.finish_reason, reply.usage.input_tokens, reply.usage.output_tokens) == ("stop", 2100, 50)
    assert (reply.usage.cache_read_tokens, reply.usage.reasoning_tokens) == (2000, 30)


@pytest.mark.parametrize("schema", [{"type": "object", "properties": {}}, {"type": "array"}], ids=["object", "array"])
async def test_a_streamed_tool_call_comes_in_one_piece(schema):
    pieces: list[str] = []
    said = '{"value": [4, 2]}'
    async with StubAnthropic(lambda body: said) as stub:
        asked = worker(stub, "anthropic:claude-x")
        reply = await asked.reply(Request(ASK.messages, "t", "s", schema=schema), pieces.append)
        await asked.close()
    assert pieces == [reply.output]
    assert json.loads(reply.output) == ([4, 2] if schema["type"] == "array" else json.loads(said))


@pytest.mark.parametrize(("stub_of", "model"), WIRES)
@pytest.mark.parametrize(
    ("fate", "kinds"),
    [("cut", {"cut"}), ("garbage", {"garbage"}), ("late", {"http_529", "http_503"}), ("slow", {"timeout"})],
)
async def test_a_stream_that_breaks_may_have_been_billed(stub_of, model, fate, kinds):
    async with stub_of(lambda body: "forty-two of them", fates=[fate]) as stub:
        asked = worker(stub, model)
        with pytest.raises(WorkerFailed) as caught:
            await asked.reply(ASK, lambda piece: None)
        await asked.close()
        assert caught.value.kind in kinds
        assert caught.value.billed == "unknown"
        assert len(stub.requests) == 1


# The rest


@pytest.mark.parametrize(
    ("messages", "said"),
    [
        (({"role": "wizard", "content": "x"},), "message 1 has the role 'wizard'"),
        (({"role": "user", "content": [{"type": "input_audio"}]},), "part of type 'input_audio'"),
        (
            ({"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://x/y.png"}}]},),
            "links to a picture",
        ),
        (({"role": "tool", "tool_call_id": "c1", "content": "x"},), "tool call 'c1', which no message before it made"),
        (({"role": "user", "content": None},), "neither text nor a list"),
    ],
)
async def test_what_cannot_be_sent_is_refused_before_it_costs(messages, said):
    async with StubAnthropic() as stub:
        asked = worker(stub, "anthropic:claude-haiku-4-5")
        with pytest.raises(WorkerFailed, match=said) as caught:
            await asked.reply(Request(messages, "t", "s"))
        await asked.close()
        assert (caught.value.kind, caught.value.billed) == ("unsendable", "no")
        assert stub.requests == []


@pytest.mark.parametrize("extra", [{"max_tokens": 9}, {"tools": []}, {"anthropic_speed": "fast"}, {"cache": "1h"}])
async def test_a_step_cannot_lift_the_bound(extra):
    async with StubAnthropic() as stub:
        asked = worker(stub, "anthropic:claude-haiku-4-5")
        with pytest.raises(UsageError, match=f"step 's' cannot ask '.*' with its extra fields: '{next(iter(extra))}'"):
            asked.bound(Request(ASK.messages, "t", "s", extra=extra))
        await asked.close()


async def test_every_turn_reaches_the_other_side():
    picture = "data:image/png;base64,iVBORw0KGgo="
    call = {"id": "c1", "type": "function", "function": {"name": "look_up", "arguments": '{"n": 7}'}}
    messages = (
        {"role": "system", "content": "Be brief."},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "What is this?"},
                {"type": "image_url", "image_url": {"url": picture}},
            ],
        },
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "a cat"},
        {"role": "assistant", "content": "A dog."},
        {"role": "user", "content": "That was refused: it is no dog."},
    )
    async with StubAnthropic() as stub:
        asked = worker(stub, "anthropic:claude-haiku-4-5")
        await asked.reply(Request(messages, "t", "s"))
        await asked.close()
    sent = stub.requests[0][1]
    assert [turn["role"] for turn in sent["messages"]] == ["user", "assistant", "user", "assistant", "user"]
    text = json.dumps(sent)
    for word in ("Be brief.", "What is this?", "iVBORw0KGgo=", "look_up", "a cat", "A dog.", "it is no dog."):
        assert word in text


async def test_bedrock_and_mistral_are_built_without_a_network(monkeypatch):
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    for model in ("bedrock:eu.anthropic.claude-sonnet-4-5-20250929-v1:0", "mistral:mistral-large-latest"):
        kind, _, name = model.partition(":")
        asked = ProviderWorker("m", kind, name, price=Price(input=1, output=1), key=lambda: KEY)
        opened = asked.open()
        assert asked.open() is opened
        assert opened._model.model_name == name
        await asked.close()


async def test_bedrock_says_what_it_lacks(monkeypatch, tmp_path):
    for name in ("AWS_DEFAULT_REGION", "AWS_REGION", "AWS_PROFILE", "AWS_ACCESS_KEY_ID", "AWS_BEARER_TOKEN_BEDROCK"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    asked = ProviderWorker("m", "bedrock", "amazon.nova-lite-v1:0", price=Price(input=1, output=1))
    with pytest.raises(SettingsError, match="Bedrock needs a region: export AWS_DEFAULT_REGION"):
        await asked.reply(ASK)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    with pytest.raises(WorkerFailed, match="no credentials for bedrock") as caught:
        await asked.reply(ASK)
    assert (caught.value.kind, caught.value.billed) == ("credentials", "no")
    await asked.close()


async def test_a_provider_that_speaks_like_openai(open_app):
    record = {
        "worker": "kimi",
        "prompt": "How many?",
        "sample": 0,
        "output": "42",
        "input_tokens": 11,
        "output_tokens": 7,
    }
    async with StubServer([record]) as stub, open_app(models=settings(stub, "moonshotai:kimi")) as o:
        run = await o.run(Step("s", policy="m"), "How many?")
        assert run.result == "42"
        assert run.cost == 11 * 3_000 + 7 * 15_000


async def test_an_address_where_the_provider_takes_none(open_app):
    async with StubAnthropic() as stub, open_app(models=settings(stub, "deepseek:deepseek-chat")) as o:
        with pytest.raises(SettingsError, match="deepseek has one address, so its models take no base_url"):
            o.workers.check_keys(["m"])


@pytest.mark.parametrize("kind", ["anthropic", "google", "groq", "openai-responses"])
def test_no_variable_sends_a_key_elsewhere(monkeypatch, kind):
    for name in ("ANTHROPIC", "GOOGLE_GEMINI", "GROQ", "OPENAI"):
        monkeypatch.setenv(f"{name}_BASE_URL", "http://elsewhere.example")
    from orchestrion.workers.direct import DirectModel

    made = DirectModel("m", kind, "any-model", key="sk-1", base_url=None, timeout_s=3)
    assert made._model.base_url
    assert "elsewhere" not in made._model.base_url
