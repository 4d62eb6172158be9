"""Requests and responses in OpenAI's shape: proxies' logs, the Batch API's files, stored chat completions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic_core import from_json, to_json

from orchestrion.domain import Usage
from orchestrion.errors import RecordsError
from orchestrion.evidence.imports.convert import Found, Imported, LeftOut, prompt_of, task_of, text_of
from orchestrion.evidence.imports.lines import Line, lines

SECONDS = {"latency_s": 1.0, "duration_s": 1.0, "latency_ms": 1e-3, "duration_ms": 1e-3}


class Unusable(ValueError):
    """Why an entry is not a call that can be read."""


def read(paths: Sequence[Path]) -> Iterator[Found]:
    """Every answer of the files. The requests of a batch are read first, in whichever file they are."""
    asked = _batch_requests(paths)
    for line in lines(paths):
        if isinstance(line, RecordsError):
            yield line
        elif _is_batch_request(line.data):
            yield LeftOut("requests of a batch, read with their answers")
        else:
            try:
                yield from _calls(line, asked)
            except Unusable as unusable:
                yield line.bad(str(unusable))


def _calls(line: Line, asked: Mapping[str, Any]) -> Iterator[Imported]:
    data = line.data
    request = _request(data, asked)
    response = data if "choices" in data else document(data.get("response"))
    status = response.get("status_code", 200) if isinstance(response, dict) else 200
    if isinstance(response, dict) and "body" in response:  # the Batch API wraps it
        response = response["body"]
    error = data.get("error") or (response.get("error") if isinstance(response, dict) else None)
    yield from calls(
        request,
        response,
        error=f"http_{status}: {_message(error)}"
        if str(status) != "200"
        else f"error: {_message(error)}"
        if error
        else None,
        spend=_number(data.get("cost_usd", data.get("cost"))),
        latency_s=next(
            (float(data[key]) * unit for key, unit in SECONDS.items() if _number(data.get(key)) is not None), None
        ),
        cached=data.get("cached") if isinstance(data.get("cached"), bool) else None,
    )


def calls(
    request: Mapping[str, Any],
    response: Any,
    *,
    error: str | None = None,
    usage: Usage | None = None,
    model: str | None = None,
    **known: Any,
) -> Iterator[Imported]:
    """An answer for each choice of a response. Raises Unusable where there is no task, no model or no answer."""
    messages = request.get("messages")
    if not isinstance(messages, list) or not messages or not all(isinstance(one, dict) for one in messages):
        raise Unusable("it has no messages, and so no task")
    body = response if isinstance(response, dict) else {}
    worker = model or request.get("model") or body.get("model")
    if not isinstance(worker, str) or not worker:
        raise Unusable("it names no model")
    task, prompt = task_of(request), prompt_of(messages)
    if error:
        yield Imported(task, worker, prompt, failure=error, **known)
        return
    choices = body.get("choices")
    if not isinstance(choices, list) or not choices:
        raise Unusable("its response has no choices: it is no chat completion")
    usage = usage or usage_of(body.get("usage"))
    for i, choice in enumerate(choices):
        message = choice.get("message") if isinstance(choice, dict) else None
        if not isinstance(message, dict):
            raise Unusable("a choice has no message (a streamed response is to be logged as a whole)")
        yield Imported(task, worker, prompt, _output(message), usage=_share(usage, i, len(choices)), **known)


def usage_of(data: Any) -> Usage | None:
    """OpenAI's usage object; None where it is not there. Raises Unusable for numbers that cannot be."""
    if not isinstance(data, dict) or data.get("prompt_tokens") is None or data.get("completion_tokens") is None:
        return None
    details, spent = fields_of(data.get("prompt_tokens_details")), fields_of(data.get("completion_tokens_details"))
    numbers = (
        data["prompt_tokens"],
        data["completion_tokens"],
        details.get("cached_tokens") or data.get("cache_read_input_tokens") or 0,
        data.get("cache_creation_input_tokens") or 0,
        spent.get("reasoning_tokens") or 0,
    )
    if not all(isinstance(n, int) and n >= 0 for n in numbers) or numbers[2] + numbers[3] > numbers[0]:
        raise Unusable(f"its usage cannot be: {str(data)[:120]}")
    read, written, cached, caching, reasoning = numbers
    total = data.get("total_tokens")
    if isinstance(total, int) and total > read + written:  # xAI and Gemini count reasoning apart, and bill it as output
        written, reasoning = total - read, max(reasoning, total - read - written)
    return Usage(read, written, cached, caching, reasoning)


def fields_of(value: Any) -> Mapping[str, Any]:
    """An object's fields; none where something else stands in its place."""
    return value if isinstance(value, dict) else {}


def document(value: Any) -> Any:
    """A JSON value that may be written as a text. Raises Unusable where it is neither."""
    if not isinstance(value, str):
        return value
    try:
        return from_json(value) if value else None
    except ValueError:
        raise Unusable(f"this is not JSON: {value[:60]!r}") from None


def _request(data: Mapping[str, Any], asked: Mapping[str, Any]) -> Mapping[str, Any]:
    """What was asked: beside the response, as the batch's request, or as messages on the line itself."""
    request = document(data.get("request"))
    if isinstance(request, dict):
        body: dict[str, Any] = request["body"] if isinstance(request.get("body"), dict) else request
        return body
    if "custom_id" in data:
        if data["custom_id"] not in asked:
            raise Unusable(
                f"there is no request with the custom_id {data['custom_id']!r}: name the batch's input file, too"
            )
        found: Mapping[str, Any] = asked[data["custom_id"]]
        return found
    return data


def _is_batch_request(data: Mapping[str, Any]) -> bool:
    return "custom_id" in data and isinstance(data.get("body"), dict) and "response" not in data


def _batch_requests(paths: Sequence[Path]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for line in lines(paths):
        if isinstance(line, Line) and _is_batch_request(line.data):
            name, body = line.data["custom_id"], line.data["body"]
            if found.setdefault(name, body) != body:
                raise line.bad(f"the custom_id {name!r} stands in two requests that differ. Import one batch at a time")
    return found


def _output(message: Mapping[str, Any]) -> str:
    """An answer's text; calls of tools as JSON."""
    if message.get("tool_calls"):
        return to_json(message["tool_calls"]).decode()
    return text_of(message.get("content")) or message.get("refusal") or ""


def _share(usage: Usage | None, i: int, n: int) -> Usage | None:
    """A choice's part: the input was paid once, and nobody says which choice had how many tokens."""
    if usage is None or n == 1:
        return usage
    rest = usage.output_tokens % n if i == 0 else 0
    if i == 0:
        return Usage(
            usage.input_tokens,
            usage.output_tokens // n + rest,
            usage.cache_read_tokens,
            usage.cache_write_tokens,
            0,
            True,
        )
    return Usage(0, usage.output_tokens // n, estimated=True)


def _message(error: Any) -> str:
    return str(error.get("message") or error.get("code") or error) if isinstance(error, dict) else str(error or "")


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
