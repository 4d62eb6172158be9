"""OpenAI-shaped messages as pydantic-ai's. What has no counterpart there is refused, never left out in silence."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pydantic_ai.messages import (
    BinaryContent,
    ModelMessage,
    ModelRequest,
    ModelRequestPart,
    ModelResponse,
    ModelResponsePart,
    SystemPromptPart,
    TextPart,
    ToolCallPart,
    ToolReturnPart,
    UserContent,
    UserPromptPart,
)

from orchestrion.domain import Message


class Unsendable(Exception):
    """A message that has no counterpart at other providers; says which, and what it could be instead."""


def provider_messages(messages: Iterable[Message]) -> list[ModelMessage]:
    """What is said to a model in requests, what it said in responses, in order. Raises Unsendable."""
    found: list[ModelMessage] = []
    names: dict[str, str] = {}  # of the tools that were called, by the call's id
    asked: list[ModelRequestPart] = []
    for number, message in enumerate(messages, start=1):
        if message.get("role") == "assistant":
            if asked:
                found.append(ModelRequest(asked))
                asked = []
            found.append(ModelResponse(_said_before(message, number, names)))
        else:
            asked.append(_asked_before(message, number, names))
    if asked:
        found.append(ModelRequest(asked))
    return found


def _asked_before(message: Message, number: int, names: Mapping[str, str]) -> ModelRequestPart:
    role, content = message.get("role"), message.get("content")
    match role:
        case "system" | "developer":
            return SystemPromptPart(_text(content, number))
        case "user":
            return UserPromptPart(content if isinstance(content, str) else _parts(content, number))
        case "tool":
            call = str(message.get("tool_call_id"))
            if call not in names:
                raise Unsendable(f"message {number} answers the tool call {call!r}, which no message before it made")
            return ToolReturnPart(names[call], _text(content, number), call)
        case _:
            known = "system, developer, user, assistant, tool"
            raise Unsendable(f"message {number} has the role {role!r}; other providers know {known}")


def _said_before(message: Message, number: int, names: dict[str, str]) -> list[ModelResponsePart]:
    parts: list[ModelResponsePart] = []
    if message.get("content"):
        parts.append(TextPart(_text(message["content"], number)))
    for call in message.get("tool_calls") or ():
        try:
            made = call["function"]
            parts.append(ToolCallPart(made["name"], made["arguments"], call["id"]))
            names[call["id"]] = made["name"]
        except (KeyError, TypeError):
            raise Unsendable(f"message {number} has a tool call without id, name or arguments") from None
    return parts or [TextPart("")]


def _text(content: Any, number: int) -> str:
    parts = [content] if isinstance(content, str) else _parts(content, number)
    if not all(isinstance(part, str) for part in parts):
        raise Unsendable(f"message {number} holds a picture, which only a user's message can")
    return "".join(str(part) for part in parts)


def _parts(content: Any, number: int) -> list[UserContent]:
    """Texts and pictures. A linked picture is refused: what reading it costs is not known before the call."""
    if not isinstance(content, list):
        raise Unsendable(f"message {number} has a content that is neither text nor a list of parts")
    found: list[UserContent] = []
    for part in content:
        match part:
            case {"type": "text", "text": str(text)}:
                found.append(text)
            case {"type": "image_url", "image_url": {"url": str(url)}} if url.startswith("data:"):
                try:
                    found.append(BinaryContent.from_data_uri(url))
                except ValueError as error:
                    raise Unsendable(f"message {number} holds a picture that cannot be read: {error}") from None
            case {"type": "image_url"}:
                raise Unsendable(
                    f"message {number} links to a picture, and what that costs is not known before the call: put the "
                    "picture itself there, as a data: URL"
                )
            case {"type": kind}:
                raise Unsendable(f"message {number} has a part of type {kind!r}; text and image_url can be sent")
            case _:
                raise Unsendable(f"message {number} has a part that is no object with a type")
    return found
