"""How a batch ended: the results file, and what is said at the end."""

from __future__ import annotations

import contextlib
import itertools
import os
import shlex
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path

from pydantic_core import from_json, to_json

from orchestrion.app import Orchestrion
from orchestrion.cli.output import complain, note, result, write_bytes
from orchestrion.domain import Money, usd
from orchestrion.engine.workflow import Run
from orchestrion.errors import FundsExhausted, JournalMismatch, UsageError
from orchestrion.ledger.words import missing

NAMED = 3
"""So many failures are named at the end; the results file has them all."""


def write_results(out: Path, runs: list[Run], *, kept: Callable[[str], bool]) -> None:
    """A line for each run, in the order of the tasks; the file is replaced as a whole. Raises UsageError.

    A result that was not kept in the database (``record``) stays as it stands in the file. Where the file has results of
    other runs that are nowhere else (``kept`` says of a run's id whether the database has its result), it is set aside.
    """
    gone = {run.id for run in runs if run.status == "done" and run.text is None}
    before = _lines_of(out, gone) if gone else {}
    lines = b"".join(before.get(run.id) or to_json(_row(run)) + b"\n" for run in runs)
    if len(before) < len(gone):
        complain(
            f"{len(gone) - len(before)} results were not kept (record, redact and keep_days in the settings) and are null in {out}."
        )
    if str(out) == "-":
        write_bytes(lines)
        return
    ours = {run.id for run in runs}
    scratch = out.with_name(f".{out.name}.{os.getpid()}")
    try:
        scratch.write_bytes(lines)
        if any(not kept(run_id) for run_id in _results_in(out) if run_id not in ours):
            aside = _free(out)
            out.replace(aside)
            complain(f"{out} had results of other runs, which the database does not keep: they are in {aside} now.")
        scratch.replace(out)
    except OSError as error:
        scratch.unlink(missing_ok=True)
        raise UsageError(
            f"the results cannot be written to {out}: {error.strerror or error}. They are kept in the database: "
            "the same command writes them again, without asking anybody anything (--out names another place)."
        ) from None


def _lines_of(out: Path, runs: set[str]) -> dict[str, bytes]:
    """The lines of an earlier results file for these runs."""
    return {run_id: line for run_id, line in _results_in(out).items() if run_id in runs}


def _results_in(out: Path) -> dict[str, bytes]:
    """The lines of an earlier results file that have a result, by run; none where it is no such file."""
    found = {}
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        for line in out.read_bytes().splitlines(keepends=True):
            row = from_json(line)
            if row["result"] is not None:
                found[row["run_id"]] = line
    return found


def _free(out: Path) -> Path:
    """A name beside this one that is not taken: tasks.results.1.jsonl."""
    names = (out.with_name(f"{out.stem}.{n}{out.suffix}") for n in itertools.count(1))
    return next(name for name in names if not name.exists())


def _row(run: Run) -> dict[str, object]:
    return {
        "task_id": run.task_id,
        "run_id": run.id,
        "status": _status(run),
        "result": from_json(run.text) if run.text is not None else None,
        "error": str(run.error) if run.error else None,
        **({"question": run.question} if run.question else {}),
        "cost_usd": usd(run.cost),
    }


def _status(run: Run) -> str:
    """As the results say it: a run that needs information from the task's owner is neither answered nor flagged, and one that
    needs money needs nobody's word."""
    if run.question:
        return "needs_information"
    if run.funds:
        return "waiting_for_money"
    return "interrupted" if run.status == "running" else run.status


def short_of_money(o: Orchestrion, runs: Iterable[Run]) -> list[str]:
    """Of each account that ran dry: how many runs wait for it, and what lets the one go on that
    takes most, as the account stands now."""
    short: dict[str, list[Run]] = {}
    for run in runs:
        if run.funds:
            short.setdefault(run.funds, []).append(run)
    return [
        f"{len(some)} {'run waits' if len(some) == 1 else 'runs wait'} for money on account '{account}': {_way_on(o, some)}"
        for account, some in short.items()
    ]


def _way_on(o: Orchestrion, runs: list[Run]) -> str:
    known = [
        (run.error.shortage.demand, run) for run in runs if isinstance(run.error, FundsExhausted) and run.error.shortage
    ]
    if not known:
        return str(runs[0].error)
    _, dearest = max(known, key=itemgetter(0))
    now = o.shortage(dearest)
    said = missing(now, asked="", at_rest=True)
    many = len(runs) > 1 and now is not None and now.cap.unit == "money"
    return said + (" (`run … --dry-run` says what all of them take at most.)" if many else "")


@dataclass(frozen=True, slots=True)
class Summary:
    """A batch at its end. ``unknown_calls`` were in flight when a process died, or ended in a way that may have been
    charged: booked in full, ``unknown`` nano-dollars. ``short`` says what lets those go on that wait for money."""

    batch: str
    runs: list[Run]
    tasks: int
    bad: list[str]
    out: Path
    unknown_calls: int
    unknown: Money
    short: list[str]

    @property
    def statuses(self) -> dict[str, int]:
        """How many runs ended in each way."""
        return {
            status: sum(_status(run) == status for run in self.runs)
            for status in ("done", "failed", "waiting", "waiting_for_money", "needs_information", "cancelled")
        }

    @property
    def left(self) -> int:
        """Tasks that were not begun, or interrupted, or are another process's."""
        return self.tasks - sum(self.statuses.values())

    @property
    def cost(self) -> Money:
        """Of the tasks' runs, from their first call on."""
        return sum(run.cost for run in self.runs)

    @property
    def status(self) -> int:
        """The exit status: 0 where nothing failed, nothing is left, and there was money for all."""
        ended = self.statuses
        return 1 if ended["failed"] or ended["cancelled"] or ended["waiting_for_money"] or self.left else 0

    def say(self, shown: Callable[[Money], str], *, again: bool, as_json: bool) -> None:
        """The result on stdout; what went wrong, and the way out, on stderr."""
        parts = [f"{n} {name.replace('_', ' ')}" for name, n in self.statuses.items() if n or name == "done"]
        parts += [f"{self.left} left"] if self.left else []
        said = f"{', '.join(parts)} of {self.tasks} tasks; {shown(self.cost)}"
        if str(self.out) == "-":
            note(said)
        else:
            result([f"{said}; results in {self.out}"], self._json, as_json=as_json)
        for line in self._troubles(shown, again=again):
            complain(line)
        if not as_json and self.runs and sys.stderr.isatty():  # a hint for people, not for logs
            note(f"`orchestrion report --batch {shlex.quote(self.batch)}` shows it on one page.")

    def _json(self) -> dict[str, object]:
        return {
            "batch": self.batch,
            "tasks": self.tasks,
            **self.statuses,
            "left": self.left,
            "skipped": self.bad,
            "cost_usd": usd(self.cost),
            "calls_of_unknown_cost": self.unknown_calls,
            "unknown_usd": usd(self.unknown),
            "results": str(self.out),
        }

    def _troubles(self, shown: Callable[[Money], str], *, again: bool) -> list[str]:
        lines = [f"skipped: {one}" for one in self.bad]
        failed = [run for run in self.runs if run.status == "failed"]
        lines += [f"failed: {run.id}: {str(run.error)[:300]}" for run in failed[:NAMED]]
        lines += self.short
        waiting = [run for run in self.runs if run.status == "waiting" and not run.funds]
        lines += [f"waiting: {run.id}: {run.error or f'it {run.waits_for}'}" for run in waiting[:NAMED]]
        if any(run.question for run in waiting):
            lines.append("`orchestrion review inform ID TEXT` gives information; then the same command goes on.")
        if any(run.review and not run.question for run in waiting):
            lines.append("`orchestrion review list` shows what waits for people; then the same command goes on.")
        if any(run.wants and not run.review for run in waiting):  # the rest waits for signals
            lines.append("`orchestrion runs signal ID NAME VALUE` delivers a signal; then the same command goes on.")
        if failed:
            more = f"{len(failed) - NAMED} more failed. " if len(failed) > NAMED else ""
            mended = not again and not all(isinstance(run.error, JournalMismatch) for run in failed)
            go_on = "; --retry-failed goes on with failed runs" if mended else ""
            lines.append(f"{more}`orchestrion runs show ID` shows what was asked{go_on}.")
        if self.unknown_calls:
            lines.append(
                f"calls that broke off, or were in flight when a process died: {self.unknown_calls}. Nobody knows what "
                f"was charged for them, so they are booked in full: {shown(self.unknown)} of the cost."
            )
        if self.left:
            lines.append("The same command goes on where this one stopped.")
        return lines
