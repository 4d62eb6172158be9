"""orchestrion demo"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from orchestrion.cli.complete import models
from orchestrion.cli.output import examples, output_options, quiet, result

if TYPE_CHECKING:
    from orchestrion.demo.run import Plan
    from orchestrion.demo.show import Board

# What this command needs is imported when it runs: --help does not wait for it.


@click.command(
    "demo",
    epilog=examples("orchestrion demo", "orchestrion demo --n 24 --keep demo-run", "orchestrion demo --n 24 --live"),
)
@click.option("--n", type=click.IntRange(4, 999), metavar="N", default=120, show_default=True, help="Households.")
@click.option(
    "--seed",
    type=int,
    metavar="N",
    default=2024,
    show_default=True,
    help="Draws the households and the models' errors.",
)
@click.option(
    "--keep",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Keep the database in this new folder.",
)
@click.option("--live", is_flag=True, help="The models of your settings, for real money: says the bound, then asks.")
@click.option(
    "--cheap",
    default="cheap",
    show_default=True,
    metavar="NAME",
    shell_complete=models,
    help="With --live: the cheap model's name in the settings.",
)
@click.option(
    "--frontier",
    default="frontier",
    show_default=True,
    metavar="NAME",
    shell_complete=models,
    help="With --live: the frontier model's.",
)
@click.option(
    "--config", metavar="PATH", help="With --live: the settings (default: ORCHESTRION_CONFIG, else orchestrion.yaml)."
)
@click.option("--yes", "-y", is_flag=True, help="With --live: do not ask.")
@output_options
@click.option(
    "--pace", type=click.FloatRange(0.0, 10.0), default=1.0, hidden=True, help="Stretches the simulated latency."
)
def command(
    n: int,
    seed: int,
    keep: Path | None,
    live: bool,
    cheap: str,
    frontier: str,
    config: str | None,
    yes: bool,
    as_json: bool,
    pace: float,  # click's
) -> int:
    """The main job, offline, in a minute: tax returns by simulated models.

    A worker process prepares the returns over a database on disk, is killed halfway and goes on. Every call is paid from an
    account with a limit; one runs dry and is topped up. Then come the figures, beside one model alone. US federal income tax, tax
    year 2024, Rev. Proc. 2023-34; not tax advice.
    """
    import signal
    import sys

    from orchestrion.demo.run import Plan
    from orchestrion.demo.show import Board

    plan = Plan(n=n, seed=seed, pace=pace)
    out = sys.stderr if as_json else sys.stdout
    if live:
        return _live(plan, keep=keep, cheap=cheap, frontier=frontier, config=config, yes=yes, as_json=as_json)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that a `kill` clears up like Ctrl-C
    told = Board(out, simulated=True)
    board = _hushed(told) if quiet() else told
    try:
        return _rehearsal(board, told, plan, keep, as_json=as_json)
    except KeyboardInterrupt:
        board.close()
        kept = f"the database stays in {keep}" if keep else "its database is removed"
        click.echo(f"stopped: the worker process is ended, {kept}.", err=True)
        return 1
    finally:
        board.close()


def _hushed(board: Board) -> Board:
    """A board that nobody sees."""
    import io

    from orchestrion.demo.show import Board

    return Board(io.StringIO(), simulated=board.simulated)


def _rehearsal(board: Board, told: Board, plan: Plan, keep: Path | None, *, as_json: bool) -> int:
    """The figures go to ``told``, and to ``board`` where they are in the JSON anyway."""
    from orchestrion.demo.run import rehearse

    with contextlib.ExitStack() as stack:
        folder = _kept(keep, plan.n) if keep else stack.enter_context(_scratch())
        board.intro(plan)
        report = rehearse(folder, plan, board)
    (board if as_json else told).final(report)
    if as_json:
        result([], lambda: report.plain(simulated=True, kept=keep), as_json=True)
    else:
        board.next_steps(report, kept=keep)
    return 0


@contextlib.contextmanager
def _scratch() -> Iterator[Path]:
    """A folder that vanishes. Raises UsageError where there is no room for one."""
    import tempfile

    from orchestrion.errors import UsageError

    try:
        scratch = tempfile.TemporaryDirectory(prefix="orchestrion-demo-", ignore_cleanup_errors=True)
    except OSError as error:
        raise UsageError(
            f"there is no place for the demo's database: {error.strerror or error}. Name one: --keep DIR."
        ) from None
    with scratch as name:
        yield Path(name)


def _kept(folder: Path, n: int) -> Path:
    """A new folder, or an empty one, with settings by which `orchestrion runs` finds the database. Raises UsageError."""
    from orchestrion.demo.money import limits
    from orchestrion.demo.rates import PRICES
    from orchestrion.demo.run import DATABASE
    from orchestrion.errors import UsageError

    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise UsageError(
                f"--keep {folder}: this folder is not empty, and the demo overwrites nothing. Name a new one."
            )
        lines = [
            "# The database of `orchestrion demo`. Its models were simulated, and so are its dollars.",
            f"database: sqlite:///{DATABASE}",
            "models:",
        ]
        for name, (read, written) in PRICES.items():
            lines.append(f"  {name}: {{model: simulated, price: {{input: {read}, output: {written}}}}}")
        lines.append("budgets:  # as they were at first: `orchestrion budget history` says what was moved since")
        lines += [f"  {name}: {{limit: {budget.limit}}}" for name, budget in limits(n).items()]
        text = "\n".join(lines) + "\n"
        (folder / "orchestrion.yaml").write_text(text)
    except OSError as error:
        raise UsageError(f"--keep {folder}: {error.strerror or error}. Name another folder.") from None
    return folder.absolute()


def _live(
    plan: Plan, *, keep: Path | None, cheap: str, frontier: str, config: str | None, yes: bool, as_json: bool
) -> int:
    import asyncio
    import sys

    from orchestrion.app import Orchestrion
    from orchestrion.demo.live import Live
    from orchestrion.demo.show import Board
    from orchestrion.errors import UsageError

    if keep:
        raise UsageError("--keep is for the simulated demo: what --live asks is kept in the database of your settings.")
    board: Board | None = None

    async def perform() -> int:
        nonlocal board
        async with Orchestrion.open(config) as o:
            live = Live(o, plan, cheap=cheap, frontier=frontier)
            told = Board(sys.stderr if as_json else sys.stdout, simulated=live.simulated)
            board = _hushed(told) if quiet() and yes else told
            board.intro(plan, live=True)
            board.say(f"cheap: {cheap}; frontier: {frontier}. Every answer is kept in {o.database.path}.")
            board.say(f"At most {board.money(live.bound())}.", "bold")
            board.say("That is every call that may be made, at its longest. Usual bills are far below.")
            if not yes and not click.confirm("Go on?", err=as_json):
                board.say("Nothing was asked, nothing was spent.")
                return 1
            report = await live.perform(board)
            (board if as_json else told).final(report)
            if report.orchestrion.ended < plan.n:
                short = report.orchestrion.waiting
                why = f"{short} wait for money (`orchestrion budget show`)" if short else "Stopped"
                board.say(f"{why}: what was answered is kept; the same command goes on from there.")
            if as_json:
                result([], lambda: report.plain(simulated=live.simulated, kept=None), as_json=True)
            return 0 if report.orchestrion.ended == plan.n and not report.orchestrion.failed else 1

    try:
        return asyncio.run(perform())
    finally:
        if board:
            board.close()
