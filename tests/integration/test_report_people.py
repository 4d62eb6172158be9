"""Reports of batches with people: who was asked, what became of it, what it cost; and commands that work when pasted."""

from __future__ import annotations

import json
import shlex

import pytest
from click.testing import CliRunner

from orchestrion import Step, cascade, workflow
from orchestrion.cli import cli
from orchestrion.cli.report import _waiting
from orchestrion.domain import Price, nanos, usd
from orchestrion.engine.workflow import Start
from orchestrion.evidence.content import Content
from orchestrion.report.page import render
from orchestrion.report.recorded import report_runs
from orchestrion.settings import ModelSettings, PriceSettings, Settings
from orchestrion.store.queries import queries
from orchestrion.testing import ScriptedWorker
from orchestrion.workers.people import Person
from tests.conftest import entries

PRICES = {"cheap": Price(1_000_000_000, 4_000_000_000), "frontier": Price(10_000_000_000, 40_000_000_000)}
BATCH = "it's a batch"
TASKS = ("right", "approve", "modify", "reject", "ask", "open", "late", "gone")


def good(answer: str) -> str | None:
    return None if answer == "right" else "not right"


read = Step("rd$1", "Read.", checks=[good], policy=cascade("cheap", "legal"))
soon = Step("soon", "Read soon.", checks=[good], policy=cascade("frontier", "duty"))


@workflow
async def paper(text: str) -> str:
    return await (soon if text == "late" else read)(text)


@pytest.fixture
async def decided(open_app):
    """A batch in which every way that a question can go has been gone once."""
    legal = Person("legal", wage=nanos(60), minutes=4.0)
    duty = Person("duty", wage=nanos(60), minutes=1.0, deadline_s=0.0)
    models = [ScriptedWorker(name, lambda r: r.value, price=price) for name, price in PRICES.items()]
    async with open_app(*models, legal, duty) as o:
        starts = [Start(id=f"{BATCH}/{text}", task_id=text, input=text, batch=BATCH) for text in TASKS]
        assert len([run async for run in o.run_all(paper, starts)]) == len(TASKS)
        by_task = {one.task_id: one for one in o.reviews()}

        async def decide(task, kind, **more):
            await o.decide(by_task[task].id, kind, seen=by_task[task].digest, by="ana", **more)

        await decide("approve", "approve", minutes=2.5)
        await decide("modify", "modify", value="mine", minutes=1 / 3)
        await decide("reject", "reject", text="not <b>ours</b>", minutes=3)
        await decide("ask", "ask", text="until when?")
        await o.cancel(f"{BATCH}/gone")
        assert len([run async for run in o.run_all(paper, starts)]) == len(TASKS)
        yield o


def report_of(o, **more):
    reviews = [_waiting(one, o.content) for one in o.reviews(batch=BATCH)]
    return report_runs(o.database, o.settings, **{"batch": BATCH, "prices": PRICES, "reviews": reviews} | more)


async def test_what_people_were_asked_is_told_apart_and_their_wages_are_entries(decided):
    report = report_of(decided)
    legal, duty = report.people
    assert (legal.worker, legal.questions) == ("legal", 6)
    ways = (legal.approved, legal.modified, legal.rejected, legal.returned, legal.withdrawn, legal.open, legal.expired)
    assert ways == (1, 1, 1, 1, 1, 1, 0)
    assert legal.minutes == pytest.approx(2.5 + 1 / 3 + 3 + 4)
    assert (duty.questions, duty.expired, duty.minutes, duty.wages) == (1, 1, 0.0, 0)
    assert report.wages == report.sum(worker="legal").cost == nanos(2.5) + -(-nanos(1) // 3) + nanos(7)
    booked = sum(amount for _, kind, amount in entries(decided) if kind != "hold")
    assert report.figures.cost == booked
    assert (
        "People were asked 7 questions and answered 4; that took 9.83 minutes, and $9.83 of the cost" in report.summary
    )
    assert "1 waits for a person's decision, 1 waits for information from its owner" in report.summary
    assert "somebody's word" not in report.summary


async def test_what_a_person_declined_is_no_call_that_failed(decided):
    figures = report_of(decided).sum(worker="legal")
    assert (figures.failed, figures.lost, figures.declined) == (0, 0, 2)
    assert report_of(decided).sum(worker="duty").declined == 1  # the deadline's rejection


async def test_wages_are_no_simulated_dollars(decided):
    price = PriceSettings(input=1, output=4)
    models = {name: ModelSettings(model="simulated", answers="x.jsonl", price=price) for name in PRICES}
    report = report_runs(decided.database, Settings(models=models), batch=BATCH, prices=PRICES)
    assert (report.simulated, report.rehearsed) == ("some", True)
    page = render(report)
    assert "People’s wages are real" in page
    assert "cheap</bdi> (simulated)" in page
    assert "legal</bdi> (simulated)" not in page
    assert "$9.83 (simulated)" not in page


async def test_the_page_says_where_the_money_went_and_an_estimate_once(decided):
    report = report_of(decided)
    page = render(report)
    assert sum(part.figures.cost for part in report.kinds) == report.figures.cost
    assert "answers that a check refused" in page
    assert page.count("as if frontier read and wrote as much") == 1


async def test_an_answer_that_a_person_gave_was_looked_at(decided):
    assert report_of(decided).quality.unseen == 0


async def test_no_manager_is_told_to_leave_people_out_or_that_they_are_a_saving(decided):
    report = report_of(decided)
    assert not [one for one in report.advice if "Leave legal out" in one.what]
    assert report.alone.worker == "frontier"
    assert "People's wages ($9.83) are in the cost of this way, and frontier alone asks nobody." in report.alone.how


async def test_no_more_labels_are_asked_for_than_there_are_answers(decided):
    [label] = [one for one in report_of(decided).advice if one.what.startswith("Label")]
    assert label.what.startswith("Label 3 answers")
    assert "--sample 3 " in label.command


async def test_commands_on_the_page_can_be_pasted_whatever_the_names_are(decided):
    report = report_of(decided)
    for advice in report.advice:
        for command in advice.command.split(" && "):
            words = shlex.split(command)
            assert words[0] == "orchestrion"
            assert not {"it", "is", "a", "batch"} & set(words)
    page = render(
        report_of(decided, reviews=[_waiting(one, decided.content) for one in decided.reviews(batch=BATCH)] * 11)
    )
    assert "orchestrion review list --limit 1000 --batch &#39;it&#39;&#34;&#39;&#34;&#39;s a batch&#39;" in page


async def test_a_question_leaves_only_as_the_content_policy_says(decided):
    [asked] = [one for one in decided.reviews(batch=BATCH) if one.question]
    for content in (Content("none"), Content("digest")):
        shown = _waiting(asked, content)
        assert "until when" not in shown.wants
        assert shown.command == f"orchestrion review show {asked.id}"
    assert _waiting(asked, Content()).wants == "until when?"


def test_a_placeholder_that_was_pasted_is_no_answer(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "orchestrion.yaml").write_text(
        "models:\n  cheap: {model: simulated, answers: answers.jsonl, price: {input: 0.1, output: 0.4}}\n"
        "people:\n  legal: {wage: 90, minutes: 4, members: [ana]}\n"
    )
    (tmp_path / "answers.jsonl").write_text('{"step": "read", "task_id": "t 1", "answer": "x"}\n')
    (tmp_path / "paste.py").write_text(
        "from orchestrion import Step, cascade\n\ndef never(answer: str) -> str:\n    return 'no'\n\n"
        "read = Step('read', 'Read.', checks=[never], policy=cascade('cheap', 'legal'))\n"
    )
    (tmp_path / "tasks.jsonl").write_text('{"id": "t 1", "input": "x"}\n')
    runner = CliRunner()

    def say(*arguments):
        return runner.invoke(cli, list(arguments))

    assert say("run", "paste.py:read", "tasks.jsonl", "--batch", "it's").exit_code == 0
    [request] = json.loads(say("review", "list", "--json").stdout)["requests"]
    shown = say("review", "show", request["id"])
    assert shown.exit_code == 0
    asked = say("review", "decide", request["id"], "ask", "TEXT", "--seen", request["digest"])
    assert "in the place of TEXT" in str(asked.exception)
    assert say("review", "decide", request["id"], "ask", "Why?", "--seen", request["digest"]).exit_code == 0
    pasted = say("review", "inform", request["id"], "TEXT")
    assert "Nothing was done" in str(pasted.exception)
    assert "needs information for request" in say("runs", "list").stdout
    assert f"orchestrion review inform {request['id']} TEXT" in say("review", "show", request["id"]).stderr
    informed = say("review", "inform", request["id"], "Because.")
    command = informed.stdout.split("`")[1]
    assert shlex.split(command) == ["orchestrion", "runs", "resume", "it's/t 1"]
    assert "simulated" in say(*shlex.split(command)[1:]).stdout
    assert request["id"] in say("review", "list", "--all").stdout


async def test_the_four_totals_are_one(decided):
    report = report_of(decided)
    exported = sum(nanos(one.cost_usd or 0) for one in decided.outcomes(batch=BATCH))
    assert usd(report.figures.cost) == usd(sum(cell.figures.cost for cell in report.cells))
    asked_back = nanos(4)  # a question to the task's owner is no attempt, and its wage is an entry
    assert report.figures.cost == exported + asked_back


async def test_a_run_s_requests_are_found_without_looking_at_all_of_them(decided):
    """Ten thousand runs with a question each are read run by run: a scan for each would be a hundred million rows."""
    database, sql = decided.database, queries("review")
    for clause in ("of_hold", "of_run"):
        rows = database.read(f"explain query plan {sql['reviews']}\n{sql[clause]}", {"hold": 1, "run": 1})
        plan = " ".join(row[3] for row in rows)
        assert "SCAN" not in plan, plan
