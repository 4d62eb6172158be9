"""A person as a policy's last stage: the run parks, somebody decides on exactly what was shown, once, and the run goes on."""

from __future__ import annotations

import asyncio
from datetime import date

import pytest
from pydantic import BaseModel, Field, field_validator

import orchestrion
from orchestrion import OrchestrionError, Step, agreement, best_effort, cascade, fallback, retried, workflow
from orchestrion.domain import nanos
from orchestrion.engine.workflow import Start
from orchestrion.errors import ReviewError, RunWaiting, WorkerFailed
from orchestrion.store.queries import queries
from orchestrion.testing import ScriptedWorker
from orchestrion.workers.people import Person
from tests.conftest import Crash, echo, entries, kinds, open_holds

MINUTE = nanos(1)  # $60 an hour


class Clause(BaseModel):
    party: str
    months: int

    @field_validator("party")
    @classmethod
    def _named(cls, value: str) -> str:
        if value == "nobody":
            raise ValueError("a party has a name")
        return value


def team(**more) -> Person:
    return Person("team", **{"wage": nanos(60), "minutes": 3.0, "members": ("ana", "ben"), **more})


def never(value: Clause) -> str | None:
    return "no clause is right"


def clauses(*answers: str) -> ScriptedWorker:
    return ScriptedWorker("cheap", list(answers))


read = Step("read", "Read the clause.", output=Clause, checks=[never], policy=cascade("cheap", "team"))
GOOD = '{"party": "Acme", "months": 12}'
BAD = "It runs for a year."


def held(o) -> int:
    return len(open_holds(o))


async def parked(o, step=read, value="text", id="r"):
    run = await o.run(step, value, id=id)
    assert run.status == "waiting"
    return run, o.review(run.review)


async def test_an_approved_answer_is_the_step_s_and_its_wage_an_entry(open_app):
    cheap = clauses(GOOD)
    async with open_app(cheap, team()) as o:
        run, request = await parked(o)
        assert request.shown.proposed == GOOD
        assert request.shown.answers[0].verdicts == (("never", False, "no clause is right"),)
        assert (held(o), kinds(o)) == (1, {"hold": 2, "post": 1})
        with pytest.raises(RunWaiting, match=f"waits for a person to decide request {request.id}"):
            _ = run.result
        decision = await o.decide(request.id, "approve", seen=request.digest, by="ana", minutes=1.5)
        assert decision.cost == 1.5 * MINUTE
        assert o.ready() == ["r"]
        done = await o.run(read, "text", id="r")
        assert (done.status, done.result) == ("done", Clause(party="Acme", months=12))
        assert done.cost == run.cost + decision.cost
        assert sum(amount for _, kind, amount in entries(o) if kind != "hold") == done.cost
        assert (o.ready(), o.reviews(), held(o)) == ([], [], 0)
        assert [(one.state, one.decision.by) for one in o.reviews(everything=True)] == [("taken", "ana")]
    assert cheap.asked == 1


async def test_it_is_decided_by_one_process_and_gone_on_with_by_another(open_app):
    cheap = clauses(GOOD)
    async with open_app(cheap, team()) as o:
        _, request = await parked(o)
    async with open_app(team()) as o:  # the question outlived its process, and its money is still held
        assert (held(o), kinds(o)) == (1, {"hold": 2, "post": 1})
        await o.decide(request.id, "modify", value={"party": "Beta", "months": 6}, seen=request.digest[:8], by="ben")
    async with open_app(cheap, team()) as o:
        assert (await o.run(read, "text", id="r")).result == Clause(party="Beta", months=6)
        assert (await o.run(read, "text", id="r")).result == Clause(party="Beta", months=6)
    assert cheap.asked == 1


async def test_a_rejection_stands(open_app):
    steps = {
        "retried": Step("a", policy=retried(cascade("cheap", "team"), times=3), checks=[never]),
        "fallback": Step("b", policy=fallback(cascade("cheap", "team"), "spare"), checks=[never]),
        "best": Step("c", policy=best_effort(cascade("cheap", "team")), checks=[never]),
    }
    spare = echo("spare")
    async with open_app(echo("cheap"), spare, team()) as o:
        for name, step in steps.items():
            _, request = await parked(o, step, id=name)
            await o.decide(request.id, "reject", text="the clause is void", seen=request.digest, by="ana")
            run = await o.run(step, "text", id=name)
            assert (run.status, str(run.error)) == (
                "failed",
                f"step '{step.name}' has no accepted answer: team rejected it: the clause is void",
            )
            again = await o.run(step, "text", id=name, again=True)
            assert (again.status, str(again.error)) == (run.status, str(run.error)), (
                "a decision is used once, and stays"
            )
        assert o.reviews() == []
    assert spare.asked == 0


async def test_after_a_rejection_the_next_stage_is_asked(open_app):
    step = Step("s", policy=cascade("team", "lead"))
    async with open_app(team(), Person("lead", wage=nanos(120))) as o:
        _, request = await parked(o, step)
        assert (request.worker, request.shown.proposed) == ("team", None)
        await o.decide(request.id, "reject", text="not mine", seen=request.digest, by="ana")
        _, second = await parked(o, step)
        assert second.worker == "lead"
        assert second.shown.answers[0].failure == "team rejected it: not mine"
        await o.decide(second.id, "modify", value="42", seen=second.digest, by="whoever")
        assert (await o.run(step, "text", id="r")).result == "42"


async def test_what_a_person_needs_goes_to_the_owner_and_comes_back(open_app):
    async with open_app(clauses(GOOD), team()) as o:
        _, request = await parked(o)
        asked = await o.decide(request.id, "ask", text="Which year?", seen=request.digest, by="ana", minutes=1)
        run = await o.run(read, "text", id="r")
        assert (run.status, run.question, o.ready()) == ("waiting", "Which year?", [])
        with pytest.raises(RunWaiting, match=r"needs information for request \d+-\d+: Which year\?"):
            _ = run.result
        with pytest.raises(ReviewError, match="has been decided already: sent back with a question by ana"):
            await o.decide(request.id, "approve", seen=request.digest, by="ben")
        with pytest.raises(ReviewError, match="is empty"):
            await o.inform(request.id, "  ", by="owner")
        await o.inform(request.id, "2025", by="owner")
        with pytest.raises(ReviewError, match="nobody asks"):
            await o.inform(request.id, "2026", by="owner")
        assert o.ready() == ["r"]
        _, second = await parked(o)
        assert second.id != request.id
        assert second.digest != request.digest
        assert [(note.said, note.reply) for note in second.shown.notes] == [("Which year?", "2025")]
        with pytest.raises(ReviewError, match="does not show what was decided on"):
            await o.decide(second.id, "approve", seen=request.digest, by="ana")
        approved = await o.decide(second.id, "approve", seen=second.digest, by="ana")
        done = await o.run(read, "text", id="r")
        assert done.result == Clause(party="Acme", months=12)
        assert done.cost == 30_000 + asked.cost + approved.cost == 30_000 + 4 * MINUTE
        assert [nanos(outcome.cost_usd) for outcome in o.outcomes()] == [30_000, 4 * MINUTE], (
            "an answer's rounds are its cost"
        )


async def test_an_answer_that_only_the_type_s_own_code_refuses_comes_back_to_the_person(open_app):
    async with open_app(clauses(BAD), team()) as o:
        _, request = await parked(o)
        assert request.shown.proposed is None
        await o.decide(request.id, "modify", value={"party": "nobody", "months": 1}, seen=request.digest, by="ana")
        _, second = await parked(o)
        assert "a party has a name" in second.shown.notes[0].reply
        assert '"nobody"' in second.shown.notes[0].said
        await o.decide(second.id, "modify", value={"party": "Acme", "months": 1}, seen=second.digest, by="ana")
        assert (await o.run(read, "text", id="r")).result.party == "Acme"


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"kind": "approve", "seen": "0" * 32}, "does not show what was decided on"),
        ({"kind": "approve", "seen": ""}, "does not show what was decided on"),
        ({"kind": "approve", "by": "eve"}, "'eve' is not one of team: ana, ben"),
        ({"kind": "approve", "by": None}, "say who decides on request .*: ana, ben"),
        ({"kind": "approve"}, "shows no answer that could be approved"),
        ({"kind": "reject"}, "give a reason"),
        ({"kind": "ask", "text": " \n"}, "give the question"),
        ({"kind": "modify"}, "does not have its type"),
        ({"kind": "modify", "value": {"party": "A", "months": "many"}}, "months: 'many' is not of type 'integer'"),
        ({"kind": "modify", "value": {"months": 1}}, "'party' is a required property"),
        ({"kind": "approve", "seen": None}, "does not show what was decided on"),
        ({"kind": "reject", "text": 5}, "give a reason"),
        ({"kind": "reject", "text": "x", "minutes": "3"}, "'3' minutes are no time"),
        ({"kind": "reject", "text": "x", "minutes": -1}, "-1 minutes are no time"),
        ({"kind": "reject", "text": "x", "minutes": float("nan")}, "nan minutes are no time"),
        ({"kind": "reject", "text": "x", "minutes": 1e9}, "are no time"),
    ],
)
async def test_decisions_that_are_refused_leave_the_request_open(open_app, said, message):
    async with open_app(clauses(BAD), team()) as o:
        _, request = await parked(o)
        given = {"seen": request.digest, "by": "ana", **said}
        with pytest.raises(ReviewError, match=message) as caught:
            await o.decide(request.id, given.pop("kind"), **given)
        assert caught.value.exit_status == 2
        assert [one.state for one in o.reviews()] == ["open"]
        assert held(o) == 1
        await o.decide(request.id, "reject", text="no", seen=request.digest, by="ana")
        with pytest.raises(ReviewError, match="has been decided already: rejected by ana"):
            await o.decide(request.id, "reject", text="no", seen=request.digest, by="ben")


@pytest.mark.parametrize("name", ["1-1", "x", "", "1-", "-1", "9999999999999-1", "1-99999999999999999", "1-1-1"])
async def test_a_request_that_is_not_there(open_app, name):
    async with open_app(team()) as o:
        with pytest.raises(ReviewError, match="there is no review request"):
            o.review(name)


async def test_of_two_who_decide_at_once_one_is_told(database, open_app):
    async with open_app(clauses(GOOD), team()) as o, open_app(team()) as other:
        _, request = await parked(o)
        same = other.review(request.id)  # both have seen it open
        o._reviews.decide(request, "approve", seen=request.digest, by="ana")
        with pytest.raises(ReviewError, match="decided already: approved by ana"):
            other._reviews.decide(same, "reject", text="no", seen=request.digest, by="ben")
        assert (await o.run(read, "text", id="r")).result.party == "Acme"


@pytest.mark.parametrize(("otherwise", "answer"), [("approve", GOOD), ("approve", BAD), ("reject", GOOD)])
async def test_after_the_deadline_the_default_is_decided_and_costs_nothing(open_app, otherwise, answer):
    async with open_app(clauses(answer), team(deadline_s=0.05, otherwise=otherwise)) as o:
        run, request = await parked(o)
        assert request.shown.otherwise == otherwise
        assert o.ready() == []
        await asyncio.sleep(0.06)
        assert o.ready() == ["r"]
        done = await o.run(read, "text", id="r")
        assert done.cost == run.cost
        assert held(o) == 0
        if otherwise == "approve" and answer == GOOD:
            assert done.result.party == "Acme"
        else:
            assert "team did not decide until 20" in str(done.error)
        with pytest.raises(ReviewError, match=r"decided already: \w+ by \(deadline\)"):
            await o.decide(request.id, "approve", seen=request.digest, by="ana")


async def test_nobody_decides_for_a_run_that_was_cancelled(open_app):
    async with open_app(clauses(GOOD, GOOD), team()) as o:
        _, request = await parked(o)
        await o.cancel("r")
        assert (o.reviews(), held(o)) == ([], 0)
        with pytest.raises(ReviewError, match=r"its run 'r' has ended \(cancelled\)"):
            await o.decide(request.id, "approve", seen=request.digest, by="ana")
        run = await o.run(read, "text", id="r", again=True)  # it is taken up again: so is the question
        assert (run.status, run.review) == ("waiting", o.reviews()[0].id)
        assert run.review != request.id


async def test_branches_wait_for_their_people_one_decision_at_a_time(open_app):
    @workflow
    async def three(text: str) -> list[str]:
        return await orchestrion.map(ask, [text + str(i) for i in range(3)])

    ask = Step("ask", policy=cascade("team"))
    async with open_app(team()) as o:
        assert (await o.run(three, "t", id="r")).status == "waiting"
        for n, request in enumerate(sorted(o.reviews(), key=lambda one: -one.hold)):
            assert len(o.reviews()) == 3 - n
            await o.decide(request.id, "modify", value=request.shown.task.upper(), seen=request.digest, by="ana")
            run = await o.run(three, "t", id="r")
        assert run.result == ["T0", "T1", "T2"]
        assert kinds(o) == {"hold": 3, "post": 3}


async def test_a_decision_outlives_the_failure_of_another_branch(open_app):
    ask, fail = Step("ask", policy="team"), Step("fail", policy="cheap", checks=[lambda text: text != "bad"])
    cheap = ScriptedWorker("cheap", ["good", "bad", "bad"])

    @workflow
    async def both(text: str) -> list[str]:
        answers = await orchestrion.gather(ask(text), fail(text))
        return [*answers, await fail("more")]

    async with open_app(cheap, team()) as o:
        _, request = await parked(o, both)
        decision = await o.decide(request.id, "modify", value="mine", seen=request.digest, by="ana")
        run = await o.run(both, "text", id="r")
        assert (run.status, held(o)) == ("failed", 0)
        assert run.cost == 60_000 + decision.cost
        again = await o.run(both, "text", id="r", again=True)
        assert (again.status, o.reviews(), again.cost) == ("failed", [], run.cost), "nobody is asked twice"


async def test_people_and_models_are_asked_at_once(open_app):
    step = Step("ask", policy=agreement("cheap", "team", accept=1.0))
    cheap = echo("cheap")
    async with open_app(cheap, team()) as o:
        _, request = await parked(o, step)
        await o.decide(request.id, "modify", value="cheap:text", seen=request.digest, by="ana")
        assert (await o.run(step, "text", id="r")).result == "cheap:text"
    assert cheap.asked == 1


async def test_a_kill_between_any_two_commits_loses_no_question_and_no_decision(open_app):
    """A process that dies right after it put its question has put it; its wage is not booked as unknown."""
    async with open_app(clauses(GOOD), team()) as o:
        original = o.journal.resume

        async def killed(*args, **kwargs):
            raise Crash

        _, request = await parked(o)
        await o.decide(request.id, "approve", seen=request.digest, by="ana")
        o.journal.resume = killed
        with pytest.raises(Crash):
            await o.run(read, "text", id="r")
        o.journal.resume = original
        assert (await o.run(read, "text", id="r")).result.party == "Acme"
        assert kinds(o) == {"hold": 2, "post": 2}


async def test_a_run_that_is_cancelled_while_its_question_is_written_has_put_it(open_app):
    async with open_app(team()) as o:
        step = Step("ask", policy="team")
        task = asyncio.create_task(o.run(step, "text", id="r"))
        for _ in range(3):
            await asyncio.sleep(0)
        assert o.database.writer._waiters or o.database.writer._writing
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        _, request = await parked(o, step)
        assert (len(o.reviews()), held(o)) == (1, 1)
        await o.decide(request.id, "modify", value="yes", seen=request.digest, by="ana")
        assert (await o.run(step, "text", id="r")).result == "yes"
        assert kinds(o) == {"hold": 1, "post": 1}


async def test_a_check_cannot_wait_for_a_person(open_app):
    class AsksTeam:
        name = "asks_team"

        async def __call__(self, task, attempts, ask):
            await ask("team", ({"role": "user", "content": "is it right?"},))
            raise AssertionError("nobody answers")

    step = Step("s", policy="cheap", checks=[AsksTeam()])
    async with open_app(echo("cheap"), team()) as o:
        run = await o.run(step, "text", id="r")
        assert "team is a person: a policy can ask them, a check cannot wait for them" in str(run.error)
        assert (kinds(o), held(o)) == ({"hold": 2, "post": 1, "void": 1}, 0)


async def test_texts_that_are_not_kept_go_when_the_run_ends(open_app, database):
    async with open_app(clauses(GOOD), team(), record="none") as o:
        _, request = await parked(o, value="SECRET-INPUT")
        assert request.shown.task == "SECRET-INPUT"
        await o.decide(
            request.id, "modify", value={"party": "SECRET-PARTY", "months": 1}, seen=request.digest, by="ana"
        )
        run = await o.run(read, "SECRET-INPUT", id="r")
        assert run.result.party == "SECRET-PARTY"
        [kept] = o.reviews(everything=True)
        assert (kept.shown, kept.decision.text, kept.digest) == (None, None, request.digest)


async def test_many_parked_runs_are_rows_only(open_app):
    starts = [Start(id=f"r{i}", task_id=f"t{i}", input=f"text {i}", batch="b") for i in range(500)]
    step = Step("ask", policy="team")
    async with open_app(team()) as o:
        runs = [run async for run in o.run_all(step, starts)]
        assert {run.status for run in runs} == {"waiting"}
        assert not o._runner._live
        assert not o._runner._released
        assert len(o.reviews(batch="b")) == 500
        for request in o.reviews()[:3]:
            await o.decide(request.id, "modify", value="yes", seen=request.digest, by="ana")
        assert len(o.ready()) == 3
        runs = [run async for run in o.run_all(step, starts)]
        assert sorted(run.result for run in runs if run.status == "done") == ["yes"] * 3


async def test_a_person_and_a_model_of_one_name_are_refused(tmp_path):
    file = tmp_path / "orchestrion.yaml"
    file.write_text("models:\n  x: {model: simulated, price: {input: 1, output: 1}}\npeople:\n  x: {wage: 60}\n")
    with pytest.raises(OrchestrionError, match=r"orchestrion.yaml:3:1: 'people': 'x' is the name of a model, too"):
        orchestrion.Orchestrion.open(file)


async def test_what_is_no_decision_decides_nothing(open_app):
    async with open_app(team(), Person("anybody", wage=nanos(60))) as o:
        _, request = await parked(o, Step("s", policy="team"))
        with pytest.raises(ReviewError, match=r"'aprove' is no decision on request .*: approve, modify, reject, ask"):
            await o.decide(request.id, "aprove", text="a slip of the finger", seen=request.digest, by="ana")
        with pytest.raises(ReviewError, match=r"say who decides on request .*: ana, ben"):
            await o.decide(request.id, "reject", text="no", seen=request.digest, by="")
        _, other = await parked(o, Step("t", policy="anybody"), id="t")
        with pytest.raises(ReviewError, match=r"say who decides on request .*: your name"):
            await o.decide(other.id, "reject", text="no", seen=other.digest, by="")
        assert [one.state for one in o.reviews(everything=True)] == ["open", "open"]


async def test_a_failure_that_the_policy_went_on_from_stands_when_the_run_goes_on(open_app):
    """``runs resume`` goes on ``again``: the model that was down is not asked a second time over the person's head."""
    down = ScriptedWorker("cheap", [WorkerFailed("http_500", "cheap is down", billed="unknown"), "too late"])
    step = Step("s", policy=cascade("cheap", "team"))
    async with open_app(down, team()) as o:
        run, request = await parked(o, step)
        decision = await o.decide(request.id, "modify", value="mine", seen=request.digest, by="ana")
        done = await o.run(step, "text", id="r", again=True)
        assert (done.result, done.cost, down.asked) == ("mine", run.cost + decision.cost, 1)


async def test_a_run_that_is_cancelled_while_its_question_is_put_asks_nobody(open_app):
    ask = Step("ask", policy="team")
    asked = True

    @workflow
    async def cancelled_meanwhile(text: str) -> str:
        try:
            return await ask(text)
        finally:
            if asked:
                await other.cancel("r")  # its process has not heard of it when the run parks

    async with open_app(team()) as o, open_app(team()) as other:
        run = await o.run(cancelled_meanwhile, "text", id="r")
        assert (run.status, run.wants) == ("cancelled", None)
        assert ([one.state for one in o.reviews(everything=True)], held(o)) == (["withdrawn"], 0)
        asked = False
        _, request = await parked_again(o, cancelled_meanwhile)
        await o.decide(request.id, "modify", value="yes", seen=request.digest, by="ana")
        assert (await o.run(cancelled_meanwhile, "text", id="r")).result == "yes"


async def parked_again(o, step):
    run = await o.run(step, "text", id="r", again=True)
    assert run.status == "waiting"
    return run, o.review(run.review)


async def test_what_a_dead_process_left_of_a_cancelled_run_is_withdrawn(open_app):
    step = Step("ask", policy="team")
    async with open_app(team()) as o:
        await parked(o, step)
        await o.journal.cancel("r")  # and it dies before it can withdraw the question
    async with open_app(team()) as o:
        assert ([one.state for one in o.reviews(everything=True)], held(o)) == (["withdrawn"], 0)
        _, request = await parked_again(o, step)
        await o.decide(request.id, "modify", value="yes", seen=request.digest, by="ana")
        assert (await o.run(step, "text", id="r")).result == "yes"


async def test_somebody_asks_in_the_moment_in_which_the_deadline_is_applied(open_app, monkeypatch):
    async with open_app(team(deadline_s=0.05)) as o:
        step = Step("ask", policy="team")
        await parked(o, step)
        await asyncio.sleep(0.06)
        late = o._reviews.expire

        def faster(one):
            o._reviews.decide(one, "ask", text="Which year?", seen=one.digest, by="ana")
            return late(one)

        monkeypatch.setattr(o._reviews, "expire", faster)
        run = await o.run(step, "text", id="r")
        assert (run.status, run.question, len(o.reviews())) == ("waiting", "Which year?", 1)


class Surname(BaseModel):
    name: str = Field(pattern=r"^\p{Lu}\w*$")  # Rust's dialect: Python's re cannot read it
    share: float = Field(default=0.1, multiple_of=0.1)


@pytest.mark.parametrize(
    ("output", "answer", "result"),
    [
        (Surname, {"name": "Évora", "share": 0.3}, Surname(name="Évora", share=0.3)),
        (int, 10**30, 10**30),
        (dict[int, str], {"1": "a"}, {1: "a"}),
        (list[int | None], [1, None], [1, None]),
        (date, "2026-01-31", date(2026, 1, 31)),
    ],
)
async def test_an_answer_that_the_type_accepts_is_accepted(open_app, output, answer, result):
    step = Step("s", output=output, policy="team")
    async with open_app(team()) as o:
        _, request = await parked(o, step)
        await o.decide(request.id, "modify", value=answer, seen=request.digest, by="ana")
        assert (await o.run(step, "text", id="r")).result == result


async def test_what_the_schema_cannot_tell_comes_back_to_the_person(open_app):
    step = Step("s", output=Surname, policy="team")
    async with open_app(team()) as o:
        _, request = await parked(o, step)
        await o.decide(request.id, "modify", value={"name": "évora"}, seen=request.digest, by="ana")
        _, second = await parked(o, step)
        assert "String should match pattern" in second.shown.notes[0].reply


@pytest.mark.parametrize("clause", ["of_hold", "of_run"])
async def test_one_run_among_ten_thousand_finds_its_requests_by_an_index(open_app, clause):
    async with open_app(team()) as o:
        sql = queries("review")
        plan = o.database.read(f"explain query plan {sql['reviews']} {sql[clause]}", {"hold": 1, "run": 1})
        assert not [step for *_, step in plan if step.startswith("SCAN")]
        assert [step for *_, step in plan if step.startswith("SEARCH v USING")]


@pytest.mark.parametrize("forgets", [{"record": "none"}, {"record": "digest"}, {"redact": ("email",)}])
async def test_a_decision_whose_words_were_not_kept_is_not_gone_on_with(open_app, forgets):
    """The run fails before it has heard of the decision; its texts go. What is left of them must not pass for the answer."""
    ask, fail = Step("ask", policy="team"), Step("fail", policy="cheap")

    @workflow
    async def both(text: str) -> list[str]:
        return await orchestrion.gather(ask(text), decided_meanwhile(text))

    async def decided_meanwhile(text: str) -> str:
        while not (requests := o.reviews(everything=True)):  # noqa: ASYNC110  # nothing else tells that it was put
            await asyncio.sleep(0.01)
        [request] = requests
        if request.state == "open":
            await o.decide(request.id, "modify", value="write to eve@example.com", seen=request.digest, by="ana")
        return await fail(text)

    cheap = ScriptedWorker("cheap", [WorkerFailed("http_500", "cheap is down", billed="no"), "good"])
    async with open_app(cheap, team(), **forgets) as o:
        assert (await o.run(both, "text", id="r")).status == "failed"
        run = await o.run(both, "text", id="r", again=True)
        assert run.status == "failed"
        assert "was not kept" in str(run.error)
