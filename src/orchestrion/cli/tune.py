"""orchestrion tune [RECORDS…]"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from orchestrion.cli.complete import listed_models, models
from orchestrion.cli.evidence import (
    Evidence,
    below_one,
    columns,
    evidence,
    record_options,
    refuse_places,
    share,
    tuner,
)
from orchestrion.cli.load import config_option
from orchestrion.cli.output import examples, note, output_options, result
from orchestrion.cli.report import write_page
from orchestrion.domain import Outcome
from orchestrion.engine.execution import SavedPolicy
from orchestrion.engine.saved import write_policy
from orchestrion.errors import UsageError
from orchestrion.evidence.labelling import Item, of_tasks, sheet
from orchestrion.evidence.spreadsheet import write_table

if TYPE_CHECKING:
    from orchestrion.tuning.facts import Promise, TaskToLabel, Tuned, Wish

# The tuner is imported when this command runs: --help does not wait for the statistics.

ONLY_TAG = ""
"""--per-tag without a value."""


@click.command(
    "tune",
    short_help="From recorded outcomes to the cheapest policy that keeps a promised quality.",
    epilog=examples(
        "orchestrion tune outcomes.jsonl --out policies/tuned.json",
        "orchestrion tune outcomes.jsonl --target 0.9 --workers cheap,frontier --json",
        "orchestrion tune outcomes.jsonl --label-next 20 --labels-out labels.csv",
    ),
)
@click.option(
    "--target",
    type=float,
    default=0.95,
    show_default=True,
    callback=share,
    help="The share of the frontier's quality that is to be kept.",
)
@click.option(
    "--confidence",
    type=float,
    default=0.9,
    show_default=True,
    callback=below_one,
    help="How sure the promise is to be: at 0.9, one such promise in ten may be broken.",
)
@click.option(
    "--share",
    type=float,
    callback=below_one,
    metavar="SHARE",
    help="Promise it of single tasks: on this share of them the answer is worth --target of the frontier's.",
)
@click.option(
    "--max-cost",
    type=float,
    callback=share,
    metavar="SHARE",
    help="Instead of --target: the best quality that can be promised at this share of the frontier's cost.",
)
@click.option(
    "--per-tag",
    is_flag=False,
    flag_value=ONLY_TAG,
    metavar="[TAG]",
    help="Promise it for each value of this tag, all of them together (without a name: the only tag there is).",
)
@click.option(
    "--batch-size",
    type=click.IntRange(1),
    metavar="N",
    help="Promise it of a batch of N tasks: its own luck counts, too.",
)
@click.option(
    "--frontier",
    metavar="WORKER",
    shell_complete=models,
    help="Whose quality is the yardstick (default: the best of those that choose the policy).",
)
@click.option(
    "--workers",
    metavar="A,B,…",
    shell_complete=listed_models,
    help="Who may be asked (default: everybody in the records).",
)
@click.option(
    "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Another seed splits the tasks otherwise."
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    metavar="POLICY.json",
    help="Write the policy, with its certificate.",
)
@click.option(
    "--report", type=click.Path(path_type=Path), metavar="FILE.html", help="Write a page: quality against cost."
)
@click.option(
    "--label-next",
    type=click.IntRange(1),
    metavar="K",
    help="Name the K tasks whose labels would help most.",
)
@click.option(
    "--labels-out",
    type=click.Path(path_type=Path),
    metavar="LABELS.csv",
    help="With --label-next: write their answers as a sheet for `outcomes label --in` (.jsonl: their ids).",
)
@record_options
@output_options
@config_option
def command(
    records: tuple[Path, ...],
    *,
    target: float,
    confidence: float,
    share: float | None,
    max_cost: float | None,
    per_tag: str | None,
    batch_size: int | None,
    frontier: str | None,
    workers: str | None,
    seed: int,
    out: Path | None,
    report: Path | None,
    label_next: int | None,
    labels_out: Path | None,
    group_by: str | None,
    step: str | None,
    workload: str | None,
    batch: str | None,
    as_json: bool,
    config: str | None,
) -> None:
    """The cheapest policy that keeps a promised share of the best worker's quality, from recorded outcomes, at no cost.

    RECORDS are outcome files (.jsonl or .jsonl.zst; default: what this project has recorded) in which every worker answered
    the same tasks, and scores say which answers are right. Some of the tasks choose the policy, the others test it: what is
    certified holds, with the confidence that is said, for tasks like these. Where nothing can be certified, the policy asks
    the frontier alone, and the reason is said.
    """
    refuse_places(out=out, report=report, labels_out=labels_out)
    _refuse_labels_out(labels_out, label_next, records)
    if max_cost is not None and share is not None:
        raise UsageError("--max-cost asks for the best quality at a price, --share for a price at a quality. Give one.")
    if per_tag and not records and Path(per_tag).is_file():
        raise UsageError(f"--per-tag takes the word after it for a tag, and {per_tag} is a file. Write it first.")
    from orchestrion.tuning.facts import Wish

    wish = Wish(
        target=target,
        confidence=confidence,
        share=share,
        max_cost=max_cost,
        per_tag=per_tag,
        batch=batch_size,
        frontier=frontier,
        workers=_names(workers),
        seed=seed,
        label_next=label_next or 0,
        group_by=group_by,
        step=step,
        workload=workload,
    )

    async def go() -> None:
        async with evidence(records, batch, config) as found:
            tuned = _tune(found, wish)
            _say(tuned, found, as_json=as_json)
            if out:
                _write_promise(out, tuned.promises[0])
            if report:
                from orchestrion.report.tuned import render

                simulated = found.simulated([one.name for one in tuned.workers])
                write_page(report, render(tuned, simulated=simulated))
            if labels_out:
                _write_labels(labels_out, tuned.label_next, found, step=step)

    asyncio.run(go())


def _names(workers: str | None) -> tuple[str, ...]:
    """Raises UsageError where a name is missing or stands twice."""
    names = tuple(name.strip() for name in workers.split(",")) if workers is not None else ()
    if not all(names):
        raise UsageError(f"--workers {workers}: write names with a comma between them: cheap,frontier.")
    if len(set(names)) < len(names):
        raise UsageError(f"--workers {workers}: a name stands there twice.")
    return names


def _refuse_labels_out(labels_out: Path | None, label_next: int | None, records: tuple[Path, ...]) -> None:
    if labels_out is None:
        return
    if label_next is None:
        raise UsageError(f"--labels-out {labels_out}: how many tasks? Say it with --label-next 20.")
    if labels_out.suffix not in (".csv", ".jsonl"):
        raise UsageError(f"--labels-out {labels_out}: name a .csv (a sheet to fill in) or a .jsonl (the tasks' ids).")
    if labels_out.suffix == ".csv" and len(records) > 1:
        raise UsageError("--labels-out: labels come back into one records file. Put these into one, or name a .jsonl.")


def _tune(found: Evidence, wish: Wish) -> Tuned:
    with tuner():
        from orchestrion.tuning.tune import tune
    if wish.per_tag == ONLY_TAG:
        wish = msgspec.structs.replace(wish, per_tag=_only_tag(found.outcomes(), wish))
    return tune(found.outcomes(), wish, prices=found.prices, models=found.models)


def _only_tag(outcomes: Iterable[Outcome], wish: Wish) -> str:
    """The one key that the tasks' tags have. Raises UsageError where there are none or several."""
    wanted = (one for one in outcomes if wish.workload in (None, one.workload) and wish.step in (None, one.step))
    keys = dict.fromkeys(key for outcome in wanted for key in outcome.tags)
    if len(keys) != 1:
        there = f"several: {', '.join(keys)}. Name one of them" if keys else "none"
        raise UsageError(f"--per-tag: which tag? These records have {there}.")
    return next(iter(keys))


def _say(tuned: Tuned, found: Evidence, *, as_json: bool) -> None:
    from orchestrion.cli.promise_text import tuned_json, tuned_lines

    shown = found.shown([one.name for one in tuned.workers])
    result(tuned_lines(tuned, wide=columns(), shown=shown), lambda: tuned_json(tuned), as_json=as_json)


def _write_promise(out: Path, promise: Promise) -> None:
    about = promise.words if promise.certified else f"{promise.words} Not certified: {promise.reason}"
    write_saved(out, SavedPolicy(promise.policy, (), out.stem, certificate=promise.certificate), about)
    note(f"{out}: the policy{' with its certificate' if promise.certificate else ', without a certificate'}.")


def write_saved(out: Path, saved: SavedPolicy, about: str) -> None:
    """A policy file. Raises UsageError where it cannot be written."""
    try:
        write_policy(out, saved, about=about)
    except OSError as error:
        raise UsageError(f"{out} cannot be written: {error.strerror or error}.") from None


def _write_labels(out: Path, tasks: tuple[TaskToLabel, ...], found: Evidence, *, step: str | None) -> None:
    """The answers to these tasks as a sheet for `outcomes label --in`, or their ids. Raises UsageError."""
    chances = {(task.workload, task.task_id): task.probability for task in tasks}

    def sampled(item: Item) -> str:
        return f"{chances[item.outcome.workload, item.outcome.task_id]:.9f}".rstrip("0").rstrip(".")

    if out.suffix == ".jsonl":
        data = b"".join(msgspec.json.encode(task) + b"\n" for task in tasks)
        then = "a line for each task."
    else:
        items = of_tasks(found.items(), chances, step=step)
        if tasks and not items:
            raise UsageError(
                f"--labels-out {out}: the records have no texts of these answers that could be shown. A .jsonl names the tasks."
            )
        data = write_table(*sheet(items, found.labels(), sampled=sampled))
        then = f"{len(items)} answers. Fill in score or reference, save it as CSV, then: orchestrion outcomes label {found.back}--in {out}"
    try:
        out.write_bytes(data)
    except OSError as error:
        raise UsageError(f"{out} cannot be written: {error.strerror or error}.") from None
    note(f"{out}: {then}")
