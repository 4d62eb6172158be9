"""Spans, in a process of their own: a tracer provider is set once and for all."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

pytest.importorskip("opentelemetry.sdk", reason="opentelemetry-sdk is in the dev group: make setup installs it")

SCRIPT = """
import asyncio, json
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from orchestrion import Orchestrion, Step, cascade, gather, workflow
from orchestrion.domain import Reply, Usage
from orchestrion.errors import WorkerFailed
from orchestrion.settings import Settings
from orchestrion.testing import ScriptedWorker

exporter, provider = InMemorySpanExporter(), TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(exporter))
trace.set_tracer_provider(provider)

reply = Reply("SECRET answer", usage=Usage(10, 5, 4), finish_reason="stop")
cheap = ScriptedWorker("cheap", lambda request: WorkerFailed("http_500", "SECRET words of the server"))
dear = ScriptedWorker("dear", lambda request: reply)


def refuses(text):
    return f"SECRET in a reason: {text}"


found = Step("found", "SECRET instructions", policy=cascade("cheap", "dear"))
refused = Step("refused", policy="dear", checks=[refuses])


@workflow
async def flow(text: str) -> str:
    await gather(found(text), found(text))
    return await refused(text)


async def main():
    async with Orchestrion.open(Settings(database=":memory:"), workers=[cheap, dear]) as o:
        run = await o.run(flow, "SECRET prompt", id="r-1")
        assert run.status == "failed", run
    print(json.dumps([json.loads(span.to_json()) for span in exporter.get_finished_spans()]))


asyncio.run(main())
"""


@pytest.fixture(scope="module")
def spans():
    done = subprocess.run([sys.executable, "-W", "error", "-c", SCRIPT], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def named(spans, name):
    return [span for span in spans if span["name"] == name]


def test_run_steps_and_calls_are_spans_within_each_other(spans):
    [run] = named(spans, "invoke_workflow flow")
    steps = named(spans, "orchestrion.step found") + named(spans, "orchestrion.step refused")
    assert run["parent_id"] is None
    assert run["attributes"] == {
        "gen_ai.operation.name": "invoke_workflow",
        "orchestrion.run.id": "r-1",
        **{k: v for k, v in run["attributes"].items() if k == "error.type"},
    }
    assert [step["parent_id"] for step in steps] == [run["context"]["span_id"]] * 3
    assert sorted(step["attributes"]["orchestrion.step.key"] for step in steps) == ["found#0", "found#1", "refused#0"]
    assert len(named(spans, "chat cheap")) == 2
    assert len(named(spans, "chat dear")) == 3
    assert {call["parent_id"] for call in spans if call["name"].startswith("chat")} == {
        step["context"]["span_id"] for step in steps
    }
    assert {span["context"]["trace_id"] for span in spans} == {run["context"]["trace_id"]}


def test_a_call_tells_its_tokens_and_cost(spans):
    for call in named(spans, "chat dear"):
        assert call["attributes"] == {
            "gen_ai.operation.name": "chat",
            "gen_ai.request.model": "dear",
            "gen_ai.usage.input_tokens": 10,
            "gen_ai.usage.output_tokens": 5,
            "gen_ai.usage.cache_read.input_tokens": 4,
            "gen_ai.response.finish_reasons": ["stop"],
            "orchestrion.cost_usd": 3e-05,
        }


def test_a_failed_call_tells_its_kind(spans):
    for call in named(spans, "chat cheap"):
        assert call["attributes"]["error.type"] == "http_500"
        assert call["status"]["status_code"] == "ERROR"


def test_a_failed_step_and_its_run_tell_what_kind_of_error(spans):
    for span in (*named(spans, "orchestrion.step refused"), *named(spans, "invoke_workflow flow")):
        assert span["attributes"]["error.type"] == "StepFailed"
        assert span["status"]["status_code"] == "ERROR"


def test_no_span_tells_a_text(spans):
    """Not in an attribute, not in a status, not in the event of an exception."""
    assert "SECRET" not in json.dumps(spans)
