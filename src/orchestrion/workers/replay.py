"""Workers that answer with what was recorded."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from orchestrion.domain import Money, Outcome, Price, Reply, Request, Usage, Verdict, nanos
from orchestrion.errors import WorkerFailed
from orchestrion.workers.protocol import OnDelta


class ReplayWorker:
    """Answers as the recorded outcomes of one worker did: the k-th time a call is asked, with its k-th record.

    Costs come from the tokens where a price is given and the tokens are known, else from ``cost_usd``.
    """

    def __init__(self, name: str, outcomes: Iterable[Outcome], *, price: Price | None = None) -> None:
        self.name = name
        self.price = price
        self._records: dict[tuple[str, str | None, int, str | None], list[Outcome]] = defaultdict(list)
        for outcome in outcomes:
            self._records[(outcome.task_id, outcome.step, outcome.sample, outcome.context)].append(outcome)
        self._asked: dict[tuple[str, str | None, int, str | None], int] = defaultdict(int)

    def bound(self, request: Request) -> Money:
        return 0

    async def reply(self, request: Request, on_delta: OnDelta | None = None) -> Reply:
        key = (request.task_id, request.step or None, request.sample, request.context)
        records = self._records.get(key, [])
        k = self._asked[key]
        if k >= len(records):
            what = "with this correction" if request.context else f"sample {request.sample}"
            raise WorkerFailed("unrecorded", f"no recorded answer of '{self.name}' ({what})", billed="no")
        self._asked[key] += 1
        record = records[k]
        if record.failure:
            cost = recorded_cost(record, self.price)
            raise WorkerFailed(record.failure.split(":")[0], record.failure, billed="no", cost=cost)
        return recorded_reply(record, self.price)


def recorded_reply(record: Outcome, price: Price | None) -> Reply:
    """What was answered, with the verdicts that were recorded; one without a score counts as 1 or 0, as it passed or not."""
    verdicts = []
    for name, said in (record.verdicts or {}).items():
        passed, score = bool(said.get("passed", True)), said.get("score")
        cost = nanos(repr(said.get("cost_usd") or 0))
        known = float(passed) if score is None else float(score)
        verdicts.append(Verdict(name, passed, known, said.get("reason"), cost, bool(said.get("broken"))))
    return Reply(
        record.output if record.output is not None else record.answer or "",
        usage=usage_of(record),
        cost=recorded_cost(record, price),
        answer=record.answer,
        verdicts=tuple(verdicts),
        latency_s=record.latency_s or 0.0,
    )


def usage_of(record: Outcome) -> Usage:
    """The tokens of a record; unknown ones count as none."""
    return Usage(
        record.input_tokens or 0,
        record.output_tokens or 0,
        record.cache_read_tokens or 0,
        record.cache_write_tokens or 0,
        estimated=bool(record.tokens_estimated),
    )


def recorded_cost(record: Outcome, price: Price | None) -> Money:
    """Nano-dollars of a record, by the same function as a live call's where a price is given and the tokens are known.

    A failed call's cost is what was posted for it, whatever its tokens.
    """
    if price and record.input_tokens is not None and record.output_tokens is not None and not record.failure:
        return price.cost(usage_of(record))
    return nanos(repr(record.cost_usd)) if record.cost_usd is not None else 0
