"""The ledger where two things happen at one moment, or one of them fails."""

from __future__ import annotations

import asyncio
import os
import time

import pytest

from orchestrion.errors import StoreError, UsageError
from orchestrion.ledger.accounts import Account, Amounts, Cap
from orchestrion.ledger.books import Books
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
