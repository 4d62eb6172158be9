"""Simulated models as workers. They know the cases' truths; the workflow that asks them does not."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from orchestrion.demo.cases import Case
from orchestrion.demo.dice import Dice
from orchestrion.demo.facts import Facts
from orchestrion.demo.models import SEED, SimulatedAnswer, audit_answer, extract_answer
from orchestrion.demo.rates import PRICES, SECONDS
from orchestrion.domain import Money, Price, Reply, Request, Usage, nanos
from orchestrion.errors import WorkerFailed
from orchestrion.workers.protocol import OnDelta, call_bound, text_of

MAX_OUTPUT = 500
"""Tokens: twice the longest simulated answer."""


class SimulatedModel:
    """Answers for the cases it is given, with errors by `rates`. ``pace`` stretches its latency; 0 takes no time."""

    def __init__(self, name: str, cases: Iterable[Case], *, seed: int = SEED, pace: float = 0.0) -> None:
        per_input, per_output = PRICES[name]
        self.name = name
        self.price: Price | None = Price(input=nanos(per_input), output=nanos(per_output))
        self.max_output = MAX_OUTPUT
        self._price = Price(input=nanos(per_input), output=nanos(per_output))
        self._cases = {case.id: case for case in cases}
        self._seed = seed
        self._pace = pace

    def bound(self, request: Request) -> Money:
        return call_bound(self._price, request, self.max_output)

    async def reply(self, request: Request, on_delta: OnDelta | None = None) -> Reply:
        if self._pace:
            await asyncio.sleep(self._latency_s(request))
        answer = self._answer(request)
        if on_delta:
            on_delta(answer.text)
        usage = Usage(answer.input_tokens, answer.output_tokens, estimated=True)
        return Reply(answer.text, usage=usage, finish_reason="stop")

    def _answer(self, request: Request) -> SimulatedAnswer:
        case = self._cases.get(request.task_id.partition("#")[0])
        if case is None:
            raise WorkerFailed(
                "unknown_case", f"{self.name} is simulated and knows no household '{request.task_id}'", billed="no"
            )
        if request.step == "audit":
            facts = Facts.model_validate(request.value.facts)
            return audit_answer(case, facts, self.name, sample=request.sample, seed=self._seed)
        # What it was told since the papers: the auditor's objection, and what checks refused.
        told = tuple(text_of(m.get("content")) for m in request.messages[1:] if m["role"] == "user")[1:]
        if request.step == "reread":
            told = (request.value.objection, *told)
        return extract_answer(case, self.name, sample=request.sample, told=told, seed=self._seed)

    def _latency_s(self, request: Request) -> float:
        low, high = SECONDS[self.name]
        dice = Dice(self._seed, "latency", self.name, request.task_id, request.step, request.context or "")
        return self._pace * (low + (high - low) * dice.share())


def simulated_models(cases: Iterable[Case], *, seed: int = SEED, pace: float = 0.0) -> list[SimulatedModel]:
    """The cheap one and the frontier."""
    known = list(cases)
    return [SimulatedModel(name, known, seed=seed, pace=pace) for name in PRICES]
