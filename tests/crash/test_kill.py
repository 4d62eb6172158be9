"""kill -9 at every commit, on real files: every task ends once, nothing finished is paid for twice, the rest is listed.

The child performs runs and kills itself before or after its k-th commit, whatever k is; its worker notes every call in a
file before it answers. A new child goes on where it stopped.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

CHILD = """
import asyncio, json, os, random, signal, sys
import orchestrion
from orchestrion import Orchestrion, Step, cascade, workflow
from orchestrion.engine.workflow import Start
from orchestrion.settings import Settings
from orchestrion.store.writer import Writer
from orchestrion.testing import ScriptedWorker

folder, when, k, life, tasks = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4], int(sys.argv[5])
commits, write = 0, Writer._write


def dying(self, number, batch):
    global commits
    commits += 1
    if commits == k and when == "before":
        os.kill(os.getpid(), signal.SIGKILL)
    result = write(self, number, batch)
    if commits == k and when == "after":
        os.kill(os.getpid(), signal.SIGKILL)
    return result


Writer._write = dying
log = os.open(f"{folder}/calls.jsonl", os.O_CREAT | os.O_APPEND | os.O_WRONLY)
order = random.Random(life)  # another order of ends in every life


def worker(name):
    async def answer(request):
        text = request.messages[-1]["content"]
        os.write(log, json.dumps([life, name, request.task_id, request.step, text]).encode() + b"\\n")
        for _ in range(order.randrange(6)):
            await asyncio.sleep(0)
        return "bad" if (name, request.step) == ("cheap", "a") and "odd" in text else f"({text})"

    return ScriptedWorker(name, answer)


def good(text):
    return text != "bad"


a = Step("a", policy=cascade("cheap", "dear"), checks=[good])
b = Step("b", policy="cheap")


@workflow
async def flow(name: str) -> list[str]:
    async def branch(which: str) -> str:
        return await b(await a(f"{name}.{which}"))

    both = await orchestrion.gather(branch("even"), branch("odd"))
    return [*both, *(await orchestrion.map(b, [f"{name}.last"]))]


async def main():
    settings = Settings(database=f"sqlite:///{folder}/o.db")
    async with Orchestrion.open(settings, workers=[worker("cheap"), worker("dear")]) as o:
        starts = [Start(id=f"t{i}", task_id=f"t{i}", input=f"t{i}", batch="b") for i in range(tasks)]
        ended = {run.id: run.text and json.loads(run.text) async for run in o.run_all(flow, starts, concurrency=tasks)}
        entry = o.database.read("select hold, kind, amount, run from entry")
        calls = [call for (calls,) in o.database.read("select calls from ask") for call in json.loads(calls)]
        attempts = [hold for (hold,) in o.database.read("select hold from attempt")]
        costs = {i: o.find(i, flow).cost for i in ended}
        print(json.dumps({"ended": ended, "entries": entry, "asked": [call[0] for call in calls], "attempts": attempts, "costs": costs}))


asyncio.run(main())
"""


@pytest.fixture
def live(tmp_path):
    """One life of the child: what it printed at its end, or None where it was killed."""
    script = tmp_path / "child.py"
    script.write_text(CHILD)

    def start(when, k, life, tasks):
        command = [sys.executable, script, tmp_path, when, str(k), str(life), str(tasks)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def run(when, k, life, tasks):
        with start(when, k, life, tasks) as child:
            out, err = child.communicate(timeout=60)
        if child.returncode == -signal.SIGKILL:
            return None
        assert child.returncode == 0, err
        return json.loads(out)

    run.start = start  # type: ignore[attr-defined]  # functions have room for it
    return run


def calls_of(folder: Path) -> Counter[tuple[str, ...]]:
    lines = (folder / "calls.jsonl").read_text().splitlines() if (folder / "calls.jsonl").exists() else []
    return Counter(tuple(json.loads(line)[1:]) for line in lines)


def check_books(end, calls, tasks):
    """Every task ended once with its own result; every call is an attempt or is booked in full and listed."""
    for i in range(tasks):
        assert end["ended"][f"t{i}"] == [f"((t{i}.even))", f"((t{i}.odd))", f"(t{i}.last)"]
    kinds = {
        kind: {hold: amount for hold, k, amount, _ in end["entries"] if k == kind}
        for kind in ("hold", "post", "unknown", "void")
    }
    assert set(kinds["hold"]) == set(end["asked"])  # an Ask and its holds are one commit
    assert set(kinds["post"]) == set(end["attempts"])  # and so are an attempt and its post
    assert set(kinds["hold"]) == set(kinds["post"]) | set(
        kinds["unknown"]
    )  # nothing is left open, nothing closed twice
    assert not set(kinds["post"]) & set(kinds["unknown"])
    assert all(kinds["unknown"][hold] == kinds["hold"][hold] for hold in kinds["unknown"])  # in full
    made = sum(calls.values())
    assert len(kinds["post"]) == 6 * tasks  # even: cheap; odd: cheap, dear; three b
    assert len(kinds["post"]) <= made <= len(kinds["post"]) + len(kinds["unknown"])
    assert sum(end["costs"].values()) == sum(amount for kind in ("post", "unknown") for amount in kinds[kind].values())
    return kinds


@pytest.mark.parametrize("when", ["before", "after"])
def test_killed_at_every_commit_of_one_run(live, tmp_path, when):
    """Life after life, each dying one commit later than it began to matter, until one comes through."""
    for k in range(1, 40):
        folder = tmp_path
        for stale in [*folder.glob("o.db*"), folder / "calls.jsonl"]:
            if stale.is_file():
                stale.unlink()
        first = live(when, k, "first", 1)
        end = first if first else live("never", 0, "second", 1)
        calls = calls_of(folder)
        kinds = check_books(end, calls, 1)
        # Whatever was asked twice was in flight when the first life ended.
        assert sum(n - 1 for n in calls.values()) <= len(kinds["unknown"])
        if first:
            assert not kinds["unknown"]
            assert k > 4  # it did die before
            return
    raise AssertionError("no life came through in 40 commits")


def test_killed_again_and_again_in_the_middle_of_many_tasks(live, tmp_path):
    tasks, lives = 40, 0
    for k in (1, 2, 4, 3, 7, 5, 2, 6):
        lives += live("before" if k % 2 else "after", k, f"life {lives}", tasks) is None
    assert lives >= 3
    check_books(live("never", 0, "last", tasks), calls_of(tmp_path), tasks)


def test_what_was_in_flight_is_listed_and_asked_again(live, tmp_path):
    """Killed with answers in hand that are not on disk: those calls are lost, booked in full, and asked again."""
    assert live("before", 3, "first", 5) is None  # after the claims and ten calls: the third would hold their answers
    assert sum(calls_of(tmp_path).values()) > 0
    end = live("never", 0, "second", 5)
    kinds = check_books(end, calls_of(tmp_path), 5)
    assert len(kinds["unknown"]) == 10
    assert set(kinds["unknown"]) == set(end["asked"]) - set(end["attempts"])


def test_two_processes_at_once_perform_every_run_once(live, tmp_path):
    """Both are given the same tasks at the same moment: each run is performed by one of them, and no call is made twice."""
    tasks = 60
    with live.start("never", 0, "one", tasks) as one, live.start("never", 0, "other", tasks) as other:
        ended = []
        for child in (one, other):
            out, err = child.communicate(timeout=60)
            assert child.returncode == 0, err
            ended.append(json.loads(out)["ended"])
    assert all(ended[0][run] or ended[1][run] for run in ended[0])
    calls = calls_of(tmp_path)
    assert set(calls.values()) == {1}
    end = live("never", 0, "last", tasks)
    kinds = {kind: {hold for hold, k, _, _ in end["entries"] if k == kind} for kind in ("post", "unknown")}
    assert len(kinds["post"]) == sum(calls.values()) == 6 * tasks
    assert not kinds["unknown"]
