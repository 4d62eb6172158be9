"""What the ledger promises: nothing over a limit, whoever asks; entries and balances that agree; nothing lost."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from orchestrion.errors import UsageError
from orchestrion.ledger.accounts import Account, Amounts, Cap, Tree, span
from orchestrion.ledger.books import Books, statements
from orchestrion.ledger.entries import EntryLedger
from orchestrion.ledger.memory import MemoryLedger
from orchestrion.ledger.protocol import Posting
from orchestrion.store.database import Database
from orchestrion.store.postgres import Postgres

DAY = Cap("money", "day", 100)
TREE = (
    Account(name="co", caps=(Cap("money", "forever", 1_000),)),
    Account(name="co/a", caps=(DAY,)),
    Account(name="co/b", caps=(Cap("money", "month", 300), Cap("tokens", "day", 50)), rank="background"),
    Account(name="co/c", rank="critical"),
)


class Bank:
    """A database and the ledger of one process on it."""

    def __init__(self, where: Path | str) -> None:
        books = Books()
        self.where = where
        self.database: Database | Postgres = (
            Postgres(where, statements=statements(), keeper=books)
            if isinstance(where, str)
            else Database(where, statements=statements(), keeper=books)
        )
        self.books = Books()
        self.ledger = EntryLedger(self.database, books)

    def open(self, *accounts: Account) -> None:
        """Make the books say that these accounts and limits are there."""
        with self.database.transaction() as session:
            for one in accounts:
                session.execute("delete from cap where account = $1", (one.name,))
                session.execute("delete from account where name = $1", (one.name,))
                row = (one.name, one.rank, one.zone, one.wait_s)
                session.execute("insert into account (name, class, zone, wait_s) values ($1, $2, $3, $4)", row)
                for cap in one.caps:
                    session.execute(
                        "insert into cap values ($1, $2, $3, $4)", (one.name, cap.unit, cap.period, cap.amount)
                    )
            self.books.changed(session, [one.name for one in accounts], time.time())
        self.ledger.refresh()

    async def hold(self, account: str, *amounts: int, run: int | None = None) -> Any:
        """As the engine does: held, and confirmed by the commit."""
        holds = self.ledger.hold(account, [Amounts(one) for one in amounts], run=run)
        if holds:
            await self.database.writer.durable()
            if self.ledger.refused(holds):
                await self.database.writer.durable()  # those beside it are let go
                return None
        return holds

    async def post(self, hold: int, money: int, kind: Posting = "post") -> None:
        self.ledger.post(hold, Amounts(money), kind=kind)
        await self.database.writer.durable()

    def balance(self, account: str) -> tuple[int, int]:
        """Settled and held against its limit of money."""
        rows = self.database.read("select settled, held from balance where account = $1 and unit = 'money'", (account,))
        return rows[0] if rows else (0, 0)

    def agree(self) -> None:
        """Every balance is the sum of the entries of its window."""
        with self.database.reading() as session:
            tree = self.books.tree(session)
        rows = self.database.read("select account, unit, settled, held, period, start from balance")
        for account, unit, settled, held, period, start in rows:
            window = span(period, start, tree.zone(account))
            column = {"money": "amount"}.get(unit, unit)
            [sums] = self.database.read(
                f"select coalesce(sum(p.{column}), 0), coalesce(sum(case when p.hold is null then h.{column} end), 0) "
                "from hold h left join post p on p.hold = h.hold where h.account || '/' like $1 || '/%' and h.at >= $2 and h.at < $3",
                (account, window.start, window.end),
            )
            assert (settled, held) == sums, account


@pytest.fixture(params=["sqlite", "postgres"])
def where(request, tmp_path):
    """Where the ledger stands. Both stores are to keep the same promises."""
    if request.param == "sqlite":
        return tmp_path / "l.db"
    address: str = request.getfixturevalue("postgres")
    return address


@pytest.fixture
async def bank(where) -> AsyncIterator[Bank]:
    one = Bank(where)
    one.open(*TREE)
    yield one
    await one.database.writer.durable()
    one.agree()
    await one.database.close()


@contextlib.asynccontextmanager
async def another(bank: Bank) -> AsyncIterator[Bank]:
    """Another process on the same database."""
    other = Bank(bank.where)
    yield other
    await other.database.close()


async def test_a_hold_fits_under_every_limit_above_it(bank):
    assert await bank.hold("co/a", 60)
    assert await bank.hold("co/a", 41) is None
    assert await bank.hold("co/a", 40)
    assert bank.balance("co/a") == (0, 100)
    assert await bank.hold("co/b", 300)
    assert await bank.hold("co/c", 601) is None  # the company's
    assert await bank.hold("co/c", 600)
    assert bank.balance("co") == (0, 1_000)
    assert await bank.hold("co", 1) is None


async def test_what_was_held_too_much_comes_back(bank):
    [hold] = await bank.hold("co/a", 100)
    await bank.post(hold, 30)
    assert (bank.balance("co/a"), bank.balance("co")) == ((30, 0), (30, 0))
    assert bank.ledger.left("co/a", run=None) == 70
    assert await bank.hold("co/a", 71) is None
    [hold] = await bank.hold("co/a", 70)
    await bank.post(hold, 0, "void")
    assert bank.balance("co/a") == (30, 0)


async def test_calls_of_one_ask_are_held_together_or_not_at_all(bank):
    assert await bank.hold("co/a", 60, 41) is None
    assert bank.balance("co/a") == (0, 0)
    assert len(await bank.hold("co/a", 60, 40)) == 2


async def test_another_process_refuses_calls_of_one_ask_together(bank):
    async with another(bank) as other:
        assert other.ledger.left("co/a", run=None) == 100  # its mirror knows the account
        assert await bank.hold("co/a", 50)
        assert await other.hold("co/a", 30, 30) is None
        assert bank.balance("co/a") == (0, 50)
        [(count,)] = bank.database.read("select count(*) from hold")
        assert count == 1, "neither was held for a moment"
        assert await other.hold("co/a", 30, 20)


async def test_a_fraction_that_a_late_wage_passes_is_noted(bank):
    [hold] = await bank.hold("co/a", 60)
    with bank.database.transaction() as session:
        bank.books.settle(session, hold, Amounts(60), "post", time.time())
    assert bank.database.read("select account, fraction from warning") == [("co/a", 0.5)]


async def test_a_second_post_changes_nothing(bank):
    [hold] = await bank.hold("co/a", 50)
    await bank.post(hold, 20)
    await bank.post(hold, 50)
    assert bank.balance("co/a") == (20, 0)


async def test_a_post_above_its_hold_is_booked_as_it_is(bank):
    [hold] = await bank.hold("co/a", 50)
    await bank.post(hold, 130)
    assert bank.balance("co/a") == (130, 0)
    assert await bank.hold("co/a", 1) is None
    assert bank.ledger.left("co/a", run=None) == 0


async def test_tokens_have_limits_of_their_own(bank):
    def ask(tokens):
        return bank.ledger.hold("co/b", [Amounts(1, tokens)], run=None)

    assert ask(40)
    assert ask(11) is None
    assert bank.ledger.affords("co/b", Amounts(1, 10), run=None, patient=False)
    short = bank.ledger.shortage("co/b", Amounts(1, 11), run=None)
    assert (short.account, short.cap.unit, short.held, short.asked, short.needed) == ("co/b", "tokens", 40, 11, 11)


@pytest.mark.parametrize("where", ["sqlite"], indirect=True)  # a run is one machine's, and its file's
async def test_the_limit_of_a_run_counts_that_run_alone(bank):
    bank.open(Account(name="co/c", caps=(Cap("money", "run", 10),)))
    assert await bank.hold("co/c", 7, run=1)
    assert await bank.hold("co/c", 4, run=1) is None
    assert await bank.hold("co/c", 10, run=2)
    assert await bank.hold("co/c", 11, run=None) is None


async def test_an_account_that_is_not_there(bank):
    with pytest.raises(UsageError, match=r"no account 'co/d' in the books\. Did you mean 'co/"):
        bank.ledger.hold("co/d", [Amounts(1)], run=None)


async def test_a_changed_limit_holds_from_the_next_hold_on(bank):
    assert await bank.hold("co/a", 90)
    bank.open(Account(name="co/a", caps=(Cap("money", "day", 95),)))
    assert await bank.hold("co/a", 6) is None
    assert await bank.hold("co/a", 5)
    bank.open(Account(name="co/a", caps=(Cap("money", "day", 20),)))  # below what is held already: allowed
    assert await bank.hold("co/a", 1) is None
    bank.open(Account(name="co/a"))
    assert await bank.hold("co/a", 500)


async def test_another_process_is_seen(bank):
    async with another(bank) as other:
        assert await bank.hold("co/a", 60)
        assert await other.hold("co/a", 60) is None
        assert await other.hold("co/a", 40)
        assert await bank.hold("co/a", 1) is None
        other.open(Account(name="co/a", caps=(Cap("money", "day", 200),)))
        assert bank.ledger.affords("co/a", Amounts(100), run=None, patient=False)
        assert await bank.hold("co/a", 100)
        assert await other.hold("co/a", 1) is None


async def test_a_first_limit_set_by_another_process_catches_the_very_next_commit(where):
    bank = Bank(where)
    async with another(bank) as other:
        [before] = await bank.hold("any", 500)
        other.open(Account(name="any", caps=(Cap("money", "day", 600),)))
        assert await bank.hold("any", 101) is None  # the mirror did not know; the commit did
        assert await bank.hold("any", 100)
        await bank.post(before, 50)
        assert other.balance("any") == (50, 100)
        bank.agree()
    await bank.database.close()


async def test_many_at_once_from_two_processes(bank):
    async with another(bank) as other:
        found = await asyncio.gather(*(one.hold("co/c", 7) for one in (bank, other) * 200))
        assert sum(map(bool, found)) == 1_000 // 7
        assert bank.balance("co") == (0, 7 * (1_000 // 7))


async def test_what_a_dead_process_left_open_is_posted_in_full(bank):
    async with another(bank) as other:
        [one] = await other.hold("co/a", 30)
        await other.hold("co/c", 5)
        await other.post(one, 10)
        [two] = await other.hold("co/a", 30)
    assert (bank.balance("co/a"), bank.balance("co")) == ((40, 0), (45, 0))  # closing leaves nothing open either
    assert bank.database.read("select kind, amount from post where hold = $1", (two,)) == [("unknown", 30)]


async def test_who_waits_is_served_when_money_comes_back(bank):
    [hold] = await bank.hold("co/a", 80)
    waiting = asyncio.create_task(bank.ledger.wait("co/a", [Amounts(50)], run=None))
    await asyncio.sleep(0.01)
    assert bank.ledger.hold("co/a", [Amounts(1)], run=None) is None, "nobody goes before who waits"
    await bank.post(hold, 50)
    assert await waiting
    await bank.database.writer.durable()
    assert bank.balance("co/a") == (50, 50)


async def test_many_wait_at_one_limit(bank):
    [hold] = await bank.hold("co/a", 80)
    waiting = [asyncio.create_task(bank.ledger.wait("co/a", [Amounts(30)], run=None)) for _ in range(5)]
    await asyncio.sleep(0.01)
    await bank.post(hold, 0)  # with everybody's word that it waits, in one commit
    assert [bool(holds) for holds in await asyncio.gather(*waiting[:3])] == [True] * 3
    for one in waiting[3:]:
        one.cancel()
    await asyncio.gather(*waiting[3:], return_exceptions=True)


async def test_who_waits_hears_of_another_process(bank):
    async with another(bank) as other:
        [hold] = await other.hold("co/a", 80)
        waiting = asyncio.create_task(bank.ledger.wait("co/a", [Amounts(50)], run=None))
        await asyncio.sleep(0.01)
        await other.post(hold, 20)
        assert await asyncio.wait_for(waiting, 1)
        await bank.database.writer.durable()


async def test_waiting_for_what_is_settled_is_no_use(bank):
    [hold] = await bank.hold("co/a", 80)
    waiting = asyncio.create_task(bank.ledger.wait("co/a", [Amounts(50)], run=None))
    await asyncio.sleep(0.01)
    await bank.post(hold, 60)
    assert await asyncio.wait_for(waiting, 1) is None
    assert await bank.ledger.wait("co/a", [Amounts(101)], run=None) is None


async def test_waiting_ends(bank):
    bank.open(Account(name="co/a", caps=(DAY,), wait_s=0.05))
    [hold] = await bank.hold("co/a", 80)
    assert await bank.ledger.wait("co/a", [Amounts(50)], run=None) is None
    waiting = asyncio.create_task(bank.ledger.wait("co/a", [Amounts(50)], run=None))
    await asyncio.sleep(0)
    waiting.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await waiting
    await bank.post(hold, 0, "void")
    assert await bank.hold("co/a", 100)


async def test_the_higher_class_first_and_nobody_starves():
    ledger = MemoryLedger(Tree([Account(name="co", caps=(Cap("money", "forever", 10),)), *TREE[2:]]))
    served: list[str] = []

    async def call(account: str) -> None:
        holds = ledger.hold(account, [Amounts(10)], run=None) or await ledger.wait(account, [Amounts(10)], run=None)
        assert holds
        served.append(account)
        await asyncio.sleep(0)
        ledger.post(holds[0], Amounts(0), kind="void")

    first = ledger.hold("co", [Amounts(10)], run=None)
    assert first
    calls = [asyncio.create_task(call(account)) for account in ["co/b"] * 3 + ["co/c"] * 40]
    await asyncio.sleep(0)
    ledger.post(first[0], Amounts(0), kind="void")
    await asyncio.gather(*calls)
    assert served[:16] == ["co/c"] * 16
    assert served.index("co/b") == 16
    assert served[17:33] == ["co/c"] * 16


async def test_the_higher_class_goes_first_between_processes_too(bank):
    """A background process that always has calls at hand lets a critical one's waiting call go first."""
    async with another(bank) as other:
        held = [hold for _ in range(10) for hold in await other.hold("co/b", 100) or ()] + [
            hold for _ in range(10) for hold in await other.hold("co/a", 10) or ()
        ]
        rest = await other.hold("co/c", 1_000 - sum(bank.balance("co")))
        waiting = asyncio.create_task(bank.ledger.wait("co/c", [Amounts(150)], run=None))
        await asyncio.sleep(0.02)
        calls = 0
        while not waiting.done() and held:
            await other.post(held.pop(), 0, "void")
            if again := await other.hold("co/a", 10):
                held += again
                calls += 1
            await asyncio.sleep(0.03)
        assert await asyncio.wait_for(waiting, 2)
        await bank.database.writer.durable()
        assert calls <= 1, "one at most, before it heard"
        assert rest
        await bank.post(waiting.result()[0], 0, "void")
        await asyncio.sleep(0.1)
        assert other.ledger.hold("co/a", [Amounts(1)], run=None) or await other.ledger.wait(
            "co/a", [Amounts(1)], run=None
        )
        await other.database.writer.durable()


async def test_a_clock_that_is_set_back_opens_no_old_window(bank, monkeypatch):
    now = time.time()
    await bank.hold("co/a", 100)
    monkeypatch.setattr("orchestrion.ledger.local.time.time", lambda: now + 86_400)
    assert await bank.hold("co/a", 100)
    monkeypatch.setattr("orchestrion.ledger.local.time.time", lambda: now)
    assert await bank.hold("co/a", 1) is None
    rows = bank.database.read("select span, held from balance where account = 'co/a' order by span")
    assert [held for _, held in rows] == [100, 100]
    bank.database.writer.put("post", (1, "void", 0, 0, 0, 0))  # nobody's hold
    await bank.database.writer.durable()


async def test_fractions_of_a_limit_are_told_once(bank):
    for spent in (40, 15, 30, 10):
        [hold] = await bank.hold("co/a", spent)
        await bank.post(hold, spent)
    said = [str(one) for one in bank.ledger.warnings]
    assert [one.split(" of its ")[0] for one in said] == [f"account 'co/a' has spent {n}%" for n in (50, 80, 95)]


async def test_a_second_post_in_the_same_commit_changes_nothing(bank):
    [hold] = await bank.hold("co/a", 50)
    bank.ledger.post(hold, Amounts(20), kind="post")
    bank.ledger.post(hold, Amounts(50), kind="unknown")
    await bank.database.writer.durable()
    assert bank.balance("co/a") == (20, 0)
    holds = bank.ledger.hold("co/a", [Amounts(30)], run=None)
    bank.ledger.post(holds[0], Amounts(5), kind="post")
    bank.ledger.post(holds[0], Amounts(5), kind="post")
    await bank.database.writer.durable()
    assert bank.balance("co/a") == (25, 0)


async def test_a_change_that_was_rolled_back_is_forgotten(bank):
    def half_done():
        with bank.database.transaction() as session:
            session.execute("update cap set amount = 500 where account = 'co/a'")
            bank.books.changed(session, ["co/a"], 0.0)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        half_done()
    async with another(bank) as other:
        other.open(Account(name="co/a", caps=(Cap("money", "day", 10),)))
        with bank.database.transaction() as session:
            assert bank.books.tree(session).accounts["co/a"].caps[0].amount == 10


async def test_a_limit_set_by_a_clock_that_was_set_back_counts_what_is_there(bank, monkeypatch):
    import time

    now = time.time()
    bank.open(Account(name="co/x"))
    monkeypatch.setattr("time.time", lambda: now + 86_400)
    [hold] = await bank.hold("co/x", 90)
    await bank.post(hold, 90)
    monkeypatch.setattr("time.time", lambda: now)
    bank.open(Account(name="co/x", caps=(DAY,)))
    monkeypatch.setattr("time.time", lambda: now + 86_400)
    assert await bank.hold("co/x", 20) is None


async def test_what_was_held_as_nothing_is_settled_all_the_same(bank):
    bank.open(Account(name="co/x", caps=(Cap("attention", "day", 600),)))
    [hold] = bank.ledger.hold("co/x", [Amounts(1, 0, 0)], run=None)
    bank.ledger.post(hold, Amounts(1, 0, 240), kind="post")
    await bank.database.writer.durable()
    assert bank.database.read("select settled from balance where unit = 'attention'") == [(240,)]


async def test_who_is_served_as_its_time_ends_has_its_hold(bank, monkeypatch):
    """The timeout and the served future come in one turn of the loop."""
    bank.open(Account(name="co/a", caps=(DAY,), wait_s=0.05))
    [hold] = await bank.hold("co/a", 100)
    waiting = asyncio.create_task(bank.ledger.wait("co/a", [Amounts(50)], run=None))
    await asyncio.sleep(0.01)
    import time

    time.sleep(0.06)  # noqa: ASYNC251  # the loop is late: both are due
    bank.ledger.post(hold, Amounts(0), kind="void")
    found = await waiting
    await bank.database.writer.durable()
    assert bank.balance("co/a") == (0, 50 if found else 0), "what nobody knows to have is not held"
