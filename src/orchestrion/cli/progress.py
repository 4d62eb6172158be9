"""Live progress of a batch on stderr: a bar in a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable
from types import TracebackType
from typing import Any

import click

from orchestrion.domain import Money, dollars

LINE_EVERY_S = 5.0
WIDE = 90  # columns; in a narrower terminal the numbers need the bar's room


class Progress:
    """Counts runs as they end; shows done, failed, waiting, dollars so far and to go, and time to go."""

    def __init__(self, total: int, *, quiet: bool = False, shown: Callable[[Money], str] = dollars) -> None:
        self.total = total
        self.statuses: Counter[str] = Counter()
        self.cost: Money = 0
        self._fresh = 0
        self._fresh_cost: Money = 0
        self._quiet = quiet
        self._shown = shown
        self._started = self._said = time.monotonic()
        self._bar: Any = None
        self._task: Any = None

    def __enter__(self) -> Progress:
        if not self._quiet and sys.stderr.isatty():
            from rich.console import Console  # 70 ms, and only a terminal needs it
            from rich.progress import BarColumn, Progress, TextColumn

            console = Console(stderr=True)
            bar = [BarColumn(bar_width=None)] if console.width >= WIDE else []
            percent, text = TextColumn("{task.percentage:>3.0f}%"), TextColumn("{task.description}")
            self._bar = Progress(percent, *bar, text, console=console, expand=True)
            self._task = self._bar.add_task(self._text(), total=self.total)
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar:
            self._bar.update(self._task, description=self._text())
            self._bar.stop()

    def add(self, status: str, cost: Money, *, fresh: bool) -> None:
        """One run has ended; ``fresh`` unless it had before this command."""
        self.statuses[status] += 1
        self.cost += cost
        if fresh:
            self._fresh += 1
            self._fresh_cost += cost
        now = time.monotonic()
        if self._bar:
            self._bar.update(self._task, completed=sum(self.statuses.values()), description=self._text())
        elif not self._quiet and now - self._said >= LINE_EVERY_S:
            self._said = now
            click.echo(f"{sum(self.statuses.values())}/{self.total}: {self._text()}", err=True)

    def say(self, text: str) -> None:
        """A line above the bar."""
        if self._bar:
            self._bar.console.print(text)
        else:
            click.echo(text, err=True)

    def _text(self) -> str:
        parts = [f"{self.statuses['done']} done"]
        parts += [
            f"{self.statuses[status]} {status}"
            for status in ("failed", "waiting", "cancelled")
            if self.statuses[status]
        ]
        parts.append(self._shown(self.cost))
        left = self.total - sum(self.statuses.values())
        if left and self._fresh:
            seconds = (time.monotonic() - self._started) / self._fresh * left
            parts.append(f"about {self._shown(self._fresh_cost * left // self._fresh)} and {_duration(seconds)} to go")
        return " · ".join(parts)


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
