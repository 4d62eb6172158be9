"""orchestrion report"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from orchestrion.cli.complete import batches, run_ids
from orchestrion.cli.load import config_option, open_existing
from orchestrion.cli.output import examples, note, output_options, result, write_bytes
from orchestrion.errors import UsageError
from orchestrion.settings import Settings, find_settings, read_settings

if TYPE_CHECKING:
    from orchestrion.evidence.content import Content
    from orchestrion.report.facts import Report, Waiting
    from orchestrion.review.requests import ReviewRequest

# The report and the engine are imported when this command runs: --help does not wait for them.


@click.command(
    "report",
    short_help="One page for people who do not speak tokens.",
    epilog=examples(
        "orchestrion report",
        "orchestrion report --batch support:tasks --out support.html",
        "orchestrion report outcomes.jsonl --policy careful.json",
    ),
)
@click.argument("records", nargs=-1, metavar="[RECORDS]...", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--batch", metavar="NAME", shell_complete=batches, help="The runs of one batch (default: the newest).")
@click.option("--run", "run_id", metavar="ID", shell_complete=run_ids, help="One run.")
@click.option(
    "--policy",
    "policies",
    multiple=True,
    metavar="POLICY.json",
    help="With RECORDS: the policy that is put over them. Again for others beside it.",
)
@click.option("--step", help="With RECORDS: the step whose records are replayed, where there are several.")
@click.option(
    "--frontier",
    metavar="WORKER",
    help="The worker to compare with (default: the dearest; of records, the one that scores best).",
)
@click.option(
    "--out", type=click.Path(path_type=Path), help="Where the page goes (default: report.html; - for stdout)."
)
@output_options
@config_option
def command(
    records: tuple[Path, ...],
    *,
    batch: str | None,
    run_id: str | None,
    policies: tuple[str, ...],
    step: str | None,
    frontier: str | None,
    out: Path | None,
    as_json: bool,
    config: str | None,
) -> None:
    """One page for people who do not speak tokens: what was done, how sure, what it cost and would have cost, what needs a
    person, what to do next.

    Of the newest batch, a batch, a run; or, with RECORDS (outcome files) and --policy, of a replay. One HTML file that
    loads nothing from anywhere. --json prints the facts instead, and writes the page only with --out.
    """
    if as_json and str(out) == "-":
        raise UsageError("--json and --out - both want stdout. Write the page to a file.")
    if records:
        report = _of_replay(records, policies, step=step, frontier=frontier, config=config, runs=bool(batch or run_id))
    elif policies or step:
        raise UsageError(
            "--policy and --step are for recorded outcomes: name their files, `orchestrion report outcomes.jsonl --policy POLICY.json`."
        )
    elif batch and run_id:
        raise UsageError("--batch and --run are two things to report on: give one of them.")
    else:
        report = asyncio.run(_of_runs(batch, run_id, frontier=frontier, config=config))
    if out or not as_json:
        from orchestrion.report.page import render

        write_page(out or Path("report.html"), render(report))
    if as_json:
        from orchestrion.report.facts import plain

        result([], lambda: plain(report), as_json=True)


async def _of_runs(batch: str | None, run_id: str | None, *, frontier: str | None, config: str | None) -> Report:
    from orchestrion.report.recorded import newest_batch, report_runs

    async with open_existing(config) as o:
        if batch is None and run_id is None:
            batch, many = newest_batch(o.database)
            if many > 1 and batch is not None:
                note(f"batch '{batch}', the newest of {many} (--batch names another).")
        prices = o.workers.prices()
        reviews = [_waiting(one, o.content) for one in o.reviews(batch=batch) if run_id in (None, one.run_id)]
        report = report_runs(
            o.database, o.settings, batch=batch, run=run_id, prices=prices, frontier=frontier, reviews=reviews
        )
        if frontier and frontier not in {cell.worker for cell in report.cells} | set(prices):
            known = ", ".join(sorted({cell.worker for cell in report.cells} | set(prices)))
            raise UsageError(f"--frontier {frontier}: no worker is called so here. There are {known}.")
    if not report.tasks:
        what = f"batch '{batch}'" if batch else f"run '{run_id}'" if run_id else "run at all"
        raise UsageError(f"there is no {what} in {o.database.path}. `orchestrion runs list` shows what there is.")
    return report


def _waiting(request: ReviewRequest, content: Content) -> Waiting:
    """A request as the page shows it: the page leaves the house, and so its texts are under the content policy."""
    from orchestrion.report.facts import Waiting

    asked = request.question is not None
    said = content.leaves(request.question) if content.record == "full" else None
    return Waiting(
        kind="information" if asked else "review",
        run=request.run_id,
        task=request.task_id,
        wants=(said or "its text may not leave the database (record, redact): the command shows it")
        if asked
        else request.worker,
        since=request.asked,
        command=f"orchestrion review {f'inform {request.id} TEXT' if said else f'show {request.id}' if asked else f'decide {request.id}'}",
    )


def _of_replay(
    records: tuple[Path, ...],
    policies: tuple[str, ...],
    *,
    step: str | None,
    frontier: str | None,
    config: str | None,
    runs: bool,
) -> Report:
    from orchestrion.engine.replay import replay
    from orchestrion.engine.saved import find_policy
    from orchestrion.evidence.records import read_outcomes
    from orchestrion.report.replayed import Tried, comparable, report_replay

    if runs:
        raise UsageError("--batch and --run are of the database; RECORDS are files. Give one or the other.")
    if not policies:
        raise UsageError(
            "which policy is put over these records? Name it: --policy POLICY.json (or a name from the settings)."
        )
    settings = read_settings(config) if config or find_settings() else Settings()
    prices = {name: model.price.price() for name, model in settings.models.items() if model.price}
    chosen = [find_policy(name, settings) for name in policies]
    found = comparable(read_outcomes(records), step=step)
    tried = [
        Tried(saved.name, asyncio.run(replay(found.outcomes, saved, step=step, frontier=frontier, prices=prices)))
        for saved in chosen
    ]
    workers = dict.fromkeys(outcome.worker for outcome in found.outcomes)
    return report_replay(
        tried, records=[path.name for path in records], workers=workers, step=step, incomplete=found.left_out
    )


def write_page(out: Path, text: str) -> None:
    """A page, as a whole or not at all. Raises UsageError."""
    page = text.encode()
    if str(out) == "-":
        write_bytes(page)
        return
    scratch = out.with_name(f".{out.name}.{os.getpid()}")
    try:
        scratch.write_bytes(page)
        scratch.replace(out)
    except OSError as error:
        scratch.unlink(missing_ok=True)
        raise UsageError(
            f"the report cannot be written to {out}: {error.strerror or error}. Name another place with --out."
        ) from None
    note(f"{out}: {len(page) / 1024:.0f} kB, one page without a network. Open it in a browser.")
