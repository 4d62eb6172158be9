"""orchestrion outcomes label: a CSV out and in"""

from __future__ import annotations

import asyncio
import getpass
import os
from datetime import datetime
from pathlib import Path

import click

from orchestrion.app import Orchestrion
from orchestrion.cli.load import config_option, open_existing
from orchestrion.cli.output import complain, examples, note, output_options, result
from orchestrion.errors import RecordsError, UsageError
from orchestrion.evidence.content import Content
from orchestrion.evidence.labelling import (
    COLUMNS,
    Drawn,
    Read,
    draw,
    items_in,
    items_of,
    labelled,
    labels_in,
    read_sheet,
    sheet,
)
from orchestrion.evidence.labels import Labels
from orchestrion.evidence.recorded import recorded
from orchestrion.evidence.records import read_outcomes, write_outcomes
from orchestrion.evidence.spreadsheet import Table, read_table, write_table

NAMED = 20
"""So many bad cells are named."""


@click.command(
    "label",
    epilog=examples(
        "orchestrion outcomes label --out labels.csv --sample 50", "orchestrion outcomes label --in labels.csv"
    ),
)
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="LABELS.csv",
    help="Write a sheet to be filled in.",
)
@click.option(
    "--in", "filled", type=click.Path(dir_okay=False, path_type=Path), metavar="LABELS.csv", help="Read it back."
)
@click.option(
    "--records",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="RECORDS.jsonl",
    help="Label a records file (imported logs, say) instead of the database; --in writes it anew.",
)
@click.option("--batch", help="With --out: only answers of one batch.")
@click.option("--step", help="With --out: only answers of one step.")
@click.option(
    "--sample",
    type=click.IntRange(1),
    default=100,
    show_default=True,
    help="With --out: so many tasks, each step of one counting for itself, drawn by chance.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="With --out: another seed draws other tasks.")
@click.option("--blind", is_flag=True, help="With --out: leave out who answered.")
@click.option("--by", "who", help="With --in: whose labels they are (default: you).")
@click.option("--history", is_flag=True, help="Instead: who has said what, and when.")
@click.option("--skip-bad", is_flag=True, help="With --in: pass over cells that cannot be used, and list them.")
@output_options
@config_option
def label(
    out: Path | None,
    filled: Path | None,
    records: Path | None,
    *,
    batch: str | None,
    step: str | None,
    sample: int,
    seed: int,
    blind: bool,
    who: str | None,
    history: bool,
    skip_bad: bool,
    as_json: bool,
    config: str | None,
) -> int:
    """Say in a spreadsheet what is right: scores of answers, or right answers to tasks.

    --out draws tasks at random, each as likely as any other, and writes every answer to them as a row. Fill in `score` (0
    to 1, TRUE, FALSE) or `reference` (the right answer: it scores every answer to its task), and a `comment` if you like; an empty
    row stays unlabelled, "-" takes a label back. --in reads the sheet as any spreadsheet saves it; all of it is taken in
    one commit, or nothing. Doing it again changes nothing; a label that changes keeps its history.
    """
    if [out is not None, filled is not None, history].count(True) != 1:
        raise UsageError(
            "say either --out LABELS.csv, to write a sheet, or --in LABELS.csv, to read it back, or --history."
        )
    if history and records:
        raise UsageError("a records file keeps no history of its labels; the database does.")
    if records:
        return (
            _out_of_file(records, out, sample, seed, step, blind=blind, as_json=as_json)
            if out
            else _into_file(records, filled, skip_bad=skip_bad, as_json=as_json)
        )

    async def go() -> int:
        async with open_existing(config) as o:
            if out:
                drawn = draw(lambda: items_of(o.database, o.content, batch=batch), sample=sample, seed=seed, step=step)
                return _write(
                    out, drawn, Labels.read(o.database), blind=blind, content=o.content, as_json=as_json, back=""
                )
            if history:
                return _history(o, as_json=as_json)
            assert filled  # noqa: S101  # one of both is there
            return await _read_into(o, filled, who=who or _user(), skip_bad=skip_bad, as_json=as_json)

    return asyncio.run(go())


async def _read_into(o: Orchestrion, filled: Path, *, who: str, skip_bad: bool, as_json: bool) -> int:
    table = _table(filled)
    items = items_of(o.database, o.content)
    read = read_sheet(table, items, Labels.read(o.database), who=who, content=o.content)
    _refuse(filled, table, read, skip_bad=skip_bad)
    await o.retention.label(read.labels)
    _said(filled, table, read, as_json=as_json)
    note("`orchestrion outcomes export OUT.jsonl` has them.")
    return 0


def _out_of_file(
    records: Path, out: Path, sample: int, seed: int, step: str | None, *, blind: bool, as_json: bool
) -> int:
    drawn = draw(lambda: items_in(read_outcomes([records])), sample=sample, seed=seed, step=step)
    return _write(
        out,
        drawn,
        labels_in(read_outcomes([records])),
        blind=blind,
        content=Content(),
        as_json=as_json,
        back=f"--records {records} ",
    )


def _into_file(records: Path, filled: Path | None, *, skip_bad: bool, as_json: bool) -> int:
    assert filled  # noqa: S101  # one of both is there
    table = _table(filled)
    before = labels_in(read_outcomes([records]))
    read = read_sheet(table, items_in(read_outcomes([records])), before, who="", content=Content())
    _refuse(filled, table, read, skip_bad=skip_bad)
    if read.labels:
        write_outcomes(records, labelled(read_outcomes([records]), Labels([*before.all, *read.labels])))
    _said(filled, table, read, as_json=as_json)
    note(f"{records} has them.")
    return 0


def _write(out: Path, drawn: Drawn, labels: Labels, *, blind: bool, content: Content, as_json: bool, back: str) -> int:
    if not drawn.items:
        kept = (
            ""
            if content.record == "full"
            else f" (record: {content.record} in the settings keeps no texts of ended runs)"
        )
        raise UsageError(f"there is no answer to label{kept}. --batch and --step may be too narrow.")
    sampled = f"{drawn.chosen} of {drawn.questions}"
    columns, rows = sheet(drawn.items, labels, sampled=lambda _: sampled, blind=blind)
    try:
        out.write_bytes(write_table(columns, rows))
    except OSError as error:
        raise UsageError(f"{out} cannot be written: {error.strerror or error}.") from None
    several = len({item.question.step for item in drawn.items}) > 1
    asked = "questions (a step of a task)" if several else "tasks"
    said = f"{out}: {len(drawn.items)} answers to {drawn.chosen} of {drawn.questions} {asked}, drawn by chance."
    data = {"file": str(out), "answers": len(drawn.items), "tasks": drawn.chosen, "of_tasks": drawn.questions}
    result([said], lambda: data, as_json=as_json)
    note(f"Fill in score or reference, save it as CSV, then: orchestrion outcomes label {back}--in {out}")
    return 0


def _history(o: Orchestrion, *, as_json: bool) -> int:
    holds = {one.asked.hold: one.outcome for one in recorded(o.database)}
    tasks = {one.question: one.outcome.task_id for one in recorded(o.database)}
    lines, data = [], []
    for one in Labels.read(o.database).all:
        if one.settled:
            continue
        when = datetime.fromtimestamp(one.at).strftime("%Y-%m-%d %H:%M")
        about = f"{tasks.get(one.question, '?')} {one.question.step}"
        if one.hold is None:
            said = "reference taken back" if one.reference is None else f"reference {one.reference!r}"
        else:
            about += f" {holds[one.hold].worker}" if one.hold in holds else ""
            said = "no score" if one.score is None else f"score {one.score:g}"
        lines.append(f"{when}  {one.who}  {about}: {said}{f'  ({one.comment})' if one.comment else ''}")
        data.append({"at": one.at, "by": one.who, "about": about, "said": said, "comment": one.comment})
    result(lines or ["nobody has labelled anything yet."], lambda: {"labels": data}, as_json=as_json)
    return 0


def _table(filled: Path) -> Table:
    table = read_table(filled)
    if "id" not in table.columns or not {"score", "reference"} & set(table.columns):
        raise RecordsError(
            f"{filled} (read as {table.read_as}) has the columns {', '.join(table.columns)[:200] or '(none)'}; it needs 'id', and "
            f"'score' or 'reference'. `outcomes label --out` writes {', '.join(COLUMNS)}."
        )
    return table


def _refuse(filled: Path, table: Table, read: Read, *, skip_bad: bool) -> None:
    if not read.bad:
        return
    for one in read.bad[:NAMED]:
        complain(f"{'skipped: ' if skip_bad else ''}{filled}: {one}")
    if len(read.bad) > NAMED:
        complain(f"… and {len(read.bad) - NAMED} more.")
    if not skip_bad:
        raise RecordsError(
            f"{filled} (read as {table.read_as}): {len(read.bad)} cells cannot be used, and nothing was changed. Mend them, or pass over them with --skip-bad."
        )


def _said(filled: Path, table: Table, read: Read, *, as_json: bool) -> None:
    scores = sum(one.hold is not None for one in read.labels)
    references = len(read.labels) - scores
    said = (
        f"{filled}, read as {table.read_as}: {scores} scores and {references} references are new or changed, "
        f"{read.unchanged} rows are as before, {read.unlabelled} without a label."
    )
    data = {
        "file": str(filled),
        "read_as": table.read_as,
        "scores": scores,
        "references": references,
        "unchanged": read.unchanged,
        "unlabelled": read.unlabelled,
        "bad": len(read.bad),
    }
    result([said], lambda: data, as_json=as_json)
    if read.apart:
        complain(f"{read.apart} answers cannot be compared with their reference: give them scores.")


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container without a user's name
        return f"user {os.getuid()}"
