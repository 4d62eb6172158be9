"""Runs as their users see them, on a real database: resumed, joined, parked, stopped, cancelled, refused."""

from __future__ import annotations

import asyncio
import random

import pytest
from pydantic import BaseModel

import orchestrion
from orchestrion import Step, StepFailed, cascade, fallback, fixed, retried, step, wait_for, workflow
from orchestrion.domain import Reply
from orchestrion.engine.execution import SavedPolicy
from orchestrion.engine.workflow import Start
from orchestrion.errors import (
    JournalMismatch,
    PolicyError,
    RunBusy,
    RunCancelled,
    RunError,
    RunWaiting,
    SettingsError,
    UsageError,
    WorkerFailed,
    WorkflowError,
    WorkflowFailed,
)
from orchestrion.testing import ScriptedWorker
from tests.conftest import Crash, echo, entries, kinds, open_holds

first = Step("first", "Do it.", policy="w")
second = Step("second", policy="w")


class Case(BaseModel):
    name: str
    year: int


@workflow
async def two_steps(text: str) -> str:
    return await second(await first(text))


async def test_a_run_has_a_result_a_cost_and_books(open_app):
    worker = echo()
    async with open_app(worker) as o:
        run = await o.run(two_steps, "a", id="r", account="company/tax")
        assert (run.id, run.status, run.result, run.error) == ("r", "done", "w:w:a", None)
        assert run.cost == 2 * 30_000  # 10 tokens at $1 and 5 at $4 a million, twice
        assert kinds(o) == {"hold": 2, "post": 2}
        assert sum(amount for _, kind, amount in entries(o) if kind == "post") == run.cost
        assert o.database.read("select distinct account from entry") == [("company/tax",)]
    assert [request.messages for request in worker.requests] == [
        ({"role": "system", "content": "Do it."}, {"role": "user", "content": "a"}),
        ({"role": "user", "content": "w:a"},),
    ]


async def test_the_same_id_is_the_same_run(open_app):
    worker = echo()
    for _ in range(2):  # in one process and in the next
        async with open_app(worker) as o:
            runs = [await o.run(two_steps, "a", id="r") for _ in range(2)]
            assert {(run.result, run.cost) for run in runs} == {("w:w:a", 60_000)}
    assert worker.asked == 2


async def test_without_an_id_the_same_input_is_the_same_run(open_app):
    worker = echo()
    async with open_app(worker) as o:
        a, b, c = await o.run(two_steps, "a"), await o.run(two_steps, "a"), await o.run(two_steps, "b")
    assert a.id == b.id != c.id
    assert worker.asked == 4


async def test_the_same_id_at_once_is_the_same_run(open_app):
    async def slow(request):
        await asyncio.sleep(0.01)
        return "done"

    worker = ScriptedWorker("w", slow)
    async with open_app(worker) as o:
        runs = await asyncio.gather(*(o.run(two_steps, "a", id="r") for _ in range(5)))
    assert {run.result for run in runs} == {"done"}
    assert worker.asked == 2


async def test_the_same_id_at_once_for_another_input_is_refused(open_app):
    async with open_app(echo()) as o:
        runs = [o.run(two_steps, text, id="r") for text in "ab"]
        good, bad = await asyncio.gather(*runs, return_exceptions=True)
    assert not isinstance(good, BaseException)
    assert good.result == "w:w:a"
    assert isinstance(bad, JournalMismatch)


async def test_whoever_joined_a_run_goes_on_when_its_starter_is_cancelled(open_app):
    gate = asyncio.Event()

    async def slow(request):
        await gate.wait()
        return "done"

    async with open_app(ScriptedWorker("w", slow)) as o:
        starter = asyncio.create_task(o.run(two_steps, "a", id="r"))
        await asyncio.sleep(0)
        joined = asyncio.create_task(o.run(two_steps, "a", id="r"))
        await asyncio.sleep(0)
        starter.cancel()
        gate.set()
        assert (await joined).result == "done"


async def test_a_run_cancelled_before_its_first_commit_can_be_run_again(open_app):
    async with open_app(echo()) as o:
        task = asyncio.create_task(o.run(two_steps, "a", id="r"))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert (await o.run(two_steps, "a", id="r")).result == "w:w:a"
        assert not open_holds(o)
        assert kinds(o)["unknown"] == 0  # no call had been made


async def test_a_task_cancelled_in_a_call_books_it_in_full(open_app):
    asked = asyncio.Event()

    async def hangs(request):
        asked.set()
        await asyncio.sleep(3600)

    async with open_app(ScriptedWorker("w", hangs)) as o:
        task = asyncio.create_task(o.run(two_steps, "a", id="r"))
        await asked.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    async with open_app(echo()) as o:
        assert kinds(o) == {"hold": 1, "unknown": 1}
        run = await o.run(two_steps, "a", id="r")
        assert run.result == "w:w:a"
        assert run.cost == sum(amount for _, kind, amount in entries(o) if kind != "hold")


# What does not fit


async def test_an_input_that_does_not_fit(open_app):
    @workflow
    async def typed(case: Case) -> str:
        return await first(case)

    async with open_app(echo()) as o:
        with pytest.raises(WorkflowError, match=r"the input does not fit workflow 'typed': year: .*got 'x'"):
            await o.run(typed, {"name": "a", "year": "x"})
        assert (await o.run(typed, {"name": "a", "year": "2024"})).result == 'w:{"name":"a","year":2024}'
        assert (await o.run(typed, Case(name="b", year=1))).result == 'w:{"name":"b","year":1}'
        with pytest.raises(WorkflowError, match="expected a workflow"):
            await o.run(lambda case: None, 1)


async def test_an_input_that_no_json_can_hold(open_app):
    @workflow
    async def any_input(value):
        return await first(value)

    async with open_app(echo()) as o:
        for value in (object(), "\ud800"):
            with pytest.raises(WorkflowError, match="the input of workflow 'any_input' cannot be written as JSON"):
                await o.run(any_input, value, id="r")


async def test_a_result_that_does_not_fit_is_the_workflows_mistake(open_app):
    @workflow
    async def wrong(text: str) -> int:
        return text  # type: ignore[return-value]

    async with open_app(echo()) as o:
        run = await o.run(wrong, "a")
        assert run.status == "failed"
        with pytest.raises(WorkflowFailed, match=r"workflow 'wrong' returned .* not fit"):
            _ = run.result


async def test_another_input_shows_both(open_app):
    async with open_app(echo()) as o:
        await o.run(two_steps, "what it was", id="r")
        with pytest.raises(JournalMismatch, match=r'(?s)then: "what it was".*now:  "what it is".*another id'):
            await o.run(two_steps, "what it is", id="r")


async def test_another_workflow_is_refused(open_app):
    @workflow
    async def other(text: str) -> str:
        return text

    async with open_app(echo()) as o:
        await o.run(two_steps, "a", id="r")
        with pytest.raises(JournalMismatch, match=r"is a run of .*:two_steps, not of .*:other"):
            await o.run(other, "a", id="r")


async def test_other_policies_are_refused(open_app):
    async with open_app(echo(), echo("v")) as o:
        saved = SavedPolicy(fixed("v"), (), "by-v")
        assert (await o.run(two_steps, "a", id="r", policies={"second": saved})).result == "v:w:a"
        with pytest.raises(
            JournalMismatch, match=r"started with the policies second=by-v .*, not with its steps' own policies"
        ):
            await o.run(two_steps, "a", id="r")


def _flow(name, function):
    """Workflows of one name whose code differs, as after an edit."""
    function.__name__ = name
    return workflow(function)


async def _interrupted(open_app, flow, worker, calls):
    """Run a workflow until its process dies after so many calls."""
    script = worker._script

    def dies(request):
        if worker.asked > calls:
            raise Crash
        return script(request)

    worker._script = dies
    async with open_app(worker) as o:
        with pytest.raises(Crash):
            await o.run(flow, "a", id="r")
    worker._script = script


async def test_a_step_that_was_given_another_input_shows_both(open_app):
    async def old(text: str) -> str:
        await first("one way")
        return await second(text)

    async def new(text: str) -> str:
        await first("another way")
        return await second(text)

    worker = echo()
    await _interrupted(open_app, _flow("flow", old), worker, 1)
    async with open_app(worker) as o:
        run = await o.run(_flow("flow", new), "a", id="r")
        assert run.status == "failed"
        with pytest.raises(
            JournalMismatch, match=r'(?s)step first#0 was given another input.*then: "one way".*now:  "another way"'
        ):
            _ = run.result
        run = await o.run(_flow("flow", old), "a", id="r", again=True)  # the old code back, as the message says
        assert run.result == "w:a"


@pytest.mark.parametrize("extra", [False, True], ids=["removed", "renamed"])
async def test_a_step_removed_or_renamed_is_refused_and_the_old_code_still_runs(open_app, extra):
    renamed = Step("renamed", policy="w")

    async def old(text: str) -> str:
        await first(text)
        return await second(text)

    async def new(text: str) -> str:
        if extra:
            await renamed(text)
        return await second(text)

    worker = echo()
    await _interrupted(open_app, _flow("flow", old), worker, 1)
    async with open_app(worker) as o:
        run = await o.run(_flow("flow", new), "a", id="r")
        with pytest.raises(
            JournalMismatch, match=r"run 'r' no longer fits its workflow.*first#0.*bring the old code back"
        ):
            _ = run.result
        run = await o.run(_flow("flow", old), "a", id="r", again=True)
        assert run.result == "w:a"


async def test_a_step_outside_a_workflow(open_app):
    with pytest.raises(WorkflowError, match="a step was called outside a workflow"):
        await first("a")


async def test_an_unknown_worker_is_said_and_the_run_goes_on_when_it_is_there(open_app):
    flow = workflow(two_steps.function)
    async with open_app(echo("v")) as o:
        with pytest.raises(PolicyError, match="step 'first' asks 'w', but no model or person is called so"):
            await o.run(flow, "a", id="r")
        assert not open_holds(o)
    async with open_app(echo()) as o:
        assert (await o.run(flow, "a", id="r")).result == "w:w:a"


async def test_a_missing_key_is_said_and_books_nothing(open_app, monkeypatch):
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    model = {
        "model": "openai-chat:x",
        "base_url": "http://127.0.0.1:9/v1",
        "api_key": "env:NO_SUCH_KEY",
        "price": {"input": 1, "output": 1},
    }
    async with open_app(models={"w": model}) as o:
        with pytest.raises(SettingsError, match="model 'w' takes its key from the environment variable NO_SUCH_KEY"):
            await o.run(two_steps, "a", id="r")
        await o.database.writer.durable()
        assert kinds(o) == {"hold": 1, "void": 1}
        assert o.find("r", two_steps).status == "running"


# What fails


async def test_a_failed_run_says_why_and_what_it_cost(open_app):
    async with open_app(ScriptedWorker("w", ["one", WorkerFailed("http_500", "w: status 500")])) as o:
        run = await o.run(two_steps, "a", id="r")
        [(hold, held)] = [(hold, amount) for hold, kind, amount in entries(o) if kind == "unknown"]
        assert (run.status, run.cost) == ("failed", 30_000 + held)  # it may have been billed: booked in full
        assert (hold, "hold", held) in entries(o)
        with pytest.raises(StepFailed, match="step 'second' has no accepted answer: w: status 500") as caught:
            _ = run.result
        assert caught.value.step == "second"
        assert [attempt.failure and attempt.failure.kind for attempt in caught.value.history] == ["http_500"]
        assert caught.value.cost == held
    async with open_app(ScriptedWorker("w", [])) as o:
        run = await o.run(two_steps, "a", id="r")  # it stays failed, and asks nobody
        with pytest.raises(RunError, match="status 500"):
            _ = run.result


async def test_again_asks_failures_again_and_pays_for_nothing_twice(open_app):
    flaky = Step("flaky", policy=fallback("w", "v"))

    @workflow
    async def three(text: str) -> str:
        return await flaky(await two_steps(text))

    down = WorkerFailed("http_503", "down", billed="no")
    async with open_app(ScriptedWorker("w", ["one", "two", down]), ScriptedWorker("v", [down])) as o:
        assert (await o.run(three, "a", id="r")).status == "failed"
    again = ScriptedWorker("w", ["three"])
    async with open_app(again, ScriptedWorker("v", [])) as o:
        assert (await o.run(three, "a", id="r")).status == "failed"
        assert again.asked == 0
        run = await o.run(three, "a", id="r", again=True)
        assert (run.result, run.cost) == ("three", 3 * 30_000)
        assert (await o.run(three, "a", id="r", again=True)).result == "three"
        assert again.asked == 1


async def test_a_failure_that_was_made_good_stays_so(open_app):
    """`again` forgets failures, but a step that has its answer is not performed again."""
    retry = Step("retry", policy=retried("w"))

    @workflow
    async def flow(text: str) -> str:
        return await second(await retry(text))

    down = WorkerFailed("http_503", "down", billed="no")
    async with open_app(ScriptedWorker("w", [down, "one", down])) as o:
        assert (await o.run(flow, "a", id="r")).status == "failed"
    async with open_app(ScriptedWorker("w", ["two"])) as o:
        assert (await o.run(flow, "a", id="r", again=True)).result == "two"


async def test_an_error_of_the_workflows_own_code_names_its_line(open_app):
    @workflow
    async def broken(text: str) -> str:
        await first(text)
        raise KeyError("no such box")

    async with open_app(echo()) as o:
        run = await o.run(broken, "a")
        with pytest.raises(
            WorkflowFailed, match=r"workflow 'broken' raised KeyError at test_workflows\.py:\d+: 'no such box'"
        ):
            _ = run.result


async def test_a_workflow_may_catch_a_failed_step(open_app):
    @workflow
    async def careful(text: str) -> str:
        try:
            return await first(text)
        except StepFailed as failed:
            return f"needs a person: {failed.reason}"

    async with open_app(ScriptedWorker("w", [WorkerFailed("timeout", "too slow")])) as o:
        assert (await o.run(careful, "a", id="r")).result == "needs a person: w: too slow"
    async with open_app(ScriptedWorker("w", [])) as o:
        assert (await o.run(careful, "a", id="r")).status == "done"


async def test_a_worker_with_a_bug_fails_the_run_and_books_in_full(open_app):
    async with open_app(ScriptedWorker("w", [])) as o:  # an empty script raises AssertionError
        run = await o.run(two_steps, "a")
        assert isinstance(run.error, WorkflowFailed)
        assert kinds(o) == {"hold": 1, "unknown": 1}


@pytest.mark.parametrize("output", ["\ud800", "nul \0 and \u2028", "x" * 100_000])
async def test_odd_answers_are_kept_or_refused_but_nothing_hangs(open_app, output):
    async with open_app(ScriptedWorker("w", lambda request: output)) as o:
        run = await asyncio.wait_for(o.run(fixed_step, "a", id="r"), 10)
        if output == "\ud800":
            assert run.status == "failed"
            assert "not text" in str(run.error)
        else:
            assert run.result == output
    async with open_app(ScriptedWorker("w", [])) as o:
        assert o.find("r", fixed_step).status == run.status


fixed_step = Step("fixed", policy="w")


@pytest.mark.parametrize("cost", [2**70, -1, float("nan"), 1.5, True])
async def test_a_cost_that_is_no_amount_is_garbage_and_booked_in_full(open_app, cost):
    worker = ScriptedWorker("w", [Reply("a", cost=cost)])
    async with open_app(worker) as o:
        run = await asyncio.wait_for(o.run(fixed_step, "a", id="r"), 10)
        assert "w: the answer says that it cost" in str(run.error)
        assert kinds(o) == {"hold": 1, "unknown": 1}
        assert run.cost == worker.bound(worker.requests[0]) > 0


@pytest.mark.parametrize("bound", [-1, float("nan"), 1.5, 2**70, None])
async def test_a_bound_that_is_no_amount_is_refused_before_anything_is_held(open_app, bound):
    worker = echo()
    worker.bound = lambda request: bound  # type: ignore[method-assign]  # a worker of the user's own
    async with open_app(worker) as o:
        with pytest.raises(UsageError, match="worker 'w' says that a call costs at most"):
            await o.run(fixed_step, "a", id="r")
        assert not entries(o)
    assert not worker.asked


async def test_again_may_go_another_way(open_app):
    """The first time a step failed and another stood in; asked again it answers, and nobody misses the other."""

    @workflow
    async def flow(text: str) -> str:
        try:
            return await first(text)
        except StepFailed:
            return await second(text)

    down = WorkerFailed("http_503", "down", billed="no")
    async with open_app(ScriptedWorker("w", [down, down])) as o:
        assert (await o.run(flow, "a", id="r")).status == "failed"
    async with open_app(ScriptedWorker("w", ["good"])) as o:
        assert (await o.run(flow, "a", id="r", again=True)).result == "good"


async def test_nothing_is_held_for_an_ask_that_cannot_be_made(open_app):
    both = Step("both", policy=orchestrion.agreement("w", "nobody"))
    async with open_app(echo()) as o:
        with pytest.raises(PolicyError, match="'nobody'"):
            await o.run(both, "a", id="r")
        await o.database.writer.durable()
        assert entries(o) == []


async def test_a_mistake_in_one_branch_leaves_no_other_dangling(open_app):
    """A step without a policy beside one that has its own: the mistake is said, and nothing is left unawaited."""
    bare = Step("bare")

    @workflow
    async def flow(text: str) -> list[str]:
        return await orchestrion.gather(first(text), bare(text))

    async with open_app(echo()) as o:
        with pytest.raises(PolicyError, match="step 'bare' has no policy"):
            await o.run(flow, "a", id="r")


# Checks


async def test_a_broken_check_keeps_the_answer_and_is_asked_again_on_resume(open_app):
    broken = True

    def totals(text):
        if broken:
            raise ZeroDivisionError("no boxes")
        return True

    checked = Step("checked", policy="w", checks=[totals])
    worker = ScriptedWorker("w", ["answer"])
    async with open_app(worker) as o:
        run = await o.run(checked, "a", id="r")
        assert (run.status, run.cost) == ("failed", 30_000)
        with pytest.raises(StepFailed, match=r"totals: the check raised ZeroDivisionError: no boxes"):
            _ = run.result
    async with open_app(worker) as o:
        assert (await o.run(checked, "a", id="r")).status == "failed", "it ended; only `again` asks again"
    broken = False
    async with open_app(worker) as o:
        assert (await o.run(checked, "a", id="r", again=True)).result == "answer"
        [outcome] = o.outcomes()
        assert outcome.verdicts == {"totals": {"passed": True, "score": 1.0, "reason": None}}
    assert worker.asked == 1


async def test_a_slow_check_that_died_is_asked_again(open_app):
    """The attempt is in the journal before a check that takes its time: the process may die there."""
    dies = True

    async def slow(text):
        await asyncio.sleep(0)
        if dies:
            raise Crash
        return 0.75

    checked = Step("checked", policy="w", checks=[slow])
    worker = ScriptedWorker("w", ["answer"])
    async with open_app(worker) as o:
        with pytest.raises(Crash):
            await o.run(checked, "a", id="r")
    dies = False
    async with open_app(worker) as o:
        assert (await o.run(checked, "a", id="r")).result == "answer"
        assert kinds(o) == {"hold": 1, "post": 1}
        [outcome] = o.outcomes()
        assert outcome.verdicts["slow"]["score"] == 0.75


async def test_a_check_may_ask_a_worker_which_is_metered_and_remembered(open_app):
    class Judge:
        name = "judge"

        async def __call__(self, task, attempts, ask):
            reply = await ask("j", ({"role": "user", "content": f"Is {attempts[-1].output} right?"},))
            return orchestrion.Verdict(
                self.name, reply.output == "yes", 1.0 if reply.output == "yes" else 0.0, cost=reply.cost or 0
            )

    judged = Step("judged", policy=cascade("w", "v"), checks=[Judge()])

    @workflow
    async def flow(text: str) -> str:
        return await second(await judged(text))

    judge = ScriptedWorker("j", ["no", "yes"])
    answers = ScriptedWorker("w", ["one", Crash()])  # type: ignore[list-item]
    answers._script = lambda request: "one" if answers.asked == 1 else (_ for _ in ()).throw(Crash())
    async with open_app(answers, ScriptedWorker("v", ["two"]), judge) as o:
        with pytest.raises(Crash):
            await o.run(flow, "a", id="r")
        assert judge.requests[1].messages == ({"role": "user", "content": "Is two right?"},)
    async with open_app(ScriptedWorker("w", ["three"]), ScriptedWorker("v", []), judge) as o:
        run = await o.run(flow, "a", id="r")
        assert run.result == "three"
        assert judge.asked == 2
        assert run.cost == sum(amount for _, kind, amount in entries(o) if kind != "hold")


# Branches

a_step, b_step = Step("a", policy="w"), Step("b", policy="w")


@workflow
async def branches(seed: int) -> list[str]:
    """Two-step branches that finish in an order of their own."""

    async def branch(name: str) -> str:
        return await b_step(await a_step(name))

    async def nested() -> str:
        return " ".join(await orchestrion.map(branch, ["m0", "m1", "m2"], limit=2))

    left, right, within = await orchestrion.gather(branch("left"), branch("right"), nested())
    last = await orchestrion.gather(branch("again"), a_step("direct"))
    return [left, right, within, *(await orchestrion.gather(branch("late")))[:1], *last]


CALLS = 2 * (2 + 3 + 1 + 1) + 1


@pytest.mark.parametrize("point", range(CALLS))
async def test_branches_that_died_anywhere_get_back_their_own_results(open_app, point):
    """The process dies in call number `point`; in the first life calls end in one order, in the second in another."""
    calls: list[str] = []

    def worker(order, dies_at=None):
        chance = random.Random(order)

        async def answer(request):
            asked = request.messages[-1]["content"]
            me = len(calls)
            calls.append(asked)
            if me == dies_at:
                raise Crash
            for _ in range(chance.randrange(8)):
                await asyncio.sleep(0)
            return f"({asked})"

        return ScriptedWorker("w", answer)

    async with open_app(worker("first", point)) as o:
        with pytest.raises(Crash):
            await o.run(branches, 1, id="r")
    async with open_app(worker("second")) as o:
        run = await o.run(branches, 1, id="r")
        assert run.result == ["((left))", "((right))", "((m0)) ((m1)) ((m2))", "((late))", "((again))", "(direct)"]
        assert not open_holds(o)
        unknown = kinds(o)["unknown"]
        assert len(calls) == CALLS + unknown  # asked twice is only what was in flight, and it is booked
        assert run.cost == sum(amount for _, kind, amount in entries(o) if kind != "hold")
    async with open_app(ScriptedWorker("w", [])) as o:
        assert (await o.run(branches, 1, id="r")).result == run.result


async def test_gather_ends_all_branches_before_an_error_goes_on(open_app):
    """What was asked is paid for: its answer is kept for the next time."""

    @workflow
    async def flow(text: str) -> list[str]:
        return await orchestrion.gather(a_step("bad"), two(text))

    async def two(text: str) -> str:
        return await b_step(await a_step(text))

    def answer(request):
        return (
            WorkerFailed("http_400", "refused", billed="no")
            if request.messages[-1]["content"] == "bad"
            else request.messages[-1]["content"]
        )

    worker = ScriptedWorker("w", answer)
    async with open_app(worker) as o:
        run = await o.run(flow, "x", id="r")
        assert isinstance(run.error, StepFailed)
        assert worker.asked == 3
        mended = ScriptedWorker("w", ["good"])
    async with open_app(mended) as o:
        assert (await o.run(flow, "x", id="r", again=True)).result == ["good", "x"]


async def test_map_keeps_its_limit(open_app):
    live, most = 0, 0

    async def answer(request):
        nonlocal live, most
        live += 1
        most = max(most, live)
        await asyncio.sleep(0)
        live -= 1
        return request.messages[-1]["content"]

    @workflow
    async def flow(n: int) -> list[str]:
        return await orchestrion.map(a_step, [str(i) for i in range(n)], limit=3)

    async with open_app(ScriptedWorker("w", answer)) as o:
        assert (await o.run(flow, 20)).result == [str(i) for i in range(20)]
        assert (await o.run(flow, 0)).result == []
    assert most == 3


async def test_a_function_step_happens_once(open_app):
    happened = []

    @step
    def draw(limit: int) -> int:
        happened.append(limit)
        return random.randrange(limit)

    @workflow
    async def flow(limit: int) -> int:
        drawn = await draw(limit)
        await first("x")
        return drawn

    worker = echo()
    worker._script = lambda request: (_ for _ in ()).throw(Crash())
    async with open_app(worker) as o:
        with pytest.raises(Crash):
            await o.run(flow, 10**9, id="r")
    async with open_app(echo()) as o:
        run = await o.run(flow, 10**9, id="r")
        assert (await o.run(flow, 10**9, id="r")).result == run.result
    assert happened == [10**9]


# Waiting, cancelling, stopping


@workflow
async def approved(text: str) -> str:
    draft = await first(text)
    decision = await wait_for("decision", output=bool)
    return await second(draft) if decision else "rejected"


async def test_a_run_parks_until_its_signal_comes(open_app):
    worker = echo()
    async with open_app(worker) as o:
        run = await o.run(approved, "a", id="r")
        assert (run.status, run.wants) == ("waiting", "decision")
        with pytest.raises(RunWaiting, match="waits for the signal 'decision'"):
            _ = run.result
        assert (await o.run(approved, "a", id="r")).status == "waiting"
    async with open_app(worker) as o:
        assert o.journal.ready() == []
        await o.signal("r", "decision", "perhaps")
        run = await o.run(approved, "a", id="r")
        assert run.status == "waiting", "a value of another type is refused, and the run goes on waiting"
        with pytest.raises(RunWaiting, match=r"its signal 'decision' was refused: .* got \"perhaps\"\. Send it again"):
            _ = run.result
        await o.signal("r", "decision", True)
        assert o.journal.ready() == ["r"]
        assert (await o.run(approved, "a", id="r")).result == "w:w:a"
        assert o.journal.ready() == []
    assert worker.asked == 2


async def test_a_signal_may_come_before_it_is_waited_for(open_app):
    async with open_app(echo()) as o:
        with pytest.raises(UsageError, match="there is no run 'r'"):
            await o.signal("r", "decision", True)
        await o.run(approved, "b", id="other")

        async def answer(request):
            await o.signal("r", "decision", False)
            return "draft"

        o.workers["w"]._script = answer
        first_time = await o.run(approved, "a", id="r")
        run = await o.run(approved, "a", id="r") if first_time.status == "waiting" else first_time
        assert run.result == "rejected"


async def test_a_waiting_run_is_cancelled_at_once(open_app):
    async with open_app(echo()) as o:
        await o.run(approved, "a", id="r")
        await o.cancel("r")
        assert o.find("r", approved).status == "cancelled"
        run = await o.run(approved, "a", id="r")
        assert run.status == "cancelled"
        with pytest.raises(RunError, match="cancelled"):
            _ = run.result
        await o.signal("r", "decision", True)
        run = await o.run(approved, "a", id="r", again=True)
        assert (run.status, run.result) == ("done", "w:w:a")
        await o.cancel("r")  # too late: nothing to cancel
        assert o.find("r", approved).result == "w:w:a"
        with pytest.raises(UsageError, match="there is no run 'x'"):
            await o.cancel("x")


async def test_a_live_run_is_cancelled_before_its_next_call(open_app, monkeypatch):
    monkeypatch.setattr("orchestrion.app.CANCEL_POLL_S", 0.001)
    asked = asyncio.Event()

    async def answer(request):
        asked.set()
        while not o._house.cancelled:  # noqa: ASYNC110  # what is watched is a set
            await asyncio.sleep(0.001)
        return "kept"

    worker = ScriptedWorker("w", answer)
    async with open_app(worker) as o:
        task = asyncio.create_task(o.run(two_steps, "a", id="r"))
        await asked.wait()
        await o.cancel("r")
        run = await task
        assert (run.status, run.cost) == ("cancelled", 30_000)
        with pytest.raises(RunCancelled, match="run 'r' was cancelled; what was answered before is kept"):
            _ = run.result
    async with open_app(ScriptedWorker("w", ["end"])) as o:
        assert (await o.run(two_steps, "a", id="r")).status == "cancelled"
        assert (await o.run(two_steps, "a", id="r", again=True)).result == "end"
    assert worker.asked == 1


async def test_stop_lets_calls_end_and_starts_no_more(open_app):
    async def answer(request):
        o.stop()
        return "kept"

    worker = ScriptedWorker("w", answer)
    async with open_app(worker) as o:
        run = await o.run(two_steps, "a", id="r")
        assert (run.status, run.cost) == ("running", 30_000)
        with pytest.raises(RunWaiting, match="was interrupted and goes on when it is run again"):
            _ = run.result
        assert not open_holds(o)
    async with open_app(ScriptedWorker("w", ["end"])) as o:
        assert (await o.run(two_steps, "a", id="r")).result == "end"
    assert worker.asked == 1


async def test_a_broad_except_in_a_workflow_does_not_hold_a_stop(open_app):
    @workflow
    async def greedy(text: str) -> str:
        try:
            return await first(text)
        except Exception:
            return "swallowed"

    async with open_app(echo()) as o:
        o.stop()
        assert (await o.run(greedy, "a")).status == "running"


# Batches


async def test_a_batch_ends_every_task_and_keeps_its_limit(open_app):
    live, most = 0, 0

    async def answer(request):
        nonlocal live, most
        live += 1
        most = max(most, live)
        await asyncio.sleep(0)
        live -= 1
        return WorkerFailed("http_500", "no") if request.task_id == "t3" else "ok"

    def starts(n):
        return (Start(id=f"b/t{i}", task_id=f"t{i}", input=str(i), batch="b") for i in range(n))

    async with open_app(ScriptedWorker("w", answer)) as o:
        runs = [run async for run in o.run_all(two_steps, starts(50), concurrency=7)]
        assert sorted(run.id for run in runs) == sorted(f"b/t{i}" for i in range(50))
        assert [run.task_id for run in runs if run.status != "done"] == ["t3"]
        assert most == 7
        assert set(o.journal.statuses("b").values()) == {("done", False), ("failed", False)}
    async with open_app(ScriptedWorker("w", [])) as o:
        runs = [run async for run in o.run_all(two_steps, starts(50))]
        assert len(runs) == 50


async def test_a_batch_goes_on_past_a_bad_input(open_app):
    @workflow
    async def typed(n: int) -> str:
        return await first(str(n))

    async with open_app(echo()) as o:
        starts = [Start(id=f"r{i}", task_id=f"r{i}", input=value) for i, value in enumerate([1, "x", 3])]
        runs = {run.id: run.status async for run in o.run_all(typed, starts)}
        assert runs == {"r0": "done", "r1": "failed", "r2": "done"}


async def test_a_batch_whose_reader_leaves_is_left_to_be_resumed(open_app):
    started = 0

    async def answer(request):
        nonlocal started
        started += 1
        if request.task_id != "t0":
            await asyncio.sleep(3600)
        return "ok"

    starts = [Start(id=f"t{i}", task_id=f"t{i}", input=str(i)) for i in range(5)]
    async with open_app(ScriptedWorker("w", answer)) as o:
        stream = o.run_all(fixed_step, starts, concurrency=5)
        async for run in stream:
            assert run.id == "t0"
            break
        await stream.aclose()
    async with open_app(echo()) as o:
        runs = [run async for run in o.run_all(fixed_step, starts)]
        assert {run.status for run in runs} == {"done"}
        assert not open_holds(o)
        assert kinds(o)["unknown"] == started - 1


# Two apps on one file


async def test_a_run_that_another_process_performs_is_busy(open_app):
    gate, asked = asyncio.Event(), asyncio.Event()

    async def answer(request):
        asked.set()
        await gate.wait()
        return "done"

    worker = ScriptedWorker("w", answer)
    async with open_app(worker) as one, open_app(ScriptedWorker("w", [])) as other:
        task = asyncio.create_task(one.run(two_steps, "a", id="r"))
        await asked.wait()
        with pytest.raises(RunBusy, match="run 'r' is being performed by another process"):
            await other.run(two_steps, "a", id="r")
        await other.cancel("nothing") if other.find("nothing", two_steps) else None
        gate.set()
        assert (await task).result == "done"
        assert (await other.run(two_steps, "a", id="r")).result == "done"


async def test_two_processes_that_start_a_run_at_the_same_moment_perform_it_once(open_app):
    worker = echo()
    async with open_app(worker) as one, open_app(worker) as other:
        done = await asyncio.gather(
            one.run(two_steps, "a", id="r"), other.run(two_steps, "a", id="r"), return_exceptions=True
        )
        busy = [one for one in done if isinstance(one, RunBusy)]
        assert len(busy) == 1
        assert [run.result for run in done if not isinstance(run, BaseException)] == ["w:w:a"]
        assert worker.asked == 2  # nobody was asked for a run that was lost
    async with open_app() as o:
        assert kinds(o)["unknown"] == 0
        assert o.find("r", two_steps).cost == 60_000


async def test_a_step_after_a_run_is_outside_it(open_app):
    """The scope of a run ends with it, in the task that awaited it, too."""
    single = Step("single", policy="w")
    async with open_app(echo()) as o:
        await o.run(single, "a", id="r")
        with pytest.raises(WorkflowError, match="a step was called outside a workflow"):
            single("b")
