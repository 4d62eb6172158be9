"""The demo as a person meets it: the real command in a process of its own; `--live` against a server of our own."""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import apsw
import pytest
from aiohttp import web

from orchestrion.demo.cases import Case
from orchestrion.demo.facts import Facts
from orchestrion.demo.households import households
from orchestrion.demo.instructions import AUDIT
from orchestrion.demo.models import SimulatedAnswer, audit_answer, extract_answer

N = 16
DOLLARS = re.compile(r"\$\d")


def demo(*arguments: str, **options):
    command = [sys.executable, "-m", "orchestrion", "demo", *arguments]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=120, **options)


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """One demo, killed and resumed: (what it said, its JSON, its database)."""
    folder = tmp_path_factory.mktemp("demo") / "kept"
    done = demo("--n", str(N), "--pace", "0.3", "--keep", str(folder), "--json")
    assert done.returncode == 0, done.stderr
    return done.stderr, json.loads(done.stdout), folder / "orchestrion.db"


def rows(database: Path, statement: str):
    connection = apsw.Connection(str(database), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        return connection.execute(statement).fetchall()
    finally:
        connection.close()


def test_every_household_ends_once_although_its_worker_process_was_killed(kept):
    said, report, database = kept
    assert rows(database, "select status, count(*) from run group by status") == [("done", N)]
    assert len({run for (run,) in rows(database, "select id from run")}) == N
    assert "kill -9" in said
    assert report["kill"]["done"] + report["kill"]["unfinished"] <= N
    assert report["kill"]["unfinished"] > 0
    # The demo, the worker that died, the one that went on, and the one after the top-up.
    assert len(rows(database, "select no from process where pid <> 0")) == 4


def test_what_was_remembered_is_what_the_database_says(kept):
    _, report, database = kept
    # Plain code that was in flight costs nothing, and is no call of a model.
    statement = "select count(*), sum(amount) from entry where kind = 'unknown' and amount > 0"
    [(lost, lost_cost)] = rows(database, statement)
    assert (
        report["kill"]["in_flight"] == report["orchestrion"]["lost"] == report["orchestrion"]["asked_again"] == lost > 0
    )
    assert round(report["orchestrion"]["lost_cost_usd"] * 1e9) == lost_cost
    assert report["orchestrion"]["paid_twice"] == 0
    open_holds = "select hold from entry group by hold having count(*) = 1"
    assert rows(database, open_holds) == []


def test_the_dollars_on_screen_are_the_sum_of_the_entries(kept):
    said, report, database = kept
    [(total,)] = rows(database, "select sum(amount) from entry where kind <> 'hold'")
    assert round(report["orchestrion"]["cost_usd"] * 1e9) == total
    [line] = [line for line in said.splitlines() if line.startswith("total (simulated)")]
    assert float(line.split("$")[1].split()[0]) == pytest.approx(total / 1e9, rel=0.01)


def test_the_money_on_screen_adds_up_to_the_nano_dollar_and_is_what_the_entries_say(kept):
    said, report, database = kept
    lines = re.findall(
        r"^  (?:[=+] )?(held|posted|unknown|returned|voided) +\$([\d.]+) \(simulated\)", said, re.MULTILINE
    )
    shown = {name: round(float(amount) * 1e9) for name, amount in lines}
    assert list(shown) == ["held", "posted", "unknown", "returned", "voided"]
    assert shown["held"] == sum(amount for name, amount in shown.items() if name != "held")
    [(held,)] = rows(database, "select sum(amount) from hold")
    posted = dict(rows(database, "select kind, sum(amount) from post group by kind"))
    assert (shown["held"], shown["posted"], shown["unknown"]) == (held, posted["post"], posted["unknown"])
    firm, downtown, harbor, walk_ins = report["accounts"]
    assert [one["account"] for one in report["accounts"]][::3] == ["firm", "firm/harbor/walk-ins"]
    for name, amount in shown.items():
        assert firm[f"{name}_nanos"] == amount == downtown[f"{name}_nanos"] + harbor[f"{name}_nanos"]
        assert walk_ins[f"{name}_nanos"] <= harbor[f"{name}_nanos"]
    for one in report["accounts"]:
        assert one["spent_nanos"] <= one["most_at_once_nanos"] <= one["limit_nanos"]
        assert one["over_limit_nanos"] == one["open_nanos"] == 0
    assert "within every limit" in said


def test_an_account_runs_dry_and_its_runs_go_on_after_a_top_up(kept):
    said, report, database = kept
    dry = report["dry"]
    assert dry["account"] == "firm/harbor/walk-ins"
    assert dry["waiting"] > 0
    assert report["orchestrion"]["waiting"] == report["orchestrion"]["paid_twice"] == 0
    assert "orchestrion budget set firm/harbor/walk-ins --limit" in dry["reason"]
    assert dry["limit_after_usd"] == pytest.approx(dry["limit_before_usd"] + dry["moved_usd"])
    assert dry["spent_usd"] <= dry["limit_before_usd"]
    for told in (
        "An account runs dry",
        dry["command"],
        f"What waited goes on: {dry['waiting']} run",
        "all are done now",
    ):
        assert told in said
    [(moved,)] = rows(database, "select count(*) from change where kind = 'move' and account = 'firm/harbor/walk-ins'")
    assert moved == 1
    [(cap,)] = rows(database, "select amount from cap where account = 'firm/harbor/walk-ins'")
    assert cap == round(dry["limit_after_usd"] * 1e9)


def test_the_kept_folder_tells_the_same_story(kept):
    _, report, database = kept

    def told(*arguments):
        command = [sys.executable, "-m", "orchestrion", *arguments, "--json"]
        done = subprocess.run(command, check=False, cwd=database.parent, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    standing = {one["account"]: one for one in told("budget", "show")["accounts"]}
    for one in report["accounts"]:
        there = standing[one["account"]]
        [limit] = there["limits"]
        assert (there["spent"]["nanos"], limit["limit"]) == (one["spent_nanos"], one["limit_nanos"])
    assert [change["kind"] for change in told("budget", "history")["changes"]].count("move") == 2
    assert {run["status"] for run in told("runs", "list")["runs"]} == {"done"}
    lost = told("budget", "reconcile")
    assert lost["booked_nanos"] == report["accounts"][0]["unknown_nanos"]


def test_grades_sum_to_the_households_and_the_ends_do_too(kept):
    _, report, _ = kept
    for way in ("orchestrion", "all_cheap", "all_frontier"):
        figures = report[way]
        assert figures["right"] + figures["wrong"] + figures["flagged"] == N == figures["ended"]
        assert figures["prepared"] + figures["clients_asked"] + figures["left_to_a_person"] == N
    assert report["means"]["of"] >= 3


def test_every_line_with_dollars_says_that_they_are_simulated(kept):
    said, _, _ = kept
    lines = [line for line in said.splitlines() if DOLLARS.search(line) or "¢" in line]
    assert len(lines) > 5
    assert [line for line in lines if "simulated" not in line] == []
    assert "tax year 2024, Rev. Proc. 2023-34; not tax advice" in said


def test_a_kept_folder_is_not_overwritten_and_shows_its_runs(kept):
    _, report, database = kept
    again = demo("--keep", str(database.parent))
    assert (again.returncode, "not empty" in again.stderr) == (2, True)
    shown = subprocess.run(
        [sys.executable, "-m", "orchestrion", "runs", "show", report["show"]],
        check=False,
        cwd=database.parent,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert shown.returncode == 0, shown.stderr
    assert "in flight when its process died" in shown.stdout


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_ends_it_cleanly(tmp_path, number):
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    process = subprocess.Popen(
        [sys.executable, "-m", "orchestrion", "demo"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 30
    while not list(tmp_path.glob("orchestrion-demo-*/orchestrion.db")) and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.5)
    process.send_signal(number)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 1
    assert said == "stopped: the worker process is ended, its database is removed.\n"
    assert list(tmp_path.iterdir()) == []
    listed = subprocess.run(["ps", "-Ao", "args"], check=False, capture_output=True, text=True, timeout=30).stdout
    assert str(tmp_path) not in listed


# Live, against a server that answers as the simulated models do


class Stub:
    """OpenAI's chat completions in a thread: the case is found by the papers in the prompt."""

    def __init__(self, cases: list[Case]) -> None:
        self.cases = {case.household.papers: case for case in cases}
        self.asked: list[str] = []
        self.tokens = {"cheap-1": [0, 0], "frontier-1": [0, 0]}

    def answer(self, body) -> SimulatedAnswer:
        worker = body["model"].removesuffix("-1")
        system, *rest = body["messages"]
        text = rest[0]["content"]
        told = tuple(message["content"] for message in rest[1:] if message["role"] == "user")
        given = {"papers": text} if text in self.cases else json.loads(text)
        case = self.cases[given["papers"]]
        if system["content"] == AUDIT:
            return audit_answer(case, Facts.model_validate(given["facts"]), worker)
        return extract_answer(case, worker, told=told if "objection" not in given else (given["objection"], *told))

    async def complete(self, request: web.Request) -> web.Response:
        body = await request.json()
        assert body["response_format"]["type"] == "json_schema"
        answer = self.answer(body)
        self.asked.append(body["model"])
        count = self.tokens[body["model"]]
        count[0] += answer.input_tokens
        count[1] += answer.output_tokens
        choice = {"index": 0, "message": {"role": "assistant", "content": answer.text}, "finish_reason": "stop"}
        usage = {"prompt_tokens": answer.input_tokens, "completion_tokens": answer.output_tokens}
        return web.json_response({"id": "1", "object": "chat.completion", "choices": [choice], "usage": usage})


@pytest.fixture
def stub():
    """A Stub that listens: (stub, its base URL)."""
    serving, loop, ready = Stub(households(N)), asyncio.new_event_loop(), threading.Event()
    place = {}

    async def begin():
        app = web.Application()
        app.router.add_post("/v1/chat/completions", serving.complete)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        place["runner"], place["port"] = runner, runner.addresses[0][1]
        ready.set()

    def serve():
        loop.run_until_complete(begin())
        loop.run_forever()
        loop.run_until_complete(place["runner"].cleanup())
        loop.close()

    thread = threading.Thread(target=serve)
    thread.start()
    assert ready.wait(30)
    yield serving, f"http://127.0.0.1:{place['port']}/v1"
    loop.call_soon_threadsafe(loop.stop)
    thread.join()


@pytest.fixture
def settings(stub, tmp_path):
    _, url = stub
    file = tmp_path / "orchestrion.yaml"
    file.write_text(
        f"""\
models:
  cheap: {{model: "openai-chat:cheap-1", base_url: "{url}", price: {{input: 0.2, output: 1.25}}, max_output: 1000}}
  best: {{model: "openai-chat:frontier-1", base_url: "{url}", price: {{input: 2.5, output: 15.0}}, max_output: 1000}}
"""
    )
    return file


def test_live_says_its_bound_and_costs_what_the_server_counted(stub, settings):
    serving, _ = stub
    arguments = ("--live", "--n", str(N), "--frontier", "best", "--config", str(settings))
    refused = demo(*arguments, input="n\n")
    assert (refused.returncode, serving.asked) == (1, [])
    [bound] = [float(said.replace(",", "")) for said in re.findall(r"At most \$([\d,]*\.\d+)", refused.stdout)]

    done = demo(*arguments, "--yes", "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    figures = report["orchestrion"]
    (cheap_in, cheap_out), (best_in, best_out) = serving.tokens["cheap-1"], serving.tokens["frontier-1"]
    billed = (cheap_in * 0.2 + cheap_out * 1.25 + best_in * 2.5 + best_out * 15.0) / 1e6
    assert figures["cost_usd"] == pytest.approx(billed, abs=1e-9 * len(serving.asked))
    assert 0 < figures["cost_usd"] < bound
    assert figures["calls"] == len(serving.asked) >= N
    assert figures["right"] + figures["wrong"] + figures["flagged"] == N
    assert report["simulated"] is False
    assert "simulated" not in done.stderr

    asked = len(serving.asked)
    again = demo(*arguments, "--yes", "--json")
    assert json.loads(again.stdout)["orchestrion"]["cost_usd"] == figures["cost_usd"]
    assert len(serving.asked) == asked  # nothing that is finished is paid for twice


def test_live_without_its_models_says_what_is_missing(settings):
    refused = demo("--live", "--config", str(settings))
    assert refused.returncode == 2
    assert "no model is called 'frontier'" in refused.stderr
    assert "--frontier NAME" in refused.stderr
    assert "Traceback" not in refused.stderr
