"""A worker that makes its answers up: for rehearsals without a key, without a network and without a bill.

It is right with probability ``skill``, by a hash of its seed and the call: the same call gets the same answer every time.
Where an answers file knows the task, a right answer is the one from there; elsewhere it is a filler that has the asked
form. A wrong answer is another task's where there is one, else a broken text. Its dollars are simulated, too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from pydantic_core import to_json

from orchestrion.domain import Money, Price, Reply, Request, Usage, digest
from orchestrion.workers.protocol import OnDelta, call_bound, text_of

CHARACTERS_PER_TOKEN = 4


class SimulatedWorker:
    """``answers`` maps (step, task id) to the right output; ``latency_s`` is how long an answer takes."""

    model = "simulated"

    def __init__(
        self,
        name: str,
        *,
        price: Price,
        skill: float = 1.0,
        latency_s: float = 0.0,
        seed: int = 0,
        max_output: int = 4096,
        answers: Mapping[tuple[str, str], str] | None = None,
    ) -> None:
        self.name = name
        self.price: Price | None = price
        self._price = price
        self._skill = skill
        self._latency_s = latency_s
        self._seed = seed
        self.max_output = max_output
        self._answers = answers or {}

    def bound(self, request: Request) -> Money:
        return call_bound(self._price, request, self.max_output)

    async def reply(self, request: Request, on_delta: OnDelta | None = None) -> Reply:
        if self._latency_s:
            await asyncio.sleep(self._latency_s)
        text = self._write(request)
        if on_delta:
            on_delta(text)
        read = sum(len(text_of(message.get("content"))) for message in request.messages)
        limit = request.max_output or self.max_output
        tokens = Usage(
            -(-read // CHARACTERS_PER_TOKEN), min(-(-len(text) // CHARACTERS_PER_TOKEN), limit), estimated=True
        )
        return Reply(text, usage=tokens, finish_reason="stop")

    def _write(self, request: Request) -> str:
        right = self._answers.get((request.step, request.task_id.split("#")[0]))
        if self._draw(request, "skill") < self._skill:
            return filler(request) if right is None else right
        others = (
            [a for (step, _), a in self._answers.items() if step == request.step and a != right]
            if right is not None
            else []
        )
        if others:
            return others[int(self._draw(request, "other") * len(others))]
        text = filler(request) if right is None else right
        return text[: len(text) // 2]

    def _draw(self, request: Request, what: str) -> float:
        call = (self._seed, self.name, request.step, request.task_id, request.sample, request.context, what)
        return int(digest(to_json(call))[:13], 16) / 16**13


def filler(request: Request) -> str:
    """A text of the asked form: an instance of the output schema, or the beginning of what was asked."""
    if request.schema:
        return to_json(_instance(request.schema, request.schema, 0)).decode()
    asked = " ".join(text_of(request.messages[-1].get("content")).split()) if request.messages else ""
    return f"Simulated answer to: {asked[:80]}"


def _instance(schema: Mapping[str, Any], root: Mapping[str, Any], depth: int) -> Any:
    """The plainest value that a JSON schema allows, for the schemas that pydantic writes."""
    if "$ref" in schema:
        node: Any = root
        for part in schema["$ref"].removeprefix("#/").split("/"):
            node = node[part]
        return _instance(node, root, depth + 1)
    for key in ("const", "default"):
        if key in schema:
            return schema[key]
    if schema.get("enum"):
        return schema["enum"][0]
    for key in ("anyOf", "oneOf", "allOf"):
        if schema.get(key):
            return _instance(schema[key][0], root, depth + 1)
    match schema.get("type"):
        case "object":
            fields = schema.get("properties", {})
            return {name: _instance(fields[name], root, depth + 1) for name in schema.get("required", ())}
        case "array":
            items = schema.get("prefixItems") or [schema.get("items", {})] * schema.get(
                "minItems", 0 if depth > 6 else 1
            )
            return [_instance(item, root, depth + 1) for item in items]
        case "integer" | "number":
            return schema.get("minimum", schema.get("exclusiveMinimum", 0) + 1)
        case "boolean":
            return True
        case "null":
            return None
        case _:
            formats = {
                "date": "2024-12-31",
                "date-time": "2024-12-31T12:00:00Z",
                "time": "12:00:00",
                "uuid": "00000000-0000-4000-8000-000000000000",
            }
            return formats.get(schema.get("format", ""), "simulated").ljust(schema.get("minLength", 0), "x")
