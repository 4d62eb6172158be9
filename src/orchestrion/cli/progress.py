"""Live progress of a batch on stderr: one line that moves in a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections import Counter
from collections.abc import Callable
from types import TracebackType

from orchestrion.cli.output import complain, moves, quiet
from orchestrion.domain import Money, dollars

DRAW_EVERY_S = 0.2
LINES_S = (5.0, 60.0)
"""In a log, a line after so long; the pause doubles up to the second one: a night's batch must not fill the log."""
ECHO = 3
"""Columns left free at the end of the line: there a terminal shows ^C, which must not wrap."""
BAR = (10, 40)
"""Columns of the bar. Where there are fewer to spare, there is none."""


class Progress:
    """Counts runs as they end; shows done, failed, waiting, dollars so far and to go, and time to go.

    A context manager within a running event loop, which draws the line anew at its own pace: what is shown is current,
    and fits the terminal, also while nothing ends. Silent under `--quiet`.
    """

    def __init__(self, total: int, *, shown: Callable[[Money], str] = dollars) -> None:
        self.total = total
        self.statuses: Counter[str] = Counter()
        self.cost: Money = 0
        self._fresh = 0
        self._fresh_cost: Money = 0
        self._shown = shown
        self._started = self._said = time.monotonic()
        self._pause = LINES_S[0]
        self._moving = moves(sys.stderr)
        self._drawn = ""
        self._next: asyncio.TimerHandle | None = None

    def __enter__(self) -> Progress:
        if not quiet():
            self._tick()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._next:
            self._next.cancel()
            if self._moving:
                self._draw(end="\n")

    def add(self, status: str, cost: Money, *, fresh: bool) -> None:
        """One run has ended; ``fresh`` unless it had before this command."""
        self.statuses[status] += 1
        self.cost += cost
        if fresh:
            self._fresh += 1
            self._fresh_cost += cost

    def say(self, text: str) -> None:
        """A line above the moving one."""
        if self._drawn:
            _write(self._wiped())
            self._drawn = ""
        complain(text)

    def _tick(self) -> None:
        if self._moving:
            self._draw()
        elif time.monotonic() - self._said >= self._pause:
            self._said, self._pause = time.monotonic(), min(2 * self._pause, LINES_S[1])
            complain(" · ".join(self._parts()))
        self._next = asyncio.get_running_loop().call_later(DRAW_EVERY_S, self._tick)

    def _draw(self, end: str = "") -> None:
        text = line(self._parts(), self._ended / max(1, self.total), columns=_columns() - ECHO)
        _write(self._wiped() + text + end)
        self._drawn = text

    def _wiped(self) -> str:
        """Clears what was drawn. A terminal that has become narrower since has broken it into several lines.

        Line by line: tmux takes "clear to the end of the screen" in its upper left corner for "clear", and keeps a copy.
        """
        return "\r\x1b[K" + "\x1b[A\x1b[K" * (max(0, len(self._drawn) - 1) // _columns())

    @property
    def _ended(self) -> int:
        return sum(self.statuses.values())

    def _parts(self) -> list[str]:
        """What is to be said, the most important first."""
        parts = [f"{self._ended}/{self.total}"]
        parts += [
            f"{self.statuses[status]} {status}"
            for status in ("failed", "waiting", "cancelled")
            if self.statuses[status]
        ]
        parts.append(self._shown(self.cost))
        left = self.total - self._ended
        if left and self._fresh:
            parts.append(f"{_duration((time.monotonic() - self._started) / self._fresh * left)} to go")
            parts.append(f"about {self._shown(self._fresh_cost * left // self._fresh)} more")
        return parts


def line(parts: list[str], share: float, *, columns: int) -> str:
    """As many of the parts as fit, the first ones first, behind a bar where there is room."""
    said = parts[0][: max(0, columns)]
    for part in parts[1:]:
        if len(said) + 3 + len(part) > columns:
            break
        said += f" · {part}"
    room = min(BAR[1], columns - len(said) - 2)
    if room < BAR[0]:
        return said
    full = round(share * room)
    return f"{'━' * full}{'─' * (room - full)}  {said}"


def _columns() -> int:
    """Of the terminal that stderr is, now: COLUMNS in the environment would not follow a resize."""
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns or 80
    except OSError:
        return 80


def _write(text: str) -> None:
    try:
        sys.stderr.write(text)
        sys.stderr.flush()
    except OSError:  # the terminal is gone: the work is not
        pass


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
