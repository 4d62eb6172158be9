"""orchestrion replay RECORDS… --policy POLICY.json"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import click
from pydantic_core import to_json

from orchestrion.cli.complete import models, policies
from orchestrion.cli.load import config_option
from orchestrion.cli.output import examples, note, output_options, result
from orchestrion.domain import Money, Price, dollars, usd
from orchestrion.engine.replay import Baseline, Replay, replay
from orchestrion.engine.saved import find_policy
from orchestrion.errors import UsageError
from orchestrion.evidence.records import read_outcomes
from orchestrion.settings import Settings, find_settings, read_settings


@click.command(
    "replay",
    epilog=examples(
        "orchestrion replay outcomes.jsonl --policy careful --step triage",
        "orchestrion replay outcomes.jsonl --policy policies/plain.json --json",
    ),
)
@click.argument("records", nargs=-1, required=True, type=click.Path(dir_okay=False, path_type=Path))
@click.option(
    "--policy",
    "policy_file",
    required=True,
    metavar="POLICY.json",
    shell_complete=policies,
    help="The policy: a file, or a name from the settings.",
)
@click.option("--step", metavar="NAME", help="The step whose records are replayed, where there are several.")
@click.option("--workload", metavar="NAME", help="The workload whose records are replayed, where there are several.")
@click.option(
    "--frontier",
    metavar="WORKER",
    shell_complete=models,
    help="The worker to compare with (default: the one that scores best).",
)
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write a line for each attempt: task_id, worker, sample, accepted.",
)
@output_options
@config_option
def command(
    records: tuple[Path, ...],
    policy_file: str,
    step: str | None,
    workload: str | None,
    frontier: str | None,
    out: Path | None,
    *,
    as_json: bool,
    config: str | None,
) -> None:
    """A policy over recorded outcomes, at no cost, beside always-frontier and always-cheapest.

    RECORDS are outcome files (.jsonl or .jsonl.zst). Costs come from the tokens where the settings price a worker of the
    same name, else from cost_usd.
    """
    settings = read_settings(config) if config or find_settings() else Settings()
    prices: dict[str, Price] = {name: model.price.price() for name, model in settings.models.items() if model.price}
    saved = find_policy(policy_file, settings)
    replayed = asyncio.run(
        replay(read_outcomes(records), saved, step=step, workload=workload, frontier=frontier, prices=prices)
    )
    if out:
        _write_attempts(out, replayed)
    result(_lines(replayed, Path(saved.name).stem), lambda: _as_json(replayed), as_json=as_json)
    if not as_json and sys.stderr.isatty():  # a hint for people, not for logs
        note("`orchestrion report` with the same records and --policy shows it on one page.")


def _as_json(replayed: Replay) -> dict[str, object]:
    frontier, cheapest = replayed.frontier, replayed.cheapest
    return {
        "tasks": len(replayed.tasks),
        "quality": replayed.quality,
        "frontier_quality": frontier.quality if frontier else None,
        "cost_usd": usd(replayed.cost),
        "frontier_cost_usd": usd(frontier.cost) if frontier else None,
        "calls": dict(replayed.calls),
        "frontier": frontier.worker if frontier else None,
        "cheapest": {"worker": cheapest.worker, "quality": cheapest.quality, "cost_usd": usd(cheapest.cost)}
        if cheapest
        else None,
        "stopped": replayed.stopped,
        "unrecorded": replayed.unrecorded,
    }


def _lines(replayed: Replay, name: str) -> list[str]:
    n = len(replayed.tasks)
    lines = [
        f"{n} tasks"
        + (
            f" ({replayed.unrecorded} more left out: the policy asks for answers that were not recorded)"
            if replayed.unrecorded
            else ""
        )
    ]
    rows = {name: (replayed.quality, replayed.cost)}
    seen = set()
    for label, baseline in (("always-frontier", replayed.frontier), ("always-cheapest", replayed.cheapest)):
        if baseline and baseline.worker not in seen:
            seen.add(baseline.worker)
            rows[f"{label} ({baseline.worker})"] = (baseline.quality, baseline.cost)
    widest = max(map(len, rows))
    lines += [_row(label.ljust(widest), quality, cost, n) for label, (quality, cost) in rows.items()]
    if not replayed.frontier:
        lines.append(
            "the frontier did not answer every task that was replayed (live, it is asked the hard ones only): nothing to compare with."
        )
    else:
        lines += _compared(replayed, replayed.frontier)
    if replayed.stopped:
        lines.append(f"the policy stopped without an answer on {replayed.stopped} tasks; they count as wrong.")
    lines.append("calls: " + ", ".join(f"{worker} {count}" for worker, count in replayed.calls.items()))
    return lines


def _row(name: str, quality: float | None, cost: Money, n: int) -> str:
    said = "unknown" if quality is None else f"{quality:.4f}"
    return f"  {name}  quality {said:>7}   cost {dollars(cost):>9}   {dollars(cost // n):>11} a task"


def _compared(replayed: Replay, frontier: Baseline) -> list[str]:
    if not frontier.quality or replayed.quality is None or not frontier.cost:
        return []
    return [
        f"→ {replayed.quality / frontier.quality:.1%} of the frontier's quality at {replayed.cost / frontier.cost:.1%} of its cost, on these tasks"
    ]


def _write_attempts(out: Path, replayed: Replay) -> None:
    try:
        with out.open("wb") as file:
            for one in replayed.tasks:
                for attempt in one.attempts:
                    row = {
                        "task_id": one.task_id,
                        "worker": attempt.call.worker,
                        "sample": attempt.call.sample,
                        "accepted": attempt is one.accepted,
                    }
                    file.write(to_json(row) + b"\n")
    except OSError as error:
        raise UsageError(f"{out} cannot be written: {error.strerror or error}.") from None
