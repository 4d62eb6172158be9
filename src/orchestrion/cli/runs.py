"""orchestrion runs list | show | resume | cancel | signal"""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import Callable
from typing import Any

import click
from pydantic_core import from_json

from orchestrion.app import Orchestrion
from orchestrion.cli.complete import batches, run_ids
from orchestrion.cli.load import config_option, load_workflow, money, open_existing
from orchestrion.cli.output import complain, examples, note, output_options, result, typed
from orchestrion.cli.results import short_of_money
from orchestrion.cli.review_text import ago
from orchestrion.cli.tree import tree_json, tree_lines
from orchestrion.domain import Money, usd
from orchestrion.engine.scope import REVIEW
from orchestrion.engine.workflow import Run, Start, Workflow
from orchestrion.errors import UsageError
from orchestrion.evidence.recorded import calls_of
from orchestrion.journal.protocol import FUNDS, RunRecord
from orchestrion.review.requests import request_id
from orchestrion.store.queries import queries


@click.group("runs")
def command() -> None:
    """List, show, resume, cancel and signal runs."""


@command.command(
    "list",
    epilog=examples("orchestrion runs list --status failed", "orchestrion runs list --batch support:tasks --limit 5"),
)
@click.option(
    "--status",
    type=click.Choice(["running", "waiting", "done", "failed", "cancelled"]),
    metavar="STATUS",
    help="Only running, waiting, done, failed or cancelled ones; an interrupted run counts as running.",
)
@click.option("--batch", metavar="NAME", shell_complete=batches, help="Only the runs of one batch.")
@click.option("--limit", type=click.IntRange(1), metavar="N", default=20, show_default=True, help="So many at most.")
@output_options
@config_option
def list_runs(status: str | None, batch: str | None, limit: int, *, as_json: bool, config: str | None) -> None:
    """The newest runs: status, cost, age."""

    async def show() -> None:
        async with open_existing(config) as o:
            rows = o.database.read(queries("journal")["list_runs"], {"status": status, "batch": batch, "limit": limit})
            shown = money(o.settings)
            come = set(o.ready())
            asked = {request_id(hold) for (hold,) in o.database.read(queries("review")["asked"])}
            counts = dict(o.database.read(queries("journal")["count_runs"], {"batch": batch}))
        names = (
            "id",
            "workflow",
            "batch",
            "status",
            "owned",
            "created",
            "updated",
            "error",
            "wants",
            "cost",
            "unknown",
        )
        runs = [dict(zip(names, row, strict=True)) for row in rows]
        for run in runs:
            run["status"] = "interrupted" if run["status"] == "running" and not run["owned"] else run["status"]
            run["shown"] = shown(run["cost"])
        wide = max((len(run["shown"]) for run in runs), default=0)
        lines = [_line(run, wide, come=run["id"] in come, asked=asked) for run in runs]
        if sum(counts.values()) > len(runs):
            totals = ", ".join(f"{n} {name}" for name, n in counts.items())
            lines.append(f"… {totals} in all (--limit, --status, --batch)")
        if not lines:
            lines.append("no runs yet: `orchestrion run FILE:WORKFLOW TASKS.jsonl` makes some.")
        result(lines, lambda: {"runs": [_plain(run) for run in runs], "counts": counts}, as_json=as_json)

    asyncio.run(show())


def _line(run: dict[str, Any], wide: int, *, come: bool, asked: set[str]) -> str:
    lost = f"  {run['unknown']} call(s) of unknown cost, booked in full" if run["unknown"] else ""
    wants = _wants(run["wants"], asked) if run["wants"] else ""
    if come and not run["wants"].startswith(FUNDS):
        wants += ", which has come: `runs resume --ready` goes on"
    return f"{_coloured(run['status'])}  {run['shown']:>{wide}}  {ago(run['updated']):>8}  {run['id']}{wants}{lost}"


def _wants(wants: str, asked: set[str]) -> str:
    """What a run waits for: a person, information from its task's owner, money, or a signal."""
    if wants.startswith(FUNDS):
        return f"  waits for money on account '{wants.removeprefix(FUNDS)}': `runs show` says how much"
    request = wants.removeprefix(REVIEW) if wants.startswith(REVIEW) else None
    if request in asked:
        return f"  needs information for request {request}"
    return f"  waits for a person to decide request {request}" if request else f"  waits for {wants}"


def _plain(run: dict[str, Any]) -> dict[str, Any]:
    kept = {key: value for key, value in run.items() if key not in ("cost", "unknown", "shown")}
    owned, cost = bool(run["owned"]), usd(run["cost"])
    return kept | {"owned": owned, "cost_usd": cost, "calls_of_unknown_cost": run["unknown"]}


@command.command(
    "show",
    short_help="A run as a tree: steps, attempts, verdicts, cost.",
    epilog=examples(
        "orchestrion runs show support:tasks/ticket-02", "orchestrion runs show support:tasks/ticket-02 --full"
    ),
)
@click.argument("run_id", metavar="ID", shell_complete=run_ids)
@click.option("--full", is_flag=True, help="Inputs and answers in full.")
@output_options
@config_option
def show_run(run_id: str, *, full: bool, as_json: bool, config: str | None) -> None:
    """A run as a tree: steps, attempts, who was asked, verdicts, cost, time."""

    async def show() -> None:
        async with open_existing(config) as o:
            record = _record(o, run_id)
            asked = calls_of(o.database, o.journal.number(run_id))
            shown = money(o.settings)
        lines = tree_lines(record, asked, full=full, shown=shown)
        result(lines, lambda: tree_json(record, asked), as_json=as_json)

    asyncio.run(show())


@command.command(
    "resume",
    short_help="Go on with runs.",
    epilog=examples("orchestrion runs resume support:tasks/ticket-02", "orchestrion runs resume --ready"),
)
@click.argument("ids", metavar="[ID]…", nargs=-1, shell_complete=run_ids)
@click.option(
    "--ready", is_flag=True, help="Every run whose signal, decision or deadline has come, or that waits for money."
)
@output_options
@config_option
def resume(ids: tuple[str, ...], *, ready: bool, as_json: bool, config: str | None) -> int:
    """Go on with runs: interrupted, waiting, failed or cancelled. Nothing that was answered is asked again."""
    if bool(ids) == ready:
        raise UsageError("name the runs to go on with, or all that can go on: `orchestrion runs resume --ready`.")

    async def go() -> tuple[list[Run], list[str], int, Callable[[Money], str]]:
        async with open_existing(config) as o:
            records = [_record(o, run_id) for run_id in (o.ready() if ready else ids)]
            of_workflow: dict[str, list[RunRecord]] = {}
            for record in records:
                of_workflow.setdefault(record.workflow, []).append(record)
            work = [(_workflow(some[0]), [_start(o, one) for one in some]) for some in of_workflow.values()]
            resumed = [run for workflow, starts in work async for run in o.run_all(workflow, starts, again=True)]
            [(left,)] = o.database.read(queries("journal")["interrupted"])
            return resumed, short_of_money(o, resumed), left, money(o.settings)

    runs, short, interrupted, shown = asyncio.run(go())
    lines = [line for run in runs for line in (f"run '{run.id}': {run.status}, {shown(run.cost)}", run.text) if line]
    said = [_run_json(run) for run in runs]
    result(
        lines or ["no run can go on: what they wait for has not come."],
        lambda: said[0] if len(ids) == 1 else {"runs": said},
        as_json=as_json,
    )
    for line in short:
        complain(line)
    if ready and interrupted:
        note(
            f"{interrupted} run(s) were interrupted: the command that began them goes on with them, or `orchestrion runs resume ID`."
        )
    for run in runs:
        _say_trouble(run)
    return 0 if all(run.status in ("done", "waiting") and not run.funds for run in runs) else 1


def _workflow(record: RunRecord) -> Workflow[Any]:
    """A run's workflow, loaded again. Raises UsageError for one that was started from Python."""
    if ".py:" not in record.workflow:
        raise UsageError(
            f"run '{record.id}' was started from Python ({record.workflow}): resume it there, with Orchestrion.run(…, id={record.id!r}, again=True)."
        )
    return load_workflow(record.workflow)


def _start(o: Orchestrion, record: RunRecord) -> Start:
    """What a run was started with. Raises UsageError where that is not known any more."""
    if record.input is None:
        raise UsageError(
            f"the input of run '{record.id}' was not kept (record, redact and keep_days in the settings); it cannot be resumed."
        )
    chosen = from_json(record.policy) if record.policy else {}
    return Start(
        id=record.id,
        task_id=record.task_id,
        input=from_json(record.input),
        tags=record.tags,
        reference=record.reference,
        account=record.account,
        batch=record.batch,
        policies={step: o.policy(policy["name"]) for step, policy in chosen.items()},
    )


def _run_json(run: Run) -> dict[str, Any]:
    return {
        "id": run.id,
        "status": run.status,
        "wants": run.wants,
        "question": run.question,
        "cost_usd": usd(run.cost),
        "error": str(run.error) if run.error else None,
        "result": from_json(run.text) if run.text else None,
    }


def _say_trouble(run: Run) -> None:
    """What stands in the way of a result, and the way on."""
    if run.error and not run.funds:
        complain(str(run.error))
    if run.question:
        note(f"It needs information: {run.question}  (orchestrion review inform {run.review} TEXT)")
    elif run.review:
        note(f"It waits for a person: orchestrion review show {run.review}")
    elif run.wants and not run.funds:
        note(
            f"It waits for '{run.wants}': orchestrion runs signal {shlex.quote(run.id)} {shlex.quote(run.wants)} VALUE"
        )


@command.command("cancel", short_help="Cancel a run.")
@click.argument("run_id", metavar="ID", shell_complete=run_ids)
@output_options
@config_option
def cancel(run_id: str, *, as_json: bool, config: str | None) -> int:
    """Cancel a run: at once where nobody performs it, else before its next call."""

    async def go() -> int:
        async with open_existing(config) as o:
            before = _record(o, run_id)
            if before.status in ("done", "failed", "cancelled"):
                complain(f"run '{run_id}' had ended before: {before.status}.")
                return 1
            await o.cancel(run_id)
            owned = _record(o, run_id).owned
        done = "its process cancels it before its next call" if owned else "cancelled"
        data = {"id": run_id, "status": "running" if owned else "cancelled"}
        result([f"run '{run_id}': {done}. What was answered is kept."], lambda: data, as_json=as_json)
        return 0

    return asyncio.run(go())


@command.command(
    "signal",
    short_help="Deliver a signal that a run waits for.",
    epilog=examples(
        "orchestrion runs signal refund:claims/c1 approved true", "orchestrion runs resume refund:claims/c1"
    ),
)
@click.argument("run_id", metavar="ID", shell_complete=run_ids)
@click.argument("name")
@click.argument("value")
@output_options
@config_option
def send_signal(run_id: str, name: str, value: str, *, as_json: bool, config: str | None) -> None:
    """Deliver a signal that a run waits for. VALUE is JSON, or else a text; it can be replaced until the workflow has taken it."""

    async def go() -> None:
        async with open_existing(config) as o:
            try:
                parsed = from_json(typed(value, "VALUE"))
            except ValueError:
                parsed = value
            await o.signal(run_id, name, parsed)
        said = (
            f"run '{run_id}' has its signal '{name}'. `orchestrion runs resume {shlex.quote(run_id)}` goes on with it."
        )
        result([said], lambda: {"id": run_id, "signal": name, "value": parsed}, as_json=as_json)

    asyncio.run(go())


def _record(o: Orchestrion, run_id: str) -> RunRecord:
    record = o.journal.find(run_id)
    if record is None:
        of_task = [f"'{id}'" for [id] in o.database.read(queries("journal")["runs_of_task"], (run_id,))]
        there = (
            f"Runs of the task '{run_id}': {', '.join(of_task)}."
            if of_task
            else "`orchestrion runs list` shows what there is."
        )
        raise UsageError(f"there is no run '{run_id}' in {o.database.path}. {there}")
    return record


def _coloured(status: str) -> str:
    colour = {"done": "green", "failed": "red", "waiting": "yellow", "interrupted": "yellow"}.get(status)
    return click.style(f"{status:<11}", fg=colour)
