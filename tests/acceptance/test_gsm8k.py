"""Real recorded answers through `orchestrion run`, from a real HTTP server: the same as `replay`, to the nano-dollar."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter, defaultdict
from pathlib import Path

import pytest

from orchestrion.domain import Price, nanos
from tests.acceptance.stub_server import Faults, StubServer, read_records

DATA = Path(__file__).parents[3] / "shared" / "data" / "routellm.jsonl.zst"
pytestmark = [
    pytest.mark.skipif(not DATA.exists(), reason=f"no recorded answers at {DATA}: the project does not ship them"),
    pytest.mark.slow,
]

CHEAP, FRONTIER = "mistralai/Mixtral-8x7B-Instruct-v0.1", "gpt-4-1106-preview"
PRICES = {CHEAP: Price(nanos(0.24), nanos(0.24)), FRONTIER: Price(nanos(10), nanos(30))}
NUMBER = r"-?\d[\d,]*(\.\d+)?[^\d\n]{0,20}\Z"
TASKS = 400

WORKFLOW = '''
import re
from orchestrion import Step, best_effort, cascade

def final_number(text):
    """The text alone decides: does it end in a number that can be parsed?"""
    return None if re.search({number!r}, text) else "the answer does not end in a number"

solve = Step("solve", checks=[final_number], policy=best_effort(cascade("{cheap}", "{frontier}")))
'''


@pytest.fixture(scope="module")
def records() -> list[dict]:
    rows = [row for row in read_records(DATA) if row["workload"] == "routellm_gsm8k"]
    by_task = defaultdict(list)
    for row in rows:
        by_task[row["task_id"]].append(row)
    both = [pair for pair in by_task.values() if {row["worker"] for row in pair} == {CHEAP, FRONTIER}]
    return [row for pair in both[:TASKS] for row in pair]


def project(folder: Path, base_url: str, records: list[dict]) -> None:
    """A project whose models are the server's."""
    lines = ["database: sqlite:///runs.db", "models:"]
    for name, price in PRICES.items():
        dollars = f"{{input: {price.input / 1e9}, output: {price.output / 1e9}}}"
        lines += [
            f'  "{name}": {{model: "openai-chat:{name}", base_url: "{base_url}", price: {dollars}, max_output: 1000, timeout_s: 20}}'
        ]
    (folder / "orchestrion.yaml").write_text("\n".join(lines))
    (folder / "flow.py").write_text(WORKFLOW.format(number=NUMBER, cheap=CHEAP, frontier=FRONTIER))
    seen: dict[str, str] = {}
    for row in records:
        seen.setdefault(row["task_id"], row["prompt"])
    (folder / "tasks.jsonl").write_text("".join(json.dumps({"id": t, "input": p}) + "\n" for t, p in seen.items()))


def command(folder: Path, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "orchestrion", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert "Traceback" not in done.stderr, done.stderr
    if check:
        assert done.returncode == 0, done.stderr
    return done


def results(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "tasks.results.jsonl").read_text().splitlines()]


def posts(folder: Path) -> list[tuple[str, int]]:
    """Kind and amount of every post in the books."""
    import apsw

    connection = apsw.Connection(str(folder / "runs.db"), flags=apsw.SQLITE_OPEN_READONLY)
    return [(str(kind), int(amount)) for kind, amount in connection.execute("select kind, amount from post")]


async def in_thread(function, *arguments, **keywords):
    import asyncio

    return await asyncio.to_thread(function, *arguments, **keywords)


async def test_live_equals_replay(tmp_path: Path, records: list[dict]) -> None:
    async with StubServer(records, latency=0.01) as stub:
        project(tmp_path, stub.base_url, records)
        await in_thread(command, tmp_path, "run", "flow.py:solve", "tasks.jsonl", "--quiet", "--json")
        served = stub.counts()
    (tmp_path / "records.jsonl").write_text("".join(json.dumps(row) + "\n" for row in records))
    rule = {"check": "matches", "name": "final_number", "pattern": NUMBER}
    policy = {"policy": "best_effort", "inner": {"policy": "cascade", "stages": [CHEAP, FRONTIER]}}
    (tmp_path / "policy.json").write_text(
        json.dumps({"format": "orchestrion/policy/1", "policy": policy, "checks": [rule]})
    )
    replayed = json.loads(
        command(
            tmp_path, "replay", "records.jsonl", "--policy", "policy.json", "--out", "attempts.jsonl", "--json"
        ).stdout
    )
    attempts = [json.loads(line) for line in (tmp_path / "attempts.jsonl").read_text().splitlines()]

    # Attempts: the same calls, and as many as the server counted.
    assert replayed["calls"] == {model: outcome["served"]["requests"] for model, outcome in served["models"].items()}
    assert replayed["tasks"] == TASKS
    assert 0 < replayed["calls"][FRONTIER] < TASKS, "the check must let some pass and refuse some"

    # Cost: to the nano-dollar, on three sides.
    booked = posts(tmp_path)
    assert {kind for kind, _ in booked} == {"post"}
    assert sum(amount for _, amount in booked) == nanos(repr(replayed["cost_usd"]))
    assert sum(nanos(repr(row["cost_usd"])) for row in results(tmp_path)) == nanos(repr(replayed["cost_usd"]))

    # Quality: the answer of each task is the record that replay accepted.
    by_call = {(row["task_id"], row["worker"]): row for row in records}
    accepted = {a["task_id"]: by_call[a["task_id"], a["worker"]] for a in attempts if a["accepted"]}
    for row in results(tmp_path):
        assert row["result"] == accepted[row["task_id"]]["output"]
    assert replayed["quality"] == pytest.approx(sum(row["score"] for row in accepted.values()) / TASKS)
    assert replayed["frontier_quality"] == pytest.approx(
        sum(r["score"] for r in records if r["worker"] == FRONTIER) / TASKS
    )

    # What the run recorded replays to the same, too.
    command(tmp_path, "outcomes", "export", "live.jsonl")
    again = json.loads(command(tmp_path, "replay", "live.jsonl", "--policy", "policy.json", "--json").stdout)
    assert (again["tasks"], again["cost_usd"], again["calls"]) == (TASKS, replayed["cost_usd"], replayed["calls"])


async def test_faults_end_in_an_answer_or_a_named_failure_and_the_books_are_right(
    tmp_path: Path, records: list[dict]
) -> None:
    faults = Faults(http500=0.04, http429=0.06, cut=0.03, garbage=0.03)
    async with StubServer(records, latency=0.01, faults=faults, fault_seed=7) as stub:
        project(tmp_path, stub.base_url, records)
        done = await in_thread(
            command, tmp_path, "run", "flow.py:solve", "tasks.jsonl", "--quiet", "--json", check=False
        )
        counts = stub.counts()
    said = json.loads(done.stdout)
    rows = results(tmp_path)
    assert len(rows) == TASKS
    assert said["done"] + said["failed"] == TASKS
    assert done.returncode == (1 if said["failed"] else 0)
    for row in rows:
        if row["status"] == "failed":
            assert re.search(r"status 500|connection broke|not a chat completion", row["error"]), row["error"]
        else:
            assert row["result"]

    # The books equal the server's own count: exact where it answered, in full where nobody can know, nothing for 429.
    booked = Counter(kind for kind, _ in posts(tmp_path))
    outcomes = {name: total["requests"] for name, total in counts["outcomes"].items()}
    assert booked["post"] == outcomes["served"]
    assert booked["unknown"] == outcomes["500"] + outcomes["cut"] + outcomes["garbage"]
    assert outcomes["429"] > 0, "429s were sent, asked again and not booked"
    assert booked["void"] == 0
    exact = 0
    for model, by_outcome in counts["models"].items():
        price, total = PRICES[model], by_outcome["served"]
        exact += total["prompt_tokens"] * price.input + total["completion_tokens"] * price.output
    posted = sum(amount for kind, amount in posts(tmp_path) if kind == "post")
    assert 0 <= posted - exact / 1_000_000 < outcomes["served"], "rounded up once a call, by less than a nano-dollar"


def test_killed_ten_times(tmp_path: Path, records: list[dict]) -> None:
    """kill -9 in the middle of 1,000 tasks, ten times: every task ends once, and the server's count is explained."""
    import random

    log = tmp_path / "served.log"
    source = tmp_path / "records.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in records))
    server = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "tests.acceptance.stub_server",
            "--records",
            str(source),
            "--latency",
            "0.05",
            "--log",
            str(log),
        ],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    try:
        assert server.stdout is not None
        base_url = server.stdout.readline().removeprefix("listening on ").strip()
        project(tmp_path, base_url, records)
        prompts = [json.loads(line) for line in (tmp_path / "tasks.jsonl").read_text().splitlines()]
        tasks = [{"id": f"{p['id']}-{k}", "input": p["input"]} for k in range(3) for p in prompts][:1000]
        (tmp_path / "tasks.jsonl").write_text("".join(json.dumps(task) + "\n" for task in tasks))
        run = [
            sys.executable,
            "-m",
            "orchestrion",
            "run",
            "flow.py:solve",
            "tasks.jsonl",
            "--quiet",
            "--concurrency",
            "40",
        ]
        chance = random.Random(5)
        for _ in range(10):
            started = logged(log)
            process = subprocess.Popen(run, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            deadline = time.monotonic() + 60
            while logged(log) < started + 30 and time.monotonic() < deadline and process.poll() is None:
                time.sleep(0.005)  # a random moment, but one in the middle of work
            time.sleep(chance.uniform(0, 0.06))
            assert process.poll() is None, "the run ended before it could be killed: give it more tasks"
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
        command(tmp_path, "run", "flow.py:solve", "tasks.jsonl", "--quiet", "--json")
    finally:
        server.send_signal(signal.SIGINT)
        server.communicate(timeout=10)

    rows = results(tmp_path)
    assert Counter(row["task_id"] for row in rows) == Counter({task["id"]: 1 for task in tasks})
    assert all(row["status"] == "done" for row in rows)
    served = logged(log)
    kinds = Counter(kind for kind, _ in posts(tmp_path))
    assert 0 < kinds["unknown"] <= 10 * 40, "calls were in flight at the kills, at most as many as ran at once"
    assert kinds["post"] <= served <= kinds["post"] + kinds["unknown"]
    listed = json.loads(command(tmp_path, "runs", "list", "--limit", "2000", "--json").stdout)["runs"]
    assert sum(run["calls_of_unknown_cost"] for run in listed) == kinds["unknown"], "each is listed"
    lost = next(run for run in listed if run["calls_of_unknown_cost"])
    shown = json.loads(command(tmp_path, "runs", "show", lost["id"], "--json").stdout)
    attempts = [attempt for step in shown["steps"] for attempt in step["attempts"]]
    assert [attempt["booked"] for attempt in attempts if attempt["lost"]] == ["unknown"] * lost["calls_of_unknown_cost"]
    assert [attempt["accepted"] for attempt in attempts].count(True) == 1, "it was asked again, and answered"


def logged(log: Path) -> int:
    """Requests that the server had seen by now."""
    return log.read_bytes().count(b"\n") if log.exists() else 0
