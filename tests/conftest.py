"""What tests of every cost share: an app on a database of the test's own, and its books."""

from __future__ import annotations

import contextlib
import itertools
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

from orchestrion import Orchestrion
from orchestrion.settings import Settings
from orchestrion.testing import ScriptedWorker
from tests.servers import new_database, postgres_server

# The same examples every time: a failure in CI is a failure at home.
hypothesis.settings.register_profile("repeatable", derandomize=True, deadline=None, database=None)
hypothesis.settings.load_profile("repeatable")


class Crash(BaseException):
    """The process dies here, as far as a workflow can tell. Not an Exception, so that no code of ours holds it."""


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """The path of a database that does not exist yet."""
    return tmp_path / "orchestrion.db"


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    """The address of a Postgres server, which stops with the session."""
    with postgres_server() as address:
        yield address


_databases = itertools.count()


@pytest.fixture
def postgres(server: str) -> str:
    """The address of a new database on Postgres."""
    return new_database(server, f"ledger_{next(_databases)}")


@pytest.fixture
def open_app(database):
    """``async with open_app(*workers, record="digest") as o``: an app on the test's database; every time the same one."""

    @contextlib.asynccontextmanager
    async def opened(*workers, path=None, **settings):
        config = Settings(database=f"sqlite:///{path or database}", **settings)
        async with Orchestrion.open(config, workers=workers) as app:
            yield app

    return opened


def echo(name: str = "w", **options) -> ScriptedWorker:
    """A worker that answers with its name and what it was asked."""
    return ScriptedWorker(name, lambda request: f"{name}:{request.messages[-1]['content']}", **options)


def entries(app: Orchestrion) -> list[tuple[int, str, int]]:
    """Every entry in the books: (hold, kind, amount)."""
    return app.database.read("select hold, kind, amount from entry order by hold, kind")


def kinds(app: Orchestrion) -> Counter[str]:
    """How many entries of each kind there are."""
    return Counter(kind for _, kind, _ in entries(app))


def open_holds(app: Orchestrion) -> set[int]:
    """Holds of which nothing has become yet."""
    booked = entries(app)
    return {hold for hold, kind, _ in booked if kind == "hold"} - {hold for hold, kind, _ in booked if kind != "hold"}


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """With ORCHESTRION_NO_SKIPS, as in CI, a skipped test has failed."""
    outcome = yield
    report = outcome.get_result()
    if report.skipped and os.environ.get("ORCHESTRION_NO_SKIPS"):
        report.outcome = "failed"
        report.longrepr = f"skipped, where ORCHESTRION_NO_SKIPS forbids it: {report.longrepr}"
