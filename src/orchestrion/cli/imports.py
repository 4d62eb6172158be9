"""orchestrion outcomes import FORMAT FILE… --out RECORDS.jsonl"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from importlib import import_module
from pathlib import Path

import click

from orchestrion.cli.load import config_option
from orchestrion.cli.output import complain, examples, output_options, result
from orchestrion.domain import Outcome, Price
from orchestrion.errors import RecordsError, UsageError
from orchestrion.evidence.content import Content
from orchestrion.evidence.imports.convert import Summary, convert
from orchestrion.evidence.records import write_outcomes
from orchestrion.ledger.prices import listed
from orchestrion.settings import Settings, find_settings, read_settings

FORMATS = {"openai": "openai", "litellm": "litellm", "routellm": "routing", "routerbench": "routing"}
MAKERS = ("openai", "anthropic", "google", "mistral")
"""Whose lists a logged model is looked up in: its maker's. What hosts ask for an open model differs from host to host."""

NAMED = 10
"""So many bad lines are named."""


@click.command(
    "import",
    epilog=examples(
        "orchestrion outcomes import openai log.jsonl --out records.jsonl",
        "orchestrion outcomes import litellm spend.csv --out records.jsonl.zst",
    ),
)
@click.argument("format_name", metavar="FORMAT", type=click.Choice(list(FORMATS)))
@click.argument("files", metavar="FILE…", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--out",
    required=True,
    metavar="RECORDS.jsonl",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Where the records go (.zst compresses).",
)
@click.option(
    "--worker", "names", multiple=True, metavar="OLD=NEW", help="Call a model by the name of a worker of yours."
)
@click.option("--workload", help="What the tasks belong to.")
@click.option("--tags", "tags", multiple=True, metavar="KEY=VALUE", help="A tag of every task.")
@click.option("--skip-bad", is_flag=True, help="Pass over lines that cannot be used, and list them.")
@output_options
@config_option
def import_logs(
    format_name: str,
    files: tuple[Path, ...],
    out: Path,
    *,
    names: tuple[str, ...],
    workload: str | None,
    tags: tuple[str, ...],
    skip_bad: bool,
    as_json: bool,
    config: str | None,
) -> None:
    """Other logs as outcome records, for replay and tuning.

    FORMAT is openai (JSON lines of {"request", "response"}; the Batch API's output with its input file; stored completions), litellm
    (the table LiteLLM_SpendLogs as JSON, JSON lines or CSV), routellm or routerbench (public routing data as CSV: prompt, and a
    column for each model). The same messages are one task, whoever answered. Nothing is written where a line cannot be used,
    unless --skip-bad passes over it.
    """
    missing = next((file for file in files if not file.is_file()), None)
    if missing:
        raise UsageError(
            f"there is no file {missing}." if not missing.exists() else f"{missing} is a folder: name its files."
        )
    if out.resolve() in {file.resolve() for file in files}:
        raise UsageError(f"{out} is one of the files that are read. Name another with --out.")
    settings = read_settings(config) if config or find_settings() else Settings()
    summary = Summary()
    reader = import_module(f"orchestrion.evidence.imports.{FORMATS[format_name]}")
    records = convert(
        reader.read(files),
        summary,
        names=_pairs(names, "--worker OLD=NEW"),
        price=_prices(settings),
        content=Content.of(settings),
        workload=workload,
        tags=_pairs(tags, "--tags KEY=VALUE"),
    )
    write_outcomes(out, _checked(records, summary, skip_bad=skip_bad))
    for bad in summary.bad[:NAMED]:
        complain(f"skipped: {bad}")
    if len(summary.bad) > NAMED:
        complain(f"skipped: {len(summary.bad) - NAMED} more.")
    result(_lines(summary, out), lambda: _as_json(summary, out), as_json=as_json)


def _checked(records: Iterator[Outcome], summary: Summary, *, skip_bad: bool) -> Iterator[Outcome]:
    """The records; at their end, an error where lines were bad: the file is then not written."""
    yield from records
    if summary.bad and not skip_bad:
        more = f"\n{len(summary.bad) - NAMED} more lines cannot be used, either." if len(summary.bad) > NAMED else ""
        raise RecordsError(
            "\n".join(summary.bad[:NAMED])
            + more
            + "\nMend them, or pass over them with --skip-bad. Nothing was written."
        )
    if not summary.rows:
        raise RecordsError("there is no answer of a model in these files. Nothing was written.")


def _pairs(given: tuple[str, ...], form: str) -> dict[str, str]:
    pairs = {}
    for text in given:
        old, equals, new = text.partition("=")
        if not (old and equals and new):
            raise UsageError(f"{text!r} is not {form}.")
        pairs[old] = new
    return pairs


def _prices(settings: Settings) -> Callable[[str, str], Price | None]:
    """What a worker's tokens cost: by the settings' price for it, else by the list price of the model."""

    @cache
    def price(worker: str, model: str) -> Price | None:
        mine = settings.models.get(worker)
        if mine and mine.price:
            return mine.price.price()
        name = model.rpartition("/")[2]  # "anthropic/claude-…" is how gateways name another's model
        found = (listed(name, provider=maker, base_url=None) for maker in MAKERS)
        return next((one.price for one in found if one), None)

    return price


def _as_json(summary: Summary, out: Path) -> dict[str, object]:
    return {
        "tasks": len(summary.tasks),
        "rows": summary.rows,
        "workers": {worker: len(tasks) for worker, tasks in summary.answered.items()},
        "labelled": summary.labelled,
        "failed": summary.failed,
        "cached": summary.cached,
        "complete": summary.complete,
        "without_cost": dict(summary.unpriced),
        "left_out": dict(summary.left_out),
        "skipped": summary.bad,
        "records": str(out),
    }


def _lines(summary: Summary, out: Path) -> Iterator[str]:
    answered = ", ".join(f"{worker} {len(tasks)}" for worker, tasks in summary.answered.items())
    yield f"{out}: {summary.rows} rows of {len(summary.tasks)} tasks; answered by {answered}"
    parts = [f"{summary.labelled} with a score", f"{summary.complete} tasks that every worker answered"]
    parts += [f"{summary.failed} failed calls"] if summary.failed else []
    parts += [f"{summary.cached} from a cache"] if summary.cached else []
    yield "  " + ", ".join(parts)
    for reason, count in summary.left_out.items():
        yield f"  left out: {count} ({reason})"
    if summary.unpriced:
        yield f"  without a cost: {', '.join(summary.unpriced)}. Price them under models in the settings, and import again."
    yield from _next(summary, out)


def _next(summary: Summary, out: Path) -> Iterator[str]:
    """What can be done with these records."""
    if not summary.labelled:
        yield f"Nothing says yet what is right: orchestrion outcomes label --records {out} --out labels.csv"
    if len(summary.answered) < 2:
        yield "One worker alone cannot be compared: import the answers of another one to the same tasks, too."
    elif not summary.complete:
        yield "No task was answered by every worker: policies can be replayed only where the answers they ask for are there."
    else:
        yield f"orchestrion replay {out} --policy POLICY.json"
