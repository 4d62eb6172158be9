"""The rehearsal: a worker process over a database on disk, killed halfway, started again, and once more when an account
that ran dry was topped up; beside it the comparison.

python -m orchestrion.demo.run work    …   performs the batch; goes on where an earlier process left it
python -m orchestrion.demo.run alone   …   all-cheap and all-frontier by the same engine; figures as JSON
python -m orchestrion.demo.run means   …   all three over other draws of the models' errors; figures as JSON
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from orchestrion.app import Orchestrion
from orchestrion.demo.cases import Case, grade
from orchestrion.demo.figures import Books, Figures, Story, figures
from orchestrion.demo.households import households
from orchestrion.demo.money import WALK_INS, Account, TopUp, limits, payers, statement, top_up
from orchestrion.demo.simulate import simulated_models
from orchestrion.demo.workflow import alone, one_model, tax_return
from orchestrion.domain import Money, usd
from orchestrion.engine.batch import run_batch
from orchestrion.engine.execution import House, SavedPolicy
from orchestrion.engine.workflow import Runner, Start, Workflow
from orchestrion.errors import OrchestrionError
from orchestrion.journal.embedded import statements
from orchestrion.journal.memory import MemoryJournal
from orchestrion.ledger.memory import MemoryLedger
from orchestrion.policy.protocol import Policy
from orchestrion.settings import Settings
from orchestrion.store.database import Database
from orchestrion.telemetry import Tracing

DATABASE = "orchestrion.db"
BATCH = "demo"
CONCURRENCY = 6
POLL_S = 0.05
PAUSE_S = 1.0
"""So that a person can see the process die, and the account run dry."""
MEAN_OF = 20
LONGEST_WAIT_S = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is rehearsed. ``seed`` draws households and errors; ``pace`` stretches the models' latency."""

    n: int
    seed: int
    pace: float = 1.0

    def cases(self) -> dict[str, Case]:
        return {case.id: case for case in households(self.n, self.seed)}

    @property
    def arguments(self) -> list[str]:
        return ["--n", str(self.n), "--seed", str(self.seed), "--pace", str(self.pace)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Kill:
    """What the database knew when the worker process was dead. ``remembered``: answers of unfinished households."""

    pid: int
    done: int
    unfinished: int
    remembered: int
    in_flight: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Dry:
    """An account without money for its runs, when all others had ended, and what it was given then.

    ``reason`` is that of the first run that waits; ``remembered``: answers of the waiting runs; ``constrained``: answers that
    were accepted because a dearer one could not be paid.
    """

    account: str
    reason: str
    waiting: int
    constrained: int
    remembered: int
    spent: Money
    top_up: TopUp

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        told = {name: getattr(self, name) for name in ("account", "reason", "waiting", "constrained", "remembered")}
        more = self.top_up
        amounts = {"spent": self.spent, "moved": more.amount, "limit_before": more.before, "limit_after": more.after}
        return {**told, "command": more.command, **{f"{name}_usd": usd(amount) for name, amount in amounts.items()}}


@dataclass(frozen=True, slots=True, kw_only=True)
class Mean:
    """Figures of one way of working, averaged over draws of the models' errors."""

    right: float
    wrong: float
    flagged: float
    cost: Money


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What the demo ends with. ``kill`` is None where the work was over before the worker could be killed, ``dry`` where no
    run had to wait for money; ``accounts``, the firm first, are empty where the demo keeps none of its own.
    """

    plan: Plan
    orchestrion: Figures
    kill: Kill | None = None
    dry: Dry | None = None
    accounts: tuple[Account, ...] = ()
    cheap: Figures | None = None
    frontier: Figures | None = None
    means: Mapping[str, Mean] = dataclasses.field(default_factory=dict)
    mean_of: int = 0
    show: str | None = None

    def plain(self, *, simulated: bool, kept: Path | None) -> dict[str, Any]:
        """For JSON."""
        return {
            "households": self.plan.n,
            "seed": self.plan.seed,
            "simulated": simulated,
            "orchestrion": _plain(self.orchestrion),
            "all_cheap": _plain(self.cheap) if self.cheap else None,
            "all_frontier": _plain(self.frontier) if self.frontier else None,
            "kill": dataclasses.asdict(self.kill) if self.kill else None,
            "dry": self.dry.plain() if self.dry else None,
            "accounts": [account.plain() for account in self.accounts],
            "means": {"of": self.mean_of, **{name: _plain(mean) for name, mean in self.means.items()}}
            if self.means
            else None,
            "show": self.show,
            "database": str(kept / DATABASE) if kept else None,
        }


class Screen(Protocol):
    """Who tells the person."""

    def progress(self, now: Figures, *, total: int, pid: int | None) -> None: ...

    def killed(self, kill: Kill) -> None: ...

    def resumed(self, now: Figures, kill: Kill, *, pid: int) -> None: ...

    def ran_dry(self, reason: str) -> None: ...

    def topped_up(self, dry: Dry) -> None: ...

    def waiting(self) -> None: ...


def rehearse(folder: Path, plan: Plan, screen: Screen) -> Report:
    """Perform the plan over a database in ``folder``. Raises OrchestrionError where a process of it fails."""
    cases = plan.cases()
    with contextlib.ExitStack() as stack:
        others = [stack.enter_context(_process(folder, mode, plan)) for mode in ("alone", "means")]
        database = Database(folder / DATABASE, statements=statements())  # to look: the worker clears up after the other
        stack.callback(lambda: asyncio.run(database.close()))
        watch = Watch(Books(database, BATCH), cases, screen)
        kill = _until_killed(folder, plan, watch)
        if kill:
            screen.killed(kill)
            time.sleep(PAUSE_S * min(1.0, plan.pace))
            _go_on(folder, plan, watch, kill)
        dry = _top_up(database, watch)
        if dry:
            screen.topped_up(dry)
            time.sleep(PAUSE_S * min(1.0, plan.pace))
            _go_on(folder, plan, watch)
        last = watch.look(pid=None)
        with database.reading() as session:
            accounts = tuple(statement(session))
        if any(process.poll() is None for process in others):
            screen.waiting()
        compared, means = (
            _answer(process, folder, mode) for process, mode in zip(others, ("alone", "means"), strict=True)
        )
        return Report(
            plan=plan,
            orchestrion=last,
            kill=kill,
            dry=dry,
            accounts=accounts,
            cheap=Figures(**compared["cheap"]),
            frontier=Figures(**compared["frontier"]),
            means={name: Mean(**mean) for name, mean in means["means"].items()},
            mean_of=means["of"],
            show=most_telling(watch.books.stories()),
        )


class Watch:
    """Looks at the database while worker processes are at work, and tells the screen."""

    def __init__(self, books: Books, cases: Mapping[str, Case], screen: Screen) -> None:
        self.books = books
        self.screen = screen
        self._cases = cases
        self._started = time.monotonic()
        self._dry = False

    def look(self, *, pid: int | None) -> Figures:
        """How far it is; the first run that waits for money is told of, once."""
        stories = self.books.stories()
        seen = figures(stories, self._cases, seconds=time.monotonic() - self._started)
        self.screen.progress(seen, total=len(self._cases), pid=pid)
        if seen.waiting and not self._dry:
            self._dry = True
            self.screen.ran_dry(_reason(stories))
        return seen


def _reason(stories: list[Story]) -> str:
    return next((story.error for story in stories if story.waiting and story.error), "")


def _until_killed(folder: Path, plan: Plan, watch: Watch) -> Kill | None:
    """Start the first worker process, and kill it when half is done; None where it ended before."""
    with _process(folder, "work", plan) as worker:
        while worker.poll() is None:
            seen = watch.look(pid=worker.pid)
            if seen.ended * 2 >= plan.n and seen.ended < plan.n and seen.in_flight:
                kill = _kill(worker, watch.books)
                if kill:
                    return kill
            time.sleep(POLL_S)
        _must_be_well(worker, folder, "work")
    return None


def _go_on(folder: Path, plan: Plan, watch: Watch, kill: Kill | None = None) -> None:
    """Start another worker process on the same database, and see it through. ``kill``: what it is told to remember of."""
    with _process(folder, "work", plan) as worker:
        while worker.poll() is None:
            seen = watch.look(pid=worker.pid)
            # The calls that were lost are booked when the new process opens the database.
            if kill and seen.lost:
                watch.screen.resumed(seen, kill, pid=worker.pid)
                kill = None
            time.sleep(POLL_S)
        _must_be_well(worker, folder, "work")
        if kill:
            watch.screen.resumed(watch.look(pid=None), kill, pid=worker.pid)


def _top_up(database: Database, watch: Watch) -> Dry | None:
    """Give an account that ran dry what its waiting runs need; None where no run waits."""
    stories = watch.books.stories()
    waiting = [story for story in stories if story.waiting]
    if not waiting:
        return None
    with database.transaction() as session:
        spent = next(one.flow.spent for one in statement(session) if one.name == WALK_INS)
        more = top_up(session, len(waiting))
    return Dry(
        account=WALK_INS,
        reason=_reason(stories),
        waiting=len(waiting),
        constrained=sum(story.constrained for story in stories),
        remembered=sum(len(story.answered) for story in waiting),
        spent=spent,
        top_up=more,
    )


def _kill(worker: subprocess.Popen[bytes], books: Books) -> Kill | None:
    """Kill the worker in the middle of a call; None where none is in flight any more, and it goes on.

    It is stopped first, so that what is looked at is what it leaves: on a busy machine many calls end between a look and a kill.
    """
    worker.send_signal(signal.SIGSTOP)
    if worker.returncode is not None:
        return None  # it had ended before
    _, status = os.waitpid(worker.pid, os.WUNTRACED)
    if not os.WIFSTOPPED(status):
        worker.returncode = os.waitstatus_to_exitcode(status)  # it ended at this moment
        return None
    seen = _killed(worker.pid, books.stories())
    if not seen.in_flight:
        worker.send_signal(signal.SIGCONT)
        return None
    worker.kill()
    worker.wait()
    return seen


def _killed(pid: int, stories: list[Story]) -> Kill:
    unfinished = [story for story in stories if not story.ended]
    return Kill(
        pid=pid,
        done=len(stories) - len(unfinished),
        unfinished=len(unfinished),
        remembered=sum(len(story.answered) for story in unfinished),
        in_flight=sum(len(story.in_flight) for story in unfinished),
    )


def most_telling(stories: list[Story]) -> str | None:
    """The household with the most to look at: calls lost at the kill first, then steps, then calls."""
    ranked = sorted(
        stories, key=lambda story: (bool(story.lost), len({one.step for one in story.calls}), len(story.calls))
    )
    return ranked[-1].id if ranked else None


def _plain(facts: Figures | Mean) -> dict[str, Any]:
    """Money in dollars."""
    given = dataclasses.asdict(facts)
    return {
        (f"{name}_usd" if "cost" in name else name): (usd(value) if "cost" in name else value)
        for name, value in given.items()
    }


# Processes


@contextlib.contextmanager
def _process(folder: Path, mode: str, plan: Plan) -> Iterator[subprocess.Popen[bytes]]:
    """This module in a process of its own, which is dead when the block is left, however it is left.

    In a session of its own: Ctrl-C in the terminal is for the parent, who then ends it.
    """
    command = [
        sys.executable,
        "-m",
        "orchestrion.demo.run",
        mode,
        "--folder",
        str(folder),
        "--parent",
        str(os.getpid()),
        *plan.arguments,
    ]
    said = folder / f"{mode}.log"
    with said.open("ab") as log:
        out = subprocess.PIPE if mode != "work" else subprocess.DEVNULL
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=log, start_new_session=True)  # noqa: S603  # this module, by our own Python
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        if process.stdout:
            process.stdout.close()
        if not said.stat().st_size:
            said.unlink()


def _answer(process: subprocess.Popen[bytes], folder: Path, mode: str) -> Any:
    """The one JSON object that a process prints."""
    out, _ = process.communicate(timeout=LONGEST_WAIT_S)
    _must_be_well(process, folder, mode)
    return json.loads(out)


def _must_be_well(process: subprocess.Popen[bytes], folder: Path, mode: str) -> None:
    if process.wait():
        said = (folder / f"{mode}.log").read_text(errors="replace").split("\n")
        said = [line for line in said if line.strip()]
        raise OrchestrionError(
            f"the demo's {mode} process ended with status {process.returncode}: {said[-1] if said else 'it said nothing'}"
        )


# What the processes do


def starts(
    cases: Mapping[str, Case],
    *,
    policies: Mapping[str, Policy] | None = None,
    name: str = "",
    batch: str = BATCH,
    accounts: Mapping[str, str] | None = None,
) -> list[Start]:
    """A run for each household; ``cases`` and the ``accounts`` that pay by run id."""
    saved = {step: SavedPolicy(policy, name=name) for step, policy in (policies or {}).items()}
    return [
        Start(
            id=run,
            task_id=case.id,
            input=case.household,
            account=accounts.get(run) if accounts else None,
            batch=batch,
            policies=saved,
        )
        for run, case in cases.items()
    ]


async def work(plan: Plan, folder: Path) -> None:
    """Perform the batch with the machinery, on the firm's accounts; what an earlier process left goes on."""
    cases = plan.cases()
    settings = Settings(database=f"sqlite:///{folder / DATABASE}", budgets=limits(plan.n))
    models = simulated_models(cases.values(), seed=plan.seed, pace=plan.pace)
    async with Orchestrion.open(settings, workers=models) as o:
        async for _ in o.run_all(tax_return, starts(cases, accounts=payers(cases)), concurrency=CONCURRENCY):
            pass


async def compare(plan: Plan) -> dict[str, Any]:
    """One model alone, for each model: the same engine, latency and concurrency; no checks, no audit."""
    cases = plan.cases()

    async def one(name: str) -> Figures:
        models = simulated_models(cases.values(), seed=plan.seed, pace=plan.pace)
        async with Orchestrion.open(Settings(database=":memory:"), workers=models) as o:
            started = time.monotonic()
            async for _ in o.run_all(
                one_model, starts(cases, policies=alone(name), name=name), concurrency=CONCURRENCY
            ):
                pass
            return figures(Books(o.database, BATCH).stories(), cases, seconds=time.monotonic() - started)

    cheap, frontier = await asyncio.gather(one("cheap"), one("frontier"))
    return {"cheap": dataclasses.asdict(cheap), "frontier": dataclasses.asdict(frontier)}


async def means(plan: Plan) -> dict[str, Any]:
    """All three ways over other draws of the errors, in memory and at once."""
    cases = plan.cases()
    of = max(3, min(MEAN_OF, 2_400 // plan.n))
    ways: dict[str, tuple[Workflow[Any], Mapping[str, Policy]]] = {
        "orchestrion": (tax_return, {}),
        "cheap": (one_model, alone("cheap")),
        "frontier": (one_model, alone("frontier")),
    }
    found = {}
    for name, (flow, policies) in ways.items():
        count: Counter[str] = Counter()
        for seed in range(1, of + 1):
            models = {model.name: model for model in simulated_models(cases.values(), seed=seed)}
            runner = Runner(MemoryJournal(), House(models, MemoryLedger(), Tracing()))
            async for run in run_batch(
                runner, flow, starts(cases, policies=policies, name=name), concurrency=CONCURRENCY
            ):
                count[grade(cases[run.id], run.result)] += 1
                count["cost"] += run.cost
        found[name] = {
            **{kind: count[kind] / of for kind in ("right", "wrong", "flagged")},
            "cost": count["cost"] // of,
        }
    return {"of": of, "means": found}


async def _until_parent_ends(parent: int) -> None:
    """Nobody waits for a worker whose demo is gone."""
    while os.getppid() == parent:  # noqa: ASYNC110  # nobody tells a process that its parent died
        await asyncio.sleep(0.5)
    os._exit(1)


async def _main(mode: str, plan: Plan, *, folder: Path, parent: int) -> None:
    watch = asyncio.create_task(_until_parent_ends(parent))
    match mode:
        case "work":
            await work(plan, folder)
        case "alone":
            sys.stdout.write(json.dumps(await compare(plan)))
        case _:
            sys.stdout.write(json.dumps(await means(plan)))
    watch.cancel()


def main() -> None:
    """The entry of the demo's processes."""
    parser = argparse.ArgumentParser(prog="python -m orchestrion.demo.run")
    parser.add_argument("mode", choices=("work", "alone", "means"))
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--parent", type=int, required=True)
    parser.add_argument("--n", type=int, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--pace", type=float, required=True)
    given = parser.parse_args()
    plan = Plan(n=given.n, seed=given.seed, pace=given.pace)
    tempfile.tempdir = str(given.folder)  # databases in memory spill into a folder: one that goes when the demo's goes
    try:
        asyncio.run(_main(given.mode, plan, folder=given.folder, parent=given.parent))
    except OrchestrionError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
