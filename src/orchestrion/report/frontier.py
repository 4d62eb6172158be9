"""What the same work would have cost with the dearest model alone."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Mapping

from orchestrion.domain import Money, Price, Usage
from orchestrion.report.calls import BookedCall
from orchestrion.report.facts import Alone


class FrontierAlone:
    """Every call of a step, asked of the frontier once: what its own plain answer cost where there is one, else the tokens of
    the first answer of another model at the frontier's price. Corrections, second samples and judges are not counted.

    ``prices`` by worker. Without a name, the frontier is the dearest of the models that were asked: the one at whose price
    all recorded tokens would have cost most. Calls are summed under the labels that they are noted with.
    """

    def __init__(self, prices: Mapping[str, Price], *, frontier: str | None) -> None:
        self._prices = prices
        self._named = frontier
        self._labels: dict[Hashable, Hashable] = {}
        self._first: dict[Hashable, Usage] = {}
        self._own: dict[tuple[Hashable, str], Money] = {}
        self._workers: set[str] = set()

    def add_call(self, call: BookedCall, label: Hashable) -> None:
        """Note a call that was booked, where it is one of a step's own. People are left out: the frontier asks nobody."""
        if call.purpose != "work" or call.person is not None:
            return
        if call.answered is None:
            self.lost(call.visit, label)
        else:
            plain = call.plain and call.answered
            self.add(call.visit, label, call.worker, call.usage, cost=call.cost, plain=plain)

    def add(self, visit: Hashable, label: Hashable, worker: str, usage: Usage, *, cost: Money, plain: bool) -> None:
        """Note one attempt of the call of a step that ``visit`` names. Code has neither tokens nor cost, and is left alone."""
        if not (usage.input_tokens or usage.output_tokens or cost):
            return
        self._labels.setdefault(visit, label)
        if usage.input_tokens or usage.output_tokens:
            self._workers.add(worker)
            self._first.setdefault(visit, usage)
            if plain:
                self._own.setdefault((visit, worker), cost)

    def lost(self, visit: Hashable, label: Hashable) -> None:
        """Note a call that nothing came back of."""
        self._labels.setdefault(visit, label)

    def sum(self) -> Alone:
        """The whole, or why there is none."""
        return self._sum(self._labels, self._named or self._dearest())

    def each(self) -> dict[Hashable, Alone]:
        """The same by label."""
        visits: dict[Hashable, dict[Hashable, Hashable]] = defaultdict(dict)
        for visit, label in self._labels.items():
            visits[label][visit] = label
        worker = self._named or self._dearest()
        return {label: self._sum(found, worker) for label, found in visits.items()}

    def _sum(self, visits: Mapping[Hashable, Hashable], worker: str | None) -> Alone:
        if worker is None:
            return _none(None, "no price of a model that was asked here is known: name it under models in the settings")
        if self._workers == {worker}:
            return _none(worker, f"{worker} is the only model that was asked: there is nothing to compare with")
        price = self._prices.get(worker)
        by_label: Counter[Hashable] = Counter()
        left_out = estimated = 0
        for visit, label in visits.items():
            own = self._own.get((visit, worker))
            if own is not None:
                by_label[label] += own
            elif price and visit in self._first:
                usage = self._first[visit]
                by_label[label] += price.cost(Usage(input_tokens=usage.input_tokens, output_tokens=usage.output_tokens))
                estimated += 1
            else:
                left_out += 1
        if not by_label:
            return _none(worker, f"no price of {worker} is known: name it under models in the settings")
        how = (
            f"Each step asked once of {worker}: what its own first answer cost, where it was asked ({len(visits) - estimated - left_out} times); "
            f"else the tokens of the other model's answer at {worker}'s price ({estimated} times), as if {worker} read and wrote as much. "
            "Corrections, second answers and checks' own calls are not counted."
        )
        return Alone(
            worker=worker,
            cost=sum(by_label.values()),
            estimated=bool(estimated),
            left_out=left_out,
            how=how,
            by_step={str(label): cost for label, cost in by_label.items()},
        )

    def _dearest(self) -> str | None:
        read = sum(usage.input_tokens for usage in self._first.values())
        written = sum(usage.output_tokens for usage in self._first.values())

        def all_of_it(worker: str) -> Money:
            return read * self._prices[worker].input + written * self._prices[worker].output

        return max(sorted(self._workers & self._prices.keys()), key=all_of_it, default=None)


def _none(worker: str | None, why: str) -> Alone:
    return Alone(worker=worker, cost=None, estimated=False, left_out=0, how=why)
