"""One model behind pydantic-ai's direct API: OpenAI-shaped messages in, a Reply out, and every error a failure in words.

Imported when the first call of such a model is made: pydantic-ai and a provider's library take seconds.

Each provider's library would ask again by itself. Here it may not: only what certainly was not billed is asked again, by
workers.again. That is what a provider turned away before a model began: no connection, a rate limit, or an overload that
the provider itself names (Anthropic's 529 overloaded_error, Google's 503 "the model is overloaded"). A plain 500 or 503,
which a gateway may answer whose model has done the work, and whatever goes wrong once a stream has begun, may be billed.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, cast

from pydantic_ai import direct, exceptions
from pydantic_ai.messages import ModelResponse, PartDeltaEvent, PartStartEvent, TextPart, TextPartDelta, ToolCallPart
from pydantic_ai.models import Model, ModelRequestParameters, infer_model
from pydantic_ai.output import OutputObjectDefinition
from pydantic_ai.providers import Provider, infer_provider_class
from pydantic_ai.settings import ModelSettings
from pydantic_ai.tools import ToolDefinition
from pydantic_ai.usage import RequestUsage
from pydantic_core import from_json, to_json

from orchestrion.domain import Reply, Request, Usage
from orchestrion.errors import SettingsError, WorkerFailed
from orchestrion.settings import OPENAI, PROVIDERS
from orchestrion.workers.again import NotBilled
from orchestrion.workers.mapping import Unsendable, provider_messages
from orchestrion.workers.protocol import OnDelta, likely

ANSWER = "answer"
"""The name of the output schema, and of the tool that stands in for it where a model has no structured output."""

WRAPPED = "value"
"""The field that holds an answer which is no object, where a provider takes objects only."""

CONNECT_S = 30
NO_CREDENTIALS = ("NoCredentialsError", "PartialCredentialsError", "DefaultCredentialsError")
"""The errors of the libraries of AWS and Google Cloud that are raised before anything is sent."""

HEEDS_ENVIRONMENT = ("anthropic", "google", "groq", "openai-responses")
"""Their libraries would send key and texts to another address that a variable (ANTHROPIC_BASE_URL …) names."""

NO_KEY = "none"
"""Sent where another server than the provider's stands behind base_url, and the settings name no key for it."""


class DirectModel:
    """A client of one model, made at once. Raises SettingsError where the provider needs what is not there."""

    def __init__(
        self, name: str, kind: str, model: str, *, key: str | None, base_url: str | None, timeout_s: float
    ) -> None:
        self._name = name
        self._kind = kind
        self._timeout_s = timeout_s

        def provider(_: str) -> Provider[Any]:
            return _provider(name, kind, key=key, base_url=base_url, timeout_s=timeout_s)

        try:
            if kind in ("google", "google-cloud"):
                self._model: Model = _google(model, provider(kind))
            else:
                self._model = infer_model(f"{kind}:{model}", provider)
        except exceptions.UserError as error:
            raise SettingsError(f"model '{name}': {error}") from None

    async def ask(
        self, request: Request, max_output: int, fields: Mapping[str, Any], on_delta: OnDelta | None
    ) -> Reply:
        """One call. Raises NotBilled and WorkerFailed."""
        try:
            messages = provider_messages(request.messages)
        except Unsendable as error:
            raise WorkerFailed("unsendable", f"{self._name}: {error}", billed="no") from None
        wrapped = request.schema is not None and not _is_object(request.schema)
        asked: dict[str, Any] = {
            "model_settings": self._settings(request, max_output, fields),
            "model_request_parameters": self._parameters(request.schema, wrapped=wrapped),
            "instrument": False,
        }
        try:
            if on_delta is None:
                response = await direct.model_request(self._model, messages, **asked)
            else:
                async with direct.model_request_stream(self._model, messages, **asked) as stream:
                    async for event in stream:
                        piece = _piece(event)
                        if piece and not wrapped:
                            on_delta(piece)
                response = stream.get()
            return self._reply(response, wrapped=wrapped, on_delta=on_delta)
        except (NotBilled, WorkerFailed):
            raise
        except Exception as error:  # a library may raise anything on what it did not expect
            raise self._failure(error) from None

    async def close(self) -> None:
        """Close the provider's client."""
        async with self._model:
            pass
        if self._kind == "bedrock":
            cast(Any, self._model.provider).client.close()

    def _settings(self, request: Request, max_output: int, fields: Mapping[str, Any]) -> ModelSettings:
        settings: dict[str, Any] = {"seed": request.sample} if request.sample else {}
        settings |= fields
        settings |= {"timeout": self._timeout_s, "max_retries": 0, "max_tokens": max_output}
        unheeded = self._model.unsupported_settings & {"timeout", "max_retries", "seed"}
        for name in unheeded:
            settings.pop(name, None)
        return cast(ModelSettings, settings | {"request_timeout": self._timeout_s})

    def _parameters(self, schema: Mapping[str, Any] | None, *, wrapped: bool) -> ModelRequestParameters:
        """The schema as the provider's own structured output where the model has one, else as a tool that it must call."""
        if schema is None:
            return ModelRequestParameters()
        sent = _wrap(schema) if wrapped else dict(schema)
        if self._model.profile.get("supports_json_schema_output", False):
            return ModelRequestParameters(
                output_mode="native", output_object=OutputObjectDefinition(json_schema=sent, name=ANSWER)
            )
        if self._model.profile.get("supports_tools", True):
            tool = ToolDefinition(
                name=ANSWER, parameters_json_schema=sent, description="Give the answer.", kind="output"
            )
            return ModelRequestParameters(output_mode="tool", output_tools=[tool], allow_text_output=False)
        return ModelRequestParameters(output_mode="prompted", output_object=OutputObjectDefinition(json_schema=sent))

    def _reply(self, response: ModelResponse, *, wrapped: bool, on_delta: OnDelta | None) -> Reply:
        try:
            usage = _usage(response.usage)
        except ValueError as error:
            raise WorkerFailed("garbage", f"{self._name}: {error}", billed="unknown") from None
        finish = response.finish_reason
        if on_delta and finish is None:
            raise WorkerFailed("garbage", f"{self._name}: the stream ended before the answer did", billed="unknown")
        called = [part for part in response.parts if isinstance(part, ToolCallPart)]
        text = called[0].args_as_json_str() if called else response.text or ""
        if wrapped:
            text = _unwrap(text)
        if on_delta and (called or wrapped):
            on_delta(text)
        return Reply(text, usage=usage, finish_reason="stop" if finish == "tool_call" else finish)

    def _failure(self, error: Exception) -> NotBilled | WorkerFailed:
        billed = "unknown"
        match error:
            case exceptions.ModelConnectionError(phase="pool" | "connect"):
                return NotBilled("refused", f"no connection to {self._kind}: {error.message}")
            case exceptions.ModelRateLimitError() | exceptions.ModelOverloadedError() if not error.in_stream:
                kind = f"http_{error.status_code}" if isinstance(error, exceptions.ModelHTTPError) else "overloaded"
                return NotBilled(kind, f"the provider has no room just now: {_said(error)}", error.retry_after)
            case exceptions.ModelRequestTimeout() | exceptions.ModelTimeoutError():
                kind, said = "timeout", f"no answer within {self._timeout_s:g} s"
            case exceptions.ModelConnectionError():
                kind, said = "cut", f"the connection broke: {error.message}"
            case exceptions.ModelHTTPError():
                kind, said = f"http_{error.status_code}", f"status {error.status_code}: {_said(error)}"
                if 400 <= error.status_code < 500 and not error.in_stream:
                    billed = "no"
            case exceptions.UserError():
                kind, said, billed = "unsendable", str(error), "no"
            case exceptions.ContentFilterError():
                kind, said = "filtered", f"the provider withheld the answer: {error.message}"
            case exceptions.ModelAPIError():
                kind, said = "garbage", error.message
            case _ if type(error).__name__ in NO_CREDENTIALS:
                kind, said, billed = "credentials", f"there are no credentials for {self._kind}: {error}", "no"
            case _:
                kind, said = "garbage", f"the answer could not be read ({type(error).__name__}: {str(error)[:200]})"
        return WorkerFailed(kind, f"{self._name}: {' '.join(said.split())[:400]}", billed=billed)


def _provider(name: str, kind: str, *, key: str | None, base_url: str | None, timeout_s: float) -> Provider[Any]:
    """The provider's client. Its parameters are its own: an address only where it takes one."""
    if kind == "bedrock":
        return _bedrock(key=key, base_url=base_url, timeout_s=timeout_s)
    made = infer_provider_class(kind)
    given: dict[str, Any] = {}
    if base_url is not None:
        if "base_url" not in inspect.signature(made.__init__).parameters:
            raise SettingsError(
                f"model '{name}': {kind} has one address, so its models take no base_url. For a server that speaks like "
                "OpenAI, write model: openai-chat:NAME."
            )
        given["base_url"] = base_url
    elif kind in HEEDS_ENVIRONMENT:
        given["base_url"] = PROVIDERS[kind].address or OPENAI
    if key or base_url is not None:
        given["api_key"] = key or NO_KEY
    return cast(Callable[..., Provider[Any]], made)(**given)


def _google(model: str, provider: Provider[Any]) -> Model:
    from pydantic_ai.models.google import GoogleModel

    class OneRequest(GoogleModel):
        """Google's library goes on by itself where an answer stops at a limit of the server: each time another request
        with an output limit of its own, for which nothing is held."""

        async def _build_content_and_config(self, *args: Any, **more: Any) -> Any:
            contents, config = await super()._build_content_and_config(*args, **more)
            config["automatic_continuation"] = False
            return contents, config

    return OneRequest(model, provider=provider)


def _bedrock(*, key: str | None, base_url: str | None, timeout_s: float) -> Provider[Any]:
    """Bedrock by AWS's usual ways in (environment, profile, role), or by a key of Bedrock's own; without retries."""
    import boto3
    from botocore.config import Config
    from botocore.exceptions import NoRegionError
    from botocore.session import Session
    from botocore.tokens import FrozenAuthToken
    from pydantic_ai.providers.bedrock import BedrockProvider

    keyed = Session()
    keyed.get_auth_token = lambda **_: FrozenAuthToken(key)
    config = Config(
        retries={"total_max_attempts": 1},
        read_timeout=timeout_s,
        connect_timeout=CONNECT_S,
        max_pool_connections=64,
        signature_version="bearer" if key else None,
    )
    try:
        session = boto3.Session(botocore_session=keyed) if key else boto3.Session()
        client = session.client("bedrock-runtime", config=config, endpoint_url=base_url)
    except NoRegionError:
        raise exceptions.UserError("Bedrock needs a region: export AWS_DEFAULT_REGION=… and try again.") from None
    return BedrockProvider(bedrock_client=client)


def _is_object(schema: Mapping[str, Any]) -> bool:
    root = schema
    if "$ref" in schema:
        root = schema.get("$defs", {}).get(str(schema["$ref"]).removeprefix("#/$defs/"), {})
    return root.get("type") == "object"


def _wrap(schema: Mapping[str, Any]) -> dict[str, Any]:
    """An object whose one field has this schema; its definitions stay at the root, where references look for them."""
    inner = {key: value for key, value in schema.items() if key != "$defs"}
    whole = {"type": "object", "properties": {WRAPPED: inner}, "required": [WRAPPED], "additionalProperties": False}
    return whole | ({"$defs": schema["$defs"]} if "$defs" in schema else {})


def _unwrap(text: str) -> str:
    """What was wrapped; a text without the wrapping stays as it is, for the step to read or refuse."""
    try:
        return to_json(from_json(text)[WRAPPED]).decode()
    except (ValueError, KeyError, TypeError):
        return text


def _piece(event: object) -> str:
    if isinstance(event, PartStartEvent) and isinstance(event.part, TextPart):
        return event.part.content
    if isinstance(event, PartDeltaEvent) and isinstance(event.delta, TextPartDelta):
        return event.delta.content_delta
    return ""


def _usage(said: RequestUsage) -> Usage:
    """pydantic-ai's usage, whose input includes what was read from and written to a cache, as ours does.

    Raises ValueError where the provider told none: nobody could say what the call cost.
    """
    if not said.input_tokens and not said.output_tokens:
        raise ValueError("the answer came without its usage")
    reasoning = getattr(said, "output_reasoning_tokens", 0) or max(
        (said.details.get(name) or 0 for name in ("reasoning_tokens", "thinking_tokens", "thoughts_tokens")), default=0
    )
    return likely(
        Usage(said.input_tokens, said.output_tokens, said.cache_read_tokens, said.cache_write_tokens, reasoning)
    )


def _said(error: exceptions.ModelAPIError) -> str:
    """The provider's own words in an error's body, wherever it puts them."""
    body: Any = error.body
    for name in ("error", "Error"):
        if isinstance(body, dict) and name in body:
            body = body[name]
    if isinstance(body, dict):
        body = body.get("message") or body.get("Message") or body
    words = str(body if body is not None else error.message)
    near = getattr(error, "suggested_model_id", None)
    return words + (f" Did you mean '{near}'?" if near else "")
