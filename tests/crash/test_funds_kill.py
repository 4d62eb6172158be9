"""kill -9 while runs wait for money that others hold: nothing is over the limit, nobody is asked twice for an answer that is
there, and a top-up brings the rest to an end."""

from __future__ import annotations

import json
import signal
import subprocess
import sys

CHILD = """
import asyncio, json, os, signal, sys
from orchestrion import Orchestrion, Step
from orchestrion.engine.workflow import Start
from orchestrion.settings import Settings
from orchestrion.testing import ScriptedWorker

folder, kill_at, limit = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
answered = 0


async def slow(request):
    global answered
    await asyncio.sleep(0.02)
    answered += 1
    if answered == kill_at:
        os.kill(os.getpid(), signal.SIGKILL)  # the others that were asked hold money, and all the rest wait for it
    return "done"


worker = ScriptedWorker("w", slow)
step = Step("s", policy="w")


def settings(limit):
    return Settings(database=f"sqlite:///{folder}/o.db", account="a", budgets={"a": {"limit": limit, "period": "forever"}})


async def main():
    async with Orchestrion.open(settings(limit), workers=[worker]) as o:
        if kill_at == 0:
            with o.database.transaction() as session:
                from orchestrion.ledger.books import Books
                session.execute("update cap set amount = $1 where account = 'a'", (10**9,))
                Books().changed(session, ["a"], 0.0)
            o._ledger.refresh()
        starts = [Start(id=f"t{i}", task_id=f"t{i}", input="x") for i in range(30)]
        ended = {run.id: [run.status, run.wants, run.cost] async for run in o.run_all(step, starts, concurrency=30)}
        sums = "select coalesce(sum(p.amount), 0), coalesce(sum(case when p.hold is null then h.amount end), 0)"
        print(json.dumps({
            "ended": ended,
            "balance": o.database.read("select settled, held from balance")[0],
            "entries": o.database.read(sums + " from hold h left join post p on p.hold = h.hold")[0],
            "kinds": o.database.read("select kind, count(*) from post group by kind"),
            "attempts": o.database.read("select count(*) from attempt")[0][0],
        }))


asyncio.run(main())
"""

HELD = 481_000
"""What is held for a call: 81 tokens of input at most at $1 a million, and 100 of output at $4."""
LIMIT = 3.5 * HELD
"""Three calls at once; all others wait."""


def test_killed_while_runs_wait_for_money(tmp_path):
    script = tmp_path / "child.py"
    script.write_text(CHILD)

    def life(kill_at, limit=LIMIT / 1e9):
        command = [sys.executable, script, tmp_path, str(kill_at), str(limit)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        if done.returncode == -signal.SIGKILL:
            return None
        assert done.returncode == 0, done.stderr
        said = json.loads(done.stdout)
        assert said["balance"] == said["entries"]
        return said

    assert life(2) is None  # two or three calls were in flight, and are booked in full
    said = life(-1)
    assert said["balance"][0] <= LIMIT
    kinds = dict(said["kinds"])
    assert 2 <= kinds["unknown"] <= 3
    assert kinds.get("post", 0) == said["attempts"]
    assert all(one[0] == "done" or one[1] == "funds a" for one in said["ended"].values())
    assert sum(one[1] == "funds a" for one in said["ended"].values()) >= 28
    said = life(0)
    assert {one[0] for one in said["ended"].values()} == {"done"}
    assert said["attempts"] == dict(said["kinds"])["post"] == 30, "nothing that was answered is asked again"
    assert sum(one[2] for one in said["ended"].values()) == said["balance"][0]
