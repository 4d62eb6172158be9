from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrion.domain import Price, Usage, dollars, nanos, usd

TOKENS = st.integers(0, 2_000_000)
PER_MILLION = st.integers(0, 200_000_000_000)  # up to $200


@pytest.mark.parametrize(
    ("amount", "expected"),
    [
        (1, 1_000_000_000),
        (0.1, 100_000_000),
        ("2.50", 2_500_000_000),
        (Decimal("1e-9"), 1),
        (1e-10, 1),
        (0, 0),
        ("0.0000000011", 2),
    ],
)
def test_dollars_become_nanos_rounded_up(amount, expected):
    assert nanos(amount) == expected


@pytest.mark.parametrize("amount", ["ten", "", float("nan"), float("inf"), None])
def test_what_is_no_amount_is_named(amount):
    with pytest.raises(ValueError, match="not an amount of money"):
        nanos(amount)


@given(st.integers(0, 10**15))
def test_an_amount_survives_the_way_through_json(amount):
    """Outcomes carry dollars as a float; replay must find the very nano-dollars again."""
    assert nanos(repr(usd(amount))) == amount


@pytest.mark.parametrize(
    ("amount", "shown"),
    [
        (0, "$0"),
        (1, "$0.000000001"),
        (1_500, "$0.00000150"),
        (150_000, "$0.000150"),
        (12_300_000, "$0.0123"),
        (1_234_560_000_000, "$1,234.56"),
    ],
)
def test_dollars_for_people(amount, shown):
    assert dollars(amount) == shown


@given(st.integers(1, 10**16))
def test_no_amount_is_shown_as_nothing(amount):
    assert float(dollars(amount).strip("$").replace(",", "")) > 0


def test_cached_tokens_are_priced_once():
    price = Price(input=1_000_000_000, output=0, cache_read=100_000_000, cache_write=1_250_000_000)
    usage = Usage(input_tokens=1_000, cache_read_tokens=600, cache_write_tokens=300)
    assert price.cost(usage) == 100 * 1_000 + 600 * 100 + 300 * 1_250


def test_cache_prices_default_to_the_input_price():
    price = Price(input=1_000_000_000, output=0)
    assert price.cost(Usage(input_tokens=1_000, cache_read_tokens=600, cache_write_tokens=300)) == price.cost(
        Usage(input_tokens=1_000)
    )


def test_reasoning_tokens_are_within_the_output():
    price = Price(input=0, output=1_000_000_000)
    assert price.cost(Usage(output_tokens=100, reasoning_tokens=80)) == 100_000


def test_a_call_is_rounded_up_once():
    third = Price(input=333_333, output=333_333)  # a third of a nano-dollar a token
    assert third.cost(Usage(input_tokens=1)) == 1
    assert third.cost(Usage(input_tokens=1, output_tokens=1)) == 1  # not 1 for each
    assert third.cost(Usage()) == 0


@st.composite
def usages(draw):
    tokens = draw(TOKENS)
    read = draw(st.integers(0, tokens))
    return Usage(tokens, draw(TOKENS), read, draw(st.integers(0, tokens - read)))


@st.composite
def prices(draw):
    return Price(draw(PER_MILLION), draw(PER_MILLION), draw(st.none() | PER_MILLION), draw(st.none() | PER_MILLION))


@given(prices(), usages())
def test_cost_is_the_exact_sum_rounded_up(price, usage):
    read = price.input if price.cache_read is None else price.cache_read
    write = price.input if price.cache_write is None else price.cache_write
    plain = usage.input_tokens - usage.cache_read_tokens - usage.cache_write_tokens
    exact = Fraction(
        plain * price.input
        + usage.cache_read_tokens * read
        + usage.cache_write_tokens * write
        + usage.output_tokens * price.output,
        1_000_000,
    )
    assert exact <= price.cost(usage) < exact + 1


@given(prices(), usages(), TOKENS, TOKENS)
def test_a_bound_is_never_below_a_cost_within_it(price, usage, more_in, more_out):
    assert price.bound(usage.input_tokens + more_in, usage.output_tokens + more_out) >= price.cost(usage)
