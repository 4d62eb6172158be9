"""The stub itself: if it miscounts, the acceptance tests prove nothing."""

import asyncio
import json
import sys
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from orchestrion.store.zstd import zstd
from tests.acceptance.stub_server import Faults, StubServer

ROOT = Path(__file__).parents[2]
RECORDS = [
    {"worker": worker, "prompt": prompt, "sample": sample, "output": f"{prompt} {worker} #{sample}: 42"}
    | {"input_tokens": 11 + sample, "output_tokens": 7}
    for worker in ("cheap", "frontier")
    for prompt in ("How many?", "How many? Think.", *(f"Task {n}." for n in range(40)))
    for sample in (0, 1)
]


@pytest.fixture
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


def body(content: Any, **more: Any) -> dict[str, Any]:
    return {"model": "cheap", "messages": [{"role": "user", "content": content}], **more}


async def ask(client: aiohttp.ClientSession, stub: StubServer, content: Any, **more: Any) -> tuple[int, Any]:
    async with client.post(f"{stub.base_url}/chat/completions", json=body(content, **more)) as response:
        return response.status, await response.json()


async def test_serves_the_recorded_output_and_usage(client: aiohttp.ClientSession) -> None:
    async with StubServer(RECORDS) as stub:
        status, reply = await ask(client, stub, "How many?", model="frontier")

    assert status == 200
    assert reply["model"] == "frontier"
    assert reply["choices"][0]["message"]["content"] == "How many? frontier #0: 42"
    assert reply["choices"][0]["finish_reason"] == "stop"
    assert (reply["usage"]["prompt_tokens"], reply["usage"]["completion_tokens"]) == (11, 7)


@pytest.mark.parametrize(
    ("messages", "seed", "output"),
    [
        (["Solve this.\n\nHow many? Think.\n"], None, "How many? Think. cheap #0: 42"),
        (["How many?", "Your answer failed: Task."], None, "How many? cheap #0: 42"),
        ([[{"type": "text", "text": "How many?"}]], 1, "How many? cheap #1: 42"),
    ],
)
async def test_finds_the_prompt(
    client: aiohttp.ClientSession, messages: list[Any], seed: int | None, output: str
) -> None:
    async with StubServer(RECORDS) as stub:
        asked = [{"role": "system", "content": "Task 1."}, *({"role": "user", "content": text} for text in messages)]
        _, reply = await ask(client, stub, "", messages=asked, seed=seed)

    assert reply["choices"][0]["message"]["content"] == output


async def test_streams(client: aiohttp.ClientSession) -> None:
    async with StubServer(RECORDS) as stub:
        sent = body("How many?", stream=True, stream_options={"include_usage": True})
        async with client.post(f"{stub.base_url}/chat/completions", json=sent) as response:
            lines = [line.removeprefix(b"data: ") async for line in response.content if line.strip()]

    assert lines.pop().strip() == b"[DONE]"
    *chunks, last = map(json.loads, lines)
    assert "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks) == "How many? cheap #0: 42"
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks][-2:] == [None, "stop"]
    assert (last["choices"], last["usage"]["total_tokens"]) == ([], 18)


async def test_refuses_what_it_cannot_answer(client: aiohttp.ClientSession) -> None:
    async with StubServer(RECORDS) as stub:
        for content, more in (("Never asked", {}), ("How many?", {"model": "none"}), ("How many?", {"seed": 2})):
            status, reply = await ask(client, stub, content, **more)
            assert (status, reply["error"]["code"]) == (404, "not_found")
        assert (await ask(client, stub, "", messages=[]))[0] == 400
        assert stub.counts()["total"] == {"requests": 4, "prompt_tokens": 0, "completion_tokens": 0}


async def test_lists_models(client: aiohttp.ClientSession) -> None:
    async with StubServer(RECORDS) as stub, client.get(f"{stub.base_url}/models") as response:
        assert [model["id"] for model in (await response.json())["data"]] == ["cheap", "frontier"]


async def test_answers_with_http_errors(client: aiohttp.ClientSession) -> None:
    async with (
        StubServer(RECORDS, faults=Faults(http429=1)) as stub,
        client.post(f"{stub.base_url}/chat/completions", json=body("How many?")) as response,
    ):
        assert (response.status, response.headers["Retry-After"]) == (429, "0")
    async with StubServer(RECORDS, faults=Faults(http500=1)) as stub:
        status, reply = await ask(client, stub, "How many?")
        assert (status, reply["error"]["type"]) == (500, "server_error")
        assert stub.counts()["outcomes"] == {"500": {"requests": 1, "prompt_tokens": 0, "completion_tokens": 0}}


@pytest.mark.parametrize("stream", [False, True])
async def test_cuts_the_connection(client: aiohttp.ClientSession, stream: bool) -> None:
    async with StubServer(RECORDS, faults=Faults(cut=1)) as stub:
        async with client.post(f"{stub.base_url}/chat/completions", json=body("How many?", stream=stream)) as response:
            assert response.status == 200
            with pytest.raises(aiohttp.ClientPayloadError):
                await response.read()
        assert stub.counts()["outcomes"]["cut"] == {"requests": 1, "prompt_tokens": 11, "completion_tokens": 7}


@pytest.mark.parametrize("stream", [False, True])
async def test_sends_garbage(client: aiohttp.ClientSession, stream: bool) -> None:
    async with (
        StubServer(RECORDS, faults=Faults(garbage=1)) as stub,
        client.post(f"{stub.base_url}/chat/completions", json=body("How many?", stream=stream)) as response,
    ):
        assert response.status == 200
        lines = [line.removeprefix(b"data: ") async for line in response.content if line.strip()]
    with pytest.raises(json.JSONDecodeError):
        [json.loads(line) for line in lines if line.strip() != b"[DONE]"]


async def test_faults_do_not_depend_on_the_order_of_requests(client: aiohttp.ClientSession) -> None:
    faults = Faults.parse("http500=0.2,http429=0.2,cut=0.1,garbage=0.1")

    async def fates(order: int) -> list[tuple[str, str]]:
        log = []
        async with StubServer(RECORDS, faults=faults, fault_seed=7) as stub:
            for prompt in [f"Task {n}." for n in range(40)][::order] * 2:
                before = Counter({fate: tally["requests"] for fate, tally in stub.counts()["outcomes"].items()})
                async with client.post(f"{stub.base_url}/chat/completions", json=body(prompt)):
                    after = Counter({fate: tally["requests"] for fate, tally in stub.counts()["outcomes"].items()})
                log.append((prompt, *(after - before)))
        return sorted(log)

    forwards = await fates(1)
    assert forwards == await fates(-1)
    assert {fate for _, fate in forwards} == {"served", "500", "429", "cut", "garbage"}


async def test_its_process_keeps_count_in_a_log(client: aiohttp.ClientSession, tmp_path: Path) -> None:
    records, log = tmp_path / "records.jsonl.zst", tmp_path / "counts.jsonl"
    records.write_bytes(zstd.compress("\n".join(map(json.dumps, RECORDS)).encode()))
    faults = ("--latency", "0.01", "--fault-seed", "7", "--faults", "http500=0.2,http429=0.2")
    command = (sys.executable, "-m", "tests.acceptance.stub_server", "--records", records, "--log", log, *faults)
    server = await asyncio.create_subprocess_exec(*command, cwd=ROOT, stdout=asyncio.subprocess.PIPE)
    try:
        assert server.stdout is not None
        url = (await server.stdout.readline()).decode().removeprefix("listening on ").strip()
        asks = [client.post(f"{url}/chat/completions", json=body(f"Task {n}.")) for n in range(40)]
        statuses = Counter(str(response.status) for response in await asyncio.gather(*asks))
        async with client.get(url.removesuffix("/v1") + "/counts") as response:
            counts = await response.json()
    finally:
        server.kill()
        await server.wait()

    logged = [json.loads(line) for line in log.read_text().splitlines()]
    assert Counter(entry["outcome"].replace("served", "200") for entry in logged) == statuses
    assert counts["total"] == {
        "requests": 40,
        "prompt_tokens": sum(entry["prompt_tokens"] for entry in logged),
        "completion_tokens": 7 * statuses["200"],
    }
    assert counts["models"]["cheap"] == counts["outcomes"]
    assert len({entry["prompt"] for entry in logged}) == 40


@pytest.mark.parametrize("stream", [False, True])
async def test_counts_what_a_killed_client_asked(
    client: aiohttp.ClientSession, caplog: pytest.LogCaptureFixture, stream: bool
) -> None:
    async with StubServer(RECORDS, latency=0.1) as stub:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await ask(client, stub, "How many?", stream=stream)
        await asyncio.sleep(0.1)
        assert stub.counts()["outcomes"]["served"]["requests"] == 1
    assert not caplog.records
