"""orchestrion budget show | spent | set | move | apply | history | reconcile"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import click
import msgspec
from pydantic_core import PydanticCustomError

from orchestrion.app import Orchestrion
from orchestrion.cli.books import NONE, READ, amount, by_option, kept, look, opened
from orchestrion.cli.budget_text import (
    COLUMNS,
    change_lines,
    history_lines,
    looser_lines,
    overrun_lines,
    seeded_lines,
    short_lines,
    show_json,
    show_lines,
    show_rows,
    still_refused,
)
from orchestrion.cli.complete import accounts
from orchestrion.cli.load import config_option
from orchestrion.cli.output import examples, note, output_options, result, write_bytes
from orchestrion.cli.reconcile import reconcile
from orchestrion.cli.spent import spent
from orchestrion.errors import UsageError
from orchestrion.evidence.spreadsheet import write_table
from orchestrion.ledger import budgets
from orchestrion.ledger.accounts import CLASSES, PERIODS, Period, Tree, Unit, ancestors
from orchestrion.ledger.budgets import Applied, Change, Record, Seeded, accounts_of, per
from orchestrion.ledger.reconcile import Unknown, unknown
from orchestrion.ledger.standing import AccountStanding, BilledAbove, overruns, standings
from orchestrion.limits import known_zone
from orchestrion.settings import Settings, read_settings
from orchestrion.store.session import Session

period_option = click.option(
    "--period",
    type=click.Choice(PERIODS),
    metavar="PERIOD",
    help="How long the limit counts: run, day, week, month or forever (default: the period of the limit that there is).",
)


@click.group("budget")
def command() -> None:
    """Accounts and their limits: who may spend what, and who spent it."""


class _Books(NamedTuple):
    """What is on one page of `show`."""

    found: list[AccountStanding]
    overruns: list[BilledAbove]
    unknown: list[Unknown]
    seeded: Seeded
    tree: Tree


@command.command(
    "show",
    short_help="Every account: limits, spent, held, left, when it runs out.",
    epilog=examples(
        "orchestrion budget show",
        "orchestrion budget show company/support --json",
        "orchestrion budget show --csv > budget.csv",
    ),
)
@click.argument("names", metavar="[ACCOUNT]…", nargs=-1, shell_complete=accounts)
@click.option("--csv", "as_csv", is_flag=True, help="A table for spreadsheets on stdout; amounts are exact.")
@output_options
@config_option
def show(names: tuple[str, ...], *, as_csv: bool, as_json: bool, config: str | None) -> None:
    """Accounts as a tree, those below included in those above: what each spent, holds and has left, how fast it burns, when it
    runs out, and when its limits begin anew."""
    if as_csv and as_json:
        raise UsageError("--csv and --json both want stdout: choose one.")
    settings = read_settings(config)
    books = look(config, lambda o, session: _read(o, session, names))
    broken = still_refused(books.overruns, settings)
    if as_csv:
        rows = (["" if cell is None else cell for cell in row] for row in show_rows(books.found))
        write_bytes(write_table(COLUMNS, rows, marked=False))
    else:
        lines = [*show_lines(books.found), *overrun_lines(broken)]
        if not books.found:
            lines = [
                "no accounts, and nothing spent. `budgets:` in orchestrion.yaml, or `orchestrion budget set`, makes some."
            ]
        result(
            lines, lambda: show_json(books.found, broken, books.unknown, simulated=settings.simulated), as_json=as_json
        )
    if settings.simulated and books.found:
        note("every model in these settings is simulated, and so are its dollars.")
    if books.unknown:
        note(
            f"{len(books.unknown)} call(s) of unknown cost are booked in full: `orchestrion budget reconcile` lists them."
        )
    for line in [*looser_lines(books.tree), *seeded_lines(books.seeded, settings.file)]:
        note(line)


def _read(o: Orchestrion, session: Session, names: Iterable[str]) -> _Books:
    tree = budgets.read_tree(session)
    found = standings(session, tree, now=time.time())
    known = {one.account.name: one.account for one in found}
    for name in names:
        budgets.find(Tree(known.values()), name)
    wanted = set(names)
    shown = [one for one in found if not wanted or wanted & set(ancestors(one.account.name))]
    accounts = {one.account.name for one in shown}
    with o.database.reading() as here:  # calls stand where they were made
        broken = [one for one in overruns(here) if one.account in accounts]
        lost = [one for one in unknown(here) if one.account in accounts]
    return _Books(shown, broken, lost, o.seeded, tree)


@command.command(
    "set",
    short_help="Change an account's limits, class, warnings; make one.",
    epilog=examples(
        "orchestrion budget set company --limit 100 --period month",
        "orchestrion budget set company/support --create --limit 2 --period day --class critical",
        "orchestrion budget set company --limit none",
    ),
)
@click.argument("name", metavar="ACCOUNT", shell_complete=accounts)
@click.option(
    "--limit", "money", callback=amount("money", none=True), metavar="DOLLARS|none", help="What may be spent."
)
@click.option("--tokens", callback=amount("tokens", none=True), metavar="N|none", help="How many tokens.")
@click.option(
    "--minutes",
    "attention",
    callback=amount("attention", none=True),
    metavar="M|none",
    help="Minutes of people's time.",
)
@period_option
@click.option(
    "--class",
    "rank",
    type=click.Choice([*CLASSES, NONE]),
    metavar="CLASS",
    help="Served first to last where money is scarce: critical, standard, background; none: as the account above.",
)
@click.option(
    "--warn", metavar="FRACTIONS|none", help="Where to warn, such as 0.5,0.8 of a limit; none: as the account above."
)
@click.option("--time-zone", "zone", metavar="ZONE|none", help="Where its days begin, such as Europe/Berlin.")
@click.option("--wait", metavar="SECONDS|none", help="How long a call waits for money that others hold.")
@click.option("--create", is_flag=True, help="Make the account, if it is not there.")
@by_option
@output_options
@config_option
def set_account(
    name: str, *, period: Period | None, create: bool, by: str, as_json: bool, config: str | None, **given: Any
) -> None:
    """Change an account, durably and at once: processes at work see it with their next call.

    The settings only make accounts that are not there; what is set here stands, whatever they say.
    """
    amounts: dict[Unit, Any] = {unit: given[unit] for unit in READ if given[unit] is not None}
    facts = _facts(given)
    if period and not amounts:
        raise UsageError(f"--period {period} of what? Give --limit, --tokens or --minutes, too.")
    if not (amounts or facts or create):
        raise UsageError("say what to change: --limit, --tokens, --minutes, --class, --warn, --time-zone or --wait.")

    def work(session: Session) -> tuple[Change, ...]:
        before = budgets.read_tree(session).accounts.get(name)
        caps: dict[tuple[Unit, Period], int | None] = {}
        for unit, given_amount in amounts.items():
            there = [cap.period for cap in before.caps if cap.unit == unit] if before else []
            caps[unit, period or _only(name, unit, there)] = None if given_amount == NONE else given_amount
        return budgets.amend(session, name, who=by, caps=caps, create=create, **facts)

    _change(read_settings(config), work, as_json=as_json)


def _only(name: str, unit: Unit, there: list[Period]) -> Period:
    """The period that is meant where none is named."""
    if len(there) > 1:
        raise UsageError(f"'{name}' has limits on {unit} {' and '.join(map(per, there))}: say which with --period.")
    return there[0] if there else "forever"


def _facts(given: dict[str, Any]) -> dict[str, Any]:
    """What is to be said of the account beside its limits; None: as the account above."""
    facts: dict[str, Any] = {}
    if given["rank"] is not None:
        facts["rank"] = None if given["rank"] == NONE else given["rank"]
    for option, field, read in (("warn", "warn", _fractions), ("zone", "zone", _zone), ("wait", "wait_s", _wait)):
        if given[option] is not None:
            facts[field] = None if given[option] == NONE else read(given[option])
    return facts


def _fractions(text: str) -> tuple[float, ...]:
    try:
        fractions = tuple(sorted({float(part) for part in text.split(",")}))
    except ValueError:
        fractions = (0.0,)
    if not all(0 < one <= 1 for one in fractions):
        raise UsageError(f"--warn {text}: write fractions of the limit above 0 and up to 1, such as 0.5,0.8.")
    return fractions


def _zone(text: str) -> str:
    try:
        return known_zone(text)
    except PydanticCustomError as error:
        raise UsageError(f"--time-zone: {error.message()}") from None


def _wait(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= 604_800:
        raise UsageError(f"--wait {text}: write a number of seconds, at most a week (604800).")
    return seconds


def _change(settings: Settings, work: Callable[[Session], tuple[Change, ...]], *, as_json: bool) -> None:
    """Change the books in one transaction, and say what was changed and what it means."""

    def changed(o: Orchestrion) -> tuple[tuple[Change, ...], Tree, list[AccountStanding]]:
        with o.books.transaction() as session:
            changes = work(session)
        return changes, *_meaning(o)

    changes, tree, found = opened(settings, changed)
    lines = change_lines(changes) or ["nothing changed: the books say so already."]
    result(lines, lambda: {"changes": msgspec.to_builtins(changes)}, as_json=as_json)
    for line in [*short_lines(found, changes), *looser_lines(tree, {one.account for one in changes})]:
        note(line)


def _meaning(o: Orchestrion) -> tuple[Tree, list[AccountStanding]]:
    """The accounts as they are now, and how they stand."""
    with o.books.reading() as session:
        tree = budgets.read_tree(session)
        return tree, standings(session, tree, now=time.time())


@command.command(
    "move",
    short_help="Move a part of a limit from one account to another.",
    epilog=examples(
        "orchestrion budget move company/tax company/support 5",
        "orchestrion budget move company/tax company/support 30 --unit attention --period week",
    ),
)
@click.argument("source", metavar="FROM", shell_complete=accounts)
@click.argument("target", metavar="TO", shell_complete=accounts)
@click.argument("much", metavar="AMOUNT")
@click.option(
    "--unit",
    type=click.Choice(["money", "tokens", "minutes"]),
    metavar="UNIT",
    default="money",
    show_default=True,
    help="What moves: money, tokens or minutes.",
)
@period_option
@by_option
@output_options
@config_option
def move(
    source: str,
    target: str,
    much: str,
    *,
    unit: str,
    period: Period | None,
    by: str,
    as_json: bool,
    config: str | None,
) -> None:
    """Move a part of one account's limit to another's, of the same unit and period: both change or neither does."""
    moved: Unit = "attention" if unit == "minutes" else unit  # type: ignore[assignment]  # one of the choices
    try:
        moving = READ[moved](much)
    except ValueError as error:
        raise UsageError(f"{error} Nothing was moved.") from None

    def work(session: Session) -> tuple[Change, ...]:
        return budgets.move(session, source, target, moving, unit=moved, period=period, who=by)

    _change(read_settings(config), work, as_json=as_json)


@command.command(
    "apply",
    short_help="Make the books say what orchestrion.yaml says.",
    epilog=examples("orchestrion budget apply --dry-run", "orchestrion budget apply"),
)
@click.option("--dry-run", is_flag=True, help="Say what would change, and change nothing.")
@click.option(
    "--prune", is_flag=True, help="Take out accounts that the settings do not name, if nothing ever used them."
)
@by_option
@output_options
@config_option
def apply(*, dry_run: bool, prune: bool, by: str, as_json: bool, config: str | None) -> None:
    """Make the books say what orchestrion.yaml says, whatever was set by hand. Accounts that it does not name are kept."""
    settings = read_settings(config)
    given = accounts_of(settings)

    def applied(o: Orchestrion) -> tuple[Applied, Tree, list[AccountStanding]]:
        if dry_run:
            with o.books.reading() as session:
                return budgets.planned(session, given, prune=prune), Tree(given), []
        with o.books.transaction() as session:
            done = budgets.apply(session, given, who=by, prune=prune)
        return done, *_meaning(o)

    unseeded = settings.model_copy(update={"budgets": {}})  # what they say is applied here, and said
    if dry_run and not kept(settings):
        unseeded = unseeded.model_copy(update={"database": ":memory:"})
    done, tree, found = opened(unseeded, applied)
    lines = change_lines(done.changes) + [f"{name}: taken out" for name in done.pruned]
    data = {
        "dry_run": dry_run,
        "changes": msgspec.to_builtins(done.changes),
        "pruned": done.pruned,
        "not_in_settings": done.kept,
    }
    result(lines or ["nothing to change: the books say so already."], lambda: data, as_json=as_json)
    if dry_run and lines:
        note("nothing was changed yet.")
    if done.kept:
        way = "they were used, or have others below them" if prune else "--prune takes out those that nothing ever used"
        note(f"not in the settings, and kept: {', '.join(done.kept)} ({way}).")
    for line in [*short_lines(found, done.changes), *looser_lines(tree)]:
        note(line)


@command.command(
    "history",
    short_help="Who changed what, and when.",
    epilog=examples("orchestrion budget history", "orchestrion budget history company/support"),
)
@click.argument("name", metavar="[ACCOUNT]", required=False, shell_complete=accounts)
@output_options
@config_option
def history(name: str | None, *, as_json: bool, config: str | None) -> None:
    """Every change of accounts and limits, the oldest first: seeded by the settings, set, moved, applied, reconciled."""

    def read(o: Orchestrion) -> list[Record]:
        with o.books.reading() as session:
            records = budgets.history(session, name)
            if name is not None and not records:
                budgets.find(budgets.read_tree(session), name)
            return records

    settings = read_settings(config)
    records = opened(settings, read) if kept(settings) or settings.ledger else []
    lines = [line for record in records for line in history_lines(record)]
    result(
        lines or ["nothing was changed yet."], lambda: {"changes": [one._asdict() for one in records]}, as_json=as_json
    )


command.add_command(reconcile)
command.add_command(spent)
