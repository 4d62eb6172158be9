"""What to do next: suggestions that follow from the facts, each with the command to type. The most pressing first."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from itertools import islice

from orchestrion.report.facts import Advice, Report, WaitKind
from orchestrion.report.intervals import labels_for
from orchestrion.report.words import counted, percent, short

MOST = 6
ENOUGH = 8
"""A share of fewer calls than this is no reason to advise anything."""

REFUSES_MUCH = 0.25
TAKES_MUCH = 0.6
SELDOM = 0.1
AIM = 0.05
"""Labels are suggested until the interval is about this much to either side."""


def advise(report: Report) -> tuple[Advice, ...]:
    """At most a handful."""
    found = _of_replay(report) if report.kind == "replay" else _of_runs(report)
    return tuple(islice(found, MOST))


def _of_runs(report: Report) -> Iterator[Advice]:
    yield from _waiting(report)
    yield from _broken_off(report)
    yield from _flagged(report)
    yield from _labels(report)
    yield from _refused(report)
    yield from _seldom(report)
    yield from _dear_step(report)
    yield from _unknown(report)


WAITS: dict[WaitKind, tuple[str, str]] = {
    "review": ("answer the reviews", "people's decisions are what these tasks wait for"),
    "information": ("answer the open questions", "a person asked for information that only the task's owner has"),
    "money": (
        "raise the limit that tasks wait at",
        "there is no money for them on their account; then the same run command",
    ),
    "signal": ("give the waiting runs what they wait for", "they go on when their signal has come"),
}


def _waiting(report: Report) -> Iterator[Advice]:
    for kind, (what, why) in WAITS.items():
        of_kind = [one for one in report.waiting if one.kind == kind]
        if of_kind:
            yield _advice(
                f"{what} ({len(of_kind):,})",
                f"{why}. The one that waits longest",
                min(of_kind, key=lambda one: one.since).command,
            )


def _broken_off(report: Report) -> Iterator[Advice]:
    broke = [case for case in report.cases if case.ended == "broke"]
    if broke:
        yield _advice(
            f"let {counted(len(broke), 'task', 'tasks')} that broke off go on",
            "no worker answered, or the workflow's code raised; what was answered is kept. The same `orchestrion run` command "
            "with --retry-failed goes on with all of them, this with the first",
            f"orchestrion runs resume {shlex.quote(broke[0].run)}",
        )
    if report.ended.unfinished:
        yield _advice(
            f"let {counted(report.ended.unfinished, 'unfinished task', 'unfinished tasks')} go on",
            "the same `orchestrion run` command goes on where it stopped; these are they",
            f"orchestrion runs list --status running{_batch(report)}",
        )
    broken = [one for one in report.refusals if one.broken]
    if broken:
        worst = max(broken, key=lambda one: one.broken)
        yield _advice(
            f"mend the check {worst.check} of step {worst.step}",
            f"it raised {counted(worst.broken, 'time', 'times')} instead of answering, and a check that raises lets nothing pass",
            f"orchestrion runs show {shlex.quote(worst.example)}"
            if worst.example
            else f"orchestrion runs list --status failed{_batch(report)}",
        )


def _flagged(report: Report) -> Iterator[Advice]:
    flagged = [case for case in report.cases if case.ended in ("flagged", "personal")]
    if flagged:
        yield _advice(
            f"look at {counted(len(flagged), 'flagged task', 'flagged tasks')}",
            "no answer of theirs was good enough. This shows everything that was tried for the first one",
            f"orchestrion runs show {shlex.quote(flagged[0].run)}",
        )


def _labels(report: Report) -> Iterator[Advice]:
    known, accepted = report.quality.right, report.quality.accepted
    if report.kind == "run" or not accepted:
        return
    wanted = min(labels_for(AIM, mean=known.mean if known else 0.9), accepted)
    missing = wanted - (known.n if known else 0)
    if missing > 0:
        yield _advice(
            f"label {counted(missing, 'more answer' if known else 'answer', 'more answers' if known else 'answers')}, picked at random",
            f"then it is known how many are right, to about {AIM * 100:.0f} points to either side"
            if wanted < accepted
            else "then it is known how many are right, for all of them",
            f"orchestrion outcomes label --out labels.csv --sample {wanted}{_batch(report)}",
        )


def _refused(report: Report) -> Iterator[Advice]:
    much = [
        one
        for one in report.refusals
        if one.looked >= ENOUGH and one.refused >= REFUSES_MUCH * one.looked and one.example
    ]
    for one in sorted(much, key=lambda one: -one.refused)[:2]:
        yield _advice(
            f"read some answers that {one.check} refused",
            f"it refuses {percent(one.refused / one.looked)} of what {one.worker} answers at step {one.step}: either "
            "the instructions leave its rule out, or another worker should begin",
            f"orchestrion runs show {shlex.quote(one.example or '')}",
        )


def _seldom(report: Report) -> Iterator[Advice]:
    people = {one.worker for one in report.people}  # who rejects an answer was of use
    for cell in report.cells:
        figures = cell.figures
        if (
            cell.worker not in people
            and not cell.judging
            and figures.calls >= ENOUGH
            and figures.cost
            and figures.accepted < SELDOM * figures.calls
        ):
            yield _advice(
                f"leave {cell.worker} out of step {cell.step}",
                f"of {figures.calls:,} calls {figures.accepted:,} were of use. See what a policy without it does on the recorded answers, at no cost",
                _try(report, cell.step),
            )


def _dear_step(report: Report) -> Iterator[Advice]:
    if len(report.steps) < 2 or not report.figures.cost:
        return
    dearest = max(report.steps, key=lambda step: report.sum(step=step).cost)
    part = report.sum(step=dearest).cost / report.figures.cost
    if part >= TAKES_MUCH:
        yield _advice(
            f"try a cheaper policy for step {dearest}",
            f"it takes {percent(part)} of the cost. A replay tries a policy on the recorded answers, at no cost",
            _try(report, dearest),
        )


def _unknown(report: Report) -> Iterator[Advice]:
    figures = report.figures
    if figures.unknown * 20 >= figures.cost > 0 and figures.unknown:
        yield _advice(
            "compare the bill with the books",
            f"{report.money(figures.unknown)} is booked in full for calls that broke off; your provider may have charged less. These runs name them",
            f"orchestrion runs list --limit {max(20, report.tasks)}{_batch(report)}",
        )


def _of_replay(report: Report) -> Iterator[Advice]:
    policy = report.ways[0]
    name = shlex.quote(policy.name)
    if policy.unrecorded:
        yield _advice(
            f"record what is missing for {counted(policy.unrecorded, 'task', 'tasks')}",
            "the policy asks for answers that nobody recorded, so these tasks are left out. Run it live on some tasks, then export",
            f"orchestrion run FILE:WORKFLOW TASKS.jsonl --policy {name}",
        )
    if policy.quality is None:
        yield _advice(
            "use records with scores",
            "without labels a replay knows the cost, and not how well",
            "orchestrion outcomes export outcomes.jsonl",
        )
    others = [
        way
        for way in report.ways[1:]
        if way.same_tasks
        and way.quality
        and policy.quality
        and way.quality.mean >= policy.quality.mean
        and way.cost < policy.cost
    ]
    if others:
        best = min(others, key=lambda way: way.cost)
        yield _advice(
            f"do not use {short(policy.name)} here",
            f"{short(best.name)} is at least as good on these tasks, and cheaper",
            "orchestrion report RECORDS --policy OTHER.json",
        )
    else:
        yield _advice(
            f"try {short(policy.name)} live, on a few tasks first",
            "a replay tells what would have been; live tasks may differ from the recorded ones",
            f"orchestrion run FILE:WORKFLOW TASKS.jsonl --policy {name}",
        )
    if policy.stopped:
        yield _advice(
            f"give the {counted(policy.stopped, 'task', 'tasks')} without an answer a last resort",
            "the policy stops there; a last stage (a stronger worker, a person) would answer",
            f"orchestrion replay RECORDS --policy {name} --out attempts.jsonl",
        )


def _try(report: Report, step: str) -> str:
    exported = f"orchestrion outcomes export outcomes.jsonl{_batch(report)}"
    return f"{exported} && orchestrion replay outcomes.jsonl --step {shlex.quote(step)} --policy POLICY.json"


def _batch(report: Report) -> str:
    return f" --batch {shlex.quote(report.title)}" if report.kind == "batch" else ""


def _advice(what: str, why: str, command: str) -> Advice:
    return Advice(what=what[0].upper() + what[1:], why=why, command=command)
