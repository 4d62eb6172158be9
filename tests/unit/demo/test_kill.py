"""The demo's worker is killed in the middle of a call, or not at all."""

import subprocess
import sys
from types import SimpleNamespace
from typing import cast

import pytest

from orchestrion.demo.figures import Books, Story
from orchestrion.demo.run import _kill

SLEEPS = [sys.executable, "-c", "import time; time.sleep(60)"]


class Told(Books):
    """Books in which so many calls are in flight."""

    def __init__(self, in_flight):
        self._in_flight = in_flight

    def stories(self):
        story = SimpleNamespace(in_flight=[None] * self._in_flight, ended=False, answered=[])
        return [cast(Story, story)]


@pytest.fixture
def worker():
    process = subprocess.Popen(SLEEPS)
    yield process
    process.kill()
    process.wait()


def test_where_no_call_is_in_flight_any_more_it_goes_on(worker):
    assert _kill(worker, Told(0)) is None
    assert worker.poll() is None
    with open(f"/proc/{worker.pid}/stat") as stat:
        assert stat.read().split()[2] != "T"


def test_what_it_leaves_is_what_was_seen(worker):
    seen = _kill(worker, Told(2))
    assert seen
    assert (seen.in_flight, worker.returncode) == (2, -9)


def test_a_worker_that_ended_by_itself_keeps_its_exit_status():
    process = subprocess.Popen([sys.executable, "-c", "raise SystemExit(3)"])
    with subprocess.Popen(["sleep", "2"]) as pause:
        pause.wait()
    assert _kill(process, Told(2)) is None
    assert process.returncode == 3
