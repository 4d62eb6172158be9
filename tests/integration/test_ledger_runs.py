"""Limits of a run, where limits change while its calls are under way."""

from __future__ import annotations

import asyncio
import time

import pytest

from orchestrion.ledger.accounts import Amounts, Cap
from orchestrion.ledger.books import Books
from tests.integration.test_ledger_model import Process


def limit(process: Process, account: str, *caps: Cap) -> None:
    with process.database.transaction() as session:
        session.execute("insert into account (name) values ($1) on conflict do nothing", (account,))
        session.execute("delete from cap where account = $1", (account,))
        for cap in caps:
            session.execute("insert into cap values ($1, $2, $3, $4)", (account, cap.unit, cap.period, cap.amount))
        Books().changed(session, [account], time.time())


@pytest.fixture
async def pair(tmp_path):
    """A process, and another that changes limits."""
    one, other = Process(tmp_path / "l.db"), Process(tmp_path / "l.db")
    limit(other, "x", Cap("money", "run", 10))
    one.ledger.refresh()
    yield one, other
    await one.database.close()
    await other.database.close()


async def test_what_comes_back_after_a_change_can_be_spent(pair):
    one, other = pair
    [first] = await one.held("x", [Amounts(7)], 1)
    limit(other, "y", Cap("money", "day", 5))
    one.ledger.refresh()
    assert await one.held("x", [Amounts(4)], 1) is None
    one.ledger.post(first, Amounts(1), kind="post")
    await one.database.writer.durable()
    assert one.ledger.affords("x", Amounts(9), run=1, patient=False)
    assert await one.held("x", [Amounts(9)], 1)


async def test_a_hold_that_is_being_committed_counts_after_a_change(pair):
    one, other = pair
    await one.held("x", [Amounts(1)], 2)  # the writer is at work
    first = one.hold("x", [Amounts(7)], 1)
    limit(other, "y", Cap("money", "day", 5))
    other.database.reader.execute("begin immediate")  # a commit that takes its time
    one.ledger.refresh()
    await asyncio.sleep(0.01)  # the batch is with the writer's thread
    second = one.hold("x", [Amounts(7)], 1)
    other.database.reader.execute("rollback")
    await one.database.writer.durable()
    assert first
    assert not second or one.ledger.refused(second), "14 of 10"
    await one.database.writer.durable()
    [(held,)] = one.database.read("select sum(amount) from hold where run = 1 and hold not in (select hold from post)")
    assert held == 7
