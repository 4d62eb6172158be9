"""Accounts in words, as JSON and as a table."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import click
import msgspec
from pydantic_core import to_json

from orchestrion.domain import NANOS_PER_DOLLAR, usd
from orchestrion.ledger.accounts import UNITS, Amounts, Tree, Unit, amount_text
from orchestrion.ledger.budgets import Change, Record, Seeded, limit_said, looser, per, said
from orchestrion.ledger.overruns import way_out
from orchestrion.ledger.reconcile import Unknown
from orchestrion.ledger.standing import DAY, HOUR, AccountStanding, BilledAbove, Standing
from orchestrion.review.requests import request_id
from orchestrion.settings import Settings

BAR = 20
HIGH = 0.8
COUNTED = {"money": "nano-dollars", "tokens": "tokens", "attention": "seconds"}
COLUMNS: tuple[str, ...] = ("account", "class", "unit", "period", "window", "limit", "spent", "held", "left")
COLUMNS += ("per_day", "runs_out", "begins_anew")


def change_lines(changes: Iterable[Change]) -> list[str]:
    """What was changed, exactly: a line for each account."""
    told: dict[str, list[str]] = {}
    for change in changes:
        told.setdefault(change.account, []).append(_changed(change))
    return [f"{account}: {'; '.join(pieces)}" for account, pieces in told.items()]


def _changed(change: Change) -> str:
    if change.what == "account":
        return "made" if change.after else "taken out"
    if change.what == "limit" and change.unit and change.period:
        name = f"limit {per(change.period)}"
        before, after = (None if one is None else said(change.unit, one) for one in (change.before, change.after))
    else:
        name = change.what.replace("_", " ")
        before, after = (None if one is None else _fact(one) for one in (change.before, change.after))
    if before is None:
        return f"{name} {after}"
    return f"{name} {before} → {after or ('none' if change.what == 'limit' else 'as above it')}"


def _fact(value: Any) -> str:
    return ", ".join(f"{one:g}" for one in value) or "never" if isinstance(value, list | tuple) else f"{value}"


def seeded_lines(seeded: Seeded, file: Path | None) -> Iterator[str]:
    """Limits that the settings lowered in the books, and where both still differ: the books hold."""
    made = {one.account for one in seeded.changes if one.what == "account"}
    lowered = [one for one in seeded.changes if one.account not in made]
    name = file.name if file else "the settings"
    yield from (f"note: {line}, since {name} is stricter." for line in change_lines(lowered))
    lines = change_lines(seeded.differing)
    if lines:
        yield f"note: {name} and the books differ, and the books hold. `orchestrion budget apply` would change them:"
        yield from (f"  {line}" for line in lines)


def looser_lines(tree: Tree, touched: Collection[str] | None = None) -> list[str]:
    """Limits that can never be reached; ``touched``: of these accounts, or because of them."""
    return [
        f"note: {account}'s limit of {limit_said(cap)} is above {above}'s of {limit_said(other)}: the stricter one holds."
        for account, cap, above, other in looser(tree)
        if touched is None or account in touched or above in touched
    ]


def short_lines(found: Iterable[AccountStanding], changes: Iterable[Change]) -> Iterator[str]:
    """What changed limits mean for new calls, where they are below what is spent or held."""
    changed = {(one.account, one.unit, one.period) for one in changes if one.what == "limit"}
    for one in found:
        for limit in one.limits:
            if limit.left <= 0 and (one.account.name, limit.cap.unit, limit.cap.period) in changed:
                yield f"note: {one.account.name}, {limit_said(limit.cap)}: {_what_now(limit, one.zone)}."


def history_lines(record: Record) -> Iterator[str]:
    """One change: when, by whom, how, and what it was."""
    at = datetime.fromtimestamp(record.at).astimezone()
    if record.kind in ("seed", "apply", "set", "move"):
        told = change_lines(msgspec.convert(record.body, list[Change]))
    elif record.kind == "reconcile":
        before, after = (said("money", record.body[name]) for name in ("before", "after"))
        told = [f"{record.account}: call {record.body['call']} {before} → {after}"]
    else:
        told = [f"{record.account or ''}: {to_json(record.body).decode()}"]
    for line in told:
        yield f"{at:%Y-%m-%d %H:%M:%S}  {record.who:<16}  {record.kind:<9}  {line}"


def show_lines(found: list[AccountStanding]) -> Iterator[str]:
    """Accounts as a tree, each with its limits."""
    for one in found:
        name = one.account.name
        indent = "  " * sum(other.account.name in _above(name) for other in found)
        spent = ", ".join(_amounts(one.spent)) or "$0"
        held = f"; {', '.join(_amounts(one.held))} held" if any(one.held) else ""
        rank = f"  {one.rank}" if one.account.rank else ""
        beside = "" if one.kept else "  (not one of the accounts)"
        yield f"{indent}{click.style(name, bold=True)}  {spent} in all{held}{rank}{beside}"
        for limit in one.limits:
            yield from (f"{indent}  {line}" for line in _limit_lines(limit, one.zone))


def _amounts(amounts: Amounts) -> Iterator[str]:
    for unit, amount in zip(UNITS, amounts, strict=True):
        if amount:
            yield amount_text(unit, amount)


def _limit_lines(limit: Standing, zone: str) -> Iterator[str]:
    unit, cap = limit.cap.unit, limit.cap
    what = limit_said(cap)
    if limit.window is None:
        yield what
        return
    share = (limit.spent + limit.held) / cap.amount if cap.amount else 1.0
    full = min(BAR, math.floor(share * BAR))
    bar = click.style("━" * full, fg="red" if share >= 1 else "yellow" if share >= HIGH else "green") + "─" * (
        BAR - full
    )
    held = f", {amount_text(unit, limit.held)} held" if limit.held else ""
    left = f"{amount_text(unit, limit.left)} left" if limit.left >= 0 else f"{amount_text(unit, -limit.left)} over"
    yield f"{what:<24} {bar} {share:>4.0%}  {amount_text(unit, limit.spent)} spent{held}, {left}"
    yield f"{'':<24} {_what_now(limit, zone)}"


def _what_now(limit: Standing, zone: str) -> str:
    """How fast it burns, what that leads to, and when it begins anew."""
    window = limit.window
    anew = f"it begins anew on {_moment(window.end, zone)} {zone}" if window and math.isfinite(window.end) else ""
    warned = [f"warned at {limit.warned:.0%}"] if limit.warned is not None else []
    if limit.spent >= limit.cap.amount:
        until = f"{anew}, or is raised" if anew else "it is raised"
        return "; ".join([f"used up: new calls stop until {until}", *warned])
    if limit.left <= 0:
        return "; ".join(["what is left is held: new calls wait for it to come back", *filter(None, [anew]), *warned])
    each, name = (HOUR, "an hour") if limit.cap.period == "day" else (DAY, "a day")
    burn = (
        f"{amount_text(limit.cap.unit, round(limit.rate * each))} {name} of late"
        if limit.rate
        else "nothing spent of late"
    )
    out = f", at which it runs out on {_moment(limit.runs_out, zone)}" if limit.runs_out is not None else ""
    return "; ".join([burn + out, *filter(None, [anew]), *warned])


def _moment(at: float, zone: str) -> str:
    try:
        return f"{datetime.fromtimestamp(at, ZoneInfo(zone)):%Y-%m-%d %H:%M}"
    except (OverflowError, ValueError):  # a cent a century
        return "a day far away"


def _iso(at: float | None, zone: str) -> str | None:
    try:
        return None if at is None or not math.isfinite(at) else datetime.fromtimestamp(at, ZoneInfo(zone)).isoformat()
    except (OverflowError, ValueError):
        return None


def show_json(
    found: list[AccountStanding], broken: list[BilledAbove], lost: list[Unknown], *, simulated: bool
) -> dict[str, Any]:
    """Everything exact: integers of nano-dollars, tokens and seconds; dollars as floats beside them."""
    return {
        "at": datetime.now(tz=UTC).isoformat(),
        "simulated": simulated,
        "accounts": [_account_json(one) for one in found],
        "total": _totals(found),
        "unknown": {
            "calls": len(lost),
            "nanos": sum(one.booked for one in lost),
            "usd": usd(sum(one.booked for one in lost)),
        },
        "overruns": [_overrun_json(one) for one in broken],
    }


def _totals(found: list[AccountStanding]) -> dict[str, Any]:
    names = {one.account.name for one in found}
    roots = [one for one in found if not names & _above(one.account.name)]
    return {"spent": _sum_json(one.spent for one in roots), "held": _sum_json(one.held for one in roots)}


def _sum_json(amounts: Iterable[Amounts]) -> dict[str, Any]:
    return _amounts_json(Amounts(*map(sum, zip((0, 0, 0), *amounts, strict=True))))


def _above(name: str) -> set[str]:
    parts = name.split("/")
    return {"/".join(parts[:i]) for i in range(1, len(parts))}


def _amounts_json(amounts: Amounts) -> dict[str, Any]:
    return {
        "nanos": amounts.money,
        "usd": usd(amounts.money),
        "tokens": amounts.tokens,
        "attention_s": amounts.attention,
    }


def _account_json(one: AccountStanding) -> dict[str, Any]:
    return {
        "account": one.account.name,
        "parent": one.account.parent,
        "known": one.kept,
        "class": one.rank,
        "time_zone": one.zone,
        "spent": _amounts_json(one.spent),
        "held": _amounts_json(one.held),
        "limits": [_limit_json(limit, one.zone) for limit in one.limits],
    }


def _limit_json(limit: Standing, zone: str) -> dict[str, Any]:
    cap, window = limit.cap, limit.window
    told: dict[str, Any] = {
        "unit": cap.unit,
        "counted_in": COUNTED[cap.unit],
        "period": cap.period,
        "limit": cap.amount,
    }
    if window is not None:
        told |= {"spent": limit.spent, "held": limit.held, "left": limit.left}
    if cap.unit == "money":
        told |= {f"{name}_usd": usd(told[name]) for name in ("limit", "spent", "held", "left") if name in told}
    if window is not None:
        told |= {
            "window": window.name or None,
            "begins": _iso(window.start, zone) if window.name else None,
            "begins_anew": _iso(window.end, zone),
            "per_day": limit.rate * DAY,
            "runs_out": _iso(limit.runs_out, zone),
            "warned_fraction": limit.warned,
        }
    return told


def show_rows(found: list[AccountStanding]) -> Iterator[tuple[str, ...]]:
    """A row for what each account ever spent of each unit, and one for each of its limits; amounts are exact."""
    for one in found:
        head = (one.account.name, one.rank)
        for unit, spent, held in zip(UNITS, one.spent, one.held, strict=True):
            if unit == "money" or spent or held:
                yield (*head, _unit(unit), "ever", "", "", plain(unit, spent), plain(unit, held), "", "", "", "")
        for limit in one.limits:
            unit, window = limit.cap.unit, limit.window
            figures = (limit.spent, limit.held, limit.left) if window else ()
            yield (
                *head,
                _unit(unit),
                limit.cap.period,
                window.name if window else "",
                plain(unit, limit.cap.amount),
                *(plain(unit, figure) for figure in figures),
                *("",) * (3 - len(figures)),
                plain(unit, round(limit.rate * DAY)) if window else "",
                _iso(limit.runs_out, one.zone) or "",
                (_iso(window.end, one.zone) if window else None) or "",
            )


def _unit(unit: Unit) -> str:
    return {"money": "dollars", "tokens": "tokens", "attention": "seconds"}[unit]


def plain(unit: Unit, amount: int) -> str:
    """An exact amount as a spreadsheet reads it: dollars to the nano-dollar, tokens, seconds."""
    return f"{Decimal(amount) / NANOS_PER_DOLLAR:.9f}" if unit == "money" else str(amount)


def overrun_lines(broken: Iterable[BilledAbove]) -> Iterator[str]:
    """Calls that were billed above their bound, whose workers are refused."""
    for one in broken:
        yield (
            f"overrun: call {request_id(one.hold)} of '{one.worker}' ({one.account}) was billed {said(one.unit, one.actual)}, "
            f"and its bound was {said(one.unit, one.bound)}. {way_out(one.worker, one.margin)}"
        )


def still_refused(broken: Iterable[BilledAbove], settings: Settings) -> list[BilledAbove]:
    """Those whose worker's bound was not raised since."""
    bounds = {name: model.bound for name, model in settings.models.items()}
    return [one for one in broken if bounds.get(one.worker, 1.0) <= one.margin]


def _overrun_json(one: BilledAbove) -> dict[str, Any]:
    return {
        "call": request_id(one.hold),
        "account": one.account,
        "worker": one.worker,
        "unit": one.unit,
        **(
            {
                "bound_nanos": one.bound,
                "actual_nanos": one.actual,
                "bound_usd": usd(one.bound),
                "actual_usd": usd(one.actual),
            }
            if one.unit == "money"
            else {"bound": one.bound, "actual": one.actual}
        ),
        "margin": one.margin if math.isfinite(one.margin) else None,
        "at": datetime.fromtimestamp(one.at, UTC).isoformat(),
    }
