"""The manners of the command line, with real terminals (pty), pipes and shells."""

import contextlib
import fcntl
import json
import os
import pty
import re
import select
import shutil
import signal
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest

from orchestrion.cli import COMMANDS, cli

ORCHESTRION = [sys.executable, "-m", "orchestrion.cli"]
RUN = ["run", "workflow.py:support", "tasks.jsonl"]
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
ESCAPE = re.compile(r"\x1b\[[\d;?]*[A-Za-z]")


@pytest.fixture
def project(tmp_path):
    """What `orchestrion init` writes."""
    command(tmp_path, "init", ".", "--quiet")
    return tmp_path


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """The same, its ten tasks done under two batches: only to be looked at."""
    folder = tmp_path_factory.mktemp("ran")
    command(folder, "init", ".", "--quiet")
    command(folder, *RUN, "--quiet")
    command(folder, *RUN, "--quiet", "--batch", "second")
    return folder


def environment(**more):
    plain = {k: v for k, v in os.environ.items() if not re.match(r"LC_|LANG|TERM|.*COLOR|COLUMNS|ORCHESTRION_", k)}
    return plain | {"TERM": "xterm-256color", "LANG": "C.UTF-8"} | more


def command(folder, *arguments, check=True, **env):
    return subprocess.run(
        [*ORCHESTRION, *arguments],
        cwd=folder,
        env=environment(**env),
        capture_output=True,
        check=check,
        encoding="utf-8",
        timeout=60,
    )


class Terminal:
    """A command in a terminal of its own; what it wrote is collected."""

    def __init__(self, folder, *arguments, columns=80, program=None, **env):
        self.text = ""
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.chdir(folder)
            line = program or [*ORCHESTRION, *arguments]
            os.execvpe(line[0], line, environment(**env))
        self.resize(columns)

    def resize(self, columns):
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))

    def type(self, text):
        os.write(self.fd, text.encode())

    def until(self, wanted, timeout=30):
        """Read until the text is there; None: until the command has ended."""
        end = time.monotonic() + timeout
        while time.monotonic() < end and not (wanted and wanted in ESCAPE.sub("", self.text)):
            if select.select([self.fd], [], [], 0.2)[0]:
                try:
                    got = os.read(self.fd, 65536)
                except OSError:  # Linux's way to say that the other end is closed
                    got = b""
                if not got:
                    break
                self.text += got.decode("utf-8", "replace")
        assert wanted is None or wanted in ESCAPE.sub("", self.text), f"no {wanted!r} in {self.text!r}"
        return self

    def end(self):
        self.until(None)
        _, status = os.waitpid(self.pid, 0)
        os.close(self.fd)
        return os.waitstatus_to_exitcode(status)

    @property
    def frames(self):
        """Each state of the line that moves."""
        return [ESCAPE.sub("", frame).split("\r")[0] for frame in self.text.split("\r\x1b[K")[1:]]


# Progress


@pytest.mark.parametrize("columns", [20, 30, 40, 80, 200])
def test_progress_is_one_line_that_fits(project, columns):
    terminal = Terminal(project, *RUN, "--concurrency", "2", columns=columns)
    assert terminal.end() == 0
    moving = [frame for frame in terminal.frames if "/10" in frame]
    assert len(moving) > 3
    assert max(map(len, moving)) < columns
    assert re.search(r"\b10/10", moving[-1])
    assert ("━" in moving[-1]) == (columns != 40)  # at 40 the cost needs the bar's room
    assert terminal.text.count("\n") == 2 + terminal.text.count("\n", terminal.text.index("10 done"), -1)


def test_progress_follows_a_resize(project):
    terminal = Terminal(project, *RUN, "--concurrency", "1", columns=100).until("1/10")
    terminal.resize(24)
    terminal.until("4/10")
    after = terminal.frames[-2:]
    assert terminal.end() == 0
    assert max(map(len, after)) < 24
    assert "\x1b[A\x1b[K" in terminal.text  # the broken pieces of the old line are cleared


def test_a_stop_is_said_beside_the_progress(project):
    terminal = Terminal(project, *RUN, "--concurrency", "1", columns=40).until("2/10")
    terminal.type("\x03")
    assert terminal.end() == 1
    assert "stopping: calls under way" in terminal.text
    assert "The same command goes on" in terminal.text


@pytest.mark.parametrize("env", [{"TERM": "dumb"}, {"LANG": "C"}, {"LC_ALL": "POSIX"}, {"NO_COLOR": "1"}], ids=str)
def test_a_plain_terminal_gets_plain_text(project, env):
    terminal = Terminal(project, *RUN, **env)
    assert terminal.end() == 0
    assert "10 done of 10 tasks" in terminal.text
    shown = Terminal(project, "runs", "show", "support:tasks/ticket-02", **env)
    assert shown.end() == 0
    if "LANG" in env or "LC_ALL" in env:
        assert terminal.text.isascii()
        assert shown.text.isascii()
        assert "|- cheap" in shown.text
        assert "> Thank you for writing" in shown.text
    else:
        assert not ESCAPE.search(shown.text)
    if "TERM" in env:
        assert not ESCAPE.search(terminal.text)


def test_a_pipe_gets_a_line_now_and_then(project):
    settings = project / "orchestrion.yaml"
    settings.write_text(
        settings.read_text(encoding="utf-8").replace("latency_s: 0.2", "latency_s: 1"), encoding="utf-8"
    )
    done = command(project, *RUN, "--concurrency", "2")
    assert done.stdout == "10 done of 10 tasks; $0.00199 (simulated); results in tasks.results.jsonl\n"
    assert 1 <= len(re.findall(r"^\d+/10 · \$.* to go", done.stderr, re.MULTILINE)) <= 3
    assert not CONTROL.search(done.stderr)


# --quiet and --json


RESULTS = [
    ["init", "new"],
    [*RUN, "--dry-run"],
    RUN,
    ["runs", "list"],
    ["runs", "show", "support:tasks/ticket-01"],
    ["runs", "resume", "support:tasks/ticket-01"],
    ["outcomes", "export", "o.jsonl"],
    ["replay", "o.jsonl", "--policy", "plain.json", "--step", "draft"],
]
"""Commands that have a result, in an order in which each of them works."""


def test_json_is_one_object_and_quiet_is_quiet(project):
    plain = json.dumps({"format": "orchestrion/policy/1", "policy": "cheap"})
    (project / "plain.json").write_text(plain, encoding="utf-8")
    for line in RESULTS:
        said = command(project, *line, "--quiet", "--json")
        assert said.stderr == "", line
        assert isinstance(json.loads(said.stdout), dict), line
        assert said.stdout.count("\n") == 1, line
    again = command(project, *RUN, "--quiet")
    assert again.stderr == ""
    assert again.stdout.startswith("10 done of 10 tasks")
    assert "goes on: 10 of 10 runs had ended" in command(project, *RUN).stderr


def test_every_command_with_a_result_takes_both():
    def leaves(group, path=()):
        for name in group.list_commands(None):
            found = group.get_command(None, name)
            if hasattr(found, "list_commands"):
                yield from leaves(found, (*path, name))
            else:
                yield (*path, name), {option for one in found.params for option in one.opts}

    missing = [path for path, options in leaves(cli) if not {"--json", "--quiet"} <= options]
    assert missing == [("completion",)]  # its result is a script


def test_costs_of_different_lengths_stand_in_a_column(ran):
    lines = [line for line in command(ran, "runs", "list").stdout.splitlines() if "support:tasks/" in line]
    assert len({len(re.findall(r"\$[\d.]+", line)[0]) for line in lines}) > 1
    assert len({line.index("support:tasks/") for line in lines}) == 1


@pytest.mark.parametrize(
    ("line", "status", "said"),
    [
        (["runs", "show", "nope"], 2, "there is no run 'nope'"),
        (["runs", "show", "ticket-02"], 2, "Runs of the task 'ticket-02': '"),
        (["run", "workflow.py:suport", "tasks.jsonl"], 2, "Did you mean 'support'?"),
        (["replay", "nope.jsonl", "--policy", "careful"], 2, "nope.jsonl cannot be read"),
        (["outcomes", "export", "-"], 2, "both want stdout"),
        (["init", "."], 2, "nothing is overwritten"),
    ],
    ids=str,
)
def test_errors_are_sentences_also_with_json(ran, line, status, said):
    done = command(ran, *line, "--json", check=False)
    assert (done.returncode, done.stdout) == (status, "")
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_json_tells_a_failed_run(project):
    tasks = project / "unknown.jsonl"
    tasks.write_text('{"id": "t", "input": {"subject": "?", "body": "Order A-2000"}}\n', encoding="utf-8")
    done = command(project, "run", "workflow.py:support", "unknown.jsonl", "--json", "--quiet", check=False)
    assert (done.returncode, json.loads(done.stdout)["failed"]) == (1, 1)
    assert "failed: support:unknown/t" in done.stderr
    assert "Traceback" not in done.stderr


# Pipes


@pytest.mark.parametrize(
    "line",
    [
        "runs list | head -1",
        "runs list --json | head -c 5",
        "runs show support:tasks/ticket-01 | head -1",
        "outcomes export - | head -1",
        "run workflow.py:support tasks.jsonl --out - | head -1",
        "--help | head -1",
        "runs list 2>&1 | head -0",
        "runs list >&-",
        "runs list 2>&- | cat",
    ],
)
def test_a_reader_may_leave(ran, line):
    script = f"set -o pipefail; {' '.join(ORCHESTRION)} {line}"
    done = subprocess.run(["bash", "-c", script], cwd=ran, env=environment(), capture_output=True, check=False)
    assert (done.returncode, b"rror" in done.stderr) == (0, False), done.stderr


def test_a_reader_who_leaves_does_not_hide_a_failure(project):
    (project / "t.jsonl").write_text('{"input": {"subject": "?", "body": "Order A-2000"}}\n', encoding="utf-8")
    script = f"set -o pipefail; {' '.join(ORCHESTRION)} run workflow.py:support t.jsonl 2>&1 | head -0"
    done = subprocess.run(["bash", "-c", script], cwd=project, env=environment(), check=False)
    assert done.returncode == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux's file that is always full")
def test_a_full_disk_is_said(ran):
    script = f"{' '.join(ORCHESTRION)} runs list > /dev/full"
    done = subprocess.run(["bash", "-c", script], cwd=ran, env=environment(), capture_output=True, check=False)
    assert (done.returncode, b"cannot be written to stdout: No space left" in done.stderr) == (2, True)


@pytest.mark.parametrize(
    ("env", "coloured"),
    [({}, False), ({"CLICOLOR_FORCE": "1"}, True), ({"CLICOLOR_FORCE": "1", "NO_COLOR": "1"}, False)],
    ids=str,
)
def test_colours_in_a_pipe(ran, env, coloured):
    assert bool(ESCAPE.search(command(ran, "runs", "list", **env).stdout)) == coloured


@pytest.mark.parametrize(
    ("env", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False), ({"CLICOLOR": "0"}, False)], ids=str
)
def test_colours_in_a_terminal(ran, env, coloured):
    terminal = Terminal(ran, "runs", "list", **env)
    assert terminal.end() == 0
    assert bool(ESCAPE.search(terminal.text)) == coloured


def test_text_that_the_encoding_lacks_is_escaped_and_json_is_not(project):
    command(project, *RUN, "--quiet")
    told = subprocess.run(
        [*ORCHESTRION, "runs", "show", "support:tasks/ticket-02"],
        cwd=project,
        env=environment(PYTHONIOENCODING="latin-1"),
        capture_output=True,
        check=True,
    )
    assert b"|- cheap" in told.stdout
    ask = "Größe 尺寸"
    (project / "t.jsonl").write_text(json.dumps({"input": {"subject": ask, "body": ""}}), encoding="utf-8")
    command(project, "run", "workflow.py:support", "t.jsonl", check=False)
    shown = command(project, "runs", "show", "support:t/line-1", "--json", PYTHONIOENCODING="latin-1")
    assert json.loads(shown.stdout)["input"]["subject"] == ask


# Help


def test_help_fits_eighty_columns(tmp_path):
    for name in COMMANDS:
        said = command(tmp_path, name, "--help", COLUMNS="80").stdout
        assert max(map(len, said.splitlines())) <= 80, name
        assert name in ("runs", "review", "budget", "outcomes", "judge", "completion") or "Examples:\n" in said, name


# Completion


def completed(folder, line, breaks=":="):
    env = {"COMP_LINE": line, "COMP_WORDBREAKS": breaks, "_ORCHESTRION_COMPLETE": "bash_complete"}
    return [one.partition(",")[2] for one in command(folder, **env).stdout.split()]


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("orchestrion ru", ["run", "runs"]),
        ("orchestrion runs l", ["list"]),
        ("orchestrion runs list --lim", ["--limit"]),
        ("orchestrion runs list --status f", ["failed"]),
        ("orchestrion runs list --batch ", ["second", "support:tasks"]),
        ("orchestrion runs show support:tasks/ticket-03", ["tasks/ticket-03"]),  # behind the ":" that ends bash's word
        ("orchestrion run workflow.py:", ["support"]),
        ("orchestrion run wor", ["workflow.py:support"]),
        ("orchestrion run workflow.py:support tasks.jsonl --policy ", ["triage=careful", "draft=careful"]),
        ("orchestrion run workflow.py:support tasks.jsonl --policy triage=", ["careful"]),
        ("orchestrion demo --live --cheap ", ["cheap", "frontier"]),
        ("orchestrion replay x.jsonl --policy c", ["careful"]),
        ("orchestrion tune x.jsonl --workers cheap,", ["cheap,frontier"]),
        ("orchestrion certify c", ["careful"]),
        ("orchestrion runs show nope", []),
    ],
)
def test_completion_knows_what_is_there(ran, line, offered):
    assert completed(ran, line) == offered


def test_completion_is_silent_where_nothing_can_be_read(tmp_path):
    assert completed(tmp_path, "orchestrion runs show ") == []
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "orchestrion.yaml").write_text("models: [", encoding="utf-8")
    assert completed(tmp_path, "orchestrion runs show ") == []
    (tmp_path / "orchestrion.yaml").write_text("database: sqlite:///broken.db", encoding="utf-8")
    (tmp_path / "broken.db").write_bytes(b"no database at all" * 100)
    assert completed(tmp_path, "orchestrion runs show ") == []


SHELLS = {
    "bash": (["bash", "--norc", "-i"], 'eval "$(orchestrion completion bash)"'),
    "zsh": (["zsh", "-f", "-i"], 'autoload -U compinit; compinit -u; eval "$(orchestrion completion zsh)"'),
    "fish": (["fish", "--no-config", "-i"], "orchestrion completion fish | source"),
}


@pytest.mark.parametrize("shell", [name for name in SHELLS if shutil.which(name)])
def test_a_real_shell_completes(ran, shell):
    program, setup = SHELLS[shell]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    terminal = Terminal(ran, program=program, PATH=path, HOME=str(ran), columns=120)
    try:
        time.sleep(0.5)  # fish asks the terminal who it is, and drops what is typed meanwhile
        terminal.type(f"{setup}; echo rea''dy\n")
        terminal.until("ready", timeout=20)
        time.sleep(0.5)
        terminal.type("orchestrion run work\t")
        terminal.until("workflow.py:support")
        terminal.type("\x15orchestrion runs show support:tasks/ticket-1\t")
        terminal.until("support:tasks/ticket-10")
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(terminal.pid, signal.SIGKILL)
        os.waitpid(terminal.pid, 0)
        os.close(terminal.fd)
