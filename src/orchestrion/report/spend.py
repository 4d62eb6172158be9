"""Who spent what: the entries of a selection, summed by what they were for. Rows sum to the entries, whatever the grouping."""

from __future__ import annotations

import datetime as dt
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import msgspec
from pydantic_core import from_json

from orchestrion.domain import Money, Price
from orchestrion.errors import UsageError
from orchestrion.evidence.recorded import PROBES
from orchestrion.ledger.accounts import Account, Tree, ancestors
from orchestrion.report.calls import KINDS, NO_RUN, PROBE, BookedCall, calls_of_entries
from orchestrion.report.endings import is_answer
from orchestrion.report.facts import Alone, Figures, total
from orchestrion.report.frontier import FrontierAlone
from orchestrion.report.tally import add_to
from orchestrion.settings import nearest
from orchestrion.store.database import Database
from orchestrion.store.queries import queries

TAG = "tag:"
NOBODY = "(nobody yet)"
NO_PERSON = "(no person)"
NO_BATCH = "(no batch)"
JUDGE_TEST = "judge:"
"""How the workflow of a run is called that `orchestrion judge test` makes: a question about an answer, and no task."""


class Spender(NamedTuple):
    """A run as one who spends."""

    no: int
    id: str
    workflow: str
    batch: str | None
    account: str
    status: str
    result: str | bytes | None
    tags: str | None
    updated: float

    @property
    def name(self) -> str:
        """The workflow without its file."""
        return PROBE if self.id.startswith(PROBES) else self.workflow.rpartition(":")[2]

    @property
    def worked(self) -> bool:
        """Whether it did a task: neither asked a model whether it is there, nor a judge what it thinks."""
        return not self.id.startswith(PROBES) and not self.workflow.startswith(JUDGE_TEST)

    def tag(self, name: str) -> str:
        """What its task says under a tag."""
        known = from_json(self.tags) if self.tags else {}
        return str(known[name]) if name in known else f"(no {name})"


class Dimension(NamedTuple):
    """One way to group: the name of a call's group, and that of a run's where whole runs fall into one (None: they do not)."""

    name: str
    of_call: Callable[[BookedCall, Spender | None], str]
    of_run: Callable[[Spender], str] | None = None
    by_visit: bool = False
    """Whether all calls of one performance of a step fall into one group."""


def _by_run(name: str, of_run: Callable[[Spender], str]) -> Dimension:
    return Dimension(name, lambda _, run: of_run(run) if run else NO_RUN, of_run, by_visit=True)


DIMENSIONS: Mapping[str, Dimension] = {
    "account": Dimension("account", lambda call, _: call.account, lambda run: run.account, by_visit=True),
    "workflow": _by_run("workflow", lambda run: run.name),
    "batch": _by_run("batch", lambda run: run.batch or NO_BATCH),
    "run": _by_run("run", lambda run: run.id),
    "step": Dimension("step", lambda call, _: call.step, by_visit=True),
    "worker": Dimension("worker", lambda call, _: call.worker),
    "person": Dimension("person", lambda call, _: NO_PERSON if call.person is None else call.person or NOBODY),
    "kind": Dimension("kind", lambda call, _: call.kind),
}
"""Those that need no more to be said; ``day`` needs a time zone, and ``tag:NAME`` its name."""

NAMES = (*list(DIMENSIONS)[:2], "step", "worker", "tag:NAME", "person", "run", "batch", "day", "kind")


class Selection(msgspec.Struct, frozen=True, kw_only=True):
    """Which entries: those whose hold was made on this account or below it, by runs of this batch, in [since, until)."""

    account: str | None = None
    batch: str | None = None
    since: float | None = None
    until: float | None = None


def _each(cost: Money, outcomes: int) -> Money | None:
    return (2 * cost + outcomes) // (2 * outcomes) if outcomes else None


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One group: its name in each dimension, its sums, and what came of the money.

    ``outcomes`` are runs that ended with an answer, where whole runs fall into one group, else answers of steps that were
    accepted. ``compared`` is the part of the cost that stands beside ``alone``: without people, and without what no task asked
    for; both are None where nothing can be compared.
    """

    keys: tuple[str, ...]
    figures: Figures
    outcomes: int
    compared: Money | None = None
    alone: Alone | None = None

    @property
    def each(self) -> Money | None:
        """What an accepted outcome cost, rounded to the nano-dollar; everything that did not become one is in it."""
        return _each(self.figures.cost, self.outcomes)

    @property
    def ratio(self) -> float | None:
        """How much of what the frontier alone would have cost; None where that is not known of all of it."""
        if self.compared is None or self.alone is None or not self.alone.cost or self.alone.left_out:
            return None
        return self.compared / self.alone.cost


class Spending(msgspec.Struct, frozen=True, kw_only=True):
    """Who spent what. ``rows`` sum to ``total``, the entries of the selection.

    ``within`` has, by account, the sums of every account that has others below it, those included; it is empty unless rows are
    accounts. ``zone`` is the time zone of days, ``of_runs`` whether outcomes of rows are runs, ``answered`` how many runs ended
    with an answer.
    """

    by: tuple[str, ...]
    selection: Selection
    zone: str
    rows: tuple[Row, ...]
    total: Row
    of_runs: bool
    answered: int
    within: Mapping[str, Figures] = {}

    @property
    def each(self) -> Money | None:
        """What a run cost that ended with an answer, everything that did not become one included."""
        return _each(self.total.figures.cost, self.answered)

    def share(self, row: Row) -> float:
        """Its part of the whole cost."""
        return row.figures.cost / self.total.figures.cost if self.total.figures.cost else 0.0


def spending(
    database: Database,
    *,
    by: Sequence[str],
    selection: Selection | None = None,
    prices: Mapping[str, Price],
    frontier: str | None = None,
    zone: str | None = None,
) -> Spending:
    """What the entries of a selection were spent on, by one or several of NAMES.

    ``prices`` of the workers that are known, for what the ``frontier`` alone would have cost. ``zone``: whose days are meant
    (default: the account's). Raises UsageError for a name of a grouping, an account, a batch or a tag that is not there.
    """
    selection = selection or Selection()
    _refuse_unknown(database, selection)
    runs = {row[0]: Spender(*row) for row in database.read(queries("report")["spenders"])}
    zone = zone or zone_of(database, selection.account)
    dimensions = [_dimension(name, runs.values(), zone) for name in by]
    groups = _Groups(dimensions, runs, FrontierAlone(prices, frontier=frontier))
    for call in calls_of_entries(database, **msgspec.structs.asdict(selection)):
        groups.add(call)
    if frontier and frontier not in groups.workers | set(prices):
        raise UsageError(
            f"--frontier {frontier}: no worker is called so here.{nearest(frontier, groups.workers | set(prices))}"
        )
    for run in runs.values():
        if _ended_well(run, selection):
            groups.answered(run)
    rows = groups.rows()
    return Spending(
        by=tuple(by),
        selection=selection,
        zone=zone,
        rows=_sorted(rows, by),
        total=groups.total(),
        of_runs=groups.of_runs,
        answered=groups.ended,
        within=_within(rows) if tuple(by) == ("account",) else {},
    )


def default_by(database: Database, account: str | None) -> tuple[str, ...]:
    """How things are grouped where nobody says: by account where there are several, else by step and worker."""
    accounts = [name for name, _ in _accounts(database) if account is None or _below(name, account)]
    return ("account",) if len(accounts) > 1 else ("step", "worker")


def zone_of(database: Database, account: str | None) -> str:
    """The time zone of an account's days; without one, that of all roots, or UTC where they differ."""
    tree = Tree(Account(name=name, zone=zone) for name, zone in _accounts(database))
    if account:
        return tree.zone(account)
    zones = {tree.zone(name) for name in tree.accounts if "/" not in name}
    return zones.pop() if len(zones) == 1 else "UTC"


class _Groups:
    """Sums by group, in one pass."""

    def __init__(self, dimensions: Sequence[Dimension], runs: Mapping[int, Spender], alone: FrontierAlone) -> None:
        self._dimensions = dimensions
        self._runs = runs
        self._alone = alone
        self._sums: dict[tuple[str, ...], Counter[str]] = defaultdict(Counter)
        self._outcomes: Counter[tuple[str, ...]] = Counter()
        self._compared: Counter[tuple[str, ...]] = Counter()
        self.ended = 0
        self.workers: set[str] = set()
        self.of_runs = all(one.of_run for one in dimensions)
        self._by_visit = all(one.by_visit for one in dimensions)

    def add(self, call: BookedCall) -> None:
        """Sum one call up."""
        run = self._runs.get(call.run) if call.run is not None else None
        key = tuple(one.of_call(call, run) for one in self._dimensions)
        add_to(self._sums[key], call.counted)
        if run is not None and run.worked:
            if call.person is None and call.purpose == "work":
                self.workers.add(call.worker)
            if not self.of_runs and call.purpose == "work" and call.accepted:
                self._outcomes[key] += 1
            if call.person is None:
                self._compared[key] += call.cost
            self._alone.add_call(call, key)

    def answered(self, run: Spender) -> None:
        """Count a run that ended with an answer."""
        self.ended += 1
        if self.of_runs:
            key = tuple(one.of_run(run) for one in self._dimensions if one.of_run)
            self._outcomes[key] += 1
            self._sums.setdefault(key, Counter())  # a group, though all that it cost may lie before the selection

    def rows(self) -> list[Row]:
        alone = self._alone.each() if self._by_visit else {}
        return [
            Row(
                keys=key,
                figures=Figures(**sums),
                outcomes=self._outcomes[key],
                compared=self._compared[key] if key in alone else None,
                alone=alone.get(key),
            )
            for key, sums in self._sums.items()
        ]

    def total(self) -> Row:
        return Row(
            keys=(),
            figures=total(Figures(**sums) for sums in self._sums.values()),
            outcomes=self._outcomes.total(),
            compared=self._compared.total(),
            alone=self._alone.sum(),
        )


def _dimension(name: str, runs: Iterable[Spender], zone: str) -> Dimension:
    if name == "day":
        return _by_day(zone)
    if name.startswith(TAG):
        return _by_tag(name.removeprefix(TAG), runs)
    if name not in DIMENSIONS:
        raise UsageError(f"--by {name}: things are grouped by {', '.join(NAMES)}.{_meant(name, runs)}")
    return DIMENSIONS[name]


def _meant(name: str, runs: Iterable[Spender]) -> str:
    if name in _tags(runs):
        return f" For the tag: --by {TAG}{name}."
    return nearest(name, (*DIMENSIONS, "day")) if name else ""


def _by_day(zone: str) -> Dimension:
    place = ZoneInfo(zone)

    def day(at: float) -> str:
        return dt.datetime.fromtimestamp(at, place).date().isoformat()

    return Dimension("day", lambda call, _: day(call.at), lambda run: day(run.updated), by_visit=True)


def _by_tag(name: str, runs: Iterable[Spender]) -> Dimension:
    known = _tags(runs)
    if name not in known and known:
        raise UsageError(f"--by {TAG}{name}: no task has a tag '{name}'.{nearest(name, known)}")
    if name not in known:
        raise UsageError(f'--by {TAG}{name}: no task has any tags. They stand in the tasks file: {{"tags": {{…}}}}.')
    return _by_run(TAG + name, lambda run: run.tag(name))


def _tags(runs: Iterable[Spender]) -> set[str]:
    return {name for tags in {run.tags for run in runs if run.tags} for name in from_json(tags)}


def _ended_well(run: Spender, selection: Selection) -> bool:
    """Whether a run of the selection ended with an answer, and within its time."""
    return (
        run.status == "done"
        and run.worked
        and (selection.batch is None or run.batch == selection.batch)
        and (selection.account is None or _below(run.account, selection.account))
        and (selection.since is None or run.updated >= selection.since)
        and (selection.until is None or run.updated < selection.until)
        and is_answer(run.result)
    )


def _refuse_unknown(database: Database, selection: Selection) -> None:
    if selection.account is not None:
        known = {above for name, _ in _accounts(database) for above in ancestors(name)}
        if selection.account not in known:
            said = nearest(selection.account, known) or " Nothing has been booked yet."
            raise UsageError(f"there is no account '{selection.account}'.{said}")
    if selection.batch is not None:
        batches = [name for (name,) in database.read(queries("report")["batches"])]
        if selection.batch not in batches:
            raise UsageError(f"there is no batch '{selection.batch}'.{nearest(selection.batch, batches)}")


def _accounts(database: Database) -> list[tuple[Any, ...]]:
    return database.read(queries("report")["accounts"])


def _below(name: str, account: str) -> bool:
    return name == account or name.startswith(f"{account}/")


def _within(rows: Iterable[Row]) -> dict[str, Figures]:
    """The sums of every account that has others below it."""
    below: dict[str, list[Figures]] = defaultdict(list)
    for row in rows:
        for above in ancestors(row.keys[0]):
            below[above].append(row.figures)
    own = {row.keys[0] for row in rows}
    return {name: total(figures) for name, figures in below.items() if len(figures) > 1 or name not in own}


def _sorted(rows: list[Row], by: Sequence[str]) -> tuple[Row, ...]:
    """Days and accounts in their order, kinds as they are told; else the dearest first, and groups together."""
    order = [_order(rows, i, name) for i, name in enumerate(by)]
    return tuple(sorted(rows, key=lambda row: [place(key) for place, key in zip(order, row.keys, strict=True)]))


def _order(rows: list[Row], i: int, name: str) -> Callable[[str], tuple[Any, ...]]:
    if name in ("day", "account"):
        return lambda key: tuple(key.split("/"))
    if name == "kind":
        return lambda key: (list(KINDS).index(key),)
    cost: Counter[str] = Counter()
    for row in rows:
        cost[row.keys[i]] += row.figures.cost
    return lambda key: (-cost[key], key)


def depth_first(spent: Spending) -> Iterator[tuple[int, str, Row | None, Figures]]:
    """Accounts as a tree: how deep, the name, its own row (None: nothing was booked on it), and its sums with what is below."""
    own = {row.keys[0]: row for row in spent.rows}
    for name in sorted({*own, *spent.within}, key=lambda name: name.split("/")):
        figures = spent.within.get(name) or own[name].figures
        depth = sum(above in spent.within for above in ancestors(name)[:-1])
        yield depth, name, own.get(name), figures
