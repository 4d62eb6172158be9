"""What commands on accounts share: amounts as people type them, and the books, to look at or to change."""

from __future__ import annotations

import asyncio
import getpass
import os
from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from typing import Any, TypeVar

import click

from orchestrion.app import Orchestrion
from orchestrion.domain import Money, nanos
from orchestrion.ledger.accounts import Unit
from orchestrion.limits import MOST
from orchestrion.settings import Settings, read_settings
from orchestrion.store.session import Session

T = TypeVar("T")
NONE = "none"


def read_dollars(text: str) -> Money:
    """An amount of dollars as it is typed, in nano-dollars. Raises ValueError, with what was wrong."""
    try:
        amount = Decimal(text.strip().removeprefix("$").strip())
    except InvalidOperation:
        raise ValueError(
            f"{text!r} is not an amount in US dollars (there is no other currency): write a number, such as 10.50."
        ) from None
    if not amount.is_finite() or not 0 <= amount <= MOST:
        raise ValueError(f"{text!r} is not an amount that can be spent: between 0 and {MOST:,.0f} dollars.")
    return nanos(amount)


def _tokens(text: str) -> int:
    if not text.strip().isdecimal() or int(text) > 2**62:
        raise ValueError(f"{text!r} is not a number of tokens: write a whole number, such as 2000000.")
    return int(text)


def _seconds(text: str) -> int:
    try:
        minutes = Decimal(text.strip())
    except InvalidOperation:
        minutes = Decimal("nan")
    if not minutes.is_finite() or not 0 <= minutes <= 10**9:
        raise ValueError(f"{text!r} is not a number of minutes: write one such as 90.")
    return round(minutes * 60)


READ: dict[Any, Callable[[str], int]] = {"money": read_dollars, "tokens": _tokens, "attention": _seconds}
"""How an amount of each unit is read."""


def amount(unit: Unit, *, none: bool = False) -> Callable[[click.Context, click.Parameter, str | None], Any]:
    """An option's callback: its amount in the ledger's own unit, or the word "none" where that has a meaning."""

    def read(ctx: click.Context, param: click.Parameter, value: str | None) -> Any:
        if value is None or (none and value == NONE):
            return value
        try:
            return READ[unit](value)
        except ValueError as error:
            raise click.BadParameter(str(error), ctx, param) from None

    return read


def _who() -> str:
    """Who is logged in; a container may have a number only."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"user {os.getuid()}"


by_option = click.option("--by", metavar="NAME", default=_who, help="Who changes this (default: who is logged in).")


def look(config: str | None, read: Callable[[Orchestrion, Session], T]) -> T:
    """What the books say; where there is no database yet, what they will say once there is one: to look makes none."""
    settings = read_settings(config)
    if not kept(settings):
        settings = settings.model_copy(update={"database": ":memory:"})

    def looked(o: Orchestrion) -> T:
        with o.books.reading() as session:  # no transaction: those who pay for calls must not wait for who looks
            return read(o, session)

    return opened(settings, looked)


def kept(settings: Settings) -> bool:
    """Whether there are books yet: a database, or a ledger that machines share."""
    path = settings.database_path
    return settings.ledger is not None or (path is not None and path.exists())


def opened(settings: Settings, use: Callable[[Orchestrion], T]) -> T:
    """What ``use`` makes of the app on these settings."""

    async def go() -> T:
        async with Orchestrion.open(settings) as o:
            return use(o)

    return asyncio.run(go())
