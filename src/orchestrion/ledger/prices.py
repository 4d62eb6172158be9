"""Prices of models, from genai-prices' table (its network update stays off)."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from importlib.metadata import version
from typing import Any, NamedTuple

from orchestrion.domain import NANOS_PER_DOLLAR, Price


class Listed(NamedTuple):
    """What the table says of a model: its price, whose list it is from, and the most tokens that it reads and writes at
    once (None where the table does not know)."""

    price: Price
    source: str
    context_window: int | None


def listed(model: str, *, provider: str, base_url: str | None) -> Listed | None:
    """What genai-prices lists for a model of a provider, or of the one whose API ``base_url`` is; None if unknown."""
    from genai_prices.data_snapshot import get_snapshot  # 370 ms, and only models without a price of their own need it

    try:
        found = get_snapshot().find_provider_model(model, None, None if base_url else provider, base_url)
    except LookupError:
        return None
    owner, info = found
    price = _price(info.get_prices(datetime.now(tz=UTC)))
    if price is None:
        return None
    return Listed(price, f"{owner.name}'s list, genai-prices {version('genai-prices')}", info.context_window)


def _price(prices: Any) -> Price | None:
    """A price with its tiers: one for each length of input at which any of the four amounts changes."""
    named = ("input_mtok", "output_mtok", "cache_read_mtok", "cache_write_mtok")
    amounts = [getattr(prices, name) for name in named]
    if amounts[0] is None or amounts[1] is None:
        return None

    def at(input_tokens: int, *tiers: tuple[int, Price]) -> Price:
        read, write, cached, caching = (_nanos(amount, input_tokens) for amount in amounts)
        return Price(read, write, cached, caching, tiers)

    starts = sorted({tier.start for amount in amounts for tier in getattr(amount, "tiers", ())})
    return at(0, *((start, at(start + 1)) for start in starts))


def _nanos(amount: Any, input_tokens: int) -> Any:
    """A price per million tokens, for an input so long, in nano-dollars; None stays None."""
    if amount is None:
        return None
    if not isinstance(amount, Decimal | int | float):
        longer = [tier.price for tier in amount.tiers if input_tokens > tier.start]
        amount = longer[-1] if longer else amount.base
    return int(Decimal(str(amount)) * NANOS_PER_DOLLAR)
