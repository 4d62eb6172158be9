"""orchestrion outcomes export | label | import"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import click

from orchestrion.cli.complete import batches
from orchestrion.cli.imports import import_logs
from orchestrion.cli.labels import label
from orchestrion.cli.load import config_option, money, open_existing
from orchestrion.cli.output import examples, leave_pipe, note, output_options, result
from orchestrion.domain import Money, nanos, usd
from orchestrion.errors import UsageError
from orchestrion.evidence.recorded import PROBES
from orchestrion.evidence.records import line_of
from orchestrion.store.queries import queries
from orchestrion.store.zstd import zstd


@click.group("outcomes")
def command() -> None:
    """Recorded outcomes: the evidence that replay, tuning and reports read."""


@command.command(
    "export",
    short_help="Write every recorded attempt as a line of JSON.",
    epilog=examples(
        "orchestrion outcomes export outcomes.jsonl.zst",
        "orchestrion outcomes export - --batch support:tasks | head -1",
    ),
)
@click.argument("out", metavar="OUT.jsonl", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--batch", metavar="NAME", shell_complete=batches, help="Only the runs of one batch.")
@output_options
@config_option
def export(out: Path, batch: str | None, *, as_json: bool, config: str | None) -> None:
    """Write every recorded attempt as a line of JSON (- for stdout; .zst compresses)."""

    async def go() -> tuple[int, Money, Callable[[Money], str]]:
        count = spent = 0
        async with open_existing(config) as o:
            [(billed,)] = o.database.read(queries("evidence")["billed"], {"batch": batch, "probes": PROBES})
            try:
                with _open(out) as file:
                    for outcome in o.outcomes(batch=batch):
                        file.write(line_of(outcome))
                        count += 1
                        spent += nanos(outcome.cost_usd or 0)
            except BrokenPipeError:
                leave_pipe()  # `| head`: enough was read
                billed = spent
            except OSError as error:
                raise UsageError(f"{out} cannot be written: {error.strerror or error}.") from None
            return count, billed - spent, money(o.settings)

    if str(out) == "-" and as_json:
        raise UsageError("--json and - both want stdout. Write the outcomes to a file.")
    count, beside, shown = asyncio.run(go())
    if str(out) == "-":
        note(f"{count} outcomes")
    else:
        result(
            [f"{count} outcomes in {out}"],
            lambda: {"outcomes": count, "file": str(out), "beside_usd": usd(beside)},
            as_json=as_json,
        )
    if beside > 0:
        note(
            f"{shown(beside)} of the bill is of calls that left no answer (they broke off, or a person asked back): no outcomes."
        )


command.add_command(label)
command.add_command(import_logs)


def _open(out: Path):  # type: ignore[no-untyped-def]  # a binary file or a compressing one: they share only write and with
    if str(out) == "-":
        return click.open_file("-", "wb")
    return zstd.open(out, "wb") if out.suffix == ".zst" else out.open("wb")
