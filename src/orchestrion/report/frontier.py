"""What the same work would have cost with the dearest model alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping

from orchestrion.domain import Money, Price, Usage
from orchestrion.report.facts import Alone


class FrontierAlone:
    """Every call of a step, asked of the frontier once: the tokens of its own plain answer where there is one, else of the
    first answer of another model, at the frontier's price. Corrections, second samples and judges are not counted.

    ``prices`` by worker. Without a name, the frontier is the dearest of the models that were asked.
    """

    def __init__(self, prices: Mapping[str, Price], *, frontier: str | None) -> None:
        self._prices = prices
        self._named = frontier
        self._steps: dict[Hashable, str] = {}
        self._first: dict[Hashable, Usage] = {}
        self._own: dict[tuple[Hashable, str], Money] = {}
        self._workers: Counter[str] = Counter()

    def add(self, visit: Hashable, step: str, worker: str, usage: Usage, *, cost: Money, plain: bool) -> None:
        """Note one attempt of the call of a step that ``visit`` names. Code has neither tokens nor cost, and is left alone."""
        if not (usage.input_tokens or usage.output_tokens or cost):
            return
        self._steps.setdefault(visit, step)
        if usage.input_tokens or usage.output_tokens:
            self._workers[worker] += 1
            self._first.setdefault(visit, usage)
            if plain:
                self._own.setdefault((visit, worker), cost)

    def lost(self, visit: Hashable, step: str) -> None:
        """Note a call that nothing came back of."""
        self._steps.setdefault(visit, step)

    def sum(self) -> Alone:
        """The whole, or why there is none."""
        worker = self._named or self._dearest()
        if worker is None:
            return _none(None, "no price of a model that was asked here is known: name it under models in the settings")
        if set(self._workers) == {worker}:
            return _none(worker, f"{worker} is the only model that was asked: there is nothing to compare with")
        price = self._prices.get(worker)
        by_step: Counter[str] = Counter()
        left_out = estimated = 0
        for visit, step in self._steps.items():
            own = self._own.get((visit, worker))
            if own is not None:
                by_step[step] += own
            elif price and visit in self._first:
                usage = self._first[visit]
                by_step[step] += price.cost(Usage(input_tokens=usage.input_tokens, output_tokens=usage.output_tokens))
                estimated += 1
            else:
                left_out += 1
        if not by_step:
            return _none(worker, f"no price of {worker} is known: name it under models in the settings")
        how = (
            f"Each step asked once of {worker}: what its own first answer cost, where it was asked ({len(self._steps) - estimated - left_out} times); "
            f"else the tokens of the other model's answer at {worker}'s price ({estimated} times), as if {worker} read and wrote as much. "
            "Corrections, second answers and checks' own calls are not counted."
        )
        return Alone(
            worker=worker,
            cost=sum(by_step.values()),
            estimated=bool(estimated),
            left_out=left_out,
            how=how,
            by_step=dict(by_step),
        )

    def _dearest(self) -> str | None:
        known = [worker for worker in self._workers if worker in self._prices]
        # Three tokens read for one written: about what tasks with a paper to read have.
        return max(known, key=lambda w: 3 * self._prices[w].input + self._prices[w].output, default=None)


def _none(worker: str | None, why: str) -> Alone:
    return Alone(worker=worker, cost=None, estimated=False, left_out=0, how=why)
