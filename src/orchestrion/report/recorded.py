"""Facts of runs, from the database: one pass over the calls, one over the outcomes that have a score."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence

from msgspec.structs import replace

from orchestrion.domain import Outcome, Price, dollars
from orchestrion.evidence.recorded import PROBES, recorded
from orchestrion.report.advice import advise
from orchestrion.report.calls import KINDS, BookedCall, calls_of_runs
from orchestrion.report.endings import RunRow, endings
from orchestrion.report.facts import Alone, Asked, Cell, Part, Quality, Report, Simulated, Waiting, total
from orchestrion.report.frontier import FrontierAlone
from orchestrion.report.intervals import share
from orchestrion.report.tally import Tally, sums_by
from orchestrion.report.words import summarise, with_words
from orchestrion.settings import Settings
from orchestrion.store.database import Database
from orchestrion.store.queries import queries


def newest_batch(database: Database) -> tuple[str | None, int]:
    """The batch of the newest run (None: it has none), and how many batches there are."""
    rows = database.read(queries("report")["newest"], {"probes": PROBES})
    return rows[0] if rows else (None, 0)


def report_runs(
    database: Database,
    settings: Settings,
    *,
    batch: str | None = None,
    run: str | None = None,
    prices: Mapping[str, Price],
    frontier: str | None = None,
    reviews: Iterable[Waiting] = (),
) -> Report:
    """The report of a batch, of one run, or (without either) of every run of the database.

    ``prices`` of the workers that are known, for what the frontier alone would have cost. ``reviews``: what people were
    asked and have not answered; other waiting runs wait for their signals.
    """
    named = {"batch": batch, "run": run}
    found = [RunRow(*row) for row in database.read(queries("report")["runs"], named)]
    runs = [one for one in found if run or not one.id.startswith(PROBES)]
    tally, alone = Tally(), FrontierAlone(prices, frontier=frontier)
    visits: Counter[str] = Counter()
    calls = list(calls_of_runs(database, **named))
    replied = _count(calls, tally, alone, visits)
    scored = _scored(database, runs, batch=batch, run=run)
    ended, cases, waiting = endings(runs, replied, reviews)
    simulated = {name for name, model in settings.models.items() if model.model == "simulated"}
    cells = tally.cells(
        simulated=simulated,
        quality={
            key: share([o.score for o in found if o.score is not None]) for key, found in _by_cell(scored).items()
        },
    )
    people = _people(database, named)
    report = Report(
        kind="run" if run else "batch" if batch else "database",
        title=run or batch or "All runs",
        workflows=tuple(dict.fromkeys(one.workflow.rpartition(":")[2] for one in runs)),
        source=database.path.name,
        made=time.time(),
        began=min((one.created for one in runs), default=None),
        until=max((one.updated for one in runs), default=None),
        tasks=len(runs),
        ended=ended,
        figures=total(cell.figures for cell in cells),
        cells=cells,
        visits=dict(visits),
        refusals=tally.refusals(),
        quality=_quality(tally, cells, scored),
        alone=_beside(alone.sum(), people),
        cases=cases,
        waiting=waiting,
        people=people,
        accounts=_parts(calls, lambda call: call.account),
        kinds=_parts(calls, lambda call: KINDS[call.kind]),
        simulated=_simulated(settings, cells, simulated),
    )
    return with_words(report, summary=summarise(report), advice=advise(report))


def _count(
    calls: Iterable[BookedCall], tally: Tally, alone: FrontierAlone, visits: Counter[str]
) -> set[tuple[str, str]]:
    """Count every call; the (run, step) pairs in which somebody replied."""
    seen: set[Hashable] = set()
    replied: set[tuple[str, str]] = set()
    for call in calls:
        tally.add(call.counted)
        alone.add_call(call, call.step)
        if call.purpose != "work":
            continue
        if call.visit not in seen:
            seen.add(call.visit)
            visits[call.step] += 1
        if call.answered or (call.answered is False and call.person is not None):
            replied.add((call.run_id, call.step))  # a person's rejection, too: somebody has looked
    return replied


def _scored(database: Database, runs: list[RunRow], *, batch: str | None, run: str | None) -> list[Outcome]:
    """The outcomes that have a score. To read them all takes most of a report's time: not where nothing can have one."""
    [(labelled,)] = database.read(queries("report")["labelled"])
    if not runs or not labelled:
        return []
    found = recorded(database, batch=batch, no=runs[0].no if run else None)
    return [one.outcome for one in found if one.outcome.score is not None]


def _by_cell(scored: list[Outcome]) -> dict[tuple[str, str], list[Outcome]]:
    cells: dict[tuple[str, str], list[Outcome]] = defaultdict(list)
    for one in scored:
        cells[one.step or "", one.worker].append(one)
    return cells


def _parts(calls: Sequence[BookedCall], name: Callable[[BookedCall], str]) -> tuple[Part, ...]:
    """Where the money went; the dearest first."""
    found = sums_by((call.counted for call in calls), map(name, calls))
    parts = [Part(name=name, figures=figures) for name, figures in found.items()]
    return tuple(sorted(parts, key=lambda part: -part.figures.cost))


def _beside(alone: Alone, people: tuple[Asked, ...]) -> Alone:
    """What the frontier alone would have cost, with a word on people: it would have asked none."""
    wages = sum(one.wages for one in people)
    if alone.cost is None or not wages:
        return alone
    return replace(
        alone,
        how=f"{alone.how} People's wages ({dollars(wages)}) are in the cost of this way, and {alone.worker} alone asks nobody.",
    )


def _people(database: Database, named: Mapping[str, str | None]) -> tuple[Asked, ...]:
    rows = database.read(queries("report")["people"], named)
    return tuple(Asked(**dict(zip(Asked.__struct_fields__, row, strict=True))) for row in rows)


def _quality(tally: Tally, cells: Iterable[Cell], scored: list[Outcome]) -> Quality:
    taken = [one for one in scored if one.accepted]
    labelled = {(one.step or "", one.worker) for one in taken}
    unlabelled = {
        f"{cell.step} · {cell.worker}": cell.figures.accepted
        for cell in cells
        if labelled and not cell.judging and cell.figures.accepted and (cell.step, cell.worker) not in labelled
    }
    return Quality(
        right=share([one.score for one in taken if one.score is not None]),
        sources=dict(Counter(one.label_source or "unknown" for one in taken)),
        accepted=tally.accepted,
        unseen=tally.unseen,
        despite=tally.despite,
        constrained=tally.constrained,
        unlabelled=unlabelled,
    )


def _simulated(settings: Settings, cells: Iterable[Cell], simulated: set[str]) -> Simulated:
    """Which of the dollars are simulated; people's wages never are."""
    paid = [cell for cell in cells if cell.figures.cost]
    made_up = {cell.worker for cell in paid} & simulated
    if all(cell.worker in simulated for cell in paid) and (settings.simulated or paid):
        return "all"
    return "some" if made_up else "none"
