"""Machines that share one ledger: two files, one Postgres. Nothing over a limit, nothing lost, and money comes back."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import hypothesis
import hypothesis.strategies as st
import psycopg
import pytest

from orchestrion.errors import StoreError, UsageError
from orchestrion.ledger.accounts import Account, Amounts, Cap
from orchestrion.ledger.books import Books
from orchestrion.ledger.leases import LeasedLedger, Notes, statements
from orchestrion.ledger.lender import Errand, Want
from orchestrion.store.database import Database
from orchestrion.store.postgres import LEDGER_LOCK, SETTINGS, Postgres, PostgresConnection
from tests.servers import new_database

TREE = (
    Account(name="co", caps=(Cap("money", "forever", 1_000),)),
    Account(name="co/a", caps=(Cap("money", "day", 100),)),
    Account(name="co/b", rank="background"),
    Account(name="co/c", rank="critical", caps=(Cap("tokens", "forever", 50), Cap("money", "run", 30))),
    Account(name="co/p", caps=(Cap("attention", "week", 600),)),
)


class Machine:
    """A file, and the leased ledger of one process on it."""

    def __init__(self, path: Path, address: str) -> None:
        self.database = Database(path, statements=statements(), keeper=Notes())
        self.ledger = LeasedLedger(self.database, Postgres(address, token=self.database.token))
        self._closed = False

    async def hold(self, account: str, *asked: Amounts | int, run: int | None = None) -> list[int] | None:
        """As the engine does: at once, or after waiting."""
        demands = [one if isinstance(one, Amounts) else Amounts(one) for one in asked]
        async with asyncio.timeout(10):
            holds = self.ledger.hold(account, demands, run=run) or await self.ledger.wait(account, demands, run=run)
        if holds:
            await self.database.writer.durable()
        return holds

    async def call(self, account: str, asked: int, spent: int, *, takes: float = 0.0) -> bool:
        """A whole call; whether it could be made."""
        holds = await self.hold(account, asked)
        if holds:
            await asyncio.sleep(takes)
            self.ledger.post(holds[0], Amounts(spent), kind="post")
        return bool(holds)

    async def close(self) -> None:
        if not self._closed:
            self._closed = True
            await self.ledger.close()
            await self.database.close()


def read(address: str, statement: str, *row: Any) -> list[tuple[Any, ...]]:
    """What the shared ledger says."""
    with psycopg.connect(address, options="-c search_path=orchestrion", cursor_factory=psycopg.RawCursor) as connection:
        return connection.execute(statement, row).fetchall()


def balance(address: str, account: str, unit: str = "money") -> tuple[int, int]:
    rows = read(address, "select settled, held from balance where account = $1 and unit = $2", account, unit)
    return (rows[0][0], rows[0][1]) if rows else (0, 0)


def agree(address: str) -> None:
    """Every balance is the sum of its entries, and no more than its limit."""
    for account, unit, settled, held in read(address, "select account, unit, settled, held from balance"):
        column = {"money": "amount"}.get(unit, unit)
        [sums] = read(
            address,
            f"select coalesce(sum(p.{column}), 0)::bigint, coalesce(sum(case when p.hold is null then h.{column} end), 0)::bigint "
            "from hold h left join post p on p.hold = h.hold where h.account || '/' like $1 || '/%'",
            account,
        )
        assert (settled, held) == sums, account
        assert held >= 0


def change(address: str, *accounts: Account) -> None:
    """Make the books say that these accounts and limits are there."""
    shared = Postgres(address)
    with shared.transaction() as session:
        for one in accounts:
            session.execute("delete from cap where account = $1", (one.name,))
            session.execute("delete from account where name = $1", (one.name,))
            row = (one.name, one.rank, one.wait_s)
            session.execute("insert into account (name, class, wait_s) values ($1, $2, $3)", row)
            for cap in one.caps:
                session.execute("insert into cap values ($1, $2, $3, $4)", (one.name, cap.unit, cap.period, cap.amount))
        Books().changed(session, [one.name for one in accounts], time.time())
        shared.ended(session, shared.process)
    shared.connection.close()


async def until(true: Any, *, seconds: float = 4.0) -> None:
    """Wait until something is so."""
    async with asyncio.timeout(seconds):
        while not true():  # noqa: ASYNC110  # it is the database's to say
            await asyncio.sleep(0.02)


@pytest.fixture
def address(postgres: str) -> str:
    change(postgres, *TREE)
    return postgres


@pytest.fixture
async def machines(address, tmp_path) -> AsyncIterator[tuple[Machine, Machine]]:
    both = Machine(tmp_path / "one.db", address), Machine(tmp_path / "two.db", address)
    yield both
    for one in both:
        await one.close()
    agree(address)
    assert (
        balance(address, "co")[1]
        == read(
            address,
            "select coalesce(sum(amount), 0)::bigint from hold join question using (hold) where hold not in (select hold from post)",
        )[0][0]
    ), "closing gives everything back but what is held for people"


@pytest.fixture
def one(machines):
    return machines[0]


@pytest.fixture
def two(machines):
    return machines[1]


async def test_calls_are_carved_and_their_sum_is_posted(one, address):
    assert await one.call("co/b", 10, 4)
    assert await one.call("co/b", 10, 6)
    slices = one.database.read("select distinct slice from hold")
    assert len(slices) <= 2
    await one.close()
    assert balance(address, "co") == (10, 0)
    assert read(address, "select sum(amount)::bigint from post") == [(10,)]


async def test_a_cap_that_pays_for_twenty_calls_serves_all_twenty(one, two):
    served = await asyncio.gather(*(machine.call("co/a", 5, 5, takes=0.01) for machine in (one, two) * 100))
    assert sum(served) == 20


async def test_a_cap_is_used_up_where_calls_take_less_than_they_hold(one, two):
    served = await asyncio.gather(*(machine.call("co/a", 20, 5, takes=0.01) for machine in (one, two) * 20))
    assert sum(served) == 17, "16 × 5, and one more that fits in the last 20"


async def test_what_a_call_needs_is_all_or_none(one, address):
    assert len(await one.hold("co/a", 60, 40)) == 2
    assert await one.hold("co/c", Amounts(1, 30), Amounts(1, 21)) is None
    assert balance(address, "co/c", "tokens") == (0, 0)


async def test_limits_of_tokens_and_of_runs(one):
    [first] = await one.hold("co/c", Amounts(10, 40), run=1)
    one.ledger.post(first, Amounts(10, 40), kind="post")
    assert await one.hold("co/c", Amounts(21, 0), run=1) is None, "the run has 30"
    assert await one.hold("co/c", Amounts(1, 11), run=2) is None
    assert await one.hold("co/c", Amounts(25, 10), run=2)
    short = one.ledger.shortage("co/c", Amounts(1, 11), run=2)
    assert (short.account, short.cap.unit, short.settled) == ("co/c", "tokens", 40)


async def test_an_account_that_is_not_there(one):
    with pytest.raises(UsageError, match="Did you mean 'co/a'"):
        one.ledger.hold("co/aa", [Amounts(1)], run=None)


async def test_an_idle_slice_comes_back_within_about_a_second(one, two, address):
    [hold] = await one.hold("co/a", 80)
    assert balance(address, "co/a") == (0, 80)
    one.ledger.post(hold, Amounts(30), kind="post")
    began = time.monotonic()
    assert await two.hold("co/a", 70), "its machine hears that somebody waits"
    assert time.monotonic() - began < 1.5
    assert one.ledger.left("co/a", run=None) == 70


async def test_the_rest_of_a_slice_with_an_open_call_comes_back(one, two, address):
    change(address, Account(name="co/a", caps=(Cap("money", "day", 100),), wait_s=3.0))
    holds = await asyncio.gather(*(one.hold("co/a", 25) for _ in range(4)))
    for [hold] in holds[1:]:
        one.ledger.post(hold, Amounts(5), kind="post")
    assert await two.hold("co/a", 60), "25 are held by the open call, 15 are spent"
    one.ledger.post(holds[0][0], Amounts(25), kind="post")


async def test_what_is_settled_stands_in_the_way_for_good(one, two):
    assert await one.call("co/a", 90, 90)
    began = time.monotonic()
    assert await two.hold("co/a", 11) is None
    assert time.monotonic() - began < 2
    assert two.ledger.left("co/a", run=None) == 10
    assert two.ledger.shortage("co/a", Amounts(11), run=None).needed == 101


async def test_a_changed_limit_holds_within_about_a_second(one, two, address):
    [hold] = await one.hold("co/b", 10)
    one.ledger.post(hold, Amounts(1), kind="post")
    change(address, Account(name="co", caps=(Cap("money", "forever", 5),)))
    await until(lambda: one.ledger.tree.accounts["co"].caps[0].amount == 5, seconds=1.0)
    assert one.ledger.hold("co/b", [Amounts(1)], run=None) is None, "what was carved from before is given back"
    assert await one.hold("co/b", 5) is None
    assert await one.hold("co/b", 4)


async def test_a_past_window_is_carved_from_no_more(one, address):
    [hold] = await one.hold("co/a", 50)
    one.ledger.post(hold, Amounts(1), kind="post")
    slice = one.ledger._leases["co/a"].slice
    slice.end = one.ledger._now()  # midnight has passed
    assert one.ledger.hold("co/a", [Amounts(1)], run=None) is None
    assert await one.hold("co/a", 1)
    assert len(one.database.read("select distinct slice from hold")) == 2


async def test_a_question_to_a_person_is_held_by_itself(one, two, address, tmp_path):
    ask = Amounts(30, 0, 300)
    [hold] = await one.hold("co/p", ask)
    with one.database.transaction() as session:  # as the engine puts it, in the commit of its hold
        session.execute(
            "insert into review (hold, run, key, worker, wage, digest, asked, state, minutes) values ($1, 1, '', 'ana', 1, '', 0, 'open', 5)",
            (hold,),
        )
    assert await two.hold("co/p", ask)
    assert await two.hold("co/p", Amounts(1, 0, 1)) is None, "a person's answer may take days: nobody waits for it"
    assert balance(address, "co/p", "attention") == (0, 600)
    path = one.database.path
    await one.close()
    assert balance(address, "co/p", "attention") == (0, 600), "it outlives the process that put it"
    again = Machine(path, address)
    with again.database.transaction() as session:  # a decision: by the file's books, wherever it is taken
        Books().settle(session, hold, Amounts(20, 0, 120), "post", time.time())
    await again.close()
    assert balance(address, "co/p", "attention") == (120, 300)


async def test_a_correction_is_told(one, address):
    [hold] = await one.hold("co/a", 50)
    one.ledger.post(hold, Amounts(50), kind="unknown")
    await until(lambda: balance(address, "co/a") == (50, 0))
    assert read(address, "select kind from post") == [("unknown",)]
    with one.database.transaction() as session:
        Books().correct(session, hold, Amounts(7), "post", time.time())
    await until(lambda: balance(address, "co/a") == (7, 0))
    assert read(address, "select kind from post") == [("post",)]


async def test_the_higher_class_goes_first_on_whatever_machine(one, two, address):
    [hold] = await one.hold("co/b", 1_000)
    order: list[str] = []

    async def call(machine: Machine, account: str) -> None:
        holds = await machine.hold(account, 400) or []
        order.append(account)
        await asyncio.sleep(0.3)
        machine.ledger.post(holds[0], Amounts(0), kind="void")

    background = [asyncio.create_task(call(one, "co/b")) for _ in range(3)]
    await asyncio.sleep(0.2)
    standard = [asyncio.create_task(call(two, "co")) for _ in range(2)]
    await asyncio.sleep(0.3)
    one.ledger.post(hold, Amounts(0), kind="void")
    await asyncio.gather(*background, *standard)
    assert order[:2] == ["co", "co"]


async def test_a_lost_connection_is_made_anew_and_nothing_is_lost(one, two, address):
    [before] = await one.hold("co/a", 30)
    read(
        address,
        "select pg_terminate_backend(pid) from pg_stat_activity where pid <> pg_backend_pid() and datname = current_database()",
    )
    again = Machine(one.database.path.with_name("three.db"), address)
    assert balance(address, "co/a") == (30, 0), "whoever opens next takes the processes for dead"
    await again.close()
    one.ledger.post(before, Amounts(10), kind="post")
    assert await one.call("co/a", 20, 20)
    assert await two.call("co/a", 20, 20)
    await until(lambda: balance(address, "co/a") == (50, 0))


async def test_a_server_that_is_away(one, address, monkeypatch):
    change(address, Account(name="co/a", caps=(Cap("money", "day", 100),), wait_s=0.5))
    assert await one.call("co/a", 5, 5)
    monkeypatch.setattr(one.ledger._shared.connection, "_url", "postgresql://nobody:geheim@localhost:1/none")
    one.ledger._shared.connection.close()
    with pytest.raises(StoreError, match="cannot be reached") as raised:
        await one.hold("co/a", 50)
    assert "geheim" not in str(raised.value)
    monkeypatch.undo()
    assert await one.call("co/a", 50, 50)


async def test_a_model_asked_beside_questions_is_no_question(one, address):
    change(address, Account(name="co/p", caps=(Cap("attention", "week", 6_000),)))
    asks = [asyncio.create_task(one.hold("co/p", Amounts(30, 0, 300))) for _ in range(2)]
    calls = [asyncio.create_task(one.hold("co/p", Amounts(5))) for _ in range(4)]
    await asyncio.gather(*asks, *calls)
    assert read(address, "select attention from hold order by hold") == [(300,), (300,), (0,)]
    assert len(read(address, "select 1 from question")) == 2


async def test_a_question_that_nobody_was_asked_ends_with_its_process(one, address, tmp_path):
    path = tmp_path / "three.db"
    machine = Machine(path, address)
    want = Want(account="co/p", parts=(Amounts(30, 0, 300),), wish=None, rank=1, waited=0.0)
    machine.ledger._lender.run(Errand(wants=[want]))
    assert balance(address, "co/p", "attention") == (0, 300)
    machine.ledger._shared.connection.close()  # killed before its own file had the question
    await machine.database.close()
    one.ledger._lender.bury()
    assert balance(address, "co/p", "attention") == (0, 300), "another machine cannot know"
    await Machine(path, address).close()
    assert balance(address, "co/p", "attention") == (0, 0)


async def test_a_process_is_known_whatever_became_of_its_first_transaction(address):
    shared = Postgres(address)
    with pytest.raises(UsageError), shared.transaction():
        raise UsageError("no")
    with shared.transaction() as session:
        assert session.execute("select 1 from process where no = $1 and ended is null", (shared.process,))
    shared.connection.close()


async def test_windows_are_of_the_servers_clock(one, two, address, tmp_path, monkeypatch):
    assert await one.call("co/a", 90, 90)
    await until(lambda: balance(address, "co/a") == (90, 0))
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + 90_000)  # a day ahead
    ahead = Machine(tmp_path / "three.db", address)
    for machine in (ahead, two):
        assert await machine.hold("co/a", 20) is None
        assert machine.ledger.left("co/a", run=None) == 10
        assert "settled=90" in str(machine.ledger.shortage("co/a", Amounts(20), run=None))
    await ahead.close()


async def test_a_clock_that_is_set_back(one, address, monkeypatch):
    assert await one.call("co/a", 20, 5)
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() - 3_600)
    assert await one.call("co/a", 50, 5)
    await until(lambda: balance(address, "co/a") == (10, 0))


async def test_a_server_that_says_nothing_does_not_keep_a_process_from_ending(address, tmp_path, monkeypatch):
    monkeypatch.setattr("orchestrion.ledger.leases.SILENT_S", 0.5)
    machine = Machine(tmp_path / "three.db", address)
    assert await machine.call("co/a", 5, 5)
    with psycopg.connect(address) as other:
        other.execute("select pg_advisory_xact_lock(%s, 0)", (LEDGER_LOCK,))
        began = time.monotonic()
        await machine.close()
        assert time.monotonic() - began < 3
    await Machine(tmp_path / "three.db", address).close()
    assert balance(address, "co/a") == (5, 0), "its file tells"


async def test_who_falls_silent_within_a_transaction_is_sent_away(address, monkeypatch):
    monkeypatch.setattr("orchestrion.store.postgres.SETTINGS", SETTINGS.replace("'10s'", "'200ms'"))
    silent, other = Postgres(address), Postgres(address)

    def fall_silent() -> None:
        with silent.transaction(), other.transaction():  # the other one waits for its lock
            pass

    with pytest.raises(StoreError):
        fall_silent()
    assert other.read("select 1"), "it was let in"
    other.connection.close()
    silent.connection.close()


async def test_a_machine_that_is_busy_lets_others_have_their_turn(one, two, address):
    """Its slice is never idle, and far from spent."""
    change(address, Account(name="co/a", caps=(Cap("money", "day", 1_000),)))
    stop = False

    async def lane() -> None:
        while not stop:
            await one.call("co/a", 250, 1, takes=0.02)

    lanes = [asyncio.create_task(lane()) for _ in range(16)]
    await asyncio.sleep(0.5)
    began = time.monotonic()
    served = await two.call("co/a", 250, 1)
    waited = time.monotonic() - began
    stop = True
    await asyncio.gather(*lanes)
    assert served
    assert waited < 1.5


async def test_a_server_that_comes_later(address, tmp_path, monkeypatch):
    away = PostgresConnection.connect
    monkeypatch.setattr(PostgresConnection, "connect", _refused)
    machine = Machine(tmp_path / "three.db", address)
    with pytest.raises(StoreError, match="cannot be reached"):
        await machine.hold("co/a", 1)
    monkeypatch.setattr(PostgresConnection, "connect", away)
    await asyncio.sleep(0.6)
    assert await machine.call("co/a", 1, 1)
    await machine.close()


def _refused(self: PostgresConnection) -> None:
    raise psycopg.OperationalError("connection refused")


async def test_a_correction_while_another_is_told_is_not_lost(one, address):
    [hold] = await one.hold("co/a", 50)
    one.ledger.post(hold, Amounts(50), kind="unknown")
    await until(lambda: balance(address, "co/a") == (50, 0))
    with one.database.transaction() as session:
        Books().correct(session, hold, Amounts(7), "post", time.time())
    [(slice,)] = one.database.read("select slice from owed")
    one.ledger._put("told", (slice, 50, 0, 0))  # what was read before the correction
    await one.database.writer.durable()
    assert one.database.read("select slice from owed") == [(slice,)]
    await until(lambda: balance(address, "co/a") == (7, 0))


@pytest.mark.parametrize("secret", ["geh@eim", "geh/eim", "12/eim"])
def test_a_password_that_is_badly_written_is_not_shown(secret):
    with pytest.raises(StoreError, match="cannot be read") as raised:
        Postgres(f"postgresql://me:{secret}@localhost/db")
    assert "eim" not in str(raised.value)


def test_what_took_long_to_fail_is_not_tried_again_for_as_long(monkeypatch):
    tried = []

    def connect(*given: Any, **more: Any) -> None:
        tried.append(given)
        time.sleep(0.3)
        raise psycopg.OperationalError("timeout expired")

    monkeypatch.setattr(psycopg, "connect", connect)
    shared = Postgres("postgresql://me@localhost/db")
    for _ in range(3):
        with pytest.raises(StoreError, match="timeout expired"):
            shared.read("select 1")
    assert len(tried) == 1


@hypothesis.settings(max_examples=8, phases=[hypothesis.Phase.explicit, hypothesis.Phase.generate])
@hypothesis.given(
    calls=st.lists(
        st.tuples(st.sampled_from(["co/a", "co/b"]), st.integers(0, 40), st.floats(0, 1), st.booleans()),
        min_size=1,
        max_size=20,
    )
)
def test_slices_against_a_plain_model(server, tmp_path_factory, calls):
    """Of calls one after the other, those are made that fit under every limit, as if each were held by itself."""
    address = new_database(server, f"model_{time.monotonic_ns()}")
    change(address, *TREE)
    settled = {"co": 0, "co/a": 0, "co/b": 0}
    limits = {"co": 1_000, "co/a": 100}

    async def go() -> None:
        both = [Machine(tmp_path_factory.mktemp("m") / "m.db", address) for _ in range(2)]
        for account, asked, share, second in calls:
            spent = int(asked * share)
            fits = all(settled[name] + asked <= limits.get(name, 10**9) for name in ("co", account))
            # Money that stands idle in a slice of the other machine is waited for.
            assert await both[second].call(account, asked, spent) == fits
            if fits:
                for name in ("co", account):
                    settled[name] += spent
        for machine in both:
            await machine.close()

    asyncio.run(go())
    agree(address)
    for name in limits:
        assert balance(address, name) == (settled[name], 0)
