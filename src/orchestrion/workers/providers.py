"""A model of any provider that pydantic-ai knows: Anthropic, Google, Bedrock, Mistral and the rest.

The provider's library and pydantic-ai take seconds to import, so they are (workers.direct) when the first call is made, or
``open`` is called; until then, and to say what a call can cost, a worker needs neither them nor a key.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from orchestrion.domain import Money, Price, Reply, Request
from orchestrion.errors import SettingsError
from orchestrion.settings import PROVIDERS
from orchestrion.workers.again import asked
from orchestrion.workers.protocol import OnDelta, input_bound, refuse_extra

if TYPE_CHECKING:
    from orchestrion.workers.direct import DirectModel

SCHEMA_SIZES = 4
"""A schema is sent as it is, or as a tool or with its references written out, and with words around it."""

SCHEMA_OVERHEAD = 1024
"""Tokens that a provider adds to a request with a schema: its own prompt for tools, generously."""


class ProviderWorker:
    """One model of a provider. ``key`` is called when the first request needs it.

    Raises SettingsError where the provider's library is not installed.
    """

    def __init__(
        self,
        name: str,
        kind: str,
        model: str,
        *,
        price: Price,
        base_url: str | None = None,
        key: Callable[[], str | None] = lambda: None,
        max_output: int = 4096,
        timeout_s: float = 600.0,
        fields: Mapping[str, Any] | None = None,
    ) -> None:
        _require(name, kind)
        self.name = name
        self.price: Price | None = price
        self._price = price
        self._kind = kind
        self._id = model
        self.model = f"{kind}:{model}"
        self._base_url = base_url
        self._key = key
        self.max_output = max_output
        self._timeout_s = timeout_s
        self._fields = dict(fields or {})
        self._opened: DirectModel | None = None
        self._sent_key: str | None = None

    def bound(self, request: Request) -> Money:
        refuse_extra(self.name, self._kind, request)
        return self._price.bound(_read(request), request.max_output or self.max_output)

    def tokens(self, request: Request) -> int:
        return _read(request) + (request.max_output or self.max_output)

    def open(self) -> DirectModel:
        """Make the provider's client, once. Raises SettingsError without a key, a region or whatever else it needs."""
        if self._opened is None:
            from orchestrion.workers.direct import DirectModel

            self._sent_key = self._key()
            self._opened = DirectModel(
                self.name,
                self._kind,
                self._id,
                key=self._sent_key,
                base_url=self._base_url,
                timeout_s=self._timeout_s,
            )
        return self._opened

    async def reply(self, request: Request, on_delta: OnDelta | None = None) -> Reply:
        fields = {**self._fields, **request.extra}
        ask = partial(self.open().ask, request, request.max_output or self.max_output, fields, on_delta)
        return await asked(self.name, ask, key=self._sent_key)

    async def close(self) -> None:
        """Close the client, if one was made."""
        if self._opened:
            await self._opened.close()


def _read(request: Request) -> int:
    """The most input tokens of a request: a schema may be sent in several forms."""
    tokens = input_bound(request)
    if request.schema:
        once = tokens - input_bound(_without_schema(request))
        tokens += (SCHEMA_SIZES - 1) * once + SCHEMA_OVERHEAD
    return tokens


def _without_schema(request: Request) -> Request:
    return Request(request.messages, request.task_id, request.step, extra=request.extra)


def _require(name: str, kind: str) -> None:
    provider = PROVIDERS[kind]
    try:
        there = find_spec("pydantic_ai") and find_spec(provider.module)
    except ModuleNotFoundError:  # the package around a module is not there
        there = None
    if there is None:
        raise SettingsError(
            f"model '{name}' needs the library of {kind}: pip install 'orchestrion[{provider.extra}]' and try again."
        )
