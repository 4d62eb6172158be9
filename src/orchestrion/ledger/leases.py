"""The ledger of one of many machines: calls are carved in memory from slices that the shared ledger on Postgres lends.

A slice holds about a second of an account's recent burn, at least what is asked, at most what fits. Carving from it costs a
few microseconds; the calls' own holds and posts are rows of this machine's SQLite file, in the commits of its journal, and
carry the slice's id. One task brings everything to Postgres, one errand at a time: wants of those who wait, slices that are
done, the unused rest of slices with open calls.

A limit cannot be passed, for a slice is held in full until its process posts it. A slice is posted only when the file has
its calls' posts on disk. So after a crash the file's rows tell exactly what the slice came to (Lender.bury).
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from orchestrion.domain import Money
from orchestrion.errors import StoreError
from orchestrion.ledger.accounts import CLASSES, Amounts, Key, Tree, ancestors
from orchestrion.ledger.books import Books
from orchestrion.ledger.lender import Balances, Errand, Lender, Lent, News, Told, Want, total
from orchestrion.ledger.local import POLL_S, Balance, LocalLedger, Purse
from orchestrion.ledger.protocol import Posting
from orchestrion.ledger.queue import Served, Waiter
from orchestrion.store.database import Database
from orchestrion.store.postgres import KEPT, Postgres
from orchestrion.store.queries import queries
from orchestrion.store.session import Row, Session

IDLE_S = 1.0
"""A slice from which nothing was carved for so long is given back."""

SHORT_IDLE_S = 0.05
"""The same, while somebody waits for money, here or on another machine."""

TICK_S = 0.25
"""How often a process that has slices looks at the shared ledger."""

REST_S = 2.0
"""The same, without slices."""

SILENT_S = 5.0
"""After so long without an answer a server counts as away."""

BURY_S = 5.0
"""How often a process that waits for money looks for processes that died."""

NOTHING = Amounts(0)


def statements() -> dict[str, str]:
    """What the writer runs for a leased ledger."""
    sql = queries("leases")
    return {name: sql[name] for name in ("hold", "post", "owe", "told")}


class Notes(Books):
    """Keeps the entries of a file whose limits stand on a shared ledger: nothing is checked here."""

    def apply(self, session: Session, batch: dict[str, list[Row]], number: int) -> None:
        return None


class Slice:
    """A hold on the shared ledger, from which calls are carved. ``money`` and ``tokens`` are what is left of it."""

    __slots__ = (
        "account",
        "amount",
        "end",
        "id",
        "keys",
        "made",
        "money",
        "open",
        "retired",
        "shrunk",
        "spent",
        "tokens",
        "unknown",
        "used",
    )

    def __init__(self, id: int, account: str, amount: Amounts, end: float, keys: frozenset[Key], now: float) -> None:
        self.id = id
        self.account = account
        self.amount = amount
        self.money, self.tokens = amount.money, amount.tokens
        self.end = end
        self.keys = keys
        self.made = self.used = now
        self.open = 0
        self.spent = [0, 0, 0]
        self.unknown = self.retired = self.shrunk = False

    def told(self) -> Told:
        """What its calls took; of those that are open, all."""
        if self.open:
            return Told(self.id, Amounts(self.amount.money - self.money, self.amount.tokens - self.tokens), "unknown")
        return Told(self.id, Amounts(*self.spent), "unknown" if self.unknown else "post" if any(self.spent) else "void")

    def shrink(self) -> Amounts | None:
        """Let go what is left of it: what it comes down to; None where nothing is left."""
        self.shrunk = True
        if self.money <= 0 and self.tokens <= 0:
            return None
        money, tokens = max(0, self.money), max(0, self.tokens)
        self.amount = Amounts(self.amount.money - money, self.amount.tokens - tokens)
        self.money -= money
        self.tokens -= tokens
        return self.amount


class Lease:
    """An account's slice to carve from, what its waiters need all in all, and how fast its money goes (per second)."""

    __slots__ = ("burn", "largest", "slice", "waiting")

    def __init__(self) -> None:
        self.slice: Slice | None = None
        self.waiting = NOTHING
        self.burn = self.largest = NOTHING

    def wish(self) -> Amounts:
        """The slice it would like: for all who wait, and a second of burn; growing by no more than a factor two at once."""
        return Amounts(
            *(
                max(now, min(burn, 2 * last))
                for now, burn, last in zip(self.waiting, self.burn, self.largest, strict=True)
            )
        )

    def drop(self, slice: Slice, now: float) -> None:
        """Carve no more from a slice, where it is the one."""
        if self.slice is slice:
            self.retire(now)

    def retire(self, now: float) -> None:
        """Carve no more from its slice, and learn from it how much a second takes."""
        slice = self.slice
        if slice is None:
            return
        self.slice, slice.retired = None, True
        lasted = max(slice.used - slice.made, POLL_S)
        self.largest = slice.amount
        self.burn = Amounts(
            int((slice.amount.money - slice.money) / lasted), int((slice.amount.tokens - slice.tokens) / lasted)
        )


class Case:
    """How it stands with one who waits: since when, when a slice was last wanted, and what became of it."""

    __slots__ = ("asked", "lent", "since")

    def __init__(self, now: float) -> None:
        self.since = now
        self.asked = 0.0
        self.lent: Lent | None = None


class LeasedLedger(LocalLedger):
    """The ledger of a process whose accounts stand on Postgres. ``close`` gives back what it has."""

    def __init__(self, database: Database, shared: Postgres) -> None:
        """Post what dead processes left. Where the server is away, the first call that wants money hears of it."""
        self._database = database
        self._put = database.writer.put
        self._serial = database.serial
        self._shared = shared
        self._lender = Lender(shared)
        self._away: StoreError | None = None
        self._ahead = time.time() - time.monotonic()
        super().__init__(Tree(version=-1))
        try:
            self._lender.bury(database)
            news = self._lender.look(())
            self.tree, self._ahead = news.tree, news.now - time.monotonic()
        except StoreError as error:
            self._away = error
        self._process = self._shared.process
        self._leases: dict[str, Lease] = {}
        self._slices: dict[int, Slice] = {}
        self._carved: dict[int, tuple[Slice, Amounts, tuple[Balance, ...], tuple[Balance, ...]]] = {}
        self._cases: dict[Waiter, Case] = {}
        self._due: dict[Waiter, Case] = {}
        self._seen: Balances = {}
        self._unwanted: list[Told] = []
        self._wanted: frozenset[str] = frozenset()
        self._said = False
        self._owing = self._buried = time.monotonic()
        self._since: float | None = None
        self._thread = ThreadPoolExecutor(1, "orchestrion-lender")
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    # What calls see

    async def wait(self, account: str, demands: Sequence[Amounts], *, run: int | None) -> list[int] | None:
        if self._task is None:
            self._task = asyncio.create_task(self._run_errands())
        if self._away and not self._process:
            self._wake.set()
            raise self._away  # it has never been there yet
        self._known(account)
        lease = self._lease(account)
        needed = (
            NOTHING if any(one.attention for one in demands) else total(demands)
        )  # questions are held by themselves
        lease.waiting = total((lease.waiting, needed))
        try:
            holds = await super().wait(account, demands, run=run)
        finally:
            lease.waiting = Amounts(*(was - one for was, one in zip(lease.waiting, needed, strict=True)))
        if holds is None and (away := self._silent()):
            raise away
        return holds

    def post(self, hold: int, spent: Amounts, *, kind: Posting) -> None:
        now = self._now()
        self._put("post", (hold, kind, spent[0], now, spent[1], spent[2]))
        carved = self._carved.pop(hold, None)
        if carved is None:
            return  # a question's, which is owed; or another process's
        slice, asked, windows, of_run = carved
        slice.open -= 1
        slice.money += asked[0] - spent[0]
        slice.tokens += asked[1] - spent[1]
        sums = slice.spent
        sums[0] += spent[0]
        sums[1] += spent[1]
        if kind == "unknown":
            slice.unknown = True
        for balance in windows:
            amount = spent[balance.unit]
            if amount:
                balance.settled += amount
                balance.held -= amount
        for balance in of_run:
            balance.move(spent[balance.unit], -asked[balance.unit], 0)
        if slice.money < 0 or slice.tokens < 0:  # billed above what was held: the others must hear of it
            self._leases[slice.account].drop(slice, now)
        if slice.retired and not slice.open:
            self._wake.set()
        if self._queue:
            self._serve_soon()

    def refresh(self) -> None:
        """Look at the shared ledger now, since accounts or limits were changed."""
        self._wake.set()

    async def close(self) -> None:
        """Post every slice and leave. Where the server is away the slices stay, and whoever opens this file next posts them."""
        if self._task:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        try:
            with contextlib.suppress(StoreError, TimeoutError):
                async with asyncio.timeout(SILENT_S):
                    await self._database.writer.durable()
                    told = [*self._unwanted, *(one.told() for one in self._slices.values())]
                    await self._carry_out(Errand(told=told, owed=self._owed(), wanted=self._said))
                    await self._off_loop(self._lender.leave)
        finally:
            self._shared.connection.cut()
            self._thread.shutdown()
            self._shared.connection.close()

    # Carving

    def _now(self) -> float:
        """The server's clock, as of the last news and what has passed since: windows begin for all machines at once, and
        setting this machine's clock changes nothing."""
        return max(self._floor, time.monotonic() + self._ahead)

    def _open_purse(self, account: str, now: float) -> Purse:
        purse = super()._open_purse(account, now)
        # Who waits for a slice of this account waits for nothing else: a key of its own, beside its limits'.
        purse.keys |= {_of_slice(account)}
        self._lease(account)
        return purse

    def _take(self, purse: Purse, demands: Sequence[Amounts], run: int | None, now: float) -> list[int] | None:
        slice = self._leases[purse.account].slice
        if slice is None or now >= slice.end:
            return None
        needed = demands[0] if len(demands) == 1 else total(demands)
        if needed[0] > slice.money or needed[1] > slice.tokens or needed[2]:
            return None
        of_run = self._run_balances(purse, run)
        if of_run and not all(balance.fits(needed[balance.unit]) for balance in of_run):
            return None
        if needed[0] > purse.largest:
            purse.largest = needed[0]
        slice.used = now
        return [self._carve(slice, asked, purse, of_run, run, now) for asked in demands]

    def _carve(
        self, slice: Slice, asked: Amounts, purse: Purse, of_run: tuple[Balance, ...], run: int | None, now: float
    ) -> int:
        hold = self._serial()
        self._put("hold", (hold, slice.account, asked[0], run, now, asked[1], asked[2], slice.id))
        slice.money -= asked[0]
        slice.tokens -= asked[1]
        slice.open += 1
        for balance in of_run:
            balance.move(0, asked[balance.unit], 0)
        self._carved[hold] = (slice, asked, purse.balances, of_run)
        return hold

    def _run_balances(self, purse: Purse, run: int | None) -> tuple[Balance, ...]:
        return self._above(purse, run)[len(purse.balances) :] if purse.of_run else ()

    def _spent_of(self, run: int) -> tuple[Amounts, Amounts]:
        [sums] = self._database.read(queries("ledger")["spent_of_run"], (run,))
        return Amounts(*sums[:3]), Amounts(*sums[3:])

    def _attempt(self, waiter: Waiter) -> Served:
        """Carve for one who waits; else want a slice, and say what was in the way when one was wanted last."""
        if waiter.future.done():
            return Served(hopeless=True)  # cancelled
        now, purse = self._now(), self._purse(waiter.account)
        case = self._cases.get(waiter) or self._cases.setdefault(waiter, Case(now))
        if case.lent and case.lent.slices and _asks_people(waiter):
            return Served(self._place(waiter, case.lent, purse, now))
        holds = self._take(purse, waiter.demands, waiter.run, now)
        if holds is not None:
            return Served(holds)
        of_run, needed = self._run_balances(purse, waiter.run), total(waiter.demands)
        short = [balance.key for balance in of_run if not balance.fits(needed[balance.unit])]
        if short:
            hopeless = any(not balance.ever_fits(needed[balance.unit]) for balance in of_run)
            return Served(blocked=short, hopeless=hopeless, aside=not hopeless)
        if case.lent and case.lent.hopeless:
            return Served(hopeless=True)
        if now - case.asked >= POLL_S:
            self._due[waiter] = case
            self._wake.set()
        return Served(blocked=[*(case.lent.short if case.lent else ()), _of_slice(waiter.account)])

    def _place(self, waiter: Waiter, lent: Lent, purse: Purse, now: float) -> list[int]:
        """Note calls that are held one by one. What is held for people is owed until somebody has decided."""
        holds, of_run = [], self._run_balances(purse, waiter.run)
        for id, asked in zip(lent.slices, waiter.demands, strict=True):
            slice = Slice(id, waiter.account, asked, lent.end, purse.keys, now)
            slice.retired = True
            hold = self._carve(slice, asked, purse, of_run, waiter.run, now)
            if asked.attention:
                self._put("owe", (id,))
                del self._carved[hold]
            else:
                self._slices[id] = slice
            holds.append(hold)
        self._cases[waiter].lent = None
        return holds

    # Errands

    async def _run_errands(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(TICK_S if self._slices or self._queue else REST_S):
                    await self._wake.wait()
            self._wake.clear()
            try:
                await self._errand()
                self._away = None
            except StoreError as error:
                self._away = error
            except Exception as error:  # a bug of ours: whoever waits must hear of it
                self._away = StoreError(f"the ledger on {self._shared.name} failed: {type(error).__name__}: {error}.")
            if self._away:
                await asyncio.sleep(TICK_S)

    async def _errand(self) -> None:
        now, short = self._now(), bool(self._wanted) or any(case.lent for case in self._cases.values())
        if short and time.monotonic() - self._buried > BURY_S:
            self._buried = time.monotonic()
            await self._off_loop(self._lender.bury)
        due, self._due = self._due, {}
        waiters = [waiter for waiter in due if not waiter.future.done()]
        self._retire(waiters, now, idle=SHORT_IDLE_S if short else IDLE_S)
        slices = list(self._slices.values())
        errand = Errand(
            told=[*self._unwanted, *(one.told() for one in slices if one.retired and not one.open)],
            smaller=[
                (one.id, amount)
                for one in slices
                if one.retired and one.open and (short or not one.shrunk) and (amount := one.shrink())
            ],
            wants=[self._wish(waiter, now) for waiter in waiters],
            owed=self._owed(),
            accounts=list(self._purses),
            wanted=self._said and (not waiters or not short),
        )
        if errand.told:
            await self._database.writer.durable()  # what the calls took is on this disk before it is told
        self._adopt(await self._carry_out(errand), waiters)

    async def _carry_out(self, errand: Errand) -> News:
        if errand.empty:
            looked: News = await self._off_loop(self._lender.look, errand.accounts)
            return looked
        news: News = await self._off_loop(self._lender.run, errand)
        for told in errand.told:
            self._slices.pop(told.slice, None)
        gone = {told.slice for told in errand.told}
        self._unwanted = [told for told in self._unwanted if told.slice not in gone]
        for told in errand.owed:
            self._put("told", (told.slice, *told.spent))
        return news

    async def _off_loop(self, work: Callable[..., Any], *given: Any) -> Any:
        self._since = time.monotonic()
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work, *given)
        finally:
            self._since = None

    def _retire(self, waiters: list[Waiter], now: float, *, idle: float) -> None:
        """Carve no more from slices that are too small for who waits, idle, or of a past window; or that another machine
        waits for: what is carved anew stands in line with it."""
        for waiter in waiters:
            if not _asks_people(waiter):
                self._lease(waiter.account).retire(now)
        for account, lease in self._leases.items():
            slice = lease.slice
            if slice and (
                now >= slice.end or now - slice.used >= idle or not self._wanted.isdisjoint(ancestors(account))
            ):
                lease.retire(now)

    def _wish(self, waiter: Waiter, now: float) -> Want:
        case, lease = self._cases[waiter], self._lease(waiter.account)
        case.asked = now
        return Want(
            account=waiter.account,
            parts=waiter.demands,
            wish=None if _asks_people(waiter) else lease.wish(),
            rank=CLASSES.index(self.tree.rank(waiter.account)),
            waited=now - case.since,
        )

    def _owed(self) -> list[Told]:
        """What the file has to tell of slices that are nobody's any more, and of people's decisions."""
        if time.monotonic() - self._owing < IDLE_S and self._task and not self._task.done():
            return []
        self._owing = time.monotonic()
        rows = self._database.read(queries("leases")["owed"])
        return [Told(row[0], Amounts(*row[1:4]), "unknown" if row[4] else "post") for row in rows]

    def _adopt(self, news: News, waiters: list[Waiter]) -> None:
        """Take home what an errand brought."""
        self._ahead = news.now - time.monotonic()
        now = self._now()
        if news.process != self._process or news.tree.version != self.tree.version:
            # Another limit holds from the next slice on; and after a lost connection others may take us for dead.
            self._process = news.process
            for lease in self._leases.values():
                lease.retire(now)
        if news.tree.version != self.tree.version:
            self.tree = news.tree
            self._purses.clear()
        self._mirror(news.balances)
        for waiter, lent in zip(waiters, news.lent, strict=True):
            self._lent(waiter, lent, now)
        for waiter in [waiter for waiter in self._cases if waiter.future.done()]:
            case = self._cases.pop(waiter)
            if case.lent and _asks_people(waiter):
                self._unwanted += [Told(slice, NOTHING, "void") for slice in case.lent.slices]
        self.warnings += news.warned
        self._wanted, self._said = news.wanted, any(lent.short for lent in news.lent)
        self._serve()

    def _lent(self, waiter: Waiter, lent: Lent, now: float) -> None:
        self._cases[waiter].lent = None if lent.slices and not _asks_people(waiter) else lent
        if not lent.slices or _asks_people(waiter):
            return
        purse, lease = self._purse(waiter.account), self._lease(waiter.account)
        lease.retire(now)
        lease.slice = Slice(lent.slices[0], waiter.account, lent.amount, lent.end, purse.keys, now)
        self._slices[lease.slice.id] = lease.slice

    def _mirror(self, balances: Balances) -> None:
        """Know the balances as the server has them, and what has been spent of slices that it has not been told of."""
        self._seen |= balances
        spent: dict[Key, list[int]] = {}
        for slice in self._slices.values():
            for key in slice.keys:
                sums = spent.setdefault(key, [0, 0, 0])
                for unit in range(3):
                    sums[unit] += slice.spent[unit]
        for key, (settled, held) in balances.items():
            balance = self._balances.get(key)
            if balance:
                more = spent.get(key, (0, 0, 0))[balance.unit]
                balance.settled, balance.held = settled + more, held - more

    def _load(self, key: Key) -> tuple[Money, Money]:
        return self._seen.get(key, (0, 0))

    def _lease(self, account: str) -> Lease:
        lease = self._leases.get(account)
        if lease is None:
            lease = self._leases[account] = Lease()
        return lease

    def _silent(self) -> StoreError | None:
        """Why the server says nothing, where it does not."""
        if self._away is None and self._since is not None and time.monotonic() - self._since > SILENT_S:
            return StoreError(f"the ledger's server {self._shared.name} has not answered for {SILENT_S:.0f} s. {KEPT}")
        return self._away


def _of_slice(account: str) -> Key:
    """What stands for an account's slice among the limits that calls wait for."""
    return (account, "money", "run", "slice")


def _asks_people(waiter: Waiter) -> bool:
    return any(asked.attention for asked in waiter.demands)
