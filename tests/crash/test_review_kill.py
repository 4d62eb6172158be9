"""kill -9 at every commit of a run that waits for a person: no question is lost, no decision is asked for twice."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

CHILD = """
import asyncio, json, os, signal, sys
from orchestrion import Orchestrion, Step, cascade
from orchestrion.settings import Settings
from orchestrion.store.database import Database
from orchestrion.store.writer import Writer
from orchestrion.testing import ScriptedWorker
from orchestrion.workers.people import Person

folder, when, k = sys.argv[1], sys.argv[2], int(sys.argv[3])
commits = 0


def dying(function):
    def commit(*args, **kwargs):
        global commits
        commits += 1
        mine = commits == k
        if mine and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        result = function(*args, **kwargs)
        if mine and when == "after":
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    return commit


Writer._write, Database.take = dying(Writer._write), dying(Database.take)
team = Person("team", wage=60_000_000_000, minutes=2.0)
step = Step("s", policy=cascade("cheap", "team"), checks=[lambda text: text == "right"])


async def main():
    settings = Settings(database=f"sqlite:///{folder}/o.db")
    async with Orchestrion.open(settings, workers=[ScriptedWorker("cheap", lambda request: "wrong"), team]) as o:
        asked = 0
        while (run := await o.run(step, "task", id="r")).status == "waiting":
            for request in o.reviews():
                asked += 1
                if request.question:
                    await o.inform(request.id, "it is so", by="owner")
                elif request.shown.notes:
                    await o.decide(request.id, "modify", value="right", seen=request.digest, by="ana")
                else:
                    await o.decide(request.id, "ask", text="is it so?", seen=request.digest, by="ana")
        rounds = [[one.state, one.decision.kind] for one in o.reviews(everything=True)]
        entries = o.database.read("select h.account, e.kind, e.amount, r.hold is not null from entry e join hold h on h.hold = e.hold "
                                  "left join review r on r.hold = e.hold where e.kind <> 'hold'")
        left = o.database.read("select count(*) from hold where hold not in (select hold from post)")
        print(json.dumps({"result": run.result, "cost": run.cost, "rounds": rounds, "entries": entries, "left": left[0][0]}))


asyncio.run(main())
"""


@pytest.mark.parametrize("when", ["before", "after"])
def test_killed_at_every_commit_around_a_person(tmp_path: Path, when):
    script = tmp_path / "child.py"
    script.write_text(CHILD)
    killed = 0
    for k in range(1, 60):
        for stale in tmp_path.glob("o.db*"):
            if stale.is_file():
                stale.unlink()
        end = None
        for life in (when, "never"):
            done = subprocess.run(
                [sys.executable, script, tmp_path, life, str(k)],
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
            if done.returncode == 0:
                end = json.loads(done.stdout)
                break
            assert done.returncode == -signal.SIGKILL, done.stderr
            killed += 1
        assert end is not None
        assert end["result"] == "right"
        assert end["left"] == 0
        wages = [(kind, amount) for _, kind, amount, person in end["entries"] if person]
        assert wages == [("post", 2_000_000_000)] * 2, "one question to the owner, one answer: each decided once"
        assert end["rounds"] == [["taken", "ask"], ["taken", "modify"]]
        assert end["cost"] == sum(amount for _, _, amount, _ in end["entries"])
        if life == when:
            assert killed > 5  # it did die before
            return
    raise AssertionError("no life came through in 60 commits")
