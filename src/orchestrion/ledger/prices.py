"""Prices of models, from genai-prices' table (its network update stays off)."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from orchestrion.domain import NANOS_PER_DOLLAR, Price


def listed_price(model: str, *, base_url: str | None) -> Price | None:
    """What genai-prices lists for a model of OpenAI's, or of the provider whose API ``base_url`` is; None if unknown.

    A price that rises with the length of the prompt counts at its dearest, since a bound must hold.
    """
    from genai_prices.data_snapshot import get_snapshot  # 370 ms, and only models without a price of their own need it

    try:
        _, found = get_snapshot().find_provider_model(model, None, None if base_url else "openai", base_url)
    except LookupError:
        return None
    prices = found.get_prices(datetime.now(tz=UTC))
    read, write = _nanos(prices.input_mtok), _nanos(prices.output_mtok)
    if read is None or write is None:
        return None
    return Price(
        input=read, output=write, cache_read=_nanos(prices.cache_read_mtok), cache_write=_nanos(prices.cache_write_mtok)
    )


def _nanos(price: Any) -> int | None:
    """A price per million tokens in nano-dollars; of tiers, the dearest."""
    if price is None:
        return None
    amounts = (
        [price] if isinstance(price, Decimal | int | float) else [price.base, *(tier.price for tier in price.tiers)]
    )
    return max(int(Decimal(str(amount)) * NANOS_PER_DOLLAR) for amount in amounts)
