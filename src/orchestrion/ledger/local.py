"""What one process knows of the ledger: the balances above each account, for decisions at once, and the queue of those who wait."""

from __future__ import annotations

import asyncio
import contextlib
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence

from msgspec import structs

from orchestrion.domain import Money
from orchestrion.errors import StoreError, UsageError
from orchestrion.ledger.accounts import CLASSES, Amounts, Cap, Key, Line, Path, Tree, ancestors
from orchestrion.ledger.books import Want, Warned
from orchestrion.ledger.protocol import Posting, Shortage
from orchestrion.ledger.queue import Queue, Served, Waiter

POLL_S = 0.05
"""How often who waits looks whether another process has let money go."""

PATIENCE_S = 5.0
"""How long a call lets those of a higher class in other processes go first: no class starves."""

NOTHING = Amounts(0)


class Balance:
    """What is settled and held against one limit in one window, as this process knows it.

    What this process has moved and the store has not confirmed is added up for the batch that gathers (``batch``), and for
    those before it. ``parked`` is what is held for questions to people, and stays so until somebody decides.
    """

    __slots__ = (
        "batch",
        "cap",
        "flying_held",
        "flying_settled",
        "held",
        "key",
        "new_held",
        "new_settled",
        "of_run",
        "parked",
        "settled",
        "unit",
    )

    def __init__(self, line: Line, settled: int, held: int) -> None:
        self.key: Key = line.key
        self.unit = line.unit
        self.cap = line.cap
        self.settled = settled
        self.held = held
        self.parked = 0
        self.of_run = line.key[2] == "run"
        self.batch = -1
        self.new_settled = self.new_held = self.flying_settled = self.flying_held = 0

    def move(self, settled: int, held: int, batch: int) -> None:
        """Settle and hold so much more; ``batch`` is the one that will confirm it."""
        self.settled += settled
        self.held += held
        if self.batch != batch:
            self.batch = batch
            self.flying_settled += self.new_settled
            self.flying_held += self.new_held
            self.new_settled = self.new_held = 0
        self.new_settled += settled
        self.new_held += held

    @property
    def pending(self) -> bool:
        """Whether something of it is not confirmed yet."""
        return bool(self.new_settled or self.new_held or self.flying_settled or self.flying_held)

    def confirm(self, batch: int, settled: int, held: int) -> None:
        """What the store says after a batch, and what has gathered since. One batch is on its way at a time."""
        self.flying_settled = self.flying_held = 0
        if self.batch <= batch:
            self.new_settled = self.new_held = 0
        self.settled = settled + self.new_settled
        self.held = held + self.new_held

    def fits(self, amount: int) -> bool:
        """Whether so much can be held now."""
        return not amount or self.settled + self.held + amount <= self.cap

    def ever_fits(self, amount: int) -> bool:
        """Whether it could be held if all that is held came back."""
        return not amount or self.settled + amount <= self.cap

    def free(self, *, patient: bool) -> int:
        """What is left of it: once all that is held has come back, or now."""
        return self.cap - self.settled - (0 if patient else self.held)

    def soon_fits(self, amount: int) -> bool:
        """Whether it could be held if all came back that calls hold."""
        return not amount or self.settled + self.parked + amount <= self.cap


class Purse:
    """An account as calls see it: the balances above it, until the next window begins."""

    __slots__ = ("account", "balances", "end", "keys", "largest", "of_run")

    def __init__(self, account: str, path: Path, balances: tuple[Balance, ...]) -> None:
        self.account = account
        self.balances = balances
        self.of_run = path.of_run
        self.end = path.end
        self.keys = frozenset(line.key for line in (*path.lines, *path.of_run))
        self.largest = 0


class LocalLedger(ABC):
    """The logic that all ledgers share: purses, what is left, who waits. A subclass says how calls are held and posted, and
    where balances come from."""

    def __init__(self, tree: Tree) -> None:
        self.tree = tree
        self.warnings: list[Warned] = []
        self._purses: dict[str, Purse] = {}
        self._balances: dict[Key, Balance] = {}
        self._runs: dict[tuple[int, str], tuple[Purse, tuple[Balance, ...]]] = {}
        self._open: dict[int, tuple[str, float, Amounts, tuple[Balance, ...]]] = {}
        self._queue = Queue()
        self._serving = self._telling = False
        self._poll: asyncio.TimerHandle | None = None
        self._floor = 0.0
        self._wants: list[Want] = []

    # What a subclass gives

    @abstractmethod
    def post(self, hold: int, spent: Amounts, *, kind: Posting) -> None:
        """Move what a call took, and let the rest of its hold go."""

    @abstractmethod
    def _take(self, purse: Purse, demands: Sequence[Amounts], run: int | None, now: float) -> list[int] | None:
        """Holds for calls that nobody waits before; None where they do not fit now."""

    def _load(self, key: Key) -> tuple[int, int]:
        """What is settled and held against a limit in a window."""
        return 0, 0

    def _spent_of(self, run: int) -> tuple[Amounts, Amounts]:
        """What a run has settled, and what it holds."""
        return NOTHING, NOTHING

    def _look(self, purse: Purse, *, parked: bool = False) -> None:  # noqa: B027  # a process alone has nobody to look at
        """Read its balances anew, where others may have moved them; and what of them is ``parked``."""

    def _tell(self) -> None:  # noqa: B027  # nor anybody to tell
        """Tell the other processes who waits here."""

    # The ledger

    def refresh(self) -> None:  # noqa: B027  # in memory nothing changes behind its back
        """Read accounts and limits anew, at once: the next commit, or the next look, would, too."""

    def hold(self, account: str, demands: Sequence[Amounts], *, run: int | None) -> list[int] | None:
        now = self._now()
        purse = self._purses.get(account)
        if purse is None or now >= purse.end:
            purse = self._open_purse(account, now)
        if self._queue and self._queue.blocks(purse.keys, account, run):
            return None
        if self._wants and self._behind(account, CLASSES.index(self.tree.rank(account)), now):
            return None
        return self._take(purse, demands, run, now)

    def refused(self, holds: Sequence[int]) -> bool:
        return False

    async def wait(self, account: str, demands: Sequence[Amounts], *, run: int | None) -> list[int] | None:
        purse = self._purse(account)
        rank, wait_s = self.tree.rank(account), self.tree.wait_s(account)
        waiter = self._queue.add(account, tuple(demands), run=run, rank=rank, keys=purse.keys)
        try:
            self._look(purse, parked=True)
            self._serve_soon(tell=True)
            async with asyncio.timeout(wait_s):
                return await waiter.future
        except TimeoutError:
            future = waiter.future
            return future.result() if future.done() and not future.cancelled() else None  # served at the last moment
        except asyncio.CancelledError:
            if waiter.future.done() and not waiter.future.cancelled():
                for hold in waiter.future.result() or ():  # served and cancelled at one moment: nobody calls
                    self.post(hold, NOTHING, kind="void")
            raise
        finally:
            self._queue.remove(waiter)
            self._serve_soon()  # who stood behind may be served
            if not self._queue:
                with contextlib.suppress(StoreError):  # they see by themselves that nothing is said any more
                    self._tell()

    def left(self, account: str, *, run: int | None, patient: bool = True) -> Money | None:
        purse = self._purse(account)
        if not purse.keys:
            return None
        left, cap = self._left(purse, run, patient=patient)
        if left is not None and (left <= 8 * purse.largest or left * 8 < cap):
            self._look(purse)
            left, _ = self._left(self._purse(account), run, patient=patient)
        return left

    def _left(self, purse: Purse, run: int | None, *, patient: bool) -> tuple[Money | None, Money]:
        """The least that any limit leaves, and that limit."""
        money = [one for one in self._above(purse, run) if not one.unit]
        if not money:
            return None, 0
        least = min(money, key=lambda one: one.free(patient=patient))
        return max(0, least.free(patient=patient)), least.cap

    def affords(self, account: str, demand: Amounts, *, run: int | None, patient: bool = True) -> bool:
        if self._affords(account, demand, run, patient=patient):
            return True
        self._look(self._purse(account))
        return self._affords(account, demand, run, patient=patient)

    def _affords(self, account: str, demand: Amounts, run: int | None, *, patient: bool) -> bool:
        above = self._above(self._purse(account), run)
        return all(not demand[one.unit] or demand[one.unit] <= one.free(patient=patient) for one in above)

    def shortage(self, account: str, demand: Amounts, *, run: int | None) -> Shortage | None:
        self._look(self._purse(account), parked=True)
        short = [one for one in self._above(self._purse(account), run) if not one.fits(demand[one.unit])]
        # What is settled does not come back; of several limits, the one that is passed by most of it comes first.
        short.sort(key=lambda one: (one.ever_fits(demand[one.unit]), -_excess(one, demand)))
        named = [_shortage(one, demand) for one in short]
        return structs.replace(named[0], others=tuple(named[1:])) if named else None

    def ended(self, run: int) -> None:
        for key in [key for key in self._runs if key[0] == run]:
            del self._runs[key]

    # How

    def _now(self) -> float:
        """The clock; never behind the latest window that has begun: a clock that is set back opens no old window."""
        now = time.time()
        return now if now >= self._floor else self._floor

    def _purse(self, account: str) -> Purse:
        now, purse = self._now(), self._purses.get(account)
        return self._open_purse(account, now) if purse is None or now >= purse.end else purse

    def _open_purse(self, account: str, now: float) -> Purse:
        self._known(account)
        path = self.tree.limits(account, now)
        if path.lines:
            self._floor = max(self._floor, path.start)
        balances = tuple(self._balance(line) for line in path.lines)
        purse = self._purses[account] = Purse(account, path, balances)
        return purse

    def _known(self, account: str) -> None:
        """Raises UsageError for an account that the books do not have; where they have none, every name will do."""
        if self.tree and account not in self.tree:
            raise unknown_account(account, self.tree)

    def _balance(self, line: Line) -> Balance:
        balance = self._balances.get(line.key)
        if balance is None:
            balance = self._balances[line.key] = Balance(line, *self._load(line.key))
        balance.cap = line.cap
        return balance

    def _above(self, purse: Purse, run: int | None) -> tuple[Balance, ...]:
        """The balances of its windows, and of the run."""
        if not purse.of_run:
            return purse.balances
        if run is None:  # a call of no run is one by itself
            return (*purse.balances, *(Balance(line, 0, 0) for line in purse.of_run))
        found = self._runs.get((run, purse.account))
        if found is None or found[0] is not purse:
            found = self._runs[run, purse.account] = purse, self._added_up(purse, run, found[1] if found else ())
        return (*purse.balances, *found[1])

    def _added_up(self, purse: Purse, run: int, before: tuple[Balance, ...]) -> tuple[Balance, ...]:
        """The balances of a run's limits. What was added up ``before`` the limits changed goes on: open holds move it."""
        known = {balance.key: balance for balance in before}
        settled, held = (
            self._spent_of(run) if any(line.key not in known for line in purse.of_run) else (NOTHING, NOTHING)
        )
        for line in purse.of_run:
            balance = known.setdefault(line.key, Balance(line, settled[line.unit], held[line.unit]))
            balance.cap = line.cap
        return tuple(known[line.key] for line in purse.of_run)

    def _short_at(self, waiter: Waiter) -> str | None:
        """The account whose limit a waiting call does not fit under now; of a limit of its run, nobody else need know."""
        total = Amounts(*map(sum, zip(*waiter.demands, strict=True)))
        above = self._above(self._purse(waiter.account), waiter.run)
        return next((one.key[0] for one in above if not one.of_run and not one.fits(total[one.unit])), None)

    def _behind(self, account: str, rank: int, since: float) -> bool:
        """Whether another process waits for a limit above this account, and goes first."""
        above = ancestors(account)
        return any((want.rank, want.since) < (rank, since) and want.account in above for want in self._wants)

    def _serve_soon(self, *, tell: bool = False) -> None:
        """Once for all that happens until the loop comes to it. ``tell``: and tell other processes who waits."""
        self._telling |= tell
        if self._queue and not self._serving:
            self._serving = True
            asyncio.get_running_loop().call_soon(self._serve)

    def _serve(self) -> None:
        self._serving = False
        try:
            self._queue.serve(self._attempt, self._keys)
            if self._telling:
                self._telling = False
                self._tell()
        except StoreError as error:  # else they would wait for nothing
            self._queue.fail(error)
        if self._queue and self._poll is None:
            self._poll = asyncio.get_running_loop().call_later(POLL_S, self._polled)

    def _polled(self) -> None:
        self._poll = None
        try:
            self._look_around()
        except StoreError as error:
            self._queue.fail(error)
        self._telling = True
        self._serve()

    def _look_around(self) -> None:
        """Look at every limit that somebody waits for."""
        seen: set[Key] = set()
        for account in self._queue.accounts():
            with contextlib.suppress(UsageError):  # it was taken out: its calls hear of it
                purse = self._purse(account)
                if not seen.issuperset(purse.keys):
                    seen |= purse.keys
                    self._look(purse, parked=True)

    def _keys(self, account: str) -> frozenset[Key]:
        """The limits above an account in the windows of now."""
        return self._purse(account).keys

    def _attempt(self, waiter: Waiter) -> Served:
        if waiter.future.done():
            return Served(hopeless=True)  # cancelled
        purse = self._purse(waiter.account)
        if self._wants and self._behind(waiter.account, *place(waiter)):
            return Served()
        holds = self._take(purse, waiter.demands, waiter.run, self._now())
        if holds is not None:
            return Served(holds)
        total = Amounts(*map(sum, zip(*waiter.demands, strict=True)))
        above = self._above(purse, waiter.run)
        hopeless = any(not one.soon_fits(total[one.unit]) for one in above)
        short = [one for one in above if not one.fits(total[one.unit])]
        aside = not hopeless and any(one.of_run for one in short)
        return Served(blocked=[one.key for one in short], hopeless=hopeless, aside=aside)


def place(waiter: Waiter) -> tuple[int, float]:
    """Where a call stands among those of all processes: who has waited PATIENCE_S stands with the highest class."""
    return (0 if time.time() - waiter.since > PATIENCE_S else waiter.rank), waiter.since


def _shortage(balance: Balance, demand: Amounts) -> Shortage:
    account, unit, period, span = balance.key
    return Shortage(
        account=account,
        cap=Cap(unit, period, balance.cap),
        span=span,
        settled=balance.settled,
        held=balance.held,
        asked=demand[balance.unit],
        demand=demand,
        parked=balance.parked,
    )


def _excess(balance: Balance, demand: Amounts) -> float:
    asked = demand[balance.unit]
    return (balance.settled + balance.held + asked - balance.cap) / max(1, asked)


def unknown_account(account: str, tree: Tree) -> UsageError:
    """There is no such account: the nearest name, or all."""
    import difflib  # only for the error

    near = difflib.get_close_matches(account, tree.accounts, n=1)
    hint = f"Did you mean '{near[0]}'?" if near else f"Known: {', '.join(tree.accounts)}."
    return UsageError(f"there is no account '{account}' in the books. {hint}")
