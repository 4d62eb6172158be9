"""kill -9 at commit after commit of runs whose account runs dry and is topped up in every life: nothing is over the limit,
nothing that was answered is asked or paid again, branches and caught shortages go on as they were."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections import Counter

CHILD = """
import asyncio, json, os, signal, sys, time
import orchestrion
from orchestrion import Orchestrion, Step, best_effort, cascade, workflow
from orchestrion.checks.protocol import verdict
from orchestrion.engine.workflow import Start
from orchestrion.errors import FundsExhausted
from orchestrion.ledger.books import Books
from orchestrion.settings import Settings
from orchestrion.store.writer import Writer
from orchestrion.testing import ScriptedWorker

folder, when, k, limit = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
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


def worker(name, **options):
    async def answer(request):
        os.write(log, json.dumps([name, request.task_id, request.step, request.messages[-1]["content"]]).encode() + b"\\n")
        await asyncio.sleep(0)
        return "5" if name == "judge" else f"{name}:{request.messages[-1]['content']}"

    return ScriptedWorker(name, answer, **{"max_output": 10} | options)


async def judged(task, attempts, ask):
    said = await ask("judge", ({"role": "user", "content": f"good? {attempts[-1].output}"},))
    return verdict("judged", said.output == "5")


judged.name = "judged"
a, b = Step("a", policy="cheap", checks=[judged]), Step("b", policy="cheap")
luxury = Step("luxury", policy="dear")


@workflow
async def flow(name: str) -> list[str]:
    async def stand_in(text: str) -> str:
        return await b(text)

    both = await orchestrion.gather(a(f"{name}.0"), b(f"{name}.1"), b(f"{name}.2"))
    try:
        more = [await luxury(name)]
    except FundsExhausted:
        more = await orchestrion.gather(stand_in(f"{name}.3"), stand_in(f"{name}.4"))
    return [*both, *more, await a(f"{name}.5")]


async def main():
    settings = Settings(database=f"sqlite:///{folder}/o.db", account="a", budgets={"a": {"limit": 1e-9, "period": "forever", "wait_s": 0.1}})
    workers = [worker("cheap"), worker("judge"), worker("dear", max_output=10**7)]
    async with Orchestrion.open(settings, workers=workers) as o:
        with o.database.transaction() as session:
            session.execute("update cap set amount = $1 where account = 'a'", (limit,))
            Books().changed(session, ["a"], time.time())
        o._ledger.refresh()
        starts = [Start(id=f"t{i}", task_id=f"t{i}", input=f"t{i}") for i in range(3)]
        ended = {run.id: [run.status, run.wants, run.cost, run.text, str(run.error)] async for run in o.run_all(flow, starts, concurrency=3)}
        print(json.dumps({
            "ended": ended,
            "balance": o.database.read("select settled, held from balance")[0],
            "posts": o.database.read("select kind, count(*), sum(amount) from post group by kind"),
            "attempts": o.database.read("select count(*) from attempt")[0][0],
        }))


asyncio.run(main())
"""

STEP = 60_000
"""What a life has more than the one before: less than a call's bound, of which most comes back."""


def test_killed_at_every_commit_while_money_runs_dry_and_is_topped_up(tmp_path):
    script = tmp_path / "child.py"
    script.write_text(CHILD)
    limit, killed, dry = 2 * STEP, 0, 0
    said = {}
    for life in range(60):
        limit += STEP
        when, k = ("before", "after")[life % 2], 1 + life // 2 % 4 if life % 3 else 10**6
        command = [sys.executable, script, tmp_path, when, str(k), str(limit)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        if done.returncode == -signal.SIGKILL:
            killed += 1
            continue
        assert done.returncode == 0, done.stderr
        said = json.loads(done.stdout)
        assert sum(said["balance"]) <= limit
        assert said["balance"] == [sum(amount for *_, amount in said["posts"]), 0]
        for status, wants, *_, error in said["ended"].values():
            assert status == "done" or wants == "funds a", error
        dry += any(wants for _, wants, *_ in said["ended"].values())
        if all(one[0] == "done" for one in said["ended"].values()):
            break
    assert {one[0] for one in said["ended"].values()} == {"done"}
    assert killed >= 5
    assert dry >= 3
    for name, (_, _, _, text, _) in said["ended"].items():
        assert json.loads(text) == [f"cheap:{name}.{i}" for i in range(6)]
    posts = {kind: n for kind, n, _ in said["posts"]}
    assert said["attempts"] == posts["post"] == 3 * (6 + 2), "six answers and two judgements for each run, once"
    calls = Counter(tuple(json.loads(line)) for line in (tmp_path / "calls.jsonl").read_text().splitlines())
    assert calls.total() <= posts["post"] + posts.get("unknown", 0)
    assert sum(one[2] for one in said["ended"].values()) == said["balance"][0]
