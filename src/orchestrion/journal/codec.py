"""How the journal writes an attempt: text as it is, long text compressed, the rest as JSON."""

from __future__ import annotations

from typing import Any

from pydantic_core import from_json, to_json

from orchestrion.domain import Attempt, Call, Failure, Usage, Verdict, storable
from orchestrion.store.zstd import zstd

COMPRESS_FROM = 2048
LEVEL = 3


def pack(text: str | None) -> str | bytes | None:
    """A text as the database keeps it: compressed where it is long."""
    if text is None or len(text) < COMPRESS_FROM:
        return text
    return zstd.compress(text.encode(), LEVEL)


def unpack(stored: str | bytes | None) -> str | None:
    """The text that ``pack`` was given."""
    return zstd.decompress(stored).decode() if isinstance(stored, bytes) else stored


def encode_calls(calls: list[tuple[int, Call]]) -> str:
    """Calls with their holds, as a JSON list of [hold, worker, sample, added]."""
    return to_json([(hold, call.worker, call.sample, call.added) for hold, call in calls]).decode()


def decode_calls(text: str) -> list[tuple[int, Call]]:
    """What ``encode_calls`` was given."""
    return [(hold, Call(worker, sample, tuple(added))) for hold, worker, sample, added in from_json(text)]


def encode_body(attempt: Attempt, *, checked: bool, changed: bool = False, reopened: int = 0) -> str:
    """Everything of an attempt that has no column of its own. ``changed``: its texts are not those that were answered;
    ``reopened``: how many Asks its run had when it was reopened, before these verdicts."""
    usage, failure = attempt.usage, attempt.failure
    body: dict[str, Any] = {
        "tokens": (
            usage.input_tokens,
            usage.output_tokens,
            usage.cache_read_tokens,
            usage.cache_write_tokens,
            usage.reasoning_tokens,
            usage.estimated,
        ),
        "latency_s": attempt.latency_s,
    }
    if attempt.answer is not None and attempt.answer != attempt.output:
        body["answer"] = attempt.answer
    if attempt.finish_reason is not None:
        body["finish_reason"] = attempt.finish_reason
    if failure:
        body["failure"] = (failure.kind, storable(failure.message))
    if checked:
        body["verdicts"] = [
            (v.check, v.passed, v.score, v.reason and storable(v.reason), v.cost, v.broken) for v in attempt.verdicts
        ]
    if changed:
        body["changed"] = True
    if reopened:
        body["reopened"] = reopened
    return to_json(body).decode()


def whole(body: str) -> bool:
    """Whether an attempt's texts are still those that were answered."""
    return "changed" not in from_json(body)


def judged_in(body: str) -> int:
    """How many Asks its run had when it was last reopened before an attempt was judged; 0 where it was not."""
    return int(from_json(body).get("reopened", 0))


def decode_attempt(call: Call, hold: int, cost: int, output: str | bytes | None, body: str) -> tuple[Attempt, bool]:
    """The attempt without its value, and whether its checks had been asked."""
    data = from_json(body)
    text = unpack(output)
    failure = data.get("failure")
    attempt = Attempt(
        call,
        output=text,
        answer=data.get("answer", text),
        failure=Failure(*failure) if failure else None,
        verdicts=tuple(Verdict(*verdict) for verdict in data.get("verdicts", ())),
        usage=Usage(*data["tokens"]),
        cost=cost,
        latency_s=data["latency_s"],
        finish_reason=data.get("finish_reason"),
        hold=hold,
    )
    return attempt, "verdicts" in data
