from __future__ import annotations

import asyncio
import dataclasses
import time
from typing import Literal

import pytest
from pydantic import BaseModel

from orchestrion import Orchestrion, Step, Task, agreement, cascade, step, workflow
from orchestrion.domain import Call, Reply, Request, Usage
from orchestrion.errors import WorkerFailed
from orchestrion.settings import Settings
from orchestrion.testing import ScriptedWorker
from orchestrion.workers.limited import LimitedWorker
from tests.unit.test_checks import performed


class Facts(BaseModel):
    name: str
    boxes: list[int]


@dataclasses.dataclass
class Case:
    name: str
    year: int


@pytest.mark.parametrize(
    "output",
    [
        '{"name": "é", "boxes": [1]}',
        ' \n{"name": "é", "boxes": [1]}\n',
        '```json\n{"name": "é", "boxes": [1]}\n```',
        '```\n{"name": "é", "boxes": [1]}\n```\n',
    ],
)
def test_an_answer_in_json_is_read(output):
    assert Step("s", output=Facts).parse(output) == (Facts(name="é", boxes=[1]), None)


@pytest.mark.parametrize(
    ("output", "said"),
    [
        ("I cannot do that.", "the answer: Invalid JSON"),
        ("", "the answer: Invalid JSON"),
        ("```", "the answer: Invalid JSON"),
        ('{"name": "x"}', "boxes: Field required"),
        ('{"name": "x", "boxes": ["one"]}', "boxes.0: Input should be a valid integer"),
        ('{"name": 1, "boxes": 2}', "name: Input should be a valid string; boxes: Input should be a valid array"),
    ],
)
def test_what_does_not_fit_is_said_place_by_place(output, said):
    value, problem = Step("s", output=Facts).parse(output)
    assert value is None
    assert problem
    assert problem.startswith(said)


def test_a_text_is_taken_as_it_is():
    assert Step("s").parse("```json\n1\n```") == ("```json\n1\n```", None)


@pytest.mark.parametrize(
    ("value", "content"),
    [
        ("plain", "plain"),
        (Facts(name="x", boxes=[]), '{"name":"x","boxes":[]}'),
        (Case("x", 1), '{"name":"x","year":1}'),
        ([1, None], "[1,null]"),
    ],
)
def test_what_a_worker_is_asked(value, content):
    asked = Step("s", "Do it.", output=Facts, max_output=7, extra={"top_p": 1}).request(
        Task("t", value, step="s"), Call("w", 2)
    )
    assert asked.messages == ({"role": "system", "content": "Do it."}, {"role": "user", "content": content})
    assert (asked.task_id, asked.step, asked.sample, asked.context, asked.max_output, asked.extra) == (
        "t",
        "s",
        2,
        None,
        7,
        {"top_p": 1},
    )
    assert asked.schema == Facts.model_json_schema()


def test_without_instructions_there_is_no_system_message():
    assert Step("s").request(Task("t", "q"), Call("w")).messages == ({"role": "user", "content": "q"},)


def test_a_correction_is_another_context():
    added = ({"role": "user", "content": "again"},)
    asked = Step("s").request(Task("t", "q"), Call("w", 0, added))
    assert asked.messages[-1] == added[0]
    assert asked.context == Call("w", 0, added).context != None  # noqa: E711  # reads as one statement


@pytest.mark.parametrize("name", ["", "a b", "a/b", "a#b", "a~b", "a\n"])
def test_a_name_that_a_key_could_not_hold(name):
    with pytest.raises(ValueError, match="a step's name has no blanks"):
        Step(name)


async def test_typed_answers_agree_by_value():
    worker = ScriptedWorker(
        "w", ['{"name":"x","boxes":[1]}', '```json\n{"boxes": [1], "name": "x"}\n```', '{"name":"y","boxes":[]}']
    )
    run = await performed(Step("s", output=Facts, policy=agreement("w", samples=3, accept=0.6)), worker)
    assert run.result == Facts(name="x", boxes=[1])


async def test_answers_agree_as_the_step_says():
    worker = ScriptedWorker("w", ["so 42.", "It is 42", "maybe 41"])
    run = await performed(
        Step("s", policy=agreement("w", samples=3, accept=0.6), answer=lambda text: "".join(filter(str.isdigit, text))),
        worker,
    )
    assert run.result == "so 42."


async def test_a_step_of_a_literal_type():
    run = await performed(
        Step("s", output=Literal["yes", "no"], policy="w"),  # type: ignore[call-overload]  # a type to pydantic, not to mypy
        ScriptedWorker("w", ['"yes"']),
    )
    assert run.result == "yes"


def test_what_cannot_be_a_step_or_a_workflow():
    with pytest.raises(TypeError, match="a step takes one argument; two takes 2"):

        @step  # type: ignore[arg-type]  # meant
        def two(a, b): ...

    with pytest.raises(TypeError, match="a workflow is an async function of one argument; plain is not"):

        @workflow
        def plain(a): ...


async def test_a_scripted_worker_keeps_to_its_script():
    from orchestrion.domain import Reply, Request

    request = Request(messages=(), task_id="t", step="s")
    worker = ScriptedWorker("w", ["one", Reply("two"), WorkerFailed("timeout", "slow")])
    pieces: list[str] = []
    assert (await worker.reply(request, pieces.append)).output == "one"
    assert (await worker.reply(request)).output == "two"
    with pytest.raises(WorkerFailed, match="slow"):
        await worker.reply(request)
    with pytest.raises(AssertionError, match="has only 3 answers"):
        await worker.reply(request)
    assert (pieces, worker.asked) == (["one"], 4)


class Box(BaseModel):
    total: int
    names: list[str]


@pytest.mark.parametrize(
    "text",
    [
        '{"total": 3, "names": ["a"]}',
        '```json\n{"total": 3, "names": ["a"]}\n```',
        'Here it is:\n{"total": 3, "names": ["a"]}\nAnything else?',
        '{"total": 3, "names": ["a",],}',
        "{'total': 3, 'names': ['a']}",
        '{total: 3, names: ["a"]}',
        '{"total": 3, /* one */ "names": ["a"]}',
    ],
)
def test_near_json_is_mended(text):
    value, problem = Step("s", output=Box, policy="w").parse(text)
    assert (value, problem) == (Box(total=3, names=["a"]), None)


@pytest.mark.parametrize(
    "text", ['{"total": 3, "names": ["a"', '{"total": 3, "names": ["a", "b', "no JSON", "", '{"total": 3}', "[1, 2}"]
)
def test_what_was_cut_off_is_not_made_up(text):
    value, problem = Step("s", output=Box, policy="w").parse(text)
    assert value is None
    assert problem


async def test_an_answer_cut_at_its_limit_is_refused():
    class Cut(ScriptedWorker):
        async def reply(self, request, on_delta=None):
            return Reply("half an ans", usage=Usage(10, 5), finish_reason="length")

    whole = ScriptedWorker("big", ["whole"])
    async with Orchestrion.open(Settings(database=":memory:"), workers=[Cut("small", []), whole]) as o:
        run = await o.run(Step("s", policy=cascade("small", "big")), "a")
        assert run.result == "whole"
        first = next(iter(o.outcomes()))
    assert first.verdicts is not None
    assert first.verdicts["complete"]["passed"] is False


async def test_starts_are_spaced():
    worker = LimitedWorker(ScriptedWorker("w", ["a"] * 4), concurrency=10, requests_per_minute=60 / 0.02)
    started = time.monotonic()
    await asyncio.gather(*(worker.reply(Request(messages=(), task_id="t", step="s")) for _ in range(4)))
    assert time.monotonic() - started >= 0.06  # three pauses between four starts
