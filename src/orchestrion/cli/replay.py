"""orchestrion replay RECORDS… --policy POLICY.json"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import click
from pydantic_core import to_json

from orchestrion.cli.load import config_option, json_option
from orchestrion.domain import Money, Price, dollars, usd
from orchestrion.engine.replay import Baseline, Replay, replay
from orchestrion.engine.saved import find_policy
from orchestrion.errors import UsageError
from orchestrion.evidence.records import read_outcomes
from orchestrion.settings import Settings, find_settings, read_settings


@click.command("replay")
@click.argument("records", nargs=-1, required=True, type=click.Path(dir_okay=False, path_type=Path))
@click.option(
    "--policy",
    "policy_file",
    required=True,
    metavar="POLICY.json",
    help="The policy: a file, or a name from the settings.",
)
@click.option("--step", help="The step whose records are replayed, where there are several.")
@click.option("--frontier", metavar="WORKER", help="The worker to compare with (default: the one that scores best).")
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write a line for each attempt: task_id, worker, sample, accepted.",
)
@json_option
@config_option
def command(
    records: tuple[Path, ...],
    policy_file: str,
    step: str | None,
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
    result = asyncio.run(replay(read_outcomes(records), saved, step=step, frontier=frontier, prices=prices))
    if out:
        _write_attempts(out, result)
    if as_json:
        click.echo(to_json(_as_json(result)).decode())
        return
    for line in _lines(result, Path(saved.name).stem):
        click.echo(line)
    if sys.stderr.isatty():  # a hint for people, not for logs
        click.echo("`orchestrion report` with the same records and --policy shows it on one page.", err=True)


def _as_json(result: Replay) -> dict[str, object]:
    frontier, cheapest = result.frontier, result.cheapest
    return {
        "tasks": len(result.tasks),
        "quality": result.quality,
        "frontier_quality": frontier.quality if frontier else None,
        "cost_usd": usd(result.cost),
        "frontier_cost_usd": usd(frontier.cost) if frontier else None,
        "calls": dict(result.calls),
        "frontier": frontier.worker if frontier else None,
        "cheapest": {"worker": cheapest.worker, "quality": cheapest.quality, "cost_usd": usd(cheapest.cost)}
        if cheapest
        else None,
        "stopped": result.stopped,
        "unrecorded": result.unrecorded,
    }


def _lines(result: Replay, name: str) -> list[str]:
    n = len(result.tasks)
    lines = [
        f"{n} tasks"
        + (
            f" ({result.unrecorded} more left out: the policy asks for answers that were not recorded)"
            if result.unrecorded
            else ""
        )
    ]
    lines.append(_row(name, result.quality, result.cost, n))
    seen = set()
    for label, baseline in (("always-frontier", result.frontier), ("always-cheapest", result.cheapest)):
        if baseline and baseline.worker not in seen:
            seen.add(baseline.worker)
            lines.append(_row(f"{label} ({baseline.worker})", baseline.quality, baseline.cost, n))
    if not result.frontier:
        lines.append(
            "the frontier did not answer every task that was replayed (live, it is asked the hard ones only): nothing to compare with."
        )
    else:
        lines += _compared(result, result.frontier)
    if result.stopped:
        lines.append(f"the policy stopped without an answer on {result.stopped} tasks; they count as wrong.")
    lines.append("calls: " + ", ".join(f"{worker} {count}" for worker, count in result.calls.items()))
    return lines


def _row(name: str, quality: float | None, cost: Money, n: int) -> str:
    said = "unknown" if quality is None else f"{quality:.4f}"
    return f"  {name:<48} quality {said:>8}   cost {dollars(cost):>10}   {dollars(cost // n):>10} a task"


def _compared(result: Replay, frontier: Baseline) -> list[str]:
    if not frontier.quality or result.quality is None or not frontier.cost:
        return []
    return [
        f"→ {result.quality / frontier.quality:.1%} of the frontier's quality at {result.cost / frontier.cost:.1%} of its cost, on these tasks"
    ]


def _write_attempts(out: Path, result: Replay) -> None:
    try:
        with out.open("wb") as file:
            for one in result.tasks:
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
