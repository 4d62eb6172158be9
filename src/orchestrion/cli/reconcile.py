"""orchestrion budget reconcile"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import click

from orchestrion.app import Orchestrion
from orchestrion.cli.books import amount, by_option, look, opened, read_dollars
from orchestrion.cli.budget_text import plain
from orchestrion.cli.load import config_option, money
from orchestrion.cli.output import examples, note, output_options, result, write_bytes
from orchestrion.cli.review_text import ago
from orchestrion.domain import Money, usd
from orchestrion.errors import RecordsError, UsageError
from orchestrion.evidence.spreadsheet import read_table, write_table
from orchestrion.ledger.reconcile import Reconciled, Unknown, unknown
from orchestrion.ledger.reconcile import reconcile as book
from orchestrion.review.requests import hold_of, request_id
from orchestrion.settings import read_settings
from orchestrion.store.session import Session

COLUMNS = ("call", "account", "run", "step", "worker", "when", "booked", "cost")


class Bill(NamedTuple):
    """What one call cost; None: it was not billed. ``name`` is the call as people write it."""

    name: str
    cost: Money | None


@click.command(
    "reconcile",
    short_help="Calls of unknown cost: list them, and book what they cost.",
    epilog=examples(
        "orchestrion budget reconcile",
        "orchestrion budget reconcile 1-3 --cost 0.012",
        "orchestrion budget reconcile --csv > bill.csv",
        "orchestrion budget reconcile --from bill.csv",
    ),
)
@click.argument("call", metavar="[CALL]", required=False)
@click.option("--cost", callback=amount("money"), metavar="DOLLARS", help="What the provider billed for it.")
@click.option("--not-billed", is_flag=True, help="The provider did not bill it.")
@click.option("--all", "every", is_flag=True, help="With --not-billed: none of the calls listed was billed.")
@click.option(
    "--from",
    "bill",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="BILL.csv",
    help="Columns call and cost (dollars, or `not billed`): all of its rows, or none. A row without a cost is passed over.",
)
@click.option("--csv", "as_csv", is_flag=True, help="The list as a table to fill in.")
@by_option
@output_options
@config_option
def reconcile(
    call: str | None,
    *,
    cost: Money | None,
    not_billed: bool,
    every: bool,
    bill: Path | None,
    as_csv: bool,
    by: str,
    as_json: bool,
    config: str | None,
) -> None:
    """Calls that nobody knows the cost of: a process died, or a connection broke, while they were under way. They are booked in
    full. Without options, lists them; with the provider's bill at hand, book what they cost, and the rest goes back."""
    if [call is not None, every, bill is not None].count(True) > 1:
        raise UsageError("name a call, or --all, or --from a file: one of them.")
    if call is None and bill is None and not every:
        if cost is not None or not_billed:
            raise UsageError(
                "say which call: orchestrion budget reconcile CALL --cost DOLLARS (without any: the list)."
            )
        _list(as_csv=as_csv, as_json=as_json, config=config)
        return
    if as_csv:
        raise UsageError("--csv is for the list: orchestrion budget reconcile --csv > bill.csv")
    bills = _bills(call, cost=cost, not_billed=not_billed, bill=bill)

    def reconciled(o: Orchestrion) -> list[Reconciled]:
        with o.database.transaction() as session:
            told = [Bill(request_id(one.hold), None) for one in unknown(session)] if every else bills
            return [book(session, _hold(one.name), one.cost, name=one.name, who=by) for one in told]

    settings = read_settings(config)
    done, shown = opened(settings, reconciled), money(settings)
    if not done:
        note("nothing to book: no row has a cost." if bill else "nothing to book: there is no call of unknown cost.")
    lines = [f"call {request_id(one.hold)}  {one.account}  {shown(one.before)} → {shown(one.after)}" for one in done]
    lines.append(
        f"{len(done)} call(s): booked {shown(sum(one.before for one in done))}, cost {shown(sum(one.after for one in done))}."
    )
    result(lines, lambda: {"reconciled": [_done_json(one) for one in done]}, as_json=as_json)


def _bills(call: str | None, *, cost: Money | None, not_billed: bool, bill: Path | None) -> Sequence[Bill]:
    """What the command says of each call. Raises UsageError where it says nothing, or two things."""
    if bill is not None:
        if cost is not None or not_billed:
            raise UsageError(f"{bill} says what calls cost: --cost and --not-billed are for one call.")
        return list(_read_bill(bill))
    if (cost is not None) == not_billed:
        raise UsageError("say either --cost DOLLARS or --not-billed.")
    if call is None and cost is not None:
        raise UsageError("--all goes with --not-billed only: a cost is that of one call, or stands in a file (--from).")
    return [Bill(call, None if not_billed else cost)] if call is not None else []


def _read_bill(path: Path) -> Iterator[Bill]:
    table = read_table(path)
    if not {"call", "cost"} <= set(table.columns):
        raise RecordsError(f"{path}: it has the columns {', '.join(table.columns)}. Needed: call and cost.")
    seen: dict[str, int] = {}
    for no, row in table.rows:
        name, cost = row.get("call", "").strip(), row.get("cost", "").strip()
        if not cost:
            continue
        if name in seen:
            raise RecordsError(
                f"{path}: row {no}: call {name} stands in row {seen[name]} already. Nothing was changed."
            )
        seen[name] = no
        try:
            _hold(name)
            yield Bill(name, None if cost.lower() == "not billed" else read_dollars(cost))
        except (ValueError, UsageError) as error:
            raise RecordsError(f"{path}: row {no}: {error} Nothing was changed.") from None


def _hold(name: str) -> int:
    hold = hold_of(name)
    if hold is None:
        raise UsageError(f"{name!r} is no call: `orchestrion budget reconcile` lists them, as 1-3.")
    return hold


def _unknown(o: Orchestrion, _: Session) -> list[Unknown]:
    with o.database.reading() as session:  # calls stand where they were made
        return unknown(session)


def _list(*, as_csv: bool, as_json: bool, config: str | None) -> None:
    found = look(config, _unknown)
    shown = money(read_settings(config))
    if as_csv and as_json:
        raise UsageError("--csv and --json both want stdout: choose one.")
    if as_csv:
        write_bytes(write_table(COLUMNS, (_row(one) for one in found), marked=False))
        return
    lines = [
        f"{request_id(one.hold):<8} {shown(one.booked):>10}  {ago(one.at):>8}  {one.account}  {one.step or '?'}  {one.worker or '?'}  {one.run or 'no run'}"
        for one in found
    ]
    total = sum(one.booked for one in found)
    result(
        lines or ["no call of unknown cost: everything was posted as it was billed."],
        lambda: {"calls": [_unknown_json(one) for one in found], "booked_nanos": total, "booked_usd": usd(total)},
        as_json=as_json,
    )
    if found:
        note(
            f"{len(found)} call(s), {shown(total)} booked in full. `orchestrion budget reconcile CALL --cost DOLLARS` books what one cost."
        )


def _row(one: Unknown) -> tuple[str, ...]:
    when = datetime.fromtimestamp(one.at, UTC).isoformat(timespec="seconds")
    names = (one.run or "", one.step or "", one.worker or "")
    return (request_id(one.hold), one.account, *names, when, plain("money", one.booked), "")


def _unknown_json(one: Unknown) -> dict[str, Any]:
    return {
        "call": request_id(one.hold),
        "account": one.account,
        "run_id": one.run,
        "step": one.step,
        "worker": one.worker,
        "at": datetime.fromtimestamp(one.at, UTC).isoformat(),
        "booked_nanos": one.booked,
        "booked_usd": usd(one.booked),
    }


def _done_json(one: Reconciled) -> dict[str, Any]:
    return {
        "call": request_id(one.hold),
        "account": one.account,
        "booked_nanos": one.before,
        "cost_nanos": one.after,
        "cost_usd": usd(one.after),
    }
