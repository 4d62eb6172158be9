"""LiteLLM's spend logs: the table LiteLLM_SpendLogs as JSON, JSON lines or CSV (where JSON stands as text)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from orchestrion.domain import Usage
from orchestrion.errors import RecordsError
from orchestrion.evidence.imports.convert import Found, LeftOut
from orchestrion.evidence.imports.lines import Line, lines
from orchestrion.evidence.imports.openai import Unusable, calls, document, fields_of, usage_of

CHAT = ("completion", "acompletion", "")


def read(paths: Sequence[Path]) -> Iterator[Found]:
    """Every chat completion of the table."""
    for line in lines(paths):
        if isinstance(line, RecordsError):
            yield line
            continue
        kind = str(line.data.get("call_type") or "")
        if kind not in CHAT:
            yield LeftOut(f"calls of type {kind}")
            continue
        try:
            yield from _calls(line)
        except Unusable as unusable:
            yield line.bad(str(unusable))


def _calls(line: Line) -> Iterator[Found]:
    row = line.data
    request = _request(row)
    metadata = fields_of(document(row.get("metadata")))
    failed = "failure" in (row.get("status"), metadata.get("status"))
    information = fields_of(metadata.get("error_information"))
    code = information.get("error_code") or "error"
    words = information.get("error_message") or "LiteLLM says that it failed"
    cached = str(row.get("cache_hit")).lower() == "true"
    response = None if failed else document(row.get("response"))
    yield from calls(
        request,
        response,
        error=f"http_{code}: {words}" if failed and str(code).isdigit() else f"{code}: {words}" if failed else None,
        usage=_usage(row, metadata),
        model=str(row.get("model") or row.get("model_group") or "") or None,
        spend=None if cached else _float(row.get("spend"), "spend"),
        latency_s=_seconds(row),
        cached=cached,
    )


def _request(row: dict[str, Any]) -> Mapping[str, Any]:
    """What was asked. Raises Unusable where LiteLLM did not keep it, as it does not unless it is told to."""
    messages = document(row.get("messages"))
    sent = document(row.get("proxy_server_request"))
    sent = fields_of(fields_of(sent).get("body", sent))
    if isinstance(messages, list) and messages:
        return {**sent, "messages": messages}
    if sent.get("messages"):
        return sent
    raise Unusable(
        "its messages were not kept (`store_prompts_in_spend_logs: true` under general_settings of LiteLLM keeps them from then on)"
    )


def _usage(row: dict[str, Any], metadata: Mapping[str, Any]) -> Usage | None:
    details = metadata.get("usage_object") or metadata.get("additional_usage_values") or {}
    tokens = {name: _int(row.get(name), name) for name in ("prompt_tokens", "completion_tokens")}
    return usage_of({**fields_of(details), **tokens})


def _int(value: Any, name: str) -> int | None:
    number = _float(value, name)
    return None if number is None else int(number)


def _float(value: Any, name: str) -> float | None:
    try:
        number = None if value in (None, "") else float(value)
        if number is None or math.isfinite(number):
            return number
        raise ValueError(value)
    except (TypeError, ValueError, OverflowError):
        raise Unusable(f"its {name} is no number: {str(value)[:40]!r}") from None


def _seconds(row: dict[str, Any]) -> float | None:
    milliseconds = _float(row.get("request_duration_ms"), "request_duration_ms")
    if milliseconds is not None:
        return milliseconds / 1000
    try:
        started, ended = (datetime.fromisoformat(str(row[name])) for name in ("startTime", "endTime"))
        return max(0.0, (ended - started).total_seconds())
    except (KeyError, ValueError, TypeError):
        return None
