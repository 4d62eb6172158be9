"""orchestrion runs list | show | resume | cancel | signal"""

from __future__ import annotations

import asyncio
from typing import Any

import click
from pydantic_core import from_json, to_json

from orchestrion.app import Orchestrion
from orchestrion.cli.load import config_option, json_option, load_workflow, money, open_existing
from orchestrion.cli.review_text import ago
from orchestrion.cli.tree import tree_json, tree_lines
from orchestrion.domain import usd
from orchestrion.engine.workflow import Run, Start, Workflow
from orchestrion.errors import UsageError
from orchestrion.evidence.recorded import calls_of
from orchestrion.journal.protocol import RunRecord
from orchestrion.store.queries import queries


@click.group("runs")
def command() -> None:
    """List, show, resume, cancel and signal runs."""


@command.command("list")
@click.option("--status", type=click.Choice(["running", "waiting", "done", "failed", "cancelled"]))
@click.option("--batch")
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True)
@json_option
@config_option
def list_runs(status: str | None, batch: str | None, limit: int, *, as_json: bool, config: str | None) -> None:
    """The newest runs: status, cost, age."""

    async def show() -> None:
        async with open_existing(config) as o:
            rows = o.database.read(queries("journal")["list_runs"], {"status": status, "batch": batch, "limit": limit})
            shown = money(o.settings)
            come = set(o.ready())
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
        if as_json:
            listed = [
                {
                    **run,
                    "owned": bool(run["owned"]),
                    "cost_usd": usd(run.pop("cost")),
                    "calls_of_unknown_cost": run.pop("unknown"),
                }
                for run in runs
            ]
            click.echo(to_json({"runs": listed, "counts": counts}).decode())
            return
        if not runs:
            click.echo("no runs yet: `orchestrion run FILE:WORKFLOW TASKS.jsonl` makes some.")
        for run in runs:
            lost = f"  {run['unknown']} call(s) of unknown cost, booked in full" if run["unknown"] else ""
            wants = f"  waits for {run['wants']}" if run["wants"] else ""
            wants += ", which has come: `runs resume --ready` goes on" if run["id"] in come else ""
            click.echo(
                f"{_coloured(run['status'])}  {shown(run['cost']):>10}  {ago(run['updated']):>8}  {run['id']}{wants}{lost}"
            )
        if sum(counts.values()) > len(runs):
            click.echo(
                f"… {', '.join(f'{n} {name}' for name, n in counts.items())} in all (--limit, --status, --batch)"
            )

    asyncio.run(show())


@command.command("show")
@click.argument("run_id", metavar="ID")
@click.option("--full", is_flag=True, help="Inputs and answers in full.")
@json_option
@config_option
def show_run(run_id: str, *, full: bool, as_json: bool, config: str | None) -> None:
    """A run as a tree: steps, attempts, who was asked, verdicts, cost, time."""

    async def show() -> None:
        async with open_existing(config) as o:
            record = _record(o, run_id)
            asked = calls_of(o.database, o.journal.number(run_id))
            shown = money(o.settings)
        if as_json:
            click.echo(to_json(tree_json(record, asked)).decode())
        else:
            for line in tree_lines(record, asked, full=full, shown=shown):
                click.echo(line)

    asyncio.run(show())


@command.command("resume")
@click.argument("run_ids", metavar="[ID]…", nargs=-1)
@click.option(
    "--ready", is_flag=True, help="Every run whose signal or decision has come, or whose deadline has passed."
)
@json_option
@config_option
def resume(run_ids: tuple[str, ...], *, ready: bool, as_json: bool, config: str | None) -> int:
    """Go on with runs: interrupted, waiting, failed or cancelled. Nothing that was answered is asked again."""
    if bool(run_ids) == ready:
        raise UsageError("name the runs to go on with, or all that can go on: `orchestrion runs resume --ready`.")

    async def go() -> list[Run]:
        async with open_existing(config) as o:
            records = [_record(o, run_id) for run_id in (o.ready() if ready else run_ids)]
            of_workflow: dict[str, list[RunRecord]] = {}
            for record in records:
                of_workflow.setdefault(record.workflow, []).append(record)
            work = [(_workflow(some[0]), [_start(o, one) for one in some]) for some in of_workflow.values()]
            return [run for workflow, starts in work async for run in o.run_all(workflow, starts, again=True)]

    runs = asyncio.run(go())
    if as_json:
        said = [_run_json(run) for run in runs]
        click.echo(to_json(said[0] if len(run_ids) == 1 else {"runs": said}).decode())
    elif not runs:
        click.echo("no run can go on: what they wait for has not come.")
    else:
        for run in runs:
            _say_run(run)
    return 0 if all(run.status in ("done", "waiting") for run in runs) else 1


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


def _say_run(run: Run) -> None:
    click.echo(str(run))
    if run.text:
        click.echo(run.text)
    if run.error:
        click.echo(str(run.error), err=True)
    if run.question:
        click.echo(f"It needs information: {run.question}  (orchestrion review inform {run.review} TEXT)")
    elif run.review:
        click.echo(f"It waits for a person: orchestrion review show {run.review}")
    elif run.wants:
        click.echo(f"It waits for '{run.wants}': orchestrion runs signal '{run.id}' {run.wants} VALUE")


@command.command("cancel")
@click.argument("run_id", metavar="ID")
@config_option
def cancel(run_id: str, *, config: str | None) -> int:
    """Cancel a run: at once where nobody performs it, else before its next call."""

    async def go() -> int:
        async with open_existing(config) as o:
            before = _record(o, run_id)
            if before.status in ("done", "failed", "cancelled"):
                click.echo(f"run '{run_id}' had ended before: {before.status}.", err=True)
                return 1
            await o.cancel(run_id)
            owned = _record(o, run_id).owned
        click.echo(
            f"run '{run_id}': {'its process cancels it before its next call' if owned else 'cancelled'}. What was answered is kept."
        )
        return 0

    return asyncio.run(go())


@command.command("signal")
@click.argument("run_id", metavar="ID")
@click.argument("name")
@click.argument("value")
@config_option
def send_signal(run_id: str, name: str, value: str, *, config: str | None) -> None:
    """Deliver a signal that a run waits for. VALUE is JSON, or else a text; it can be replaced until the workflow has taken it."""

    async def go() -> None:
        async with open_existing(config) as o:
            try:
                parsed = from_json(value)
            except ValueError:
                parsed = value
            await o.signal(run_id, name, parsed)
        click.echo(f"run '{run_id}' has its signal '{name}'. `orchestrion runs resume '{run_id}'` goes on with it.")

    asyncio.run(go())


def _record(o: Orchestrion, run_id: str) -> RunRecord:
    record = o.journal.find(run_id)
    if record is None:
        raise UsageError(
            f"there is no run '{run_id}' in {o.database.path}. `orchestrion runs list` shows what there is."
        )
    return record


def _coloured(status: str) -> str:
    colour = {"done": "green", "failed": "red", "waiting": "yellow", "interrupted": "yellow"}.get(status)
    return click.style(f"{status:<11}", fg=colour)
