"""orchestrion certify POLICY.json [RECORDS…]"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from orchestrion.cli.complete import models, policies
from orchestrion.cli.evidence import below_one, columns, evidence, record_options, refuse_places, share, tuner
from orchestrion.cli.load import config_option
from orchestrion.cli.output import complain, examples, note, output_options, result
from orchestrion.cli.tune import write_saved
from orchestrion.domain import Outcome
from orchestrion.engine.execution import SavedPolicy
from orchestrion.engine.saved import find_policy
from orchestrion.policy.certificate import Certificate, Target, task_digest

if TYPE_CHECKING:
    from orchestrion.tuning.facts import Promise


@click.command(
    "certify",
    short_help="Test an existing policy on fresh records: does it keep its promise?",
    epilog=examples(
        "orchestrion certify policies/tuned.json fresh.jsonl",
        "orchestrion certify careful fresh.jsonl --target 0.9 --out careful.json",
    ),
)
@click.argument("policy", metavar="POLICY.json", shell_complete=policies)
@click.option(
    "--target",
    type=float,
    callback=share,
    help="The share of the frontier's mean quality to be kept (default: what its certificate promises, else 0.95).",
)
@click.option(
    "--confidence",
    type=float,
    callback=below_one,
    help="How sure the promise is to be (default: as its certificate is, else 0.9).",
)
@click.option(
    "--share",
    "share_",
    type=float,
    callback=below_one,
    metavar="SHARE",
    help="Promise it of single tasks: on this share of them the answer is worth --target of the frontier's.",
)
@click.option(
    "--frontier",
    metavar="WORKER",
    shell_complete=models,
    help="Whose quality is the yardstick (default: its certificate's, else the best).",
)
@click.option(
    "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Where the test draws by chance."
)
@click.option(
    "--out", type=click.Path(path_type=Path), metavar="POLICY.json", help="Write the policy with its new certificate."
)
@record_options
@output_options
@config_option
def command(
    policy: str,
    records: tuple[Path, ...],
    *,
    target: float | None,
    confidence: float | None,
    share_: float | None,
    frontier: str | None,
    seed: int,
    out: Path | None,
    group_by: str | None,
    step: str | None,
    workload: str | None,
    batch: str | None,
    as_json: bool,
    config: str | None,
) -> None:
    """Whether an existing policy keeps a promised share of the frontier's quality, tested on fresh records.

    POLICY.json is a file, or a name from the settings. RECORDS are outcome files (default: what this project has recorded).
    All of their tasks test it; those that it was chosen or certified on are left out. Nothing is searched: the policy stays as it is.
    """
    refuse_places(out=out)

    async def go() -> None:
        async with evidence(records, batch, config) as found:
            saved = find_policy(policy, found.settings)
            before = saved.certificate
            wanted = _target(before, target, confidence, share_)
            with tuner():
                from orchestrion.tuning.certify import certify
            seen = _Seen(found.outcomes, before, step, workload)
            yardstick = frontier or (before.frontier if before else None)
            promise = certify(
                saved,
                seen,
                wanted,
                frontier=yardstick,
                prices=found.prices,
                models=found.models,
                group_by=group_by,
                step=step,
                workload=workload,
                seed=seed,
            )
            from orchestrion.cli.promise_text import certified_json, certified_lines

            shown = found.shown(promise.certificate.workers if promise.certificate else seen.workers)
            result(
                certified_lines(promise, saved.name, yardstick, left_out=seen.used, wide=columns(), shown=shown),
                lambda: certified_json(promise, yardstick, left_out=seen.used),
                as_json=as_json,
            )
            if out:
                _write(out, saved, promise)

    asyncio.run(go())


def _target(before: Certificate | None, target: float | None, confidence: float | None, share: float | None) -> Target:
    """What is promised: as the policy's certificate says, where the options do not. ``target`` alone is about the mean."""
    old = before.target if before else Target()
    share = old.share if share is None and target is None else share
    return Target(
        kind="mean" if share is None else "share",
        quality=old.quality if target is None else target,
        share=share,
        confidence=old.confidence if confidence is None else confidence,
    )


class _Seen:
    """Outcomes as they are read, with the tasks of one step and workload among them that a certificate was made on. They can be
    read again."""

    def __init__(
        self,
        outcomes: Callable[[], Iterable[Outcome]],
        before: Certificate | None,
        step: str | None,
        workload: str | None,
    ) -> None:
        self._outcomes = outcomes
        self._step, self._workload = step, workload
        self._fitted = frozenset(before.fitted if before else ())
        self.workers: set[str] = set()
        self._told: dict[str, bool] = {}

    def __iter__(self) -> Iterator[Outcome]:
        for outcome in self._outcomes():
            self.workers.add(outcome.worker)
            here = self._step in (None, outcome.step) and self._workload in (None, outcome.workload)
            if here and outcome.task_id not in self._told:
                self._told[outcome.task_id] = task_digest(outcome.task_id) in self._fitted
            yield outcome

    @property
    def used(self) -> int:
        """So many tasks were there already when the policy was made."""
        return sum(self._told.values())


def _write(out: Path, saved: SavedPolicy, promise: Promise) -> None:
    """The policy as it was, with its new certificate. Raises UsageError."""
    if promise.certificate is None:
        complain(f"{out} was not written: nothing was certified.")
        return
    write_saved(
        out, SavedPolicy(saved.policy, saved.checks, saved.name, certificate=promise.certificate), promise.words
    )
    note(f"{out}: the policy with its new certificate.")
