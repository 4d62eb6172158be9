"""Reports of real runs in a real database: with refusals, failures, lost calls, a judge, a run that waits."""

import json
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from orchestrion import Step, Verdict, cascade, corrected, wait_for, workflow
from orchestrion.cli.report import command
from orchestrion.domain import Price
from orchestrion.engine.workflow import Start
from orchestrion.errors import WorkerFailed
from orchestrion.report.facts import Waiting
from orchestrion.report.page import render
from orchestrion.report.recorded import newest_batch, report_runs
from orchestrion.testing import ScriptedWorker
from tests.conftest import Crash, entries

FRONTIER = Price(10_000_000_000, 40_000_000_000)
PRICES = {"cheap": Price(1_000_000_000, 4_000_000_000), "frontier": FRONTIER}


def capital(answer: str) -> str | None:
    return None if answer[:1].isupper() else "no capital letter"


class Judge:
    """A check that asks a worker of its own."""

    name = "judge"

    async def __call__(self, task, attempts, ask):
        said = await ask("judge", ({"role": "user", "content": attempts[-1].output or ""},))
        return Verdict("judge", said.output == "yes", 1.0)


draft = Step("draft", "Draft.", policy=cascade(corrected("cheap"), "frontier"), checks=[capital])
polish = Step("polish", "Polish.", policy="frontier", checks=[Judge()])


class Answer(BaseModel):
    status: str
    reasons: list[str] = []


@workflow
async def letter(text: str) -> Answer:
    said = await draft(text)
    if text == "wait":
        await wait_for("approval", output=str)
    if text == "ask":
        return Answer(status="needs_information", reasons=["which order?", "since when?"])
    return Answer(status=await polish(said))


def cheap(request):
    return {"dear": "lower", "no": "lower", "down": WorkerFailed("http_500", "down")}.get(request.value, "Upper")


def frontier(request):
    if request.step == "draft":
        return {"no": "lower still", "down": WorkerFailed("http_500", "down, too")}.get(request.value, "Fine")
    return "Polished"


def workers():
    return (
        ScriptedWorker("cheap", cheap, price=PRICES["cheap"]),
        ScriptedWorker("frontier", frontier, price=FRONTIER),
        ScriptedWorker("judge", lambda request: "yes"),
    )


TEXTS = ["plain", "dear", "no", "down", "wait", "ask"]


async def _run_all(o, texts, batch="b"):
    starts = [Start(id=f"{batch}/{text}", task_id=text, input=text, batch=batch) for text in texts]
    return [run async for run in o.run_all(letter, starts, concurrency=2)]


@pytest.fixture
async def crashed(open_app):
    """A batch of six tasks, and one whose process died while its call was in flight."""

    def dies(request):
        raise Crash

    async with open_app(ScriptedWorker("cheap", dies)) as o:
        with pytest.raises(Crash):
            await o.run(letter, "lost", id="lost")
    async with open_app(*workers()) as o:
        await _run_all(o, TEXTS)
        await o.run(letter, "lost", id="lost")
        yield o


async def test_the_totals_are_the_entries_to_the_nano_dollar(crashed):
    report = report_runs(crashed.database, crashed.settings, prices=PRICES)
    booked = [amount for _, kind, amount in entries(crashed) if kind != "hold"]
    unknown = [amount for _, kind, amount in entries(crashed) if kind == "unknown"]
    assert report.figures.cost == sum(booked) == sum(report.sum(step=step).cost for step in report.steps)
    assert report.figures.cost == sum(report.sum(worker=worker).cost for worker in report.workers)
    assert report.figures.unknown == sum(unknown) > 0
    assert report.figures.calls == len(booked)
    assert report.figures.lost == 1
    assert report.sum(judging=True).cost == 30_000 * 3  # 10 tokens at $1 and 5 at $4 a million: plain, dear, lost


async def test_every_task_ends_in_one_way(crashed):
    report = report_runs(crashed.database, crashed.settings, batch="b", prices=PRICES)
    ended = report.ended
    assert report.tasks == 6
    assert (ended.answered, ended.flagged, ended.broke, ended.waiting, ended.informed) == (2, 1, 1, 1, 1)
    assert {case.task: case.ended for case in report.cases} == {"no": "flagged", "down": "broke", "ask": "informed"}
    assert next(case.reason for case in report.cases if case.task == "ask") == "which order?; since when?"
    [waits] = report.waiting
    assert (waits.kind, waits.run, waits.wants) == ("signal", "b/wait", "approval")
    assert waits.command == "orchestrion runs signal b/wait approval VALUE"
    whats = [one.what for one in report.advice]
    assert whats[0].startswith("Give the waiting runs")
    assert any("broke off" in what for what in whats)


async def test_one_run_is_spoken_of_as_one(crashed):
    said = {
        name: report_runs(crashed.database, crashed.settings, run=f"b/{name}", prices=PRICES).summary.partition(". ")[0]
        for name in ("plain", "no", "ask")
    }
    assert said == {
        "plain": "One task was worked on by the workflow letter: it was answered",
        "no": "One task was worked on by the workflow letter: it is flagged: it could not be answered",
        "ask": "One task was worked on by the workflow letter: it needs information from its owner",
    }


async def test_a_run_that_a_person_reviews_is_no_run_that_waits_for_a_signal(crashed):
    review = Waiting(
        kind="review", run="b/wait", task="wait", wants="ana", since=1.0, command="orchestrion review show 1"
    )
    report = report_runs(crashed.database, crashed.settings, batch="b", prices=PRICES, reviews=[review])
    assert report.waiting == (review,)
    page = render(report)
    assert "Reviews waiting (1)" in page
    assert "Waiting for a signal" not in page


async def test_without_labels_no_quality_is_claimed(crashed):
    report = report_runs(crashed.database, crashed.settings, batch="b", prices=PRICES)
    assert report.quality.right is None
    assert {cell.quality for cell in report.cells} == {None}
    assert "is not known" in report.summary
    refused = {(one.check, one.worker): (one.refused, one.looked) for one in report.refusals if one.refused}
    assert refused == {("capital", "cheap"): (4, 7), ("capital", "frontier"): (1, 2)}


async def test_labels_give_an_interval(open_app):
    worker = ScriptedWorker("w", lambda request: request.messages[-1]["content"])
    single = Step("single", policy="w")
    async with open_app(worker) as o:
        starts = [
            Start(id=str(i), task_id=str(i), input="yes", reference="yes" if i < 8 else "no", batch="b")
            for i in range(10)
        ]
        assert len([run async for run in o.run_all(single, starts)]) == 10
        await o.run(single, "yes", id="another batch")
        report = report_runs(o.database, o.settings, batch="b", prices={})
    right = report.quality.right
    assert right
    assert (right.mean, right.n, report.quality.sources) == (0.8, 10, {"reference": 10})
    assert (round(right.low, 3), round(right.high, 3)) == (0.490, 0.943)
    assert report.cells[0].quality == right
    assert "80" in report.summary
    assert report.alone.cost is None


async def test_what_the_frontier_would_have_cost(crashed):
    report = report_runs(crashed.database, crashed.settings, batch="b", prices=PRICES)
    once = 10 * 10_000 + 5 * 40_000
    # draft: plain, wait and ask by cheap's tokens, dear and no by the frontier's own answer; "down" cannot be known.
    assert report.alone.by_step == {"draft": 5 * once, "polish": 2 * once}
    assert (report.alone.worker, report.alone.left_out, report.alone.estimated) == ("frontier", 1, True)
    assert "at least" in report.summary


async def test_calls_under_way_are_no_cost_yet(open_app):
    async with open_app(*workers()) as o:
        await _run_all(o, ["plain"])
        [(hold,)] = o.database.read("select hold.hold from hold, ask where ask.step = 'draft' limit 1")
        before = report_runs(o.database, o.settings, prices=PRICES).figures
        o.database.take("delete from post where hold = ? returning hold", (hold,))
        o.database.take("delete from attempt where hold = ? returning hold", (hold,))
        after = report_runs(o.database, o.settings, prices=PRICES)
    assert after.figures.cost == before.cost - 30_000
    assert (after.figures.open, after.figures.held > 0) == (1, True)
    assert "set aside" in after.summary


async def test_simulated_money_says_so_everywhere(tmp_path):
    project(tmp_path)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    amounts = re.findall(r"<p[^>]*>[^<]*\$\d[^<]*", page)
    assert amounts
    assert [text for text in amounts if "(simulated)" not in text] == []
    assert page.count("A rehearsal") == 1


def orchestrion(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "orchestrion", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def project(folder: Path) -> None:
    assert orchestrion(folder, "init", ".").returncode == 0
    assert orchestrion(folder, "run", "workflow.py:support", "tasks.jsonl", "-q").returncode == 0
    done = orchestrion(folder, "report")
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert "report.html" in done.stderr


def test_the_command_says_what_is_wrong_with_its_input(tmp_path):
    assert "no database" in orchestrion(tmp_path, "report").stderr
    project(tmp_path)
    for arguments, said in {
        ("--batch", "none"): "there is no batch 'none'",
        ("--run", "none"): "there is no run 'none'",
        ("--run", "a", "--batch", "b"): "give one of them",
        ("--policy", "careful"): "name their files",
        ("records.jsonl",): "which policy",
        ("records.jsonl", "--policy", "careful"): "cannot be read",
        ("records.jsonl", "--policy", "careful", "--batch", "b"): "one or the other",
        ("--frontier", "fronter"): "There are cheap, frontier",
        ("--out", "nowhere/report.html"): "cannot be written",
        ("--out", "-", "--json"): "both want stdout",
    }.items():
        done = orchestrion(tmp_path, "report", *arguments)
        assert (done.returncode, said in done.stderr) == (2, True), (arguments, done.stderr)
        assert "Traceback" not in done.stderr


def test_json_on_stdout_and_the_page_only_where_asked(tmp_path):
    project(tmp_path)
    (tmp_path / "report.html").unlink()
    done = orchestrion(tmp_path, "report", "--json")
    data = json.loads(done.stdout)
    assert (data["shape"], data["tasks"], data["simulated"]) == ("orchestrion/report/1", 10, "all")
    assert not (tmp_path / "report.html").exists()
    assert orchestrion(tmp_path, "report", "--out", "-").stdout.startswith("<!doctype html>")
    orchestrion(tmp_path, "outcomes", "export", "o.jsonl")
    (tmp_path / "p.json").write_text('{"format": "orchestrion/policy/1", "policy": "cheap"}')
    replay = ("report", "o.jsonl", "--policy", "p.json")
    done = orchestrion(tmp_path, *replay, "--step", "triage", "--json", "--out", "x.html")
    assert json.loads(done.stdout)["kind"] == "replay", done.stderr
    assert (tmp_path / "x.html").exists()
    assert "no step 'trage'" in orchestrion(tmp_path, *replay, "--step", "trage").stderr
    assert "name it with --step" in orchestrion(tmp_path, *replay).stderr


async def test_the_newest_batch_is_the_default(open_app):
    async with open_app(*workers()) as o:
        assert newest_batch(o.database) == (None, 0)
        await _run_all(o, ["plain"], batch="one")
        await _run_all(o, ["plain"], batch="two")
        assert newest_batch(o.database) == ("two", 2)


def _html(value: Any) -> str:
    """What a notebook shows of it."""
    return str(value._repr_html_())


@pytest.mark.slow
async def test_thousands_of_runs_take_seconds_and_the_page_stays_small(open_app):
    async with open_app(*workers()) as o:
        starts = [Start(id=str(i), task_id=str(i), input="no", batch="b") for i in range(3_000)]
        async for _ in o.run_all(letter, starts, concurrency=200):
            pass
        began = time.perf_counter()
        page = render(report_runs(o.database, o.settings, batch="b", prices=PRICES))
        took = time.perf_counter() - began
    assert took < 6  # 0.6 s on the machine that this was written on
    assert len(page.encode()) < 60_000
    assert "2,990 more" in page


async def test_notebooks_show_runs_policies_and_outcomes_escaped(open_app):
    hostile = "<script>alert(1)</script>"
    worker = ScriptedWorker(hostile, lambda request: hostile)
    step = Step("s", policy=hostile)
    async with open_app(worker) as o:
        run = await o.run(step, "a", id=hostile)
        found = o.outcomes()
        shown = [_html(one) for one in (run, found, next(iter(found)), draft.policy)]
        assert len(list(found)) == len(list(found)) == 1
    for html in shown:
        assert "<script" not in html
        assert "prefers-color-scheme:dark" in html
    assert "&lt;script&gt;" in shown[0]
    assert '"cascade"' in shown[3].replace("&quot;", '"')


def test_help_does_not_load_the_template_engine():
    code = (
        "import sys; import orchestrion.cli.report; print('jinja2' in sys.modules, 'orchestrion.report' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
    assert command.name == "report"
