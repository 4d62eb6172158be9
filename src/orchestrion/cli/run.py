"""orchestrion run FILE:WORKFLOW TASKS.jsonl"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import click

from orchestrion.app import Orchestrion
from orchestrion.cli.budget_text import looser_lines, seeded_lines
from orchestrion.cli.complete import batches, policies, workflows
from orchestrion.cli.load import NamedTask, account_option, config_option, load_workflow, money, read_tasks
from orchestrion.cli.output import complain, examples, note, output_options, quiet, result
from orchestrion.cli.progress import Progress
from orchestrion.cli.results import Summary, short_of_money, write_results
from orchestrion.domain import Task, usd
from orchestrion.engine.bound import answerable, bounds, check_workers, policy_of, steps_of
from orchestrion.engine.certified import unknown, void
from orchestrion.engine.execution import SavedPolicy
from orchestrion.engine.step import Step
from orchestrion.engine.workflow import Run, Start, Workflow
from orchestrion.errors import SettingsError, TasksError, UsageError
from orchestrion.ledger.accounts import Tree
from orchestrion.ledger.budgets import accounts_of
from orchestrion.settings import FILE_NAME, Settings, find_settings, read_settings


@click.command(
    "run",
    epilog=examples(
        "orchestrion run workflow.py:support tasks.jsonl --dry-run",
        "orchestrion run workflow.py:support tasks.jsonl",
        "orchestrion run workflow.py:support tasks.jsonl --policy triage=careful",
    ),
)
@click.argument("target", metavar="FILE:WORKFLOW", shell_complete=workflows)
@click.argument("tasks", metavar="TASKS.jsonl", type=click.Path(dir_okay=False, path_type=Path))
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="Where results go (default: TASKS.results.jsonl beside the tasks; - for stdout).",
)
@account_option
@click.option(
    "--policy",
    "chosen",
    multiple=True,
    metavar="[STEP=]NAME",
    shell_complete=policies,
    help="A saved policy (a name from the settings, or a file) in place of a step's own.",
)
@click.option(
    "--batch",
    metavar="NAME",
    shell_complete=batches,
    help="Name of the batch, and beginning of its run ids (default: from workflow, tasks and policy).",
)
@click.option(
    "--concurrency", type=click.IntRange(1, 100_000), metavar="N", default=64, show_default=True, help="Runs at once."
)
@click.option("--retry-failed", is_flag=True, help="Go on with failed runs, too: their failed calls are asked again.")
@click.option("--skip-bad", is_flag=True, help="Pass over lines that cannot be used, and list them.")
@click.option("--dry-run", is_flag=True, help="Print the bound on the cost, and spend nothing.")
@output_options
@config_option
def command(
    target: str, tasks: Path, *, chosen: tuple[str, ...], skip_bad: bool, config: str | None, **options: Any
) -> int:
    """Run the tasks of a file through a workflow.

    TASKS.jsonl has a line for each task: {"id": "t1", "input": …, "tags": {…}, "reference": …}. Results go to a JSONL
    file; what is done stays done: after Ctrl-C, a crash or new tasks, the same command goes on where it stopped.
    """
    workflow = load_workflow(target)
    named, bad = _tasks(tasks, workflow, skip_bad=skip_bad)
    if not named:
        raise TasksError(f"{tasks}: there is no task in this file that can be used.")
    try:
        return asyncio.run(_run(workflow, tasks, named, bad, chosen=chosen, config=config, **options))
    except asyncio.CancelledError:
        raise click.Abort from None


def _tasks(path: Path, workflow: Workflow[Any], *, skip_bad: bool) -> tuple[list[NamedTask], list[TasksError]]:
    named, bad = [], []
    for task in read_tasks(path, workflow=workflow):
        if isinstance(task, NamedTask):
            named.append(task)
        else:
            bad.append(task)
    if bad and not skip_bad:
        more = f"\n{len(bad) - 3} more lines cannot be used, either." if len(bad) > 3 else ""
        raise TasksError(
            "\n".join(str(one) for one in bad[:3])
            + more
            + "\nMend them, or pass them over with --skip-bad. Nothing was started."
        )
    return named, bad


async def _run(
    workflow: Workflow[Any],
    path: Path,
    tasks: list[NamedTask],
    bad: list[TasksError],
    *,
    chosen: tuple[str, ...],
    config: str | None,
    out: Path | None,
    account: str | None,
    batch: str | None,
    concurrency: int,
    retry_failed: bool,
    dry_run: bool,
    as_json: bool,
) -> int:
    if out is None:
        out = path.with_name(path.name.removesuffix(".zst").removesuffix(".jsonl") + ".results.jsonl")
    if str(out) == "-" and as_json:
        raise UsageError("--json and --out - both want stdout. Write the results to a file.")
    _writable(out, path)
    settings = _settings(config, workflow)
    if dry_run:
        there = settings.database_path and settings.database_path.exists()
        if not there:
            settings = settings.model_copy(update={"database": ":memory:"})  # nothing is left behind
    async with Orchestrion.open(settings) as o:
        steps = steps_of(workflow)
        policies = _policies(o, chosen, steps)
        asked = check_workers(steps, policies, o.workers)
        payer = o.account(account)
        if dry_run:
            _dry_run(o, steps, policies, tasks, account=payer, as_json=as_json)
            return 0
        o.workers.check_keys(asked)
        if settings.without_effect:
            complain(f"note: {', '.join(settings.without_effect)} in {settings.file}: without effect in this version.")
        for line in seeded_lines(o.seeded, settings.file):
            note(line)
        if o.seeded.changes:
            for line in looser_lines(Tree(accounts_of(settings))):
                note(line)
        batch = batch or "+".join(
            [f"{workflow.name}:{path.name.split('.')[0]}", *(f"{s}={p.name}" for s, p in sorted(policies.items()))]
        )
        known = o.journal.statuses(batch)
        starts = [
            Start(
                id=f"{batch}/{t.id}",
                task_id=t.id,
                input=t.input,
                tags=t.tags,
                reference=t.reference,
                account=payer,
                batch=batch,
                policies=policies,
            )
            for t in tasks
        ]
        before = {
            run_id
            for run_id, (status, _) in known.items()
            if status == "done" or (status in ("failed", "cancelled") and not retry_failed)
        }
        fresh = [task for task in tasks if f"{batch}/{task.id}" not in before]
        if fresh:
            for step in steps:
                if saved := policies.get(step.name):
                    o.certificates.check(saved, step)
        _say_refused(o, steps, policies, fresh)
        if known:
            gone_on = len(before & {start.id for start in starts})
            note(f"batch '{batch}' goes on: {gone_on} of {len(tasks)} runs had ended.")
        runs: dict[str, Run] = {}
        with Progress(len(tasks), shown=money(o.settings)) as progress:
            stop_on_signals(o, progress)
            async for run in o.run_all(workflow, starts, concurrency=concurrency, again=retry_failed):
                runs[run.id] = run
                progress.add(run.status, run.cost, fresh=run.id not in before)
                _say_news(o, progress)
            _say_news(o, progress)
        ended = [runs[start.id] for start in starts if start.id in runs]
        write_results(out, ended, kept=partial(_kept, o))
        await o.retention.delivered(batch)
        calls, amount = o.journal.unknown(batch)
        skipped = [str(one) for one in bad]
        summary = Summary(batch, ended, len(tasks), skipped, out, calls, amount, short_of_money(o, ended))
        summary.say(money(o.settings), again=retry_failed, as_json=as_json)
        return summary.status


def _say_news(o: Orchestrion, progress: Progress) -> None:
    """Limits that are nearly spent, and calls that were billed above their bound: each once."""
    for news in o.news():
        if not quiet():
            progress.say(f"note: {news}")


def _settings(config: str | None, workflow: Workflow[Any]) -> Settings:
    """Those of this folder. Without any, and beside some in the workflow's own folder, the person stands one step off."""
    beside = Path(workflow.ref.rpartition(":")[0]).parent
    if not config and not find_settings() and (beside / FILE_NAME).exists():
        raise UsageError(
            f"there is no {FILE_NAME} here, and there is one in {beside}: cd {beside}, or name it: --config {beside / FILE_NAME}."
        )
    return read_settings(config)


def _policies(o: Orchestrion, chosen: Sequence[str], steps: list[Step[Any]]) -> dict[str, SavedPolicy]:
    """--policy [STEP=]NAME. A bare name serves a workflow of one step."""
    found: dict[str, SavedPolicy] = {}
    for text in chosen:
        step, equals, name = text.partition("=")
        if not equals:
            if len(steps) != 1:
                names = ", ".join(step.name for step in steps)
                raise UsageError(
                    f"--policy {text}: the workflow has {len(steps)} steps ({names}); say which one: --policy STEP={text}."
                )
            step, name = steps[0].name, text
        found[step] = o.policy(name)
    return found


def _kept(o: Orchestrion, run_id: str) -> bool:
    """Whether the database has this run's result."""
    record = o.journal.find(run_id)
    return record is not None and record.result is not None


def _writable(out: Path, tasks: Path) -> None:
    """Results must find a place before anything is paid for, and not the place of the tasks."""
    if out.exists() and out.samefile(tasks):
        raise UsageError(f"--out {out}: these are the tasks, and results would overwrite them. Name another file.")
    if out.is_dir():
        raise UsageError(f"the results cannot be written to {out}: it is a folder. Name a file with --out.")
    folder = out.parent
    if str(out) != "-" and (not folder.is_dir() or not os.access(folder, os.W_OK)):
        raise UsageError(
            f"the results cannot be written to {out}: {folder} is {'read-only' if folder.is_dir() else 'no folder'}. Name another place with --out."
        )


def stop_on_signals(o: Orchestrion, progress: Progress) -> None:
    """The first Ctrl-C lets the calls under way end; the second leaves them (their holds are booked in full)."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None  # noqa: S101  # within asyncio.run there is one
    pressed = False

    def stop() -> None:
        nonlocal pressed
        if pressed:
            task.cancel()
            return
        pressed = True
        o.stop()
        progress.say(
            "stopping: calls under way are waited for, no new ones start (Ctrl-C again leaves them, booked in full)."
        )

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop)


def _say_refused(
    o: Orchestrion, steps: list[Step[Any]], policies: dict[str, SavedPolicy], tasks: list[NamedTask]
) -> None:
    """Name the workers that are refused for an overrun. Raises SettingsError where a step can be answered by nobody else."""
    said: dict[str, str] = {}
    for step in steps:
        policy = policy_of(step, policies)
        asked = {name: step.workers.get(name) or o.workers[name] for name in policy.calls()}
        refused = {name: why for name, worker in asked.items() if (why := o.refused(worker))}
        if not refused:
            continue
        said |= refused
        stuck = [
            task
            for task in tasks
            if not answerable(policy, Task(task.id, task.input, task.tags, None, step.name, step.instructions), refused)
        ]
        if stuck:
            raise SettingsError(
                "\n".join(refused.values())
                + f"\nNobody else answers step '{step.name}' of {len(stuck)} tasks. Nothing was started."
            )
    for why in said.values():
        complain(f"note: {why} Others answer in its place.")


def _dry_run(
    o: Orchestrion,
    steps: list[Step[Any]],
    policies: dict[str, SavedPolicy],
    tasks: list[NamedTask],
    *,
    account: str,
    as_json: bool,
) -> None:
    total = 0
    dearest = 0
    worst: dict[str, int] = {}
    calls: dict[str, dict[str, int]] = {}
    for task in tasks:
        of_task = bounds(steps, policies, o.workers, task.input, task.reference)
        dearest = max(dearest, sum(bound.bound for bound in of_task))
        for bound in of_task:
            total += bound.bound
            worst[bound.step] = worst.get(bound.step, 0) + bound.bound
            calls[bound.step] = dict(bound.calls)
    shown = money(o.settings)
    certified = [_certified(o, step, policies[step.name]) for step in steps if step.name in policies]
    per_step = [{"step": step, "calls": calls[step], "bound_usd": usd(worst[step])} for step in worst]
    left, of_run = o.left(account)
    fits = (left is None or total <= left) and (of_run is None or dearest <= of_run)
    data = {
        "tasks": len(tasks),
        "bound_usd": usd(total),
        "steps": per_step,
        "simulated": o.settings.simulated,
        "account": account,
        "left_usd": None if left is None else usd(left),
        "run_limit_usd": None if of_run is None else usd(of_run),
        "fits": fits,
        "certificates": certified,
    }
    lines = [
        f"  {step:<20} {', '.join(f'{name} ≤ {n}×' for name, n in calls[step].items()):<40} at most {shown(amount)}"
        for step, amount in worst.items()
    ]
    lines.append(
        f"{len(tasks)} tasks cost at most {shown(total)}, if each step is called once a task and is given the task and earlier answers."
    )
    if left is not None:
        may = "fits" if total <= left else "may not fit: what does not is left waiting for money"
        lines.append(f"Account '{account}' has {shown(left)} left: it {may}.")
    if of_run is not None:
        may = "fits" if dearest <= of_run else "may not fit"
        lines.append(f"A run on it may spend {shown(of_run)}; the dearest costs at most {shown(dearest)}: it {may}.")
    lines += [_certificate_line(one) for one in certified if one["certified"]]
    result(lines, lambda: data, as_json=as_json)
    if not as_json:
        note(
            "A step in a loop costs as often. Usual bills are far below: every call is counted with its longest answer. Nothing was spent."
        )


def _certified(o: Orchestrion, step: Step[Any], saved: SavedPolicy) -> dict[str, Any]:
    """What was promised of a step's saved policy, why that is void, and what may have changed unseen."""
    certificate = saved.certificate
    return {
        "step": step.name,
        "policy": saved.name,
        "certified": certificate and certificate.target.words,
        "void": void(saved, step, o.workers),
        "unknown": unknown(certificate) if certificate else (),
    }


def _certificate_line(certified: dict[str, Any]) -> str:
    said = f"Step '{certified['step']}' by policy '{certified['policy']}' is certified: {certified['certified']}"
    if certified["void"]:
        return f"{said} (void: {'; '.join(certified['void'])})."
    if certified["unknown"]:
        return f"{said} (as far as is known: the certificate does not say {', '.join(certified['unknown'])})."
    return f"{said}."
