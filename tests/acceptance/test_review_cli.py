"""`orchestrion review` as a reviewer uses it: at a terminal, from a file, with mistakes."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

COMMAND = Path(sys.executable).parent / "orchestrion"
FILES = {
    "orchestrion.yaml": """
models:
  cheap: {model: simulated, answers: answers.jsonl, price: {input: 0.1, output: 0.4}}
people:
  legal: {wage: 90, minutes: 4, members: [ana, ben]}
""",
    "workflow.py": """
from pydantic import BaseModel
from orchestrion import Step, cascade

class Clause(BaseModel):
    party: str
    months: int

def never(clause: Clause) -> str | None:
    return "not like this"

read = Step("read", "Read it.", output=Clause, checks=[never], policy=cascade("cheap", "legal"))
""",
    "tasks.jsonl": '{"id": "c1", "input": "Acme \\u001b[2J\\u202e is bound for a year."}\n',
    "answers.jsonl": '{"step": "read", "task_id": "c1", "answer": "{\\"party\\": \\"Acme\\", \\"months\\": 12}"}\n',
}


@pytest.fixture
def project(tmp_path):
    for name, text in FILES.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    assert orchestrion(tmp_path, "run", "workflow.py:read", "tasks.jsonl").returncode == 0
    return tmp_path


def orchestrion(folder, *arguments, given=None):
    return subprocess.run(
        [COMMAND, *arguments], cwd=folder, input=given, capture_output=True, text=True, timeout=60, check=False
    )


def open_request(folder) -> Any:
    [request] = json.loads(orchestrion(folder, "review", "list", "--json").stdout)["requests"]
    return request


def test_what_a_terminal_would_obey_is_shown_as_a_code(project):
    said = orchestrion(project, "review", "show", open_request(project)["id"]).stdout
    assert "Acme \\u001b[2J\\u202e is bound" in said
    assert "\x1b" not in said


def test_a_long_answer_comes_from_a_file_or_stdin(project):
    request = open_request(project)
    decide = ("review", "decide", request["id"], "modify")
    seen = ("--seen", request["digest"], "--by", "ben")
    assert "no.json cannot be read" in orchestrion(project, *decide, "@no.json", *seen).stderr
    done = orchestrion(project, *decide, "-", *seen, "--json", given='{"party": "Beta", "months": 6}')
    assert json.loads(done.stdout) == {
        "id": request["id"],
        "run_id": "read:tasks/c1",
        "decision": "modify",
        "by": "ben",
        "minutes": 4.0,
        "cost_usd": 6.0,
    }
    done = orchestrion(project, "runs", "resume", "--ready", "--json")
    assert json.loads(done.stdout)["runs"][0]["result"] == {"party": "Beta", "months": 6}
    assert "no run can go on" in orchestrion(project, "runs", "resume", "--ready").stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["decide", "ID"], "say what is decided on request"),
        (["decide", "ID", "approve"], "say what you decide on: --seen DIGEST, as `orchestrion review show"),
        (["decide", "ID", "approve", "--seen", "00000000", "--by", "ana"], "does not show what was decided on"),
        (["decide", "ID", "approve", "--seen", "DIGEST"], "say who decides on request .*: --by NAME, one of ana, ben"),
        (["decide", "ID", "approve", "--seen", "DIGEST", "--by", "eve"], "'eve' is not one of legal: ana, ben"),
        (["decide", "ID", "maybe", "--seen", "DIGEST"], "'maybe' is not one of 'approve', 'modify', 'reject', 'ask'"),
        (["decide", "ID", "modify", "--seen", "DIGEST"], "give the answer: a text, JSON, @FILE or - for stdin"),
        (["decide", "ID", "modify", "{", "--seen", "DIGEST"], "is not JSON: .* It has the fields party, months"),
        (["decide", "ID", "reject", "--seen", "DIGEST", "--by", "ana"], "give a reason"),
        (["decide", "99-99", "approve", "--seen", "DIGEST"], "there is no review request '99-99'"),
        (["inform", "ID", "x"], "nobody asks for information"),
        (["show", "nonsense"], "there is no review request 'nonsense'"),
    ],
)
def test_mistakes_are_said_and_nothing_is_decided(project, arguments, message):
    request = open_request(project)
    named = [{"ID": request["id"], "DIGEST": request["digest"]}.get(word, word) for word in arguments]
    done = orchestrion(project, "review", *named)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert re.search(message, " ".join(done.stderr.split())), done.stderr
    assert open_request(project)["state"] == "open"


def test_at_a_terminal_it_shows_the_request_and_asks(project):
    request = open_request(project)
    answers = ["nonsense\n", "reject\n", "the clause is void\n"]
    said = at_terminal(project, ["review", "decide", request["id"], "--by", "ana"], answers)
    assert "cheap's answer" in said
    assert "reject by ana" in said
    done = orchestrion(project, "run", "workflow.py:read", "tasks.jsonl")
    assert done.returncode == 1
    assert "legal rejected it: the clause is void" in done.stderr


def at_terminal(folder, arguments, answers) -> str:
    """What a command shows at a terminal of its own while it is given these lines, each when it asks."""
    master, slave = pty.openpty()
    with subprocess.Popen(
        [COMMAND, *arguments], cwd=folder, stdin=slave, stdout=slave, stderr=slave, close_fds=True
    ) as child:
        os.close(slave)
        said, asked, deadline = "", 0, time.monotonic() + 30
        while time.monotonic() < deadline:
            if not select.select([master], [], [], 0.2)[0]:
                continue
            try:
                said += os.read(master, 4096).decode(errors="replace")
            except OSError:  # the child has closed its end
                break
            if answers[asked:] and said.rstrip(" ").endswith(":") and said.count(": ") > 0:
                os.write(master, answers[asked].encode())
                asked += 1
                said += "\n"
        os.close(master)
        assert child.wait(timeout=10) == 0, said
    return said
