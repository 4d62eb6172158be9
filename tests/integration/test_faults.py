"""What must not spread: a cancelled neighbour, a mistake in one run, a hostile answer, a half character."""

from __future__ import annotations

import asyncio

import pytest
from pydantic import BaseModel

from orchestrion import Step, corrected, step, wait_for, workflow
from orchestrion.engine.workflow import Start
from orchestrion.errors import JournalMismatch, PolicyError
from orchestrion.testing import ScriptedWorker
from orchestrion.workers.limited import LimitedWorker
from orchestrion.workers.openai_wire import usage_from
from tests.conftest import echo, entries, kinds

single = Step("single", policy="w")


@workflow
async def double(value: str) -> str:
    await single(value)
    return await single(value)


@pytest.mark.parametrize("turns", range(1, 12))
async def test_a_cancelled_run_cancels_no_other(open_app, turns):
    """They wait for the same commit; each must have a future of its own."""
    async with open_app(echo()) as o:
        tasks = [asyncio.create_task(o.run(double, str(i), id=f"r{i}")) for i in range(4)]
        for _ in range(turns):
            await asyncio.sleep(0)
        tasks[0].cancel()
        done = await asyncio.gather(*tasks, return_exceptions=True)
        assert [getattr(run, "status", run) for run in done[1:]] == ["done"] * 3


async def test_a_mistake_in_one_run_leaves_the_others_calls_alone(open_app):
    release = asyncio.Event()

    async def slow(request):
        await release.wait()
        return "x"

    @workflow
    async def mixed(value: str) -> str:
        if value == "bad":
            asyncio.get_running_loop().call_later(0.05, release.set)
            return await Step("bad", policy="nobody")(value)
        return await single(value)

    starts = [Start(id=str(i), task_id=str(i), input="bad" if i == 0 else "ok") for i in range(4)]
    async with open_app(ScriptedWorker("w", slow)) as o:
        with pytest.raises(PolicyError, match="asks 'nobody'"):
            _ = [run async for run in o.run_all(mixed, starts, concurrency=4)]
        assert kinds(o) == {"hold": 3, "post": 3}, "nothing was booked as unknown"


async def test_a_cancellation_from_within_fails_that_run_alone(open_app):
    @workflow
    async def odd(value: str) -> str:
        if value == "0":
            raise asyncio.CancelledError
        return await single(value)

    starts = [Start(id=str(i), task_id=str(i), input=str(i)) for i in range(3)]
    async with open_app(echo()) as o:
        runs = {run.id: run.status async for run in o.run_all(odd, starts, concurrency=3)}
    assert runs == {"0": "failed", "1": "done", "2": "done"}


class Old(BaseModel):
    a: int


class New(BaseModel):
    a: int
    b: int


async def test_an_accepted_answer_that_no_longer_fits_is_refused(open_app):
    types: list[Step] = [Step("typed", policy="w", output=Old), Step("typed", policy="w", output=New)]

    @workflow
    async def flow(value: str) -> str:
        read = await types[0](value)
        await wait_for("go")
        return repr(read)

    async with open_app(ScriptedWorker("w", ['{"a": 1}'])) as o:
        await o.run(flow, "v", id="r")
        await o.signal("r", "go", "y")
        types.pop(0)
        with pytest.raises(JournalMismatch, match=r"step typed#0 accepted does not have its type any more \(b: "):
            _ = (await o.run(flow, "v", id="r")).result


async def test_a_paid_answer_outlives_a_broken_answer_function(open_app):
    broken = True

    def canonical(value):
        if broken:
            raise KeyError("oops")
        return value

    worker = ScriptedWorker("w", ["x"])
    async with open_app(worker) as o:
        flow = Step("s", policy="w", answer=canonical)
        run = await o.run(flow, "v", id="r")
        assert "the step's answer function raised KeyError" in str(run.error)
        broken = False
        assert (await o.run(flow, "v", id="r", again=True)).result == "x"
    assert worker.asked == 1


async def test_half_a_character_breaks_nothing(open_app):
    def check(text):
        raise ValueError("bad \ud800")

    @workflow
    async def raises(value: str) -> str:
        raise ValueError("bad \ud800")

    async with open_app(echo()) as o:
        assert "bad" in str((await o.run(raises, "v", id="1")).error)
        assert (await o.run(Step("s", policy="w", checks=[check]), "v", id="2")).status == "failed"
        assert (await o.run(single, "v", id="3")).status == "done"
        assert len(list(o.outcomes())) == 2


async def test_functions_return_what_they_return(open_app):
    @step
    def word(value):
        return "hello"

    @step
    def number(value):
        return "42"

    @step
    def text(value) -> str:
        return "42"

    @workflow
    async def flow(value: str) -> list[str]:
        return [await word(value), await number(value), await text(value)]

    async with open_app() as o:
        assert (await o.run(flow, "v")).result == ["hello", "42", "42"]


async def test_a_cancel_that_its_process_did_not_see_holds(open_app):
    async with open_app(echo()) as o:

        @workflow
        async def parks(value: str) -> object:
            await single(value)  # its commit makes the run known
            await o.cancel("r")
            return await wait_for("go")

        await o.run(parks, "v", id="r")
        assert o.journal.find("r").status == "cancelled"


async def test_what_waits_for_its_turn_is_not_booked(open_app):
    started = asyncio.Event()

    async def slow(request):
        started.set()
        await asyncio.sleep(60)

    worker = LimitedWorker(ScriptedWorker("w", slow), concurrency=1)
    async with open_app(worker) as o:
        tasks = [asyncio.create_task(o.run(single, str(i), id=str(i))) for i in range(4)]
        await started.wait()
        await o.database.writer.durable()
        assert len(entries(o)) == 4
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await o.database.writer.durable()
        assert kinds(o) == {"hold": 4, "unknown": 1, "void": 3}, "one was sent"


@pytest.mark.parametrize(
    "usage",
    [
        {"prompt_tokens": 1e999, "completion_tokens": 1},
        {"prompt_tokens": 10**21, "completion_tokens": 1},
        {"prompt_tokens": 1, "completion_tokens": -1},
        {"prompt_tokens": "9", "completion_tokens": 1},
        {"prompt_tokens": 10, "completion_tokens": 1, "prompt_tokens_details": {"cached_tokens": 11}},
    ],
)
def test_usage_that_cannot_be_is_refused(usage):
    with pytest.raises(ValueError, match="its usage says"):
        usage_from(usage)


@pytest.mark.parametrize("record", ["none", "digest"])
async def test_no_text_of_a_correction_is_kept(open_app, record):
    flow = Step("s", policy=corrected("w"), checks=[lambda text: text == "right" or "it says WRONG"])
    async with open_app(ScriptedWorker("w", ["SECRET", "right"]), record=record) as o:
        await o.run(flow, "v", id="r")
        rows = str([o.database.read(f"select * from {table}") for table in ("ask", "attempt")])
        assert "SECRET" not in rows
        assert "WRONG" not in rows
        first, second = o.outcomes()
        assert first.context is None
        assert second.context, "what was sent is still told from the plain task"
