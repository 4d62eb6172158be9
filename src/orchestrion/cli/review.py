"""orchestrion review list | show | decide | inform"""

from __future__ import annotations

import asyncio
import getpass
import shlex
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
from pydantic_core import from_json

from orchestrion.app import Orchestrion
from orchestrion.cli.complete import batches
from orchestrion.cli.load import config_option, money, open_existing
from orchestrion.cli.output import examples, note, output_options, result, typed
from orchestrion.cli.review_text import ago, request_json, request_lines, until
from orchestrion.domain import Money, usd
from orchestrion.errors import ReviewError
from orchestrion.review.requests import Decision, ReviewRequest
from orchestrion.store.queries import queries

VERBS = ("approve", "modify", "reject", "ask")


@click.group("review")
def command() -> None:
    """Questions to people: list, show, decide, inform."""


@command.command("list")
@click.option("--all", "everything", is_flag=True, help="Decided and withdrawn ones, too.")
@click.option("--batch", metavar="NAME", shell_complete=batches, help="Those of one batch.")
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True)
@output_options
@config_option
def list_requests(*, everything: bool, batch: str | None, limit: int, as_json: bool, config: str | None) -> None:
    """What waits for a person, the oldest first."""

    async def show() -> None:
        async with open_existing(config) as o:
            requests = o.reviews(everything=everything, batch=batch)
            short = {run_id for (run_id,) in o.database.read(queries("journal")["short"])}
            ready = [run_id for run_id in o.ready() if run_id not in short]  # no decision lets those go on
            shown = money(o.settings)
        lines = [line for one in requests[:limit] for line in _lines(one, shown, everything=everything)]
        if len(requests) > limit:
            lines.append(f"… {len(requests)} in all (--limit, --batch)")
        listed = [request_json(one, full=False) for one in requests[:limit]]
        data = {"requests": listed, "count": len(requests)}
        result(lines or ["nothing waits for a person."], lambda: data, as_json=as_json)
        if requests and not everything:
            note("`orchestrion review show ID` shows one, `orchestrion review decide ID` decides.")
        _say_ready(ready)

    asyncio.run(show())


def _lines(one: ReviewRequest, shown: Callable[[Money], str], *, everything: bool) -> Iterator[str]:
    due = f"  {until(one.deadline)}" if one.deadline and one.state == "open" else ""
    step = one.key.split("#")[0]
    yield f"{one.id:<8} {_state(one)}  {one.worker}  {ago(one.asked):>8}  {step}  {one.task_id}{due}"
    if one.question:
        yield f"         asks the task's owner: {one.question}"
    elif one.decision and everything:
        yield f"         {one.decision.kind} by {one.decision.by}, {shown(one.decision.cost)}"


@command.command("show")
@click.argument("request_id", metavar="ID")
@output_options
@config_option
def show_request(request_id: str, *, as_json: bool, config: str | None) -> None:
    """Exactly what the person sees, and its digest."""

    async def show() -> None:
        async with open_existing(config) as o:
            request = o.review(request_id)
        result(request_lines(request), lambda: request_json(request, full=True), as_json=as_json)
        if as_json:
            return
        if request.state == "open":
            note(f"\norchestrion review decide {request.id} {'|'.join(VERBS)} [TEXT] --seen {request.digest[:12]}")
        elif request.state == "asked":
            note(f"\nIts task's owner answers: orchestrion review inform {request.id} TEXT")

    asyncio.run(show())


@command.command(
    "decide",
    epilog=examples(
        "orchestrion review decide 1-5",
        "orchestrion review decide 1-5 approve --seen c96ec3a77b5a",
        'orchestrion review decide 1-5 reject "no such clause" --seen c96ec3a77b5a',
    ),
)
@click.argument("request_id", metavar="ID")
@click.argument("verb", type=click.Choice(VERBS), required=False)
@click.argument("text", required=False)
@click.option("--seen", metavar="DIGEST", help="The digest that `review show` printed: what is decided on.")
@click.option("--by", "who", metavar="NAME", help="Who decides (default: the only member; else your login name).")
@click.option("--minutes", type=float, help="What it took (default: what the settings expect).")
@output_options
@config_option
def decide(
    request_id: str,
    *,
    verb: str | None,
    text: str | None,
    seen: str | None,
    who: str | None,
    minutes: float | None,
    as_json: bool,
    config: str | None,
) -> None:
    """Decide on a request, once: approve, modify, reject or ask.

    TEXT is the answer of a modify (JSON where the answer has a type; @FILE reads a file, - stdin), the reason of a
    reject, or the question of an ask, which goes back to the task's owner. Without a verb, at a terminal, it shows the
    request and asks you.
    """

    async def go() -> None:
        async with open_existing(config) as o:
            request = o.review(request_id)
            chosen, said, digest = verb, text, seen
            if chosen is None:
                chosen, said, digest = _ask_terminal(request)
            if digest is None:
                raise ReviewError(
                    f"say what you decide on: --seen DIGEST, as `orchestrion review show {request_id}` prints it."
                )
            value = _value(request, said) if chosen == "modify" else None
            decision = await o.decide(
                request_id,
                chosen,  # type: ignore[arg-type]  # one of VERBS: click and _ask_terminal see to it
                seen=digest,
                by=who or _who(o, request),
                value=value,
                text=None if chosen == "modify" or said is None else typed(said, "TEXT"),
                minutes=minutes,
            )
            shown = money(o.settings)
        _say_decided(request, decision, shown(decision.cost), as_json=as_json)

    asyncio.run(go())


@command.command("inform")
@click.argument("request_id", metavar="ID")
@click.argument("information")
@click.option("--by", "who", metavar="NAME", help="Who answers (default: your login name).")
@output_options
@config_option
def inform(request_id: str, information: str, *, who: str | None, as_json: bool, config: str | None) -> None:
    """Answer the question that a person asked about a task (@FILE reads a file, - stdin). They are asked again, with the answer."""

    async def go() -> None:
        async with open_existing(config) as o:
            request = o.review(request_id)
            await o.inform(request_id, _text(typed(information, "TEXT")), by=who or _login())
        said = f"request {request_id} has its information: `orchestrion runs resume {shlex.quote(request.run_id)}` puts the question to {request.worker} again."
        result([said], lambda: {"id": request_id, "run_id": request.run_id}, as_json=as_json)

    asyncio.run(go())


def _say_decided(request: ReviewRequest, decision: Decision, cost: str, *, as_json: bool) -> None:
    said = {"id": request.id, "run_id": request.run_id, "decision": decision.kind, "by": decision.by}
    data = {**said, "minutes": decision.minutes, "cost_usd": usd(decision.cost)}
    line = f"request {request.id}: {decision.kind} by {decision.by}, {decision.minutes:g} min, {cost}."
    result([line], lambda: data, as_json=as_json)
    if decision.kind == "ask":
        note(f"Its task's owner answers: orchestrion review inform {request.id} TEXT")
    else:
        note(
            f"`orchestrion runs resume {shlex.quote(request.run_id)}` goes on with it (--ready: with all that can go on)."
        )


def _say_ready(ready: list[str]) -> None:
    if ready:
        runs = "1 run" if len(ready) == 1 else f"{len(ready)} runs"
        note(f"{runs} can go on: `orchestrion runs resume --ready`.")


def _who(o: Orchestrion, request: ReviewRequest) -> str:
    """The only member, or where the settings name none, the login name. Raises ReviewError where there are several."""
    person = o.settings.people.get(request.worker)
    if person is None or not person.members:
        return _login()
    if len(person.members) > 1:
        raise ReviewError(
            f"say who decides on request {request.id}: --by NAME, one of {', '.join(person.members)}. (people in the settings)"
        )
    return person.members[0]


def _login() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        raise ReviewError("say who you are: --by NAME.") from None


def _ask_terminal(request: ReviewRequest) -> tuple[str, str | None, str]:
    """Show the request at the terminal and ask for verb and text. The digest is that of what was shown."""
    if not sys.stdin.isatty():
        raise ReviewError(f"say what is decided on request {request.id}: {', '.join(VERBS)}.")
    for line in request_lines(request):
        click.echo(line)
    click.echo()
    verb = click.prompt("Decide", type=click.Choice(VERBS))
    wanted = {"modify": "Your answer (@FILE reads a file)", "reject": "Reason", "ask": "Question to the task's owner"}
    return verb, click.prompt(wanted[verb]) if verb in wanted else None, request.digest


def _text(said: str) -> str:
    """The text itself, a file's (@FILE) or stdin's (-). Raises ReviewError."""
    if said == "-":
        return sys.stdin.read()
    if not said.startswith("@"):
        return said
    try:
        return Path(said[1:]).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ReviewError(f"{said[1:]} cannot be read: {error}") from None


def _value(request: ReviewRequest, said: str | None) -> Any:
    """A modified answer: text as it is where the answer is a text, else JSON. Raises ReviewError."""
    if said is None:
        raise ReviewError(f"to modify request {request.id}, give the answer: a text, JSON, @FILE or - for stdin.")
    text = _text(said)
    if request.shown is None or request.shown.schema is None:
        return text
    try:
        return from_json(text, allow_inf_nan=False)
    except ValueError as error:
        fields = ", ".join(request.shown.schema.get("properties", {}))
        raise ReviewError(
            f"the answer to request {request.id} is not JSON: {error}.{f' It has the fields {fields}.' if fields else ''} Nothing was decided."
        ) from None


def _state(request: ReviewRequest) -> str:
    colour = {"open": "yellow", "asked": "magenta", "decided": "green"}.get(request.state)
    return click.style(f"{'needs info' if request.state == 'asked' else request.state:<10}", fg=colour)
