"""The demo on the screen: what is said, the board while it runs, the tables at the end.

A terminal gets a board that moves; a pipe gets a plain line now and then. Every line with dollars says whose they are.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from orchestrion.demo.figures import Figures
from orchestrion.demo.money import Account, Flow
from orchestrion.demo.rates import PRICES
from orchestrion.demo.run import Dry, Kill, Mean, Plan, Report
from orchestrion.domain import NANOS_PER_DOLLAR, Money, dollars

LINE_EVERY_S = 3.0
WIDEST = 100
NARROW = 58
"""Columns below which a table is told in lines."""

SCOPE = "US federal income tax, tax year 2024, Rev. Proc. 2023-34; not tax advice. Names are made up."
SIMULATED = (
    "The models are SIMULATED: no network, no key, no bill. They answer from the truth, with errors at the rates of a "
    "table (demo/rates.py, assumptions)."
)
COLUMNS = ("Orchestrion", "all cheap", "all frontier")


class Board:
    """A Screen. ``simulated``: the dollars are not real, and every line says so."""

    def __init__(self, file: IO[str], *, simulated: bool) -> None:
        moving = file.isatty()
        # In a pipe a line is as long as it is: whoever reads it wraps it.
        self._console = Console(file=file, highlight=False, soft_wrap=not moving, width=None if moving else WIDEST)
        self._mark = " (simulated)" if simulated else ""
        self.simulated = simulated
        self._live: Live | None = None
        self._moving = moving and not self._console.is_dumb_terminal
        self._said = time.monotonic()

    @property
    def width(self) -> int:
        return min(self._console.width, WIDEST)

    @property
    def _wide(self) -> bool:
        return self.width >= NARROW

    def close(self) -> None:
        """Leave the terminal as it was."""
        if self._live:
            self._live.stop()
            self._live = None

    def say(self, text: str = "", style: str = "") -> None:
        """A paragraph, above the board if there is one."""
        self._console.print(Text(text, style=style), width=self.width if self._console.is_terminal else None)

    def money(self, amount: Money) -> str:
        """An amount, and whose it is."""
        return dollars(amount) + self._mark

    # While it runs

    def intro(self, plan: Plan, *, live: bool = False) -> None:
        """What will be done, by whom, at which prices."""
        self.say(f"Orchestrion prepares {plan.n} tax returns (seed {plan.seed}).", "bold")
        self.say(SCOPE, "dim")
        if live and self.simulated:
            self.say("The models of these settings are SIMULATED, and so are the dollars.", "yellow")
        elif not live:
            self.say(SIMULATED, "yellow")
            for name, (read, write) in PRICES.items():
                per = f"${read:.2f} in, ${write:.2f} out per M tokens" if self._wide else f"${read:.2f}/${write:.2f}"
                self.say(f"  {name:<9}{per} (simulated)", "dim")
            self.say("  Assumed prices: OpenAI's list, gpt-5.4-nano and gpt-5.4.", "dim")
        self.say(
            "extract (cheap, corrected by checks, else frontier) → compute (code, free) → audit the risky ones (frontier)",
            "cyan",
        )
        self.say()

    def progress(self, now: Figures, *, total: int, pid: int | None) -> None:
        """Show how far it is."""
        if self._moving:
            if self._live is None:
                self._live = Live(console=self._console, auto_refresh=False, transient=True)
                self._live.start()
            self._live.update(self._board(now, total, pid), refresh=True)
        elif time.monotonic() - self._said >= LINE_EVERY_S:
            self._said = time.monotonic()
            did = f"{now.refused} refused by checks, {now.escalated + now.reread} to the frontier, {now.audits} audits"
            did += f", {now.waiting} wait for money" if now.waiting else ""
            self.say(f"{now.ended}/{total}: {now.seconds:.0f} s, {self.money(now.cost)}; {did}")

    def _board(self, now: Figures, total: int, pid: int | None) -> Group:
        bar = Table.grid(padding=(0, 1), expand=True)
        bar.add_column(ratio=1)
        bar.add_column(justify="right", no_wrap=True)
        bar.add_row(ProgressBar(total=total, completed=now.ended), f"{now.ended}/{total}")
        who = f"  worker process {pid}" if pid else ""
        head = Text.assemble(
            (f"{now.seconds:5.1f} s  ", "dim"),
            (self.money(now.cost), "bold"),
            (who, "dim"),
            no_wrap=True,
            overflow="ellipsis",
        )
        facts = [
            ("refused by checks", now.refused),
            ("corrected", now.corrected),
            ("to the frontier", now.escalated + now.reread),
            ("audits", now.audits),
            ("client asked", now.clients_asked),
            ("left to a person", now.left_to_a_person),
            ("constrained", now.constrained),
            ("wait for money", now.waiting),
        ]
        grid = Table.grid(padding=(0, 2))
        pairs = 2 if self._wide else 1
        for _ in range(pairs):
            grid.add_column(style="dim", no_wrap=True)
            grid.add_column(justify="right", min_width=4)
        for at in range(0, len(facts), pairs):
            grid.add_row(*(cell for name, number in facts[at : at + pairs] for cell in (name, str(number))))
        return Group(bar, head, grid)

    def killed(self, kill: Kill) -> None:
        """The worker process is dead."""
        self.close()
        self.say(
            f"✗ kill -9 {kill.pid}: the worker process is dead, {kill.done} households done, {kill.unfinished} unfinished.",
            "bold red",
        )

    def resumed(self, now: Figures, kill: Kill, *, pid: int) -> None:
        """Another one has opened the same database."""
        self.say(f"✓ Started again as process {pid}, on the same database. It remembers:", "bold green")
        self.say(f"  {_count(kill.done, 'household')} done: not touched again")
        self.say(f"  {_count(kill.remembered, 'answer')} of the {kill.unfinished} unfinished: not asked again")
        self.say(f"  {_count(now.lost, 'call')} in flight at the kill: booked in full, asked again")
        self.say(f"    at most {self.money(now.lost_cost)}")
        self.say()

    def ran_dry(self, reason: str) -> None:
        """The first run of an account waits for money."""
        self.close()
        self.say("◦ An account runs dry: its runs wind down, then wait. The others go on.", "bold yellow")
        self.say(f"  {reason}{self._mark}", "yellow")

    def topped_up(self, dry: Dry) -> None:
        """The waiting runs have money, and another process takes them up."""
        self.close()
        more = dry.top_up
        self.say("The other accounts' runs are through. The demo tops it up, as a person would:")
        self.say(f"  $ {more.command}", "bold cyan")
        self.say(f"  its limit: {dollars(more.before)} → {self.money(more.after)}")
        self.say(f"✓ What waited goes on: {_count(dry.waiting, 'run')}.", "bold green")
        if dry.remembered:
            self.say(f"  {_count(dry.remembered, 'answer')} they have already: not asked again, not paid again")
        self.say()

    def waiting(self) -> None:
        """The work is done, and the comparison is not."""
        self.close()
        self.say("All households are through; the comparison takes a moment.", "dim")

    # At the end

    def final(self, report: Report) -> None:
        """What the machinery did, beside one model alone, and how lucky this draw was."""
        self.close()
        self._machinery(report)
        self.say()
        if report.accounts:
            self._money(report.accounts)
            if report.dry:
                for line in _ran_dry(report.dry, report.orchestrion):
                    self.say(f"  {line}")
            self.say()
        shown = [one for one in (report.orchestrion, report.cheap, report.frontier) if one]
        if self._wide and len(shown) > 1:
            self._console.print(self._table(shown))
            if report.orchestrion.lost:
                self.say("lost: calls in flight at the kill, counted in the total as if charged in full", "dim")
            if report.dry:
                self.say("time of Orchestrion: with the kill, the top-up and what it takes to start again", "dim")
        else:
            for name, one in zip(COLUMNS, shown, strict=False):
                self.say(f"{name}: {one.right} right, {one.wrong} wrong, {one.flagged} flagged")
                self.say(f"  {self.money(one.cost)}, {self._cents(one)}")
                self.say(f"  {one.tokens:,} tokens, {one.seconds:.1f} s")
        if report.means:
            self.say()
            self.say(
                f"One seed is one draw. Means of {report.mean_of} other draws, without limits (the rest flagged):",
                "bold",
            )
            for name, mean in zip(COLUMNS, report.means.values(), strict=True):
                self.say(self._mean(name, mean))
            self.say("All cheap, all frontier: that model alone, no checks, no audit.", "dim")

    def _machinery(self, report: Report) -> None:
        done, kill = report.orchestrion, report.kill
        self.say("What the machinery did", "bold")
        rows = [
            ("failed checks caught", done.refused, "answers refused, before anybody used them"),
            ("corrected", done.corrected, "by the model itself, told what the check said"),
            ("escalated", done.escalated, "households went to the frontier: checks still failed"),
            (
                "audits",
                done.audits,
                f"of risky returns, {_count(done.objections, 'objection')}; {done.reread} read again",
            ),
            ("needs information", done.clients_asked, "papers missing or contradictory: the client is asked"),
            ("needs a person", done.left_to_a_person, "a preparer looks: checks or the auditor still object"),
        ]
        if kill:
            rows.append(
                (
                    "resumed",
                    kill.unfinished,
                    f"unfinished after the kill; {_count(done.asked_again, 'lost call')} asked again, {done.paid_twice} paid twice",
                )
            )
        if done.failed:
            rows.append(("failed", done.failed, "runs: a model did not answer; see `orchestrion runs list`"))
        grid = Table.grid(padding=(0, 2))
        grid.add_column(no_wrap=True)
        grid.add_column(justify="right", no_wrap=True, style="bold")
        grid.add_column(style="dim")
        for name, number, meaning in rows:
            grid.add_row(f"  {name}", str(number), meaning)
        self._console.print(grid, width=self.width)

    def _money(self, accounts: tuple[Account, ...]) -> None:
        """What became of the money that was set aside, and how each account stands."""
        self.say("The money, added up from its entries", "bold")
        for name, amount, meaning in _became(accounts[0].flow):
            self.say(f"  {name:<11}{_exact(amount):>13}{self._mark}  {meaning if self._wide else ''}".rstrip())
        if self._wide:
            self._console.print(self._tree(accounts))
        else:
            for one in accounts:
                self.say(f"  {one.name}: {dollars(one.flow.spent)} of {self.money(one.limit)}")
        self.say(f"  {_never_over(accounts)}")

    def _tree(self, accounts: tuple[Account, ...]) -> Table:
        table = Table(box=None, padding=(0, 1), pad_edge=False)
        table.add_column(f"  dollars{self._mark}", no_wrap=True, header_style="dim")
        for name in ("limit", "spent", "left", "most at once"):
            table.add_column(name, justify="right", no_wrap=True, header_style="dim")
        for one in accounts:
            amounts = (one.limit, one.flow.spent, one.limit - one.flow.spent - one.flow.open, one.most)
            name = "  " * (1 + one.name.count("/")) + one.name.rpartition("/")[2]
            table.add_row(name, *(f"{amount / NANOS_PER_DOLLAR:.4f}" for amount in amounts))
        return table

    def _table(self, shown: list[Figures]) -> Table:
        table = Table(box=None, padding=(0, 1), pad_edge=False)
        table.add_column("", no_wrap=True)
        for name, style in zip(COLUMNS, ("bold green", "", ""), strict=True):
            table.add_column(name, justify="right", no_wrap=True, style=style, header_style=style or "bold")

        def row(name: str, cell: Callable[[Figures], str]) -> None:
            table.add_row(name, *map(cell, shown))

        row("returns right", lambda one: str(one.right))
        row("returns wrong", lambda one: str(one.wrong))
        row("flagged", lambda one: str(one.flagged))
        row(f"total{self._mark}", lambda one: dollars(one.cost))
        row(f"a return{self._mark}", lambda one: f"{_cents_each(one):.3f} ¢")
        row(f"lost{self._mark}", lambda one: dollars(one.lost_cost) if one.lost else "-")
        row("model calls", lambda one: str(one.calls + one.lost))
        row("tokens", lambda one: f"{one.tokens:,}")
        row("time", lambda one: f"{one.seconds:.1f} s")
        return table

    def _cents(self, one: Figures) -> str:
        return f"{_cents_each(one):.3f} ¢ a return{self._mark}"

    def _mean(self, name: str, mean: Mean) -> str:
        if not self._wide:
            return f"  {name}: {mean.right:.1f} right {mean.wrong:.1f} wrong\n  {self.money(mean.cost)}"
        return f"  {name:<13}{mean.right:5.1f} right {mean.wrong:4.1f} wrong  {self.money(mean.cost)}"

    def next_steps(self, report: Report, *, kept: Path | None) -> None:
        """What to type now."""
        self.say()
        self.say("What to type next", "bold")
        for command, meaning in _commands(report, kept):
            self.say(f"  {command}", "cyan")
            self.say(f"      {meaning}", "dim")


def _exact(amount: Money) -> str:
    """To the nano-dollar."""
    whole, rest = divmod(amount, NANOS_PER_DOLLAR)
    return f"${whole:,}.{rest:09d}"


def _became(flow: Flow) -> Iterator[tuple[str, Money, str]]:
    yield "held", flow.held, "set aside before calls, at their bounds"
    yield "= posted", flow.posted, "what they cost"
    yield "+ unknown", flow.unknown, "lost at the kill: booked in full"
    yield "+ returned", flow.returned, "held, and not needed"
    yield "+ voided", flow.voided, "held, and nobody was asked"
    if flow.open:
        yield "+ open", flow.open, "still held"


def _never_over(accounts: tuple[Account, ...]) -> str:
    over = [one.name for one in accounts if one.over > 0]
    if over:
        return f"Over its limit at some moment: {', '.join(over)}."
    return "At every entry, spent and held together were within every limit (most at once)."


def _ran_dry(dry: Dry, done: Figures) -> Iterator[str]:
    through = "all are done now" if not done.waiting else f"{done.waiting} still wait"
    yield f"{dry.account} ran dry: {_count(dry.waiting, 'run')} waited for the top-up; {through}."
    if dry.constrained:
        yield f"{_count(dry.constrained, 'audit')} constrained: by three cheap models of one mind, for the frontier."


def _commands(report: Report, kept: Path | None) -> Iterator[tuple[str, str]]:
    if kept:
        yield f"cd {kept}", "this demo's database"
        yield f"orchestrion runs show {report.show}", "who was asked, what checks said, what it cost"
        yield "orchestrion budget show", "the accounts: limits, spent, held, left"
        yield "orchestrion outcomes export outcomes.jsonl", "every answer as evidence"
    else:
        yield "orchestrion demo --keep demo-run", "the same; its database stays to be looked into"
    yield "orchestrion init my-project && cd my-project", "a small project of your own"
    yield "orchestrion run workflow.py:support tasks.jsonl", "its ten tasks, by simulated models at first"
    yield "orchestrion demo --live", "the same by real models, after a bound on the cost"


def _cents_each(one: Figures) -> float:
    return one.cost / max(1, one.households) / 1e7


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"
