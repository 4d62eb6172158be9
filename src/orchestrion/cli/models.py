"""orchestrion models [--check]"""

from __future__ import annotations

import asyncio
import shutil
import sys
import textwrap
import time
from collections.abc import Iterator
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import click

from orchestrion.app import Orchestrion
from orchestrion.cli.load import account_option, config_option
from orchestrion.cli.output import examples, output_options, result
from orchestrion.domain import Outcome, Price, dollars, nanos, usd
from orchestrion.engine.step import Step
from orchestrion.engine.workflow import Run
from orchestrion.errors import SettingsError, UsageError
from orchestrion.evidence.recorded import PROBES, recorded
from orchestrion.settings import ModelSettings, PersonSettings, Settings, nearest, read_settings, secret

CONNECT_S = 2.0
ANSWER_TOKENS = 512
"""Room for the one word of a check, and for what a reasoning model thinks before it says it."""


class Known(NamedTuple):
    """What can be told of a model without asking it. ``key_set`` is None where it needs no key, ``reachable`` where there
    is no address to try."""

    name: str
    model: ModelSettings
    price: Price | None
    source: str | None
    context_window: int | None
    key_set: bool | None
    reachable: bool | None
    reached: str
    problem: str | None


class Checked(NamedTuple):
    """What became of one tiny call: the run that it was, the attempt if one was made, and what went wrong, in words."""

    run: Run | None
    outcome: Outcome | None
    problem: str | None


@click.command("models", epilog=examples("orchestrion models", "orchestrion models cheap --check"))
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--check", "checking", is_flag=True, help="Ask each model for one word, for real money; books it.")
@account_option
@output_options
@config_option
def command(names: tuple[str, ...], *, checking: bool, account: str | None, as_json: bool, config: str | None) -> int:
    """Who can be asked: models and people of the settings, or those that are named.

    A model's price, where that comes from, its limits, its key, and whether its server takes a connection, which costs
    nothing. With --check each model is asked for one word: a run like any other, in the database and its ledger. Exit
    status 1 where a checked model did not answer.
    """
    settings = read_settings(config)
    chosen = _chosen(settings, names)
    if not checking:
        settings = settings.model_copy(update={"database": ":memory:"})  # to look makes no database
    rows, checks = asyncio.run(_look(settings, chosen, checking=checking, account=account))
    people = [(name, person) for name, person in settings.people.items() if not names or name in names]
    lines = [line for row in rows for line in _shown(row.name, row.model.model, _lines(row, checks.get(row.name)))]
    for name, person in people:
        lines += _shown(name, "a person", _person_lines(person))
    data = {
        "models": [_row_json(row, checks.get(row.name)) for row in rows],
        "people": [_person_json(*one) for one in people],
    }
    none = ["there are no models in the settings: `orchestrion init DIR` writes some to start from."]
    result(lines or none, lambda: data, as_json=as_json)
    return 1 if any(check.problem for check in checks.values()) else 0


def _chosen(settings: Settings, names: tuple[str, ...]) -> list[str]:
    known = [*settings.models, *settings.people]
    for name in names:
        if name not in known:
            raise UsageError(f"nobody is called '{name}' in the settings.{nearest(name, known)}")
    return [name for name in settings.models if not names or name in names]


async def _look(
    settings: Settings, names: list[str], *, checking: bool, account: str | None
) -> tuple[list[Known], dict[str, Checked]]:
    async with Orchestrion.open(settings) as o:
        rows = await asyncio.gather(*(_known(o, name) for name in names))
        payer = o.account(account) if checking else ""
        checked = await asyncio.gather(*(_check(o, row, payer) for row in rows)) if checking else []
        return rows, dict(zip(names, checked, strict=False))


async def _known(o: Orchestrion, name: str) -> Known:
    model, listed, problem = o.settings.models[name], o.workers.listed(name), None
    price = model.price.price() if model.price else listed.price if listed else None
    try:
        price = o.workers[name].price
    except SettingsError as error:
        problem = str(error)
    source = "simulated" if model.model == "simulated" else "settings" if model.price else listed and listed.source
    context = listed.context_window if listed else None
    reachable, reached = await _reach(model.address)
    return Known(name, model, price, source, context, _key_set(model), reachable, reached, problem)


def _key_set(model: ModelSettings) -> bool | None:
    """None where the model needs no key."""
    if model.key is None:
        return None
    try:
        return bool(secret(model.key, owner=""))
    except SettingsError:
        return False


async def _reach(address: str | None) -> tuple[bool | None, str]:
    """Whether a server takes a connection, and that in words; None where there is none to try."""
    parts = urlsplit(address or "")
    if parts.hostname is None:
        return None, "not tried: the address is known to the provider's library only"
    port = parts.port or (80 if parts.scheme == "http" else 443)
    begun = time.perf_counter()
    try:
        async with asyncio.timeout(CONNECT_S):
            _, writer = await asyncio.open_connection(parts.hostname, port)
    except TimeoutError:
        return False, f"no: {parts.hostname}:{port} takes no connection within {CONNECT_S:g} s"
    except (OSError, UnicodeError) as error:
        return False, f"no: {parts.hostname}:{port}: {getattr(error, 'strerror', None) or error}"
    writer.close()
    return True, f"yes: {parts.hostname}:{port} takes connections ({(time.perf_counter() - begun) * 1000:.0f} ms)"


async def _check(o: Orchestrion, row: Known, account: str) -> Checked:
    """One word from a model, as a run of its own: held, posted and remembered like any other."""
    if row.problem:
        return Checked(None, None, row.problem)
    step = Step("check", "Answer with one word.", policy=row.name, max_output=min(row.model.max_output, ANSWER_TOKENS))
    run_id = f"{PROBES}{row.name}/{time.time_ns()}"
    try:
        o.workers.check_keys([row.name])
        run = await o.run(step, "Say: ok", id=run_id, account=account)
    except UsageError as error:
        return Checked(None, None, str(error))
    outcome = next((one.leaving(o.content) for one in recorded(o.database, no=o.journal.number(run_id))), None)
    problem = None if run.status == "done" else (outcome and outcome.failure) or str(run.error)
    return Checked(run, outcome, problem)


def _lines(row: Known, check: Checked | None) -> list[tuple[str, str]]:
    model = row.model
    lines = [("problem", row.problem)] if row.problem else []
    if row.price:
        lines.append(("price", f"{_priced(row.price)} ({row.source})"))
    context = f"context {row.context_window:,} tokens" if row.context_window else "context not known"
    lines.append(("limits", f"{context}, answer {model.max_output:,}; {model.concurrency} calls at once"))
    if model.key:
        lines.append(("key", f"{model.key.removeprefix('env:')} is {'set' if row.key_set else 'NOT set'}"))
    if model.model != "simulated":
        lines.append(("reachable", row.reached))
    if check:
        lines.append(("check", _said(check, " (simulated)" if model.model == "simulated" else "", row.problem)))
    return lines


def _priced(price: Price) -> str:
    longer = "".join(
        f"; {dollars(tier.input)} in, {dollars(tier.output)} out for prompts of over {tokens:,} tokens"
        for tokens, tier in price.tiers
    )
    return f"{dollars(price.input)} in, {dollars(price.output)} out per million tokens{longer}"


def _said(check: Checked, mark: str, problem: str | None) -> str:
    one = check.outcome
    if problem and check.problem == problem:
        return "FAILED: see problem (nothing was asked)"
    cost = f"{dollars(check.run.cost)}{mark}" if check.run else "nothing was asked"
    if check.problem or one is None:
        return f"FAILED: {check.problem} ({cost})"
    return f"ok, {one.latency_s or 0:.2f} s, {one.input_tokens} tokens in, {one.output_tokens} out, {cost}"


def _person_lines(person: PersonSettings) -> list[tuple[str, str]]:
    lines = [("wage", f"{dollars(nanos(person.wage))} an hour, {person.minutes:g} minutes a question")]
    lines += [("members", ", ".join(person.members))] if person.members else []
    if person.deadline_hours:
        lines.append(("deadline", f"after {person.deadline_hours:g} hours: {person.on_deadline}"))
    return lines


def _shown(name: str, what: str, lines: list[tuple[str, str]]) -> Iterator[str]:
    """A paragraph: wrapped to a terminal, whole lines in a pipe."""
    yield f"{click.style(name, bold=True)}  {what}"
    width = max(40, shutil.get_terminal_size().columns) if sys.stdout.isatty() else 10_000
    for title, text in lines:
        yield textwrap.fill(text, width, initial_indent=f"  {title:<11}", subsequent_indent=" " * 13)


def _row_json(row: Known, check: Checked | None) -> dict[str, Any]:
    return {
        "name": row.name,
        "model": row.model.model,
        "problem": row.problem,
        "price": _price_json(row.price) | {"source": row.source} if row.price else None,
        "context_window": row.context_window,
        "max_output": row.model.max_output,
        "concurrency": row.model.concurrency,
        "key": row.model.key,
        "key_set": row.key_set,
        "address": row.model.address,
        "reachable": row.reachable,
        "check": _check_json(check) if check else None,
    }


def _price_json(price: Price) -> dict[str, Any]:
    """Dollars per million tokens, as in the settings."""
    amounts = {name: getattr(price, name) for name in ("input", "output", "cache_read", "cache_write")}
    plain: dict[str, Any] = {name: None if amount is None else usd(amount) for name, amount in amounts.items()}
    return plain | {"tiers": [{"input_tokens_over": n} | _price_json(tier) for n, tier in price.tiers]}


def _check_json(check: Checked) -> dict[str, Any]:
    return {
        "ok": check.problem is None,
        "problem": check.problem,
        "run_id": check.run.id if check.run else None,
        "cost_usd": usd(check.run.cost) if check.run else 0.0,
        "latency_s": check.outcome.latency_s if check.outcome else None,
        "input_tokens": check.outcome.input_tokens if check.outcome else None,
        "output_tokens": check.outcome.output_tokens if check.outcome else None,
    }


def _person_json(name: str, person: PersonSettings) -> dict[str, Any]:
    return {
        "name": name,
        "wage_usd_per_hour": person.wage,
        "minutes": person.minutes,
        "members": list(person.members),
        "deadline_hours": person.deadline_hours,
        "on_deadline": person.on_deadline,
    }
