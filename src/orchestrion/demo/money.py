"""The firm's accounts: who pays for which household, what limits them, and what the books say of it in the end.

    firm                      everything
    firm/downtown             one office
    firm/harbor               the other
    firm/harbor/walk-ins      who walks in late in the season, on a small budget: the account that runs dry

Every amount is read from the books; none is counted on the way.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from orchestrion.domain import Money, nanos, usd
from orchestrion.ledger import budgets
from orchestrion.ledger.accounts import ancestors
from orchestrion.ledger.budgets import said
from orchestrion.limits import BudgetSettings
from orchestrion.store.queries import queries
from orchestrion.store.session import Session

FIRM, DOWNTOWN, HARBOR, WALK_INS = "firm", "firm/downtown", "firm/harbor", "firm/harbor/walk-ins"

LATE = 0.6
"""The share of the season after which people walk in. No call of theirs is lost by a kill halfway: it would take all they have."""

WALK_IN = 0.000625
"""Dollars for each household of theirs: about half of what it will cost."""

OFFICE, HOUSEHOLD = 0.32, 0.004
"""Dollars for an office, and more of them for each household of the season: room for calls that are lost, and for a top-up."""

MORE, MORE_EACH = 0.05, 0.01
"""Dollars that a person moves to an account that ran dry, and more for each run that waits: what it needs, and room to hold."""


def payers(households: Iterable[str]) -> dict[str, str]:
    """The account that pays for each household, in the order of the season: the two offices by turns, late in the season two
    walk-ins of three."""
    names = list(households)

    def payer(place: int) -> str:
        if place >= LATE * len(names) and place % 3:
            return WALK_INS
        return HARBOR if place % 2 else DOWNTOWN

    return {name: payer(place) for place, name in enumerate(names)}


def limits(n: int) -> dict[str, BudgetSettings]:
    """What each account may spend on a season of so many households, for good."""
    office = OFFICE + HOUSEHOLD * n
    walk_ins = Counter(payers(map(str, range(n))).values())[WALK_INS] * WALK_IN
    amounts = {FIRM: 2 * office, DOWNTOWN: office, HARBOR: office, WALK_INS: walk_ins}
    return {name: BudgetSettings(limit=round(amount, 4)) for name, amount in amounts.items()}


class TopUp(NamedTuple):
    """Part of a limit, moved from one account to another; ``before`` and ``after`` are the receiver's limit."""

    source: str
    target: str
    amount: Money
    before: Money
    after: Money

    @property
    def command(self) -> str:
        """What a person would type."""
        return f"orchestrion budget move {self.source} {self.target} {said('money', self.amount).removeprefix('$')}"


def top_up(session: Session, waiting: int) -> TopUp:
    """What `orchestrion budget move` does: the office downtown gives the walk-ins what so many runs need."""
    amount = nanos(round(MORE + MORE_EACH * waiting, 2))
    changes = budgets.move(session, DOWNTOWN, WALK_INS, amount, unit="money", period=None, who="demo")
    receiver = next(change for change in changes if change.account == WALK_INS)
    return TopUp(DOWNTOWN, WALK_INS, amount, receiver.before, receiver.after)


class Flow(NamedTuple):
    """What became of the money that was set aside, in nano-dollars: held = posted + unknown + returned + voided + open."""

    held: Money = 0
    posted: Money = 0
    unknown: Money = 0
    returned: Money = 0
    voided: Money = 0
    open: Money = 0

    @property
    def spent(self) -> Money:
        """What counts against limits when nothing is held."""
        return self.posted + self.unknown


class Account(NamedTuple):
    """One account, those below it included. ``most`` is the most that was ever spent and held at once; ``over`` by how much
    that ever passed the limit of its moment, 0 where it never did."""

    name: str
    limit: Money
    flow: Flow
    most: Money
    over: Money

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        amounts = {"limit": self.limit, **self.flow._asdict(), "spent": self.flow.spent}
        amounts |= {"most_at_once": self.most, "over_limit": self.over}
        return {"account": self.name, **{f"{name}_nanos": amount for name, amount in amounts.items()}} | {
            f"{name}_usd": usd(amount) for name, amount in amounts.items()
        }


def statement(session: Session) -> list[Account]:
    """How every account of the firm has fared, the firm first."""
    flows: dict[str, list[int]] = {}
    for name, kind, held, spent in session.execute(queries("budget")["flows"]):
        for above in ancestors(name):
            sums = flows.setdefault(above, [0] * len(Flow._fields))
            for at, amount in enumerate(_became(kind, held, spent)):
                sums[at] += amount
    limit = {name: caps[-1][1] for name, caps in _limits(session).items()}
    high = _high(session)
    return [
        Account(name, limit[name], Flow(*flows.get(name, ())), *high.get(name, (0, 0)))
        for name in sorted(limit, key=lambda one: one.split("/"))
    ]


def _became(kind: str | None, held: Money, spent: Money) -> Flow:
    if kind is None:
        return Flow(held=held, open=held)
    if kind == "void":
        return Flow(held=held, voided=held)
    if kind == "unknown":
        return Flow(held=held, unknown=spent, returned=held - spent)
    return Flow(held=held, posted=spent, returned=held - spent)


def _limits(session: Session) -> dict[str, list[tuple[float, Money]]]:
    """Every limit that an account has had, and since when."""
    found: dict[str, list[tuple[float, Money]]] = {}
    for record in budgets.history(session):
        for change in record.body:
            if change["what"] == "limit" and change.get("after") is not None:
                found.setdefault(change["account"], []).append((record.at, change["after"]))
    return found


def _high(session: Session) -> dict[str, tuple[Money, Money]]:
    """For each account the most that was spent and held at once, and by how much that passed its limit: the entries, one
    after the other."""
    limits, now, found = _limits(session), Counter[str](), dict[str, tuple[Money, Money]]()
    for name, at, amount in _moves(session):
        for above in ancestors(name):
            now[above] += amount
            cap = max((cap for since, cap in limits.get(above, ()) if since <= at), default=0)
            most, over = found.get(above, (0, 0))
            found[above] = max(most, now[above]), max(over, now[above] - cap)
    return found


def _moves(session: Session) -> Iterator[tuple[str, float, Money]]:
    """What each entry adds to what is spent and held: account, moment, amount. Of one moment, what gives back comes first."""
    rows = session.execute(queries("budget")["moves"])
    yield from sorted(rows, key=lambda row: (row[1], row[2]))
