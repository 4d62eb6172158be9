"""The section `budgets:` of orchestrion.yaml: accounts and their limits, as people write them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeAlias
from zoneinfo import ZoneInfo, available_timezones

from pydantic import BeforeValidator, Field, field_validator, model_validator

from orchestrion.domain import nanos
from orchestrion.sections import Section, misplaced, nearest

Unit: TypeAlias = Literal["money", "tokens", "attention"]
"""What a limit counts: nano-dollars, tokens, or seconds of people's attention."""

Period: TypeAlias = Literal["run", "day", "week", "month", "forever"]
"""How long a limit counts before it begins anew."""

Class: TypeAlias = Literal["critical", "standard", "background"]
"""Who is served first where money is scarce."""

NAME = re.compile(r"[\w.@:+-]+(/[\w.@:+-]+)*")
"""The path of an account: "company/support"."""

MOST = 9_000_000_000.0
"""Dollars. Nano-dollars of a little more no longer fit into 64 bits."""


def _dollars(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{value!r} is not an amount in dollars: write a number, such as 10.50")
    return value


def known_zone(name: str) -> str:
    """A time zone's name, as it is. Raises an error for what is none."""
    try:
        ZoneInfo(name)
    except (ValueError, OSError, KeyError):  # a path, a folder of the zones, no such zone
        near = nearest(name, available_timezones())
        way = near if near.startswith(" Did") else " Write it as Europe/Berlin, or UTC."
        raise misplaced(f"{name!r} is not a time zone.{way}") from None
    return name


WORDS: Mapping[Unit, str] = {"money": "limit", "tokens": "tokens", "attention": "minutes"}
"""What a limit on a unit is called in the settings."""

Limit = Annotated[float, BeforeValidator(_dollars), Field(ge=0, le=MOST, allow_inf_nan=False)]
Tokens = Annotated[int, Field(ge=0, le=2**62)]
Minutes = Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)]
Fraction = Annotated[float, Field(gt=0, le=1)]
Seconds = Annotated[float, Field(ge=0, le=604_800, allow_inf_nan=False)]


class LimitSettings(Section):
    """What may be spent in each period: dollars, tokens, minutes of people's attention."""

    limit: Limit | None = None
    tokens: Tokens | None = None
    minutes: Minutes | None = None
    period: Period | None = None

    @model_validator(mode="after")
    def _period_of_something(self) -> LimitSettings:
        if self.period is not None and not self.given():
            raise ValueError(f"`period: {self.period}` of what? Give limit (dollars), tokens or minutes")
        return self

    def given(self) -> dict[tuple[Unit, Period], int]:
        """The amounts that stand here, in nano-dollars, tokens or seconds."""
        amounts: dict[Unit, int | None] = {
            "money": None if self.limit is None else nanos(self.limit),
            "tokens": self.tokens,
            "attention": None if self.minutes is None else round(self.minutes * 60),
        }
        return {(unit, self.period or "forever"): amount for unit, amount in amounts.items() if amount is not None}


class BudgetSettings(LimitSettings):
    """An account: its limits, one period's at the top, others under ``limits``. What is not given is as with its parent."""

    limits: tuple[LimitSettings, ...] = ()
    rank: Class | None = Field(default=None, alias="class")
    time_zone: str | None = None
    warn: tuple[Fraction, ...] | None = None
    wait_s: Seconds | None = None
    currency: str = "USD"

    @field_validator("time_zone")
    @classmethod
    def _known_zone(cls, value: str | None) -> str | None:
        return None if value is None else known_zone(value)

    @field_validator("warn")
    @classmethod
    def _in_order(cls, value: tuple[float, ...] | None) -> tuple[float, ...] | None:
        return None if value is None else tuple(sorted(set(value)))

    @field_validator("currency")
    @classmethod
    def _dollars_only(cls, value: str) -> str:
        if value != "USD":
            raise ValueError(
                f"{value!r}: accounts are kept in US dollars, as models are priced. Give the limit in dollars, and leave `currency` out"
            )
        return value

    @model_validator(mode="after")
    def _no_contradiction(self) -> BudgetSettings:
        said = self.given()
        for i, one in enumerate(self.limits):
            given = one.given()
            if not given:
                raise misplaced("a limit of what? Give limit (dollars), tokens or minutes.", "limits", str(i))
            for (unit, period), amount in given.items():
                if said.setdefault((unit, period), amount) != amount:
                    each = "for good" if period == "forever" else f"per {period}"
                    raise misplaced(
                        f"two limits contradict each other: {WORDS[unit]} {each} has another amount above. Remove one.",
                        "limits",
                        str(i),
                    )
        return self

    def caps(self) -> dict[tuple[Unit, Period], int]:
        """Every limit of the account."""
        return {cap: amount for one in (self, *self.limits) for cap, amount in one.given().items()}


def check_tree(budgets: Mapping[str, BudgetSettings]) -> None:
    """Names are paths, and what a path stands under is there. Raises an error that says where."""
    for name in budgets:
        if not NAME.fullmatch(name):
            raise misplaced(
                f"{name!r} is not the name of an account: words with slashes between them, such as company/support.",
                name,
            )
    for name in budgets:
        above = name.rpartition("/")[0]
        if above and above not in budgets:
            near = nearest(above, budgets)
            way = near if near.startswith(" Did") else ""
            raise misplaced(
                f"there is no account '{above}' above it.{way} `{above}: {{}}` is one without limits of its own.", name
            )
