"""What a report knows: plain, frozen facts. Money is nano-dollars; shares lie in [0, 1]."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal, TypeAlias

import msgspec

from orchestrion.domain import Money, dollars, storable, usd

Simulated: TypeAlias = Literal["all", "some", "none"]
WaitKind: TypeAlias = Literal["review", "information", "money", "signal"]


class Estimate(msgspec.Struct, frozen=True, kw_only=True):
    """A mean of ``n`` scores with its 95 % interval."""

    mean: float
    low: float
    high: float
    n: int


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """Sums over calls.

    ``calls`` = ``accepted`` + ``refused`` + ``unused`` + ``failed`` + ``declined`` + ``lost`` + ``unsent`` + ``open``. *unused*:
    passed its checks, and another was taken, or its run has not taken it yet; *failed*: no answer; *declined*: a person rejected
    it, asked back, or let the deadline pass; *lost*: in flight when a process died; *unsent*: certainly not charged.

    ``cost`` is the sum of the entries; ``unknown`` the part of it that is booked in full because nobody knows what was
    charged, ``checks`` the part of checks' own calls, ``wages`` people's part, for ``minutes`` of theirs. ``held`` is set
    aside for open calls and no cost yet. ``reserved`` + ``over`` = ``cost`` + ``released`` + ``held``: what was set aside at
    most, what was billed above it, and what came back, ``voided`` of that for calls that were not made.

    ``tokens`` are those of ``counted`` calls: the others' are not known, or they have none.
    """

    calls: int = 0
    accepted: int = 0
    refused: int = 0
    unused: int = 0
    failed: int = 0
    declined: int = 0
    lost: int = 0
    unsent: int = 0
    open: int = 0
    tokens: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    counted: int = 0
    cost: Money = 0
    unknown: Money = 0
    checks: Money = 0
    wages: Money = 0
    minutes: float = 0.0
    reserved: Money = 0
    released: Money = 0
    voided: Money = 0
    over: Money = 0
    held: Money = 0


def total(figures: Iterable[Figures]) -> Figures:
    """Their sums."""
    given = list(figures)
    return Figures(**{name: sum(getattr(one, name) for one in given) for name in Figures.__struct_fields__})


class Cell(msgspec.Struct, frozen=True, kw_only=True):
    """One worker at one step: the smallest thing that a report counts.

    ``judging``: a check asked (a judge's own calls), not the step's policy. ``quality`` is known where answers were
    compared with a label.
    """

    step: str
    worker: str
    judging: bool
    figures: Figures
    simulated: bool = False
    quality: Estimate | None = None


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """Where a part of the money went: an account, or what calls were spent on."""

    name: str
    figures: Figures


class Refusals(msgspec.Struct, frozen=True, kw_only=True):
    """What one check said of one worker's answers at one step. ``example`` is a run in which it refused."""

    step: str
    worker: str
    check: str
    looked: int
    refused: int
    broken: int
    example: str | None = None

    @property
    def objected(self) -> bool:
        """Whether it refused anything, or could not say."""
        return bool(self.refused or self.broken)


class Ended(msgspec.Struct, frozen=True, kw_only=True):
    """How many tasks ended how; they sum to the tasks.

    ``flagged``: no answer could be accepted; ``broke``: no worker answered, or the code raised; ``informed``: the result says that
    information is needed; ``personal``: it says that a person is needed; ``unfinished``: running, or interrupted.
    """

    answered: int = 0
    flagged: int = 0
    broke: int = 0
    informed: int = 0
    personal: int = 0
    waiting: int = 0
    unfinished: int = 0
    cancelled: int = 0


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """A task that a person is to look at: how it ended, and why."""

    ended: Literal["flagged", "broke", "informed", "personal"]
    run: str
    task: str
    reason: str


class Waiting(msgspec.Struct, frozen=True, kw_only=True):
    """A run that waits: for a person's review, for information from the task's owner, for money, or for a signal.

    ``wants`` is what is waited for (a signal's name, a reviewer, a question, an account), ``command`` what answers it.
    """

    kind: WaitKind
    run: str
    task: str
    wants: str
    since: float
    command: str


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What a person, or a team, was asked, and what became of it.

    ``questions`` = ``approved`` + ``modified`` + ``rejected`` + ``returned`` (it needed information) + ``expired`` (the
    deadline decided) + ``withdrawn`` (its run ended another way) + ``open``. ``minutes`` are those that the decisions name,
    ``wages`` the sum of their entries.
    """

    worker: str
    questions: int
    approved: int
    modified: int
    rejected: int
    returned: int
    expired: int
    withdrawn: int
    open: int
    minutes: float
    wages: Money


class Quality(msgspec.Struct, frozen=True, kw_only=True):
    """How sure: only what labels say is quality.

    ``right`` is the mean score of accepted answers that have a label, ``sources`` where the labels come from. ``unseen``
    counts accepted answers that no check but their form looked at, ``despite`` those accepted although a check refused
    them, ``constrained`` those accepted because money was short. ``unlabelled`` counts the accepted answers of workers
    ("step · worker") none of whose accepted answers has a label, while others' have.
    """

    right: Estimate | None
    sources: Mapping[str, int]
    accepted: int
    unseen: int
    despite: int
    constrained: int
    unlabelled: Mapping[str, int] = {}


class Alone(msgspec.Struct, frozen=True, kw_only=True):
    """What the frontier alone would have cost. ``cost`` is None where it cannot be known; ``how`` says how it is
    computed, or why it is not. ``estimated``: by other workers' tokens. ``left_out`` counts calls of steps without known tokens.

    ``by_step`` has its part of each step.
    """

    worker: str | None
    cost: Money | None
    estimated: bool
    left_out: int
    how: str
    by_step: Mapping[str, Money] = {}


class Way(msgspec.Struct, frozen=True, kw_only=True):
    """One way to do a replay's tasks: a policy, or one worker alone.

    ``against`` is the mean difference of its scores to the frontier's on the same tasks, with its interval. ``same_tasks``:
    it did exactly the tasks that the first way did; figures of different tasks are not to be compared.
    """

    name: str
    kind: Literal["policy", "worker"]
    tasks: int
    unrecorded: int
    stopped: int
    cost: Money
    quality: Estimate | None
    against: Estimate | None = None
    same_tasks: bool = True


class Advice(msgspec.Struct, frozen=True, kw_only=True):
    """Something to do next: what, why, and the command to type."""

    what: str
    why: str
    command: str


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that the page shows. ``cells``, ``accounts`` and ``kinds`` (what calls were spent on) sum to ``figures``,
    ``ended`` to ``tasks``.

    ``ways`` are those of a replay, the reported policy first; nothing of a replay was spent. ``left_out`` are workers that
    were not recorded on every task, ``incomplete`` counts tasks left out because they lack a worker;
    ``tokens_estimated``: the records say so of some of their tokens, so their costs are estimates, too.
    """

    kind: Literal["batch", "run", "database", "replay"]
    title: str
    workflows: tuple[str, ...]
    source: str
    made: float
    began: float | None
    until: float | None
    tasks: int
    ended: Ended
    figures: Figures
    cells: tuple[Cell, ...]
    visits: Mapping[str, int]
    refusals: tuple[Refusals, ...]
    quality: Quality
    alone: Alone
    cases: tuple[Case, ...]
    waiting: tuple[Waiting, ...]
    simulated: Simulated
    people: tuple[Asked, ...] = ()
    accounts: tuple[Part, ...] = ()
    kinds: tuple[Part, ...] = ()
    ways: tuple[Way, ...] = ()
    left_out: tuple[str, ...] = ()
    incomplete: int = 0
    tokens_estimated: bool = False
    summary: str = ""
    advice: tuple[Advice, ...] = ()

    @property
    def steps(self) -> list[str]:
        """Steps in the order in which they were first asked."""
        return list(dict.fromkeys(cell.step for cell in self.cells))

    @property
    def workers(self) -> list[str]:
        """Workers, the dearest first."""
        spent = {cell.worker: 0 for cell in self.cells}
        for cell in self.cells:
            spent[cell.worker] += cell.figures.cost
        return sorted(spent, key=lambda worker: -spent[worker])

    @property
    def rehearsed(self) -> bool:
        """Whether every dollar but people's wages is simulated."""
        people = {one.worker for one in self.people}
        return all(cell.simulated for cell in self.cells if cell.figures.cost and cell.worker not in people)

    @property
    def wages(self) -> Money:
        """People's part of the cost."""
        return sum(one.wages for one in self.people)

    def sum(self, *, step: str | None = None, worker: str | None = None, judging: bool | None = None) -> Figures:
        """The figures of a step, of a worker, of checks' own calls."""
        return total(
            cell.figures
            for cell in self.cells
            if (step is None or cell.step == step)
            and (worker is None or cell.worker == worker)
            and (judging is None or cell.judging == judging)
        )

    def money(self, amount: Money) -> str:
        """Dollars for people; simulated ones say so."""
        return dollars(amount) + (" (simulated)" if self.simulated == "all" else "")


AMOUNTS = frozenset({"cost", "unknown", "held", "by_step", "wages", "checks", "reserved", "released", "voided", "over"})


def plain(report: Report) -> dict[str, Any]:
    """The report as plain JSON values: money in dollars, under names that end in _usd."""
    return {**_plain(msgspec.to_builtins(report)), "shape": "orchestrion/report/1"}


def _plain(value: Any, *, money: bool = False) -> Any:
    if isinstance(value, dict):
        return {f"{k}_usd" if k in AMOUNTS else k: _plain(v, money=money or k in AMOUNTS) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one, money=money) for one in value]
    if isinstance(value, str):
        return storable(value)
    return usd(value) if money and value is not None else value
