"""The ledger where two things happen at one moment, or one of them fails."""

from __future__ import annotations

import asyncio
import os
import time
from types import SimpleNamespace
from typing import Any

import pytest

from orchestrion.domain import Call, Request
from orchestrion.engine.ask import answers
from orchestrion.engine.execution import Execution, House
from orchestrion.engine.holding import Held
from orchestrion.errors import StoreError, UsageError
from orchestrion.journal.memory import MemoryJournal
from orchestrion.journal.protocol import NewRun
from orchestrion.ledger.accounts import Account, Amounts, Cap
from orchestrion.ledger.books import Books
from orchestrion.store.database import Database
from orchestrion.telemetry import Tracing
from tests.integration.test_ledger import DAY, TREE, Bank, another


@pytest.fixture
async def bank(tmp_path):
    one = Bank(tmp_path / "l.db")
    one.open(*TREE)
    yield one
    if not one.database.writer.broken:
        await one.database.writer.durable()
        one.agree()
        assert min(one.balance(name) for name in ("co", "co/a", "co/b")) >= (0, 0)
    await one.database.close()


async def waits(bank: Bank, account: str, amount: int, *, run: int | None = None) -> asyncio.Task[list[int] | None]:
    task = asyncio.create_task(bank.ledger.wait(account, [Amounts(amount)], run=run))
    await asyncio.sleep(0.01)
    return task


def executed(bank: Bank) -> Execution:
    """A run in memory that is paid from a bank."""
    new = NewRun(id="r", workflow="w", input="", digest="", task_id="t", tags={}, reference=None, account="co/a")
    house, log = House({}, bank.ledger, Tracing()), MemoryJournal().start(new)
    return Execution(house, log, no=None, run_id="r", task_id="t", tags={}, account="co/a", policies={})


async def test_a_run_that_waits_for_its_own_limit_holds_up_nobody_else(bank):
    bank.open(Account(name="co/d", caps=(Cap("money", "run", 10), Cap("money", "day", 100))))
    [first] = await bank.hold("co/d", 8, run=1)
    own = await waits(bank, "co/d", 5, run=1)
    assert await bank.hold("co/d", 5, run=2), "another run of the account"
    assert await bank.hold("co/a", 5), "another account under the same limit"
    assert bank.ledger.hold("co/d", [Amounts(1)], run=1) is None, "its own run's later call stands behind it"
    later = await waits(bank, "co/d", 1, run=1)
    assert not own.done()
    assert not later.done()
    await bank.post(first, 1)
    assert await asyncio.wait_for(own, 1)
    assert await asyncio.wait_for(later, 1)
    await bank.database.writer.durable()


async def test_an_account_that_is_taken_out_while_a_call_waits_on_it(bank):
    [hold] = await bank.hold("co/a", 100)
    [rest] = await bank.hold("co", 900)
    others = await waits(bank, "co/a", 50)
    gone = await waits(bank, "co/c", 50)
    with bank.database.transaction() as session:
        session.execute("delete from account where name = 'co/c'")
        bank.books.changed(session, ["co/c"], time.time())
    with pytest.raises(UsageError, match="co/c"):
        await asyncio.wait_for(gone, 1)
    await bank.post(hold, 20)
    await bank.post(rest, 20)
    assert await asyncio.wait_for(others, 1), "it is served as if nothing had been"
    await bank.database.writer.durable()


async def test_who_waits_hears_of_a_commit_that_failed(bank, caplog):
    await bank.hold("co/a", 100)
    waiting = await waits(bank, "co/a", 50)
    bank.database.writer.put("post", ("no number", "post", object(), 0, 0, 0))
    with pytest.raises(StoreError):
        await bank.database.writer.durable()
    with pytest.raises(StoreError):
        await asyncio.wait_for(waiting, 1)
    assert not caplog.records, "and no traceback"


async def test_who_waits_past_midnight_hears_of_another_process(bank, monkeypatch):
    bank.open(Account(name="solo", caps=(DAY,)))
    async with another(bank) as other:
        now = time.time()
        await other.hold("solo", 80)
        waiting = await waits(bank, "solo", 50)
        monkeypatch.setattr("orchestrion.ledger.local.time.time", lambda: now + 86_400)
        [next_day] = await other.hold("solo", 80)
        await asyncio.sleep(0.12)
        assert not waiting.done()
        await other.post(next_day, 20)
        assert await asyncio.wait_for(waiting, 1)
        await bank.database.writer.durable()


async def test_a_decision_and_a_withdrawal_at_one_moment_let_one_hold_go_once(bank):
    question = bank.ledger.hold("co/a", [Amounts(60, 0, 600)], run=None)
    assert question
    [hold] = question
    await bank.hold("co/a", 30)
    with bank.database.transaction() as session:  # a person decides
        Books().settle(session, hold, Amounts(50), "post", time.time())
    await bank.post(hold, 0, "void")  # what the run, ending, had put by then
    assert bank.balance("co/a") == (50, 30)
    assert bank.ledger.hold("co/a", [Amounts(30)], run=None) is None


async def test_the_same_file_by_another_name(bank, tmp_path):
    [hold] = await bank.hold("co/a", 60)
    os.symlink(tmp_path / "l.db", tmp_path / "alias.db")
    other = Bank(tmp_path / "alias.db")
    assert bank.balance("co/a") == (0, 60), "its process is alive"
    await other.database.close()
    await bank.post(hold, 10)
    assert bank.balance("co/a") == (10, 0)


async def test_served_and_cancelled_at_one_moment(bank):
    """The task that waits within a run is done, and who waits for it is cancelled before it wakes."""
    execution = executed(bank)
    await bank.hold("co/a", 60)
    hold = await bank.hold("co/a", 40)
    task = asyncio.create_task(execution.wait([Amounts(40)]))
    await asyncio.sleep(0.01)
    [waiter] = bank.ledger._queue.first()
    waiter.future.add_done_callback(lambda _: task.cancel())
    await bank.post(hold[0], 0, "void")
    with pytest.raises(asyncio.CancelledError):
        await task
    await bank.database.writer.durable()
    assert bank.balance("co/a") == (0, 60), "nothing stays held for a call that nobody makes"


async def test_who_only_reads_leaves_what_is_held_for_a_cancelled_run_to_be_let_go(bank, tmp_path):
    """A process died between the commit that cancelled a run and the one that lets go what its question holds."""
    [hold] = await bank.hold("co/a", 60, run=7)
    with bank.database.transaction() as session:
        session.execute(
            "insert into run (no, id, workflow, task, digest, account, status, created, updated) "
            "values (7, 'r', 'w', 't', '', 'co/a', 'cancelled', 0, 0)"
        )
        session.execute(
            "insert into review (hold, run, key, worker, wage, digest, asked, state, minutes) "
            "values ($1, 7, '', 'p', 0, '', 0, 'open', 1)",
            (hold,),
        )
    reader = Database(tmp_path / "l.db", statements={})
    await reader.close()
    other = Bank(tmp_path / "l.db")
    await other.database.close()
    assert bank.balance("co/a") == (0, 0)


async def test_calls_of_one_ask_that_are_cancelled_before_they_begin(bank):
    holds = bank.ledger.hold("co/a", [Amounts(30), Amounts(40)], run=None)
    worker: Any = SimpleNamespace(name="w")
    request = Request(messages=(), task_id="t", step="s")
    held = [Held(Amounts(1), Call("w"), worker, request, hold) for hold in holds or ()]
    site: Any = SimpleNamespace(execution=executed(bank))
    task = asyncio.create_task(answers(site, held, ()))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await bank.database.writer.durable()
    assert bank.balance("co/a") == (0, 0), "nobody was called"
