"""From what a log's reader found to outcome records: tasks by their messages, samples counted, costs priced."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, TypeAlias

import msgspec

from orchestrion.domain import Outcome, Price, Usage, digest, usd
from orchestrion.errors import RecordsError
from orchestrion.evidence.content import Content


class Imported(NamedTuple):
    """One call as a log has it. ``worker`` is the model's name; ``spend`` what the log says that it cost, in dollars."""

    task_id: str
    worker: str
    prompt: str | None = None
    output: str | None = None
    workload: str | None = None
    tags: Mapping[str, str] = {}
    score: float | None = None
    label_source: Literal["reference", "person", "judge"] | None = None
    usage: Usage | None = None
    spend: float | None = None
    latency_s: float | None = None
    failure: str | None = None
    cached: bool | None = None


class LeftOut(NamedTuple):
    """An entry that is no answer of a model to a task, and why."""

    reason: str


Found: TypeAlias = Imported | LeftOut | RecordsError


@dataclass
class Summary:
    """What was made of a log."""

    rows: int = 0
    labelled: int = 0
    failed: int = 0
    cached: int = 0
    unpriced: Counter[str] = field(default_factory=Counter)
    left_out: Counter[str] = field(default_factory=Counter)
    bad: list[str] = field(default_factory=list)
    answered: dict[str, set[str]] = field(default_factory=dict)
    tasks: set[str] = field(default_factory=set)

    @property
    def complete(self) -> int:
        """Tasks that every worker answered."""
        return len(set.intersection(*self.answered.values())) if self.answered else 0


def convert(
    found: Iterable[Found],
    summary: Summary,
    *,
    names: Mapping[str, str],
    price: Callable[[str, str], Price | None],
    content: Content,
    workload: str | None = None,
    tags: Mapping[str, str] | None = None,
) -> Iterator[Outcome]:
    """Records of what was found, counted in ``summary``.

    ``names`` are other names for workers; ``price`` is asked with the worker's name and the model's. A cost comes from the
    tokens where both are known, else it is what the log says. The same task asked of one worker again is another
    sample; a failed call has the number of the sample that was tried, a cached one that of the sample that it repeats.
    """
    answers: Counter[tuple[str, str]] = Counter()
    calls: Counter[tuple[str, str, int]] = Counter()
    for one in found:
        if isinstance(one, RecordsError):
            summary.bad.append(str(one))
            continue
        if isinstance(one, LeftOut):
            summary.left_out[one.reason] += 1
            continue
        worker = names.get(one.worker, one.worker)
        sample = answers[one.task_id, worker]
        if one.cached:
            sample = max(0, sample - 1)
        elif not one.failure:
            answers[one.task_id, worker] += 1
        attempt = calls[one.task_id, worker, sample]
        calls[one.task_id, worker, sample] += 1
        known = price(worker, one.worker) if one.usage and not one.failure else None
        cost = usd(known.cost(one.usage)) if known and one.usage else one.spend
        _count(summary, one, worker, cost)
        usage = one.usage
        yield content.outcome(
            Outcome(
                workload=workload or one.workload,
                task_id=one.task_id,
                tags={**one.tags, **(tags or {})},
                worker=worker,
                sample=sample,
                prompt=one.prompt,
                output=one.output,
                score=one.score,
                input_tokens=usage.input_tokens if usage else None,
                output_tokens=usage.output_tokens if usage else None,
                cache_read_tokens=usage.cache_read_tokens if usage else None,
                cache_write_tokens=usage.cache_write_tokens if usage else None,
                tokens_estimated=usage.estimated if usage else None,
                cost_usd=cost,
                latency_s=one.latency_s,
                attempt=attempt,
                failure=one.failure,
                label_source=one.label_source,
                selected_by="import",
                cached=one.cached,
            )
        )


def _count(summary: Summary, one: Imported, worker: str, cost: float | None) -> None:
    summary.rows += 1
    summary.labelled += one.score is not None
    summary.failed += one.failure is not None
    summary.cached += bool(one.cached)
    summary.tasks.add(one.task_id)
    answered = summary.answered.setdefault(worker, set())
    if not one.failure:
        answered.add(one.task_id)
        if cost is None:
            summary.unpriced[worker] += 1


def task_of(request: Mapping[str, Any]) -> str:
    """The id of a task: a digest of what is asked. Who is asked, and how warmly, does not count.

    Contents that are one text, or a list of text parts, are the same; so are the roles system and developer.
    """
    asked = [
        {
            **{key: value for key, value in message.items() if value is not None},
            "role": "system" if message.get("role") == "developer" else message.get("role"),
            "content": _canonical(message.get("content")),
        }
        for message in request["messages"]
    ]
    form = {key: request[key] for key in ("tools", "functions", "response_format") if request.get(key)}
    return digest(msgspec.json.encode([asked, form] if form else asked, order="sorted"))


def prompt_of(messages: Iterable[Mapping[str, Any]]) -> str:
    """What was asked, as a text: the user's one message, else all messages as JSON."""
    asked = [message for message in messages if message.get("role") not in ("system", "developer")]
    if len(asked) == 1 and (text := text_of(asked[0].get("content"))) is not None:
        return text
    return msgspec.json.encode(list(messages)).decode()


def text_of(content: Any) -> str | None:
    """The text of a message's content: a text, or a list of parts; None where it is more, or less, than text."""
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    texts = [part.get("text") for part in parts if isinstance(part, dict)]
    return "".join(map(str, texts)) if parts and len(texts) == len(parts) and all(texts) else None


def _canonical(content: Any) -> Any:
    text = text_of(content)
    return content if text is None else text
