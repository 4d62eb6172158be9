"""The ledger beside a plain model of it: whatever processes do to one database, in whatever order, the books say what a list of
holds and a few sums say."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)

from orchestrion.journal.embedded import statements as journal_statements
from orchestrion.ledger.accounts import PERIODS, UNITS, Account, Amounts, Cap, Tree, span
from orchestrion.ledger.books import Books, statements
from orchestrion.ledger.entries import EntryLedger
from orchestrion.store.database import Database

ACCOUNTS = ("co", "co/u", "co/u/c", "co/u/c/r", "co/v", "co/v/d")
ZERO = Amounts(0, 0, 0)
NOON = 1_764_158_400.0  # 2025-11-26, a Wednesday
HOUR = 3600.0


@dataclass
class Held:
    """A hold as the model knows it. ``posted``: what became of it."""

    account: str
    asked: Amounts
    run: int
    at: float
    process: Process
    posted: tuple[str, Amounts] | None = None

    def sums(self, unit: int) -> tuple[int, int]:
        """What it counts as settled, and as held."""
        return (self.posted[1][unit], 0) if self.posted else (0, self.asked[unit])


class Process:
    """One process on the database, as far as the ledger can tell."""

    def __init__(self, path: Path) -> None:
        books = Books()
        written = journal_statements() | statements()
        self.database = Database(path, statements=written, claims="claim", keeper=books)
        for connection in (self.database.reader, self.database._connection):
            connection.pragma("synchronous", "off")  # nothing here loses its power
        self.ledger = EntryLedger(self.database, books)

    def hold(self, account: str, demands: list[Amounts], run: int) -> list[int] | None:
        """Put in one batch with what the journal knows of the run, as the engine does."""
        holds = self.ledger.hold(account, demands, run=run)
        if holds:
            calls = "[" + ",".join(f'[{hold},"w",0,[]]' for hold in holds) + "]"
            self.database.writer.put("ask", (run, "", "s", 0, 0, "", None, calls, None))
        return holds

    async def held(self, account: str, demands: list[Amounts], run: int) -> list[int] | None:
        holds = self.hold(account, demands, run)
        if holds:
            await self.database.writer.durable()
            if self.ledger.refused(holds):
                await self.database.writer.durable()
                return None
        return holds

    def die(self) -> None:
        """What kill -9 leaves: a file lock that is free, a file, and nobody who clears up."""
        self.database.writer._queue.put(None)
        if self.database.writer._thread:
            self.database.writer._thread.join()
        self.database.reader.close()
        self.database._connection.close()
        os.close(self.database._lock)


def amounts(most: int) -> st.SearchStrategy[Amounts]:
    return st.builds(Amounts, st.integers(0, most), st.integers(0, most // 2), st.integers(0, most // 4))


caps = st.lists(
    st.builds(Cap, st.sampled_from(UNITS), st.sampled_from(PERIODS), st.integers(0, 150)),
    max_size=3,
    unique_by=lambda cap: (cap.unit, cap.period),
)
processes = st.integers(0, 2)


class Ledgers(RuleBasedStateMachine):
    """Three processes, six accounts on four levels, and a clock that goes as it likes."""

    holds = Bundle("holds")

    @initialize(limits=st.lists(caps, min_size=len(ACCOUNTS), max_size=len(ACCOUNTS)))
    def begin(self, limits: list[list[Cap]]) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="ledger-model-"))
        self.path = self.folder / "l.db"
        self.now = NOON
        self.real_time, time.time = time.time, lambda: self.now
        self.loop = asyncio.new_event_loop()
        self.model: dict[int, Held] = {}
        self.limits: dict[str, tuple[Cap, ...]] = {}
        self.no_run = 0
        self.processes = [Process(self.path) for _ in range(3)]
        self.runs = [0, 0, 0]
        for i in range(3):
            self.begin_run(i)
        for account, own in zip(ACCOUNTS, limits, strict=True):
            self.set_limits(account, own, 0)

    def teardown(self) -> None:
        if not hasattr(self, "folder"):
            return
        for process in self.processes:
            self.loop.run_until_complete(process.database.close())
        self.loop.close()
        time.time = self.real_time
        shutil.rmtree(self.folder)

    # The model

    def above(self, account: str) -> Iterator[tuple[str, Cap]]:
        parts = account.split("/")
        for i in range(len(parts)):
            name = "/".join(parts[: i + 1])
            for cap in self.limits[name]:
                yield name, cap

    def counted(self, name: str, cap: Cap, at: float, run: int) -> tuple[int, int]:
        """Settled and held against a limit: of the holds below it that were made in the window of ``at`` (or in the run)."""
        window, unit = span(cap.period, at, "UTC"), UNITS.index(cap.unit)
        own = [
            held.sums(unit)
            for held in self.model.values()
            if (held.account == name or held.account.startswith(name + "/"))
            and (held.run == run if cap.period == "run" else window.start <= held.at < window.end)
        ]
        return sum(one[0] for one in own), sum(one[1] for one in own)

    def fits(self, account: str, asked: Amounts, at: float, run: int) -> bool:
        return all(
            not asked[UNITS.index(cap.unit)]
            or sum(self.counted(name, cap, at, run)) + asked[UNITS.index(cap.unit)] <= cap.amount
            for name, cap in self.above(account)
        )

    # What happens

    @rule(i=processes)
    def begin_run(self, i: int) -> None:
        self.no_run += 1
        self.runs[i] = self.no_run

    @rule(
        target=holds,
        i=processes,
        account=st.sampled_from(ACCOUNTS),
        demands=st.lists(amounts(60), min_size=1, max_size=3),
    )
    def hold(self, i: int, account: str, demands: list[Amounts]) -> Any:
        process, run = self.processes[i], self.runs[i]
        if any(held.run == run and held.account != account for held in self.model.values()):
            self.begin_run(i)  # a run has one account
            run = self.runs[i]
        total = Amounts(*map(sum, zip(*demands, strict=True)))
        made = self.loop.run_until_complete(process.held(account, demands, run))
        if made is None and self.fits(account, total, process.ledger._now(), run):
            # Others' posts are heard of when somebody looks; an answer that waits looks by itself.
            assert process.ledger.affords(account, total, run=run, patient=False)
            made = self.loop.run_until_complete(process.held(account, demands, run))
            assert made, "payable, and not served"
        if made is None:
            return multiple()
        [(at,)] = process.database.read("select distinct at from hold where hold in (?, ?, ?)", (made * 3)[:3])
        assert self.fits(account, total, at, run), "served, and over a limit"
        for hold, asked in zip(made, demands, strict=True):
            self.model[hold] = Held(account, asked, run, at, process)
        return multiple(*made)

    def posted(self, hold: int, kind: str, spent: Amounts) -> None:
        if self.model[hold].posted is None:
            self.model[hold].posted = (kind, spent)

    @rule(hold=holds, spent=amounts(90), kind=st.sampled_from(["post", "post", "unknown", "void"]), again=st.booleans())
    def post(self, hold: int, spent: Amounts, kind: str, again: bool) -> None:
        """Less than held, or as much, or more; perhaps twice in one commit; perhaps what was posted long ago."""
        held = self.model[hold]
        spent = {"post": spent, "unknown": held.asked, "void": ZERO}[kind]
        if held.process not in self.processes:
            return
        for _ in range(2 if again else 1):
            held.process.ledger.post(hold, spent, kind=kind)  # type: ignore[arg-type]  # one of the three
        self.loop.run_until_complete(held.process.database.writer.durable())
        self.posted(hold, kind, spent)

    @rule(hold=holds, spent=amounts(60), i=processes)
    def settle_elsewhere(self, hold: int, spent: Amounts, i: int) -> None:
        """A decision's wage: booked by a process that did not make the hold."""
        with self.processes[i].database.transaction() as session:
            done = Books().settle(session, hold, spent, "post", self.now)
        assert done == (self.model[hold].posted is None)
        self.posted(hold, "post", spent)

    @rule(hold=holds, spent=amounts(60), i=processes)
    def correct(self, hold: int, spent: Amounts, i: int) -> None:
        """The provider's bill came."""
        posted = self.model[hold].posted
        with self.processes[i].database.transaction() as session:
            if posted is None:
                with pytest.raises(KeyError):
                    Books().correct(session, hold, spent, "post", self.now)
                return
            assert Books().correct(session, hold, spent, "post", self.now) == posted[1]
        self.model[hold].posted = ("post", spent)

    @rule(account=st.sampled_from(ACCOUNTS), own=caps, i=processes)
    def set_limits(self, account: str, own: list[Cap], i: int) -> None:
        with self.processes[i].database.transaction() as session:
            session.execute("insert into account (name) values ($1) on conflict do nothing", (account,))
            session.execute("delete from cap where account = $1", (account,))
            for cap in own:
                row = (account, cap.unit, cap.period, cap.amount)
                session.execute("insert into cap (account, unit, period, amount) values ($1, $2, $3, $4)", row)
            Books().changed(session, [account], self.now)
        self.limits[account] = tuple(own)

    @rule(hours=st.sampled_from([0.5, 13, 24, 24 * 7, 24 * 31]))
    def clock_goes_on(self, hours: float) -> None:
        self.now += hours * HOUR

    @rule(hours=st.sampled_from([0.5, 13, 24 * 3]))
    def clock_goes_back(self, hours: float) -> None:
        self.now -= hours * HOUR

    @rule(i=processes)
    def dies(self, i: int) -> None:
        """And somebody else comes, who finds out."""
        dead = self.processes[i]
        dead.die()
        self.processes[i] = Process(self.path)
        self.begin_run(i)
        for hold, held in self.model.items():
            if held.process is dead:
                self.posted(hold, "unknown", held.asked)

    @rule(i=processes)
    def leaves(self, i: int) -> None:
        left = self.processes[i]
        self.loop.run_until_complete(left.database.close())
        self.processes[i] = Process(self.path)
        self.begin_run(i)
        for hold, held in self.model.items():
            if held.process is left:
                self.posted(hold, "unknown", held.asked)

    # What is always so

    @invariant()
    def nothing_is_lost(self) -> None:
        if not hasattr(self, "folder"):
            return
        rows = self.processes[0].database.read(
            "select h.hold, h.account, h.run, h.amount, h.tokens, h.attention, p.kind, p.amount, p.tokens, p.attention "
            "from hold h left join post p on p.hold = h.hold"
        )
        found = {
            hold: (account, run, Amounts(*numbers[:3]), (numbers[3], Amounts(*numbers[4:])) if numbers[3] else None)
            for hold, account, run, *numbers in rows
            if numbers[3] != "void" or hold in self.model
        }
        assert found == {hold: (one.account, one.run, one.asked, one.posted) for hold, one in self.model.items()}
        assert not self.processes[0].database.read("select hold from post where hold not in (select hold from hold)")

    @invariant()
    def balances_are_sums(self) -> None:
        if not hasattr(self, "folder"):
            return
        balances = {
            tuple(key): (start, settled, held)
            for *key, start, settled, held in self.processes[0].database.read(
                "select account, unit, period, span, start, settled, held from balance"
            )
        }
        latest = max(
            [self.now, *(start for start, *_ in balances.values())]
        )  # the ledger's clock does not go back behind it
        for name, own in self.limits.items():
            for cap in own:
                if cap.period == "run":
                    continue
                now = span(cap.period, latest, "UTC")
                assert balances.get((name, cap.unit, cap.period, now.name), (0, 0, 0))[1:] == self.counted(
                    name, cap, latest, 0
                ), (name, cap)
                for (account, unit, period, _), (start, *sums) in balances.items():
                    if (account, unit, period) == (name, cap.unit, cap.period):
                        assert tuple(sums) == self.counted(name, cap, start, 0), (name, cap, start)


def test_any_history_of_three_processes() -> None:
    run_state_machine_as_test(Ledgers, settings=settings(max_examples=50, stateful_step_count=30))


def test_the_model_and_the_tree_agree_on_what_stands_above() -> None:
    """Else both could be wrong in the same way: by hand."""
    tree = Tree([Account(name=name, caps=(Cap("money", "day", i),)) for i, name in enumerate(ACCOUNTS)])
    assert [one.name for one, _ in tree.caps("co/u/c/r")] == ["co", "co/u", "co/u/c", "co/u/c/r"]
    assert [one.name for one, _ in tree.caps("co/v/d")] == ["co", "co/v", "co/v/d"]
    assert [span(period, NOON, "UTC").name for period in ("day", "week", "month")] == [
        "2025-11-26",
        "2025-W48",
        "2025-11",
    ]
