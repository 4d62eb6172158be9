"""orchestrion judge test JUDGE RECORDS…"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import msgspec
from pydantic_core import to_json

from orchestrion.app import Orchestrion
from orchestrion.checks.calibration import FORMAT, Calibration, brier, fit
from orchestrion.checks.judge import Judge
from orchestrion.cli.agreement import calibration_lines, lines
from orchestrion.cli.load import account_option, config_option, load_judge, money
from orchestrion.cli.output import complain, examples, note, output_options, result
from orchestrion.cli.progress import Progress
from orchestrion.cli.results import short_of_money
from orchestrion.cli.run import stop_on_signals
from orchestrion.domain import Money, Task, digest, usd
from orchestrion.engine.bound import judging_bound
from orchestrion.engine.judging import Case, Judgement, judging
from orchestrion.engine.workflow import Run, Start
from orchestrion.errors import PolicyError, RecordsError, UsageError
from orchestrion.evidence.agreement import Agreement, of_pairs, of_scored
from orchestrion.evidence.labelled import Labelled, Pair, Scored, read_labelled
from orchestrion.settings import Settings, nearest, read_settings

NAMED = 3


@click.group("judge")
def command() -> None:
    """Judges: checks that ask a model about an answer."""


@command.command(
    "test",
    epilog=examples(
        "orchestrion judge test judges.py:polite labelled.jsonl --dry-run",
        "orchestrion judge test judges.py:polite labelled.jsonl --out polite.json",
    ),
)
@click.argument("target", metavar="JUDGE")
@click.argument("records", nargs=-1, required=True, type=click.Path(dir_okay=False, path_type=Path))
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write the figures and the calibration as JSON, for judge(…, calibration=FILE).",
)
@account_option
@click.option(
    "--concurrency", type=click.IntRange(1, 100_000), default=64, show_default=True, help="Questions at once."
)
@click.option("--retry-failed", is_flag=True, help="Ask again where the judge's model did not answer.")
@click.option("--dry-run", is_flag=True, help="Print the bound on the cost, and spend nothing.")
@output_options
@config_option
def test(
    target: str,
    records: tuple[Path, ...],
    *,
    out: Path | None,
    as_json: bool,
    config: str | None,
    dry_run: bool,
    **options: Any,
) -> int:
    """How well a judge agrees with people, and which way it leans.

    JUDGE is FILE.py:NAME (a judge, or a step with one), a judge in a .json file, or the name of a judge whose decisions are
    in RECORDS already. RECORDS are outcomes with scores, or pairs with a label (.jsonl or .jsonl.zst). A live judge is
    asked through runs: after Ctrl-C or a crash the same command goes on, and asks nothing twice.
    """
    if out and not out.absolute().parent.is_dir():
        raise UsageError(f"{out} cannot be written: there is no folder {out.parent}. Name another place with --out.")
    live = target.endswith(".json") or ".py" in target
    if not live:
        if dry_run:
            raise UsageError(
                f"--dry-run is for a live judge; what '{target}' said is in the records, and costs nothing."
            )
        rows = read_labelled(records, judge=target)
        _refuse_unknown(target, rows)
        _refuse_empty(rows)
        _say(target, rows, as_json=as_json, out=out, settings=Settings())
        return 0
    judge, instructions = load_judge(target)
    rows = read_labelled(records)
    _refuse_empty(rows)
    _refuse_unfit(judge, rows)
    settings = read_settings(config)
    if dry_run:
        settings = settings.model_copy(update={"database": ":memory:"})
    try:
        return asyncio.run(
            _live(judge, instructions, rows, records, settings, as_json=as_json, out=out, dry_run=dry_run, **options)
        )
    except asyncio.CancelledError:
        raise click.Abort from None


def _refuse_unfit(judge: Judge, rows: Labelled) -> None:
    """A pairwise judge needs pairs, a pointwise one answers; both need the task that was answered."""
    if judge.pairwise and rows.scored:
        raise RecordsError(
            f"'{judge.name}' compares two answers, and the records have single ones. Pairs are "
            '{"task_id", "prompt", "response_a", "response_b", "label": "A>B" | "B>A" | "A=B"}.'
        )
    if not judge.pairwise and rows.pairs:
        raise RecordsError(
            f"'{judge.name}' scores one answer, and the records have pairs. Test it on outcomes with a score, or make it pairwise."
        )
    both: Sequence[Scored | Pair] = [*rows.scored, *rows.pairs]
    without = next((row.task_id for row in both if row.prompt is None), None)
    if without is not None:
        raise RecordsError(f"task '{without}' has no prompt: the judge could not know what was asked.")
    if judge.reference and (missing := next((row.task_id for row in both if row.reference is None), None)):
        raise RecordsError(f"'{judge.name}' is to see the reference, and task '{missing}' has none.")


async def _live(
    judge: Judge,
    instructions: str,
    rows: Labelled,
    records: tuple[Path, ...],
    settings: Settings,
    *,
    as_json: bool,
    out: Path | None,
    dry_run: bool,
    account: str | None,
    concurrency: int,
    retry_failed: bool,
) -> int:
    cases = {f"{case.task_id}/{digest(to_json(case))[:12]}": (row, case) for row, case in _cases(rows, instructions)}
    async with Orchestrion.open(settings) as o:
        if judge.worker not in o.workers:
            raise PolicyError(
                f"judge '{judge.name}' asks '{judge.worker}', but no model or person is called so in the settings.{nearest(judge.worker, o.workers)}"
            )
        shown = money(settings)
        if dry_run:
            total = sum(_bound(o, judge, case) for _, case in cases.values())
            said = {"questions": len(cases), "bound_usd": usd(total), "simulated": settings.simulated}
            text = f"{len(cases)} labels to judge cost at most {shown(total)}. Nothing was spent."
            result([text], lambda: said, as_json=as_json)
            return 0
        o.workers.check_keys([judge.worker])
        payer = o.account(account)
        batch = f"judge:{judge.name}:{'+'.join(path.name.split('.')[0] for path in records)}:{judge.digest[:8]}"
        starts = [
            Start(id=f"{batch}/{key}", task_id=case.task_id, input=case, account=payer, batch=batch)
            for key, (_, case) in cases.items()
        ]
        ended = {run_id for run_id, (status, _) in o.journal.statuses(batch).items() if status == "done"}
        runs: dict[str, Run] = {}
        with Progress(len(starts), shown=shown) as progress:
            stop_on_signals(o, progress)
            async for run in o.run_all(judging(judge), starts, concurrency=concurrency, again=retry_failed):
                runs[run.id] = run
                progress.add(run.status, run.cost, fresh=run.id not in ended)
        short = short_of_money(o, runs.values())
    judged = [
        _with(row, runs[f"{batch}/{key}"], judge)
        for key, (row, _) in cases.items()
        if runs.get(f"{batch}/{key}") and runs[f"{batch}/{key}"].status == "done"
    ]
    failed = [run for run in runs.values() if run.status == "failed"]
    for line in (*o.news(), *short):
        complain(line)
    _say_left(failed, len(starts) - len(runs) + sum(run.status == "running" for run in runs.values()))
    if not judged:
        return 1
    rows.scored = [row for row in judged if isinstance(row, Scored)]
    rows.pairs = [row for row in judged if isinstance(row, Pair)]
    _say(judge.name, rows, as_json=as_json, out=out, settings=settings, of=judge.digest)
    if judge.calibration:
        note(
            "The judge is calibrated. Where these labels made its calibration, the figures are too good: test it on others."
        )
    return 0 if len(judged) == len(starts) else 1


def _cases(rows: Labelled, instructions: str) -> list[tuple[Scored | Pair, Case]]:
    found: list[tuple[Scored | Pair, Case]] = [
        (row, Case(row.task_id, row.prompt or "", row.output or "", None, row.reference, instructions))
        for row in rows.scored
    ]
    found += [
        (row, Case(row.task_id, row.prompt or "", row.a, row.b, row.reference, instructions)) for row in rows.pairs
    ]
    return found


def _bound(o: Orchestrion, judge: Judge, case: Case) -> Money:
    task = Task(case.task_id, case.prompt, {}, case.reference, judge.name, case.instructions)
    answers = (case.answer,) if case.other is None else (case.answer, case.other)
    return judge.calls().total() * judging_bound(judge, o.workers[judge.worker], task, *answers)


def _with(row: Scored | Pair, run: Run, judge: Judge) -> Scored | Pair:
    """A labelled row with what the judge said of it in a run."""
    said: Judgement = run.result
    if isinstance(row, Pair):
        return msgspec.structs.replace(row, decisions=said.decisions, cost=run.cost)
    if said.score is None:
        return msgspec.structs.replace(row, cost=run.cost)
    passed = judge.calibrated(said.score) >= judge.limit
    return msgspec.structs.replace(row, passed=passed, score=said.score, cost=run.cost)


def _say_left(failed: list[Run], left: int) -> None:
    for run in failed[:NAMED]:
        complain(f"failed: {run.id}: {run.error}")
    if failed:
        complain(f"{len(failed)} could not be asked, and are not in the figures; --retry-failed asks them again.")
    if left:
        complain(f"{left} were not asked; the same command goes on where this one stopped.")


def _say(
    name: str, rows: Labelled, *, as_json: bool, out: Path | None, settings: Settings, of: str | None = None
) -> None:
    """The figures on stdout, and into a file."""
    found = of_pairs(rows.pairs) if rows.pairs else of_scored(rows.scored)
    scores = [(row.cluster, row.score, row.accepted) for row in rows.scored if row.score is not None]
    both = len({accepted for _, _, accepted in scores}) == 2
    calibration = fit(((score, accepted) for _, score, accepted in scores), of=of) if both else None
    said = _as_json(name, found, rows, calibration)
    if out:
        _write(out, {"format": FORMAT, **said})
    shown = [*lines(name, found, rows.left_out, money(settings))]
    shown += calibration_lines(calibration, brier(scores)) if calibration else []
    result(shown, lambda: {**said, "simulated": settings.simulated}, as_json=as_json)
    if out:
        note(f"written to {out}" + ("" if calibration else ", without a calibration"))


def _refuse_unknown(name: str, rows: Labelled) -> None:
    """A judge that said nothing in the records: a slip of the pen, mostly."""
    if rows.judges and name not in rows.judges:
        raise RecordsError(
            f"the records have no judge '{name}'.{nearest(name, rows.judges)} A live judge is FILE.py:NAME or a .json file."
        )


def _refuse_empty(rows: Labelled) -> None:
    """Raises RecordsError where there is nothing to test on, with the reason."""
    if not rows.scored and not rows.pairs:
        left_out = "; ".join(f"{n} {why}" for why, n in rows.left_out.items() if n)
        raise RecordsError(f"there is nothing to test on: {left_out or 'no labelled answer or pair in these files'}.")


def _as_json(name: str, found: Agreement, rows: Labelled, calibration: Calibration | None) -> dict[str, Any]:
    figures: Mapping[str, Any] = msgspec.to_builtins(found)
    cost = found.cost
    return {
        "judge": name,
        **{key: value for key, value in figures.items() if key != "cost"},
        "better_than_majority": found.better,
        "cost_usd": None if cost is None else usd(cost),
        "left_out": {why: n for why, n in rows.left_out.items() if n},
        "calibration": None if calibration is None else msgspec.to_builtins(calibration),
    }


def _write(out: Path, data: Mapping[str, Any]) -> None:
    try:
        out.write_bytes(to_json(data, indent=2) + b"\n")
    except OSError as error:
        raise UsageError(f"{out} cannot be written: {error.strerror or error}.") from None
