"""Judges in real runs on a real database: metered, asked at once, remembered, broken, mended."""

from __future__ import annotations

import asyncio
import json

import pytest

from orchestrion import Orchestrion, Step, agreement, best_effort, cascade, corrected, judge
from orchestrion.domain import Reply, Usage
from orchestrion.engine.bound import bounds, check_workers
from orchestrion.engine.execution import SavedPolicy
from orchestrion.engine.replay import replay
from orchestrion.engine.workflow import Start
from orchestrion.errors import PolicyError, RecordsError, StepFailed, WorkerFailed
from orchestrion.settings import ModelSettings, PriceSettings, Settings
from orchestrion.testing import ScriptedWorker
from tests.conftest import Crash, entries, open_holds

ONE = 30_000  # what a scripted call costs: 10 tokens at $1 and 5 at $4 a million


def score(n: int, reason: str = "so") -> str:
    return json.dumps({"reason": reason, "score": n})


def better(which: str) -> str:
    return json.dumps({"reason": "so", "better": which})


def refined(request) -> str:
    """A judge that likes what is polite, wherever it stands."""
    first, _, second = request.messages[1]["content"].partition("<<<second answer")
    one, two = "please" in first.partition("<<<first answer")[2], "please" in second
    return better("tie" if one == two else "first" if one else "second")


def spent(app: Orchestrion) -> int:
    return sum(amount for _, kind, amount in entries(app) if kind != "hold")


async def test_a_cascade_goes_on_where_the_judge_refuses_and_the_costs_add_up(open_app):
    letter = Step("letter", "Remind.", checks=[judge("j", "polite")], policy=cascade("cheap", "frontier"))
    odd = Reply(score(2, "rude"), usage=Usage(7, 3), cost=123_457)
    j = ScriptedWorker("j", [odd, score(5)])
    async with open_app(ScriptedWorker("cheap", ["Pay!"]), ScriptedWorker("frontier", ["Please pay."]), j) as o:
        run = await o.run(letter, "late", id="r")
        assert run.result == "Please pay."
        assert run.cost == spent(o) == 3 * ONE + 123_457
        cheap, _, frontier, _ = o.outcomes()
        assert cheap.verdicts == {
            "judge": {"passed": False, "score": 0.4, "reason": "2 of 5: rude", "cost_usd": 123_457 / 1e9}
        }
        assert frontier.verdicts is not None
        assert frontier.verdicts["judge"]["passed"]
        assert [outcome.step for outcome in o.outcomes()] == ["letter", "letter~", "letter", "letter~"]
    assert "Remind." in j.requests[0].messages[1]["content"]
    assert not any(name in str(j.requests[0].messages) for name in ("cheap", "frontier"))


async def test_a_correction_is_shown_what_the_judge_said(open_app):
    letter = Step("letter", checks=[judge("j", "polite")], policy=corrected("w"))
    w = ScriptedWorker("w", ["Pay!", "Please pay."])
    async with open_app(w, ScriptedWorker("j", [score(1, "no please"), score(5)])) as o:
        assert (await o.run(letter, "late")).result == "Please pay."
    assert "judge: 1 of 5: no please" in w.requests[1].messages[-1]["content"]


async def test_several_judges_are_asked_at_once(open_app):
    together = 0
    most = 0

    async def slow(request):
        nonlocal together, most
        together += 1
        most = max(most, together)
        await asyncio.sleep(0.02)
        together -= 1
        return score(5)

    judges = [judge("j", f"rubric {i}", name=f"judge{i}") for i in range(5)]
    step = Step("s", checks=judges, policy="w")
    async with open_app(ScriptedWorker("w", ["x"]), ScriptedWorker("j", slow)) as o:
        run = await o.run(step, "a", id="r")
        [outcome, *asked] = o.outcomes()
        assert list(outcome.verdicts or {}) == [f"judge{i}" for i in range(5)]
        assert (most, len(asked), run.cost) == (5, 5, 6 * ONE)


async def test_two_judges_that_ask_the_very_same_are_two_opinions(open_app):
    step = Step("s", checks=[judge("j", "r", name="one"), judge("j", "r", name="two")], policy="w")
    j = ScriptedWorker("j", [score(5), score(4)])
    blocks = True

    async def slow(text):
        await asyncio.sleep(0.01)
        if blocks:
            raise Crash
        return True

    step = Step("s", checks=[*step.checks, slow], policy="w")
    async with open_app(ScriptedWorker("w", ["x"]), j) as o:
        with pytest.raises(Crash):
            await o.run(step, "a", id="r")
        assert j.asked == 2
    blocks = False
    async with open_app(ScriptedWorker("w", []), j) as o:
        assert (await o.run(step, "a", id="r")).cost == spent(o) == 3 * ONE
        [outcome, *_] = o.outcomes()
        assert sorted(verdict["score"] for verdict in (outcome.verdicts or {}).values()) == [0.8, 1.0, 1.0]
    assert j.asked == 2


@pytest.mark.parametrize("dies_at", range(1, 8))
async def test_a_resumed_run_never_pays_a_judge_twice(open_app, dies_at):
    """Three judges at once, one of them pairwise, one answering nonsense first; killed at each call in turn.

    Judges answer in another order after the kill; each still finds its own answer.
    """
    judges = [
        judge("j", "one", name="one"),
        judge("j", "two", name="two"),
        judge("j", "pair", name="pair", pairwise=True),
    ]
    step = Step("s", checks=judges, policy=best_effort(cascade("w", "v")))
    calls = 0
    answered: list[str] = []

    async def answers(request):
        nonlocal calls
        calls += 1
        mine = calls
        await asyncio.sleep(0.001 * (request.messages[0]["content"].count("e") * (1 if dying else 3) % 7))
        if dying and mine >= dies_at:
            raise Crash
        text = str(request.messages)
        answered.append(text)
        if "better" in request.messages[0]["content"]:
            return better("first") if len(request.messages) > 2 else "nonsense"
        return score(5) if "\n\ntwo\n\n" in request.messages[0]["content"] else score(2)

    dying = True
    workers = [ScriptedWorker("w", ["x"]), ScriptedWorker("v", ["y"])]
    async with open_app(*workers, ScriptedWorker("j", answers)) as o:
        with pytest.raises(Crash):
            await o.run(step, "a", id="r")
    dying = False
    async with open_app(*workers, ScriptedWorker("j", answers)) as o:
        run = await o.run(step, "a", id="r")
        assert run.status == "done"
        assert open_holds(o) == set()
        assert run.cost == spent(o)
        by_step = [outcome for outcome in o.outcomes() if outcome.step == "s"]
        pair = (by_step[1].verdicts or {})["pair"]
        assert (pair["score"], pair["passed"]) == (0.5, True)
    assert len(answered) == len(set(answered)) == 8, "2 + 2 scores, two orders, each asked again once"


async def test_a_judge_that_answers_nonsense_refuses_and_loses_nothing(open_app):
    step = Step("s", checks=[judge("j", "r")], policy="w")
    w = ScriptedWorker("w", ["answer"])
    async with open_app(w, ScriptedWorker("j", ["well", "maybe"])) as o:
        run = await o.run(step, "a", id="r")
        assert (run.status, run.cost) == ("failed", 3 * ONE)
        with pytest.raises(
            StepFailed, match="judge: the judge answered nonsense twice: it is not a JSON object: 'maybe'"
        ):
            _ = run.result
        [attempt] = run.error.history
        assert (attempt.output, attempt.cost, attempt.verdicts[0].cost) == ("answer", ONE, 2 * ONE)
        assert run.error.cost == run.cost
    async with open_app(w, ScriptedWorker("j", [score(5)])) as o:
        run = await o.run(step, "a", id="r", again=True)
        assert (run.result, run.cost) == ("answer", 4 * ONE)
        [outcome, *_] = o.outcomes()
        assert (outcome.verdicts or {})["judge"]["cost_usd"] == 3 * ONE / 1e9, "nonsense was paid for, too"
    assert w.asked == 1


async def test_a_judge_whose_model_fails_is_asked_again_on_retry(open_app):
    step = Step("s", checks=[judge("j", "r"), judge("k", "r", name="other")], policy="w")
    failed = WorkerFailed("http_500", "j: 500 Internal Server Error")
    w, k = ScriptedWorker("w", ["answer"]), ScriptedWorker("k", [score(5)])
    async with open_app(w, ScriptedWorker("j", [failed]), k) as o:
        run = await o.run(step, "a", id="r")
        [attempt] = run.error.history
        broken, fine = attempt.verdicts
        assert (broken.broken, broken.passed, fine.passed) == (True, False, True)
        assert "did not answer: j: 500" in (broken.reason or "")
        assert broken.cost > 0, "it may have been charged: booked in full"
        assert run.cost == spent(o) == attempt.cost + broken.cost + fine.cost
    async with open_app(w, ScriptedWorker("j", [score(4)]), k) as o:
        assert (await o.run(step, "a", id="r", again=True)).result == "answer"
    assert (w.asked, k.asked) == (1, 1), "only the failed judge is asked again"


async def test_a_judge_nobody_knows_is_a_mistake_in_the_settings_not_in_the_answer(open_app):
    step = Step("s", checks=[judge("jugde", "r")], policy="w")
    w = ScriptedWorker("w", ["answer"])
    async with open_app(w, ScriptedWorker("judge", [])) as o:
        with pytest.raises(
            PolicyError, match=r"asks 'jugde', but no model or person is called so. Did you mean 'judge'"
        ):
            await o.run(step, "a", id="r")
        with pytest.raises(PolicyError, match="check 'judge' of step 's' asks 'jugde'"):
            check_workers([step], {}, o.workers)
    async with open_app(w, ScriptedWorker("jugde", [score(5)])) as o:
        assert (await o.run(step, "a", id="r")).result == "answer"
    assert w.asked == 1


async def test_stopping_between_answer_and_judge_leaves_the_run_to_be_resumed(open_app):
    step = Step("s", checks=[judge("j", "r")], policy="w")
    async with open_app(ScriptedWorker("w", lambda request: o.stop() or "answer"), ScriptedWorker("j", [])) as o:
        assert (await o.run(step, "a", id="r")).status == "running"
    async with open_app(ScriptedWorker("w", []), ScriptedWorker("j", [score(5)])) as o:
        assert (await o.run(step, "a", id="r")).result == "answer"


async def test_the_reference_reaches_a_judge_that_may_see_it_and_nobody_else(open_app):
    class Seeing:
        """A policy that notes every task it sees."""

        seen: list = []  # noqa: RUF012  # of this test alone

        def next(self, task, history, funds):
            self.seen.append(task)
            return inner.next(task, history, funds)

        def calls(self):
            return inner.calls()

    inner = cascade("w")
    plain_saw = []
    step = Step(
        "s",
        checks=[
            lambda value, task: plain_saw.append(task),
            judge("j", "same as the reference", name="knows", reference=True),
            judge("j", "polite", name="blind"),
        ],
        policy=Seeing(),
    )
    w = ScriptedWorker("w", ["Wien"])
    j = ScriptedWorker("j", lambda request: score(5))
    async with open_app(w, j) as o:
        start = Start(id="r", task_id="t", input="capital?", reference="SECRET")
        [run] = [run async for run in o.run_all(step, [start])]
        assert run.result == "Wien"
        assert (
            await o.run(step, "capital?", id="r2", reference="SECRET")
        ).error is not None  # the script of w has ended
    asked = [str(request.messages) for request in j.requests]
    assert [("SECRET" in text) for text in asked if "same as" in text] == [True]
    assert [("SECRET" in text) for text in asked if "polite" in text] == [False]
    assert "SECRET" not in str(w.requests)
    assert {task.reference for task in [*Seeing.seen, *plain_saw]} == {None}


async def test_a_pairwise_judge_keeps_a_dearer_answer_from_being_worse(open_app):
    """best_effort takes the most confident: where the frontier's answer is worse, the cheap one stands."""
    check = judge("j", "the politer one", name="pair", pairwise=True)
    shape = judge("k", "signed", name="signed")
    step = Step("s", checks=[check, shape], policy=best_effort(cascade("cheap", "frontier")))
    cheap, frontier = ScriptedWorker("cheap", ["please pay"]), ScriptedWorker("frontier", ["Pay!"])
    async with open_app(cheap, frontier, ScriptedWorker("j", refined), ScriptedWorker("k", lambda _: score(3))) as o:
        run = await o.run(step, "a")
        assert run.result == "please pay"
        assert run.cost == spent(o) == 6 * ONE  # two answers, two scores, both orders of one pair


async def test_answers_asked_for_at_once_do_not_see_each_other_also_after_a_crash(open_app):
    """What a pairwise judge compares with is what was there when its answer was asked for."""
    check = judge("j", "the politer one", name="pair", pairwise=True)
    blocks = True

    async def slow(text):
        await asyncio.sleep(0)
        if blocks:
            raise Crash
        return True

    step = Step("s", checks=[check, slow], policy=cascade(agreement("w", samples=3, accept=0.9), "v"))
    w = ScriptedWorker("w", ["please one", "two", "three"])
    j = ScriptedWorker("j", refined)
    async with open_app(w, ScriptedWorker("v", []), j) as o:
        with pytest.raises(Crash):
            await o.run(step, "a", id="r")
        assert j.asked == 0
    blocks = False
    async with open_app(w, ScriptedWorker("v", ["please four"]), j) as o:
        assert (await o.run(step, "a", id="r")).result == "please four"
        verdicts = [outcome.verdicts["pair"]["reason"] for outcome in o.outcomes() if outcome.verdicts]
    assert verdicts[:3] == ["there is no earlier answer to compare it with"] * 3
    assert j.asked == 2, "only the last answer has earlier ones: both orders"


def test_the_bound_of_a_run_counts_its_judges():
    step = Step("s", checks=[judge("j", "polite")], policy=cascade("w", "v"))
    plain = Step("s", policy=cascade("w", "v"))
    workers = {name: ScriptedWorker(name, []) for name in ("w", "v", "j")}
    [with_judge], [without] = bounds([step], {}, workers, "late"), bounds([plain], {}, workers, "late")
    assert dict(with_judge.calls) == {"w": 1, "v": 1, "j": 4}
    assert check_workers([step], {}, workers) == {"w", "v", "j"}
    question = judge("j", "polite").question  # type: ignore[attr-defined]
    text = sum(len(message["content"]) for message in question(step_task(), "x" * 100))
    assert with_judge.bound - without.bound >= 4 * (text + 100) * 1000, "each at its longest, nonsense and all"


def step_task():
    from orchestrion import Task

    return Task("t", "late")


async def test_no_bill_is_above_the_bound(open_app):
    """Judges that answer nonsense at full length, asked about answers of full length."""
    step = Step(
        "s", "Do it.", checks=[judge("j", "r"), judge("j", "p", name="p", pairwise=True)], policy=cascade("w", "v")
    )

    def full(text):
        def reply(request):
            return Reply(text, usage=Usage(sum(len(m["content"]) for m in request.messages), 100))

        return reply

    workers = [
        ScriptedWorker("w", full("a" * 100)),
        ScriptedWorker("v", full("b" * 100)),
        ScriptedWorker("j", full("x" * 100)),
    ]
    async with open_app(*workers) as o:
        run = await o.run(step, "late")
        [bound] = bounds([step], {}, o.workers, "late")
        assert workers[2].asked == 2 + 2 + 4
        assert run.cost <= bound.bound


async def test_replay_takes_the_recorded_verdicts_of_a_judge_with_their_cost(open_app):
    check = judge("j", "polite", name="polite")
    step = Step("s", checks=[check], policy=best_effort(cascade("w", "v")))
    workers = [ScriptedWorker(name, [name] * 3) for name in ("w", "v")]

    def says(request) -> str:
        return score(1 if "w\nanswer" in request.messages[1]["content"] else 4)

    async with open_app(*workers, ScriptedWorker("j", says)) as o:
        for i in range(3):
            await o.run(step, f"letter {i}", id=f"t{i}")
        recorded = list(o.outcomes())
        total = spent(o)
    found = await replay(recorded, SavedPolicy(cascade("w", "v"), (check,)))
    assert dict(found.calls) == {"w": 3, "v": 3}
    assert [one.accepted.call.worker for one in found.tasks if one.accepted] == ["v"] * 3
    assert found.cost == total
    with pytest.raises(RecordsError, match="recorded for none of the tasks"):
        await replay(recorded, SavedPolicy(cascade("w", "v"), (judge("j", "another", name="another"),)))


async def test_a_rehearsal_with_simulated_models_passes_its_judge():
    model = ModelSettings(model="simulated", price=PriceSettings(input=1, output=1))
    settings = Settings(database=":memory:", models={"w": model, "j": model})
    step = Step("s", checks=[judge("j", "r")], policy="w")
    async with Orchestrion.open(settings) as o:
        assert (await o.run(step, "a")).status == "done"
