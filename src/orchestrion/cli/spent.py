"""orchestrion budget spent"""

from __future__ import annotations

import asyncio
import datetime as dt
import re
import shutil
import sys
import textwrap
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple
from zoneinfo import ZoneInfo

import click

from orchestrion.cli.complete import accounts, batches, models
from orchestrion.cli.load import config_option, open_existing
from orchestrion.cli.output import examples, note, output_options, result, write_bytes
from orchestrion.domain import Money, dollars, usd
from orchestrion.errors import UsageError

if TYPE_CHECKING:
    from orchestrion.report.facts import Alone, Figures
    from orchestrion.report.spend import Row, Spending

# The analysis is imported when this command runs: --help does not wait for it.

MOST = 40
"""So many rows are shown; the files of --csv and --json have all."""

NARROWEST = 12
AGO = {"m": 60, "h": 3_600, "d": 86_400, "w": 7 * 86_400}


@click.command(
    "spent",
    short_help="Who spent what: by account, workflow, step, worker, tag, person, day.",
    epilog=examples(
        "orchestrion budget spent",
        "orchestrion budget spent company/support --by step --by worker --since 7d",
        "orchestrion budget spent --by tag:plan --csv > spent.csv",
    ),
)
@click.argument("account", required=False, shell_complete=accounts)
@click.option(
    "--by",
    multiple=True,
    metavar="WHAT",
    help="account, workflow, step, worker, tag:NAME, person, run, batch, day or kind; again for groups within groups "
    "(default: account where there are several, else step and worker).",
)
@click.option("--since", metavar="WHEN", help="From this day or moment on: 2026-11-21, 2026-11-21T14:00, 7d, 24h.")
@click.option("--until", metavar="WHEN", help="Up to the end of this day, or up to this moment.")
@click.option("--batch", metavar="NAME", shell_complete=batches, help="Only the runs of one batch.")
@click.option(
    "--frontier",
    metavar="WORKER",
    shell_complete=models,
    help="The worker to compare with (default: the dearest that was asked).",
)
@click.option("--csv", "as_csv", is_flag=True, help="Rows as CSV: every figure, nano-dollars beside dollars.")
@output_options
@config_option
def spent(
    account: str | None,
    *,
    by: tuple[str, ...],
    since: str | None,
    until: str | None,
    batch: str | None,
    frontier: str | None,
    as_csv: bool,
    as_json: bool,
    config: str | None,
) -> None:
    """Who spent what, from the ledger's entries: to the nano-dollar, whatever it is grouped by.

    Of everything, or of ACCOUNT and those below it. A call counts at the moment at which its money was set aside, as it does
    against limits. Checks' own calls count at the step whose answer they looked at.
    """
    if as_csv and as_json:
        raise UsageError("--csv and --json both want stdout. Give one of them.")
    if len(set(by)) < len(by):
        raise UsageError("--by names the same twice.")
    found, simulated = asyncio.run(_read(account, by, since, until, batch=batch, frontier=frontier, config=config))
    if as_csv:
        write_bytes(_csv(found))
    else:
        wide = shutil.get_terminal_size().columns if sys.stdout.isatty() else 0
        result(_lines(found, wide, simulated=simulated), lambda: _json(found), as_json=as_json)


async def _read(
    account: str | None,
    by: tuple[str, ...],
    since: str | None,
    until: str | None,
    *,
    batch: str | None,
    frontier: str | None,
    config: str | None,
) -> tuple[Spending, bool]:
    """What was asked for, and whether all models are simulated."""
    from orchestrion.report.spend import Selection, default_by, spending, zone_of

    async with open_existing(config) as o:
        zone = zone_of(o.database, account)
        begin, end = _moment("--since", since, zone), _moment("--until", until, zone, end=True)
        if begin is not None and end is not None and begin >= end:
            raise UsageError(f"--since {since} is not before --until {until}: nothing lies between them.")
        found = spending(
            o.database,
            by=by or default_by(o.database, account),
            selection=Selection(account=account, batch=batch, since=begin, until=end),
            prices=o.workers.prices(),
            frontier=frontier,
            zone=zone,
        )
        return found, o.settings.simulated


def _moment(option: str, text: str | None, zone: str, *, end: bool = False) -> float | None:
    """Seconds since the epoch, not before it: of a day's begin (or its end), of a moment, or of so long ago. Raises UsageError."""
    if text is None:
        return None
    ago = re.fullmatch(r"(\d{1,6})([mhdw])", text.strip())
    if ago:
        return max(0.0, time.time() - int(ago[1]) * AGO[ago[2]])
    place = ZoneInfo(zone)
    try:
        if re.fullmatch(r"\d{4}-\d\d-\d\d", text.strip()):
            day = dt.date.fromisoformat(text.strip())
            return max(0.0, dt.datetime.combine(day + dt.timedelta(days=end), dt.time(), place).timestamp())
        at = dt.datetime.fromisoformat(text.strip())
        return max(0.0, (at if at.tzinfo else at.replace(tzinfo=place)).timestamp())
    except (ValueError, OverflowError, OSError):
        raise UsageError(
            f"{option} {text}: this is no day and no moment. Write 2026-11-21, 2026-11-21T14:00 or, for so long ago, 7d (m, h, d, w)."
        ) from None


# The table --------------------------------------------------------------------------------------------------------


class _Column(NamedTuple):
    """A column: its title, its text, and how soon it goes where the window is narrow (0: never)."""

    title: str
    text: Callable[[Row, Spending], str]
    goes: int = 0


def _amount(name: str) -> Callable[[Row, Spending], str]:
    return lambda row, _: dollars(amount) if (amount := getattr(row.figures, name)) else "–"


def _number(name: str) -> Callable[[Row, Spending], str]:
    return lambda row, _: f"{number:,}" if (number := getattr(row.figures, name)) else "–"


COLUMNS = (
    _Column("calls", _number("calls")),
    _Column("tokens in", _number("tokens_in"), 3),
    _Column("out", _number("tokens_out"), 3),
    _Column("set aside", _amount("reserved"), 1),
    _Column("returned", _amount("released"), 1),
    _Column("held now", _amount("held"), 7),
    _Column("booked", _amount("cost")),
    _Column("share", lambda row, all_: f"{all_.share(row):.0%}"),
    _Column("unknown", _amount("unknown"), 8),
    _Column("checks", _amount("checks"), 5),
    _Column("minutes", lambda row, _: f"{row.figures.minutes:,.4g}" if row.figures.minutes else "–", 4),
    _Column("accepted", lambda row, _: f"{row.outcomes:,}" if row.outcomes else "–", 6),
    _Column("each", lambda row, _: "–" if row.each is None else dollars(row.each), 9),
    _Column("× frontier", lambda row, _: "–" if row.ratio is None else f"{row.ratio:.2f}", 2),
)
ONLY_IF_ANY = frozenset({"tokens in", "out", "held now", "unknown", "checks", "minutes", "× frontier"})


def _lines(spent: Spending, wide: int, *, simulated: bool) -> Iterator[str]:
    figures = spent.total.figures
    yield from (textwrap.fill(text, wide) if wide else text for text in _headline(spent, simulated=simulated))
    if not figures.calls and not spent.rows:
        return
    yield ""
    named = [*_named(spent)]
    shown = named if len(named) <= MOST + 1 else named[:MOST]
    rest = named[len(shown) :]
    yield from _table(spent, shown, wide)
    if rest:
        money = sum(row.figures.cost for _, row in rest)
        yield f"… and {len(rest):,} rows more, {dollars(money)} (--csv and --json have them)"
    yield ""
    yield from (textwrap.fill(text, wide) if wide else text for text in _conclusions(spent))


def _headline(spent: Spending, *, simulated: bool) -> Iterator[str]:
    figures, chosen = spent.total.figures, spent.selection
    what = f"account {chosen.account}" if chosen.account else "all accounts"
    what += f", batch {chosen.batch}" if chosen.batch else ""
    what += "".join(
        f", {word} {dt.datetime.fromtimestamp(at, ZoneInfo(spent.zone)):%Y-%m-%d %H:%M} ({spent.zone})"
        for word, at in (("from", chosen.since), ("until", chosen.until))
        if at is not None
    )
    if not figures.calls:
        yield f"{what}: nothing is booked or held."
        return
    mark = " (models simulated)" if simulated else ""
    calls = f"{figures.calls:,} {'call' if figures.calls == 1 else 'calls'}"
    yield click.style(f"{what}: {dollars(figures.cost)}{mark} booked for {calls}", bold=True)
    parts = [f"{dollars(figures.reserved)} was set aside at most, {dollars(figures.released)} came back"]
    if figures.voided:
        parts.append(f"{dollars(figures.voided)} of that for calls that were not made")
    if figures.held:
        parts.append(f"{dollars(figures.held)} is still held for {figures.open:,} that are open")
    if figures.over:
        parts.append(f"{dollars(figures.over)} was billed above what was set aside")
    yield "; ".join(parts) + "."
    if figures.unknown:
        yield f"{dollars(figures.unknown)} is booked in full for calls that broke off: nobody knows what was charged."
    if figures.wages:
        yield f"{dollars(figures.wages)} is people's wages, for {figures.minutes:,.4g} minutes."


def _named(spent: Spending) -> Iterator[tuple[tuple[str, ...], Row]]:
    """Rows with the names that they are shown under: accounts as a tree, each with what is below it."""
    from orchestrion.report.spend import Row, depth_first

    if not spent.within:
        yield from ((row.keys, row) for row in spent.rows)
        return
    for depth, name, own, figures in depth_first(spent):
        short = "  " * depth + (name if not depth else name.rpartition("/")[2])
        if name not in spent.within:
            yield (short,), own or Row(keys=(name,), figures=figures, outcomes=0)
            continue
        inside = [row for row in spent.rows if row.keys[0] == name or row.keys[0].startswith(f"{name}/")]
        yield (short,), Row(keys=(name,), figures=figures, outcomes=sum(row.outcomes for row in inside))
        if own:
            yield ("  " * (depth + 1) + "(itself)",), own


def _table(spent: Spending, named: Sequence[tuple[tuple[str, ...], Row]], wide: int) -> Iterator[str]:
    """Columns as wide as their texts; in a narrow window the least telling go, then names are cut."""
    rows = [*named, (("total", *("" for _ in spent.by[1:])), spent.total)]
    cells = {one: [one.text(row, spent) for _, row in rows] for one in COLUMNS}
    columns = [one for one in COLUMNS if one.title not in ONLY_IF_ANY or set(cells[one]) != {"–"}]
    keys = [[names[i] for names, _ in rows] for i in range(len(spent.by))]
    widths = {one: max(len(one.title), *map(len, cells[one])) for one in columns}
    longest = [max(len(title), *map(len, texts)) for title, texts in zip(spent.by, keys, strict=True)]

    def needed() -> int:
        return sum(longest) + 2 * (len(longest) - 1) + sum(2 + widths[one] for one in columns)

    left_out = []
    while wide and needed() > wide and any(one.goes for one in columns):
        first = min(one.goes for one in columns if one.goes)
        left_out += [one.title for one in columns if one.goes == first]
        columns = [one for one in columns if one.goes != first]
    while wide and needed() > wide and max(longest) > NARROWEST:
        longest[longest.index(max(longest))] -= 1

    def line(names: Sequence[str], texts: Sequence[str]) -> str:
        left = (_cut(name, width).ljust(width) for name, width in zip(names, longest, strict=True))
        right = (text.rjust(widths[one]) for text, one in zip(texts, columns, strict=True))
        return "  ".join((*left, *right)).rstrip()

    yield click.style(line(spent.by, [one.title for one in columns]), bold=True)
    before: tuple[str, ...] = ()
    for i, (names, _) in enumerate(rows):
        same = [names[: j + 1] == before[: j + 1] and j < len(names) - 1 for j in range(len(names))]
        text = line(
            ["" if one else name for name, one in zip(names, same, strict=True)], [cells[one][i] for one in columns]
        )
        yield click.style(text, bold=True) if i == len(rows) - 1 else text
        before = names
    if left_out:
        note(f"The window is too narrow for: {', '.join(left_out)} (--csv has them).")


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: width - 1]}…"


def _conclusions(spent: Spending) -> Iterator[str]:
    """What an accepted outcome cost, and what the frontier would have."""
    if spent.each is not None:
        ended = "1 run" if spent.answered == 1 else f"{spent.answered:,} runs"
        yield (
            f"An accepted outcome cost {dollars(spent.each)}: {ended} ended with an answer. What failed or was refused, "
            "corrections, checks and people are in it."
        )
    elif spent.total.figures.cost:
        yield "What an accepted outcome cost is not known: no run ended with an answer."
    if spent.total.alone is not None:
        yield from _beside(spent.total, spent.total.alone)


def _beside(whole: Row, alone: Alone) -> Iterator[str]:
    if alone.cost is None:
        yield f"What the frontier alone would have cost is not known: {alone.how}."
        return
    least = "at least " if alone.left_out else "about " if alone.estimated else ""
    estimate = ", an estimate" if alone.estimated else ""
    said = f"{alone.worker} alone would have cost {least}{dollars(alone.cost)}{estimate}"
    if whole.ratio is not None:
        said += f"; this way it was {dollars(whole.compared or 0)}, {whole.ratio:.2f} of that"
        said += " (people's wages aside: it asks nobody)" if whole.figures.wages else ""
    yield f"{said}."
    yield alone.how
    if alone.left_out:
        yield f"Left out, because no answer with known tokens came back or the price is not known: {alone.left_out:,} times that a step was asked."


# Data -------------------------------------------------------------------------------------------------------------

COUNTS = (
    *("calls", "accepted", "refused", "unused", "failed", "declined", "lost", "unsent", "open"),
    *("tokens_in", "tokens_out", "counted", "minutes"),
)
AMOUNTS = ("cost", "unknown", "checks", "wages", "reserved", "released", "voided", "over", "held")


def _json(spent: Spending) -> dict[str, Any]:
    chosen = spent.selection
    return {
        "shape": "orchestrion/spent/1",
        "by": spent.by,
        "account": chosen.account,
        "batch": chosen.batch,
        "since": chosen.since,
        "until": chosen.until,
        "zone": spent.zone,
        "outcomes_are": "runs" if spent.of_runs else "answers",
        "answered": spent.answered,
        **_both("an_answered_run", spent.each),
        "rows": [{"keys": dict(zip(spent.by, row.keys, strict=True)), **_row_json(row, spent)} for row in spent.rows],
        "within": {name: _figures_json(figures) for name, figures in spent.within.items()},
        "total": _row_json(spent.total, spent),
    }


def _row_json(row: Row, spent: Spending) -> dict[str, Any]:
    alone = row.alone
    return {
        **_figures_json(row.figures),
        "share": spent.share(row),
        "outcomes": row.outcomes,
        **_both("each", row.each),
        **_both("compared", row.compared),
        "frontier": {
            "worker": alone.worker,
            **_both("cost", alone.cost),
            "estimated": alone.estimated,
            "left_out": alone.left_out,
            "ratio": row.ratio,
            "how": alone.how,
        }
        if alone
        else None,
    }


def _figures_json(figures: Figures) -> dict[str, Any]:
    found: dict[str, Any] = {name: getattr(figures, name) for name in COUNTS}
    for name in AMOUNTS:
        found |= _both(name, getattr(figures, name))
    return found


def _both(name: str, amount: Money | None) -> dict[str, Any]:
    """Dollars for reading, nano-dollars for adding up."""
    return {f"{name}_usd": None if amount is None else usd(amount), f"{name}_nanos": amount}


def _csv(spent: Spending) -> bytes:
    """A line for each row, without a sum: they add up to it."""
    from orchestrion.evidence.spreadsheet import write_table

    money = [*AMOUNTS, "each", "compared", "frontier"]
    columns = [*spent.by, *COUNTS, *(f"{name}_{unit}" for name in money for unit in ("nanos", "usd"))]
    columns += ["share", "outcomes", "frontier_worker", "frontier_estimated", "frontier_left_out"]
    return write_table(columns, (_cells(row, spent) for row in spent.rows), marked=False)


def _cells(row: Row, spent: Spending) -> Iterator[str]:
    yield from row.keys
    yield from (
        f"{getattr(row.figures, name):.15g}" if name == "minutes" else str(getattr(row.figures, name))
        for name in COUNTS
    )
    alone = row.alone
    amounts = [*(getattr(row.figures, name) for name in AMOUNTS), row.each, row.compared, alone.cost if alone else None]
    for amount in amounts:
        yield "" if amount is None else str(amount)
        yield "" if amount is None else exact(amount)
    yield f"{spent.share(row):.6f}"
    yield str(row.outcomes)
    known = alone is not None and alone.cost is not None
    yield (alone.worker or "") if alone and known else ""
    yield str(alone.estimated).lower() if alone and known else ""
    yield str(alone.left_out) if alone and known else ""


def exact(amount: Money) -> str:
    """Dollars with all nine digits."""
    whole, part = divmod(abs(amount), 10**9)
    return f"{'-' if amount < 0 else ''}{whole}.{part:09d}"
