"""The same workflow on configured models: real money, so a bound first, and every answer kept in the settings' database."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable, Mapping
from typing import Any

from pydantic_core import to_json

from orchestrion.app import Orchestrion
from orchestrion.demo.cases import Case
from orchestrion.demo.figures import Books, Figures, figures
from orchestrion.demo.run import Plan, Report, Screen, most_telling, starts
from orchestrion.demo.workflow import audit, extract, policies, reread, tax_return
from orchestrion.domain import Money
from orchestrion.engine.bound import bounds
from orchestrion.engine.execution import SavedPolicy
from orchestrion.engine.step import Step
from orchestrion.errors import SettingsError
from orchestrion.settings import nearest

CONCURRENCY = 16
MOST_CALLS: list[Step[Any]] = [extract, audit, reread, audit]
"""Every step that a household can lead to; computing is free."""
ROOM = "x" * 1_000
"""For what stands beside the papers in an audit: the return's lines and the JSON around them."""


class Live:
    """One live performance: ``cheap`` and ``frontier`` are names of models in the settings."""

    def __init__(self, o: Orchestrion, plan: Plan, *, cheap: str, frontier: str) -> None:
        """Raises SettingsError for a name that the settings do not have, or a key that is not set."""
        for name in (cheap, frontier):
            if name not in o.workers:
                raise SettingsError(
                    f"{o.settings.file or 'settings'}: no model is called '{name}'.{nearest(name, o.workers)} "
                    "The demo needs a cheap and a frontier model: --cheap NAME --frontier NAME."
                )
        o.workers.check_keys((cheap, frontier))
        self._o = o
        self._plan = plan
        self._frontier = frontier
        self._saved = {
            step: SavedPolicy(policy, name=f"{cheap}+{frontier}") for step, policy in policies(cheap, frontier).items()
        }
        self.batch = f"demo-{plan.n}-{plan.seed}-{cheap}-{frontier}"
        self._cases: Mapping[str, Case] = {f"{self.batch}/{case.id}": case for case in plan.cases().values()}
        models = [o.settings.models[name].model for name in (cheap, frontier) if name in o.settings.models]
        self.simulated = bool(models) and all(model == "simulated" for model in models)

    def bound(self) -> Money:
        """The most that it can cost: every call that the policies may make, at its bound."""
        total = 0
        for case in self._cases.values():
            text = to_json(case.household.papers).decode() + ROOM
            total += sum(one.bound for one in bounds(MOST_CALLS, self._saved, self._o.workers, text))
        return total

    async def perform(self, screen: Screen) -> Report:
        """Go through the households; a batch that was interrupted goes on. After Ctrl-C, what is under way ends."""
        begun, books = time.monotonic(), Books(self._o.database, self.batch)

        def now() -> Figures:
            return figures(books.stories(), self._cases, frontier=self._frontier, seconds=time.monotonic() - begun)

        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._o.stop)
        ticking = asyncio.create_task(self._tick(screen, now))
        try:
            named = {name: saved.policy for name, saved in self._saved.items()}
            name = next(iter(self._saved.values())).name
            begin = starts(self._cases, policies=named, name=name, batch=self.batch)
            async for _ in self._o.run_all(tax_return, begin, concurrency=CONCURRENCY, again=True):
                pass
        finally:
            ticking.cancel()
        last = now()
        screen.progress(last, total=self._plan.n, pid=None)
        return Report(plan=self._plan, orchestrion=last, show=most_telling(books.stories()))

    async def _tick(self, screen: Screen, now: Callable[[], Figures]) -> None:
        while True:
            await asyncio.sleep(0.2)
            screen.progress(now(), total=self._plan.n, pid=None)
