"""What commands on accounts share: amounts as people type them, and the books, to look at or to change."""

from __future__ import annotations

import asyncio
import getpass
from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from typing import Any, TypeVar

import click

from orchestrion.app import Orchestrion
from orchestrion.domain import Money, nanos
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


class Amount(click.ParamType[Any]):
    """An option's amount, in the ledger's own unit."""

    def __init__(self, name: str, read: Callable[[str], int], *, none: bool = False) -> None:
        self.name = name
        self._read, self._none = read, none

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str) or (self._none and value == NONE):
            return value
        try:
            return self._read(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


DOLLARS = Amount("dollars", read_dollars)
READ: dict[Any, Callable[[str], int]] = {"money": read_dollars, "tokens": _tokens, "attention": _seconds}

by_option = click.option(
    "--by", metavar="NAME", default=getpass.getuser, help="Who changes this (default: who is logged in)."
)


def look(config: str | None, read: Callable[[Orchestrion, Session], T]) -> T:
    """What the books say; where there is no database yet, what they will say once there is one: to look makes none."""
    settings = read_settings(config)
    return change(settings if kept(settings) else settings.model_copy(update={"database": ":memory:"}), read)


def kept(settings: Settings) -> bool:
    """Whether there is a database yet."""
    path = settings.database_path
    return path is not None and path.exists()


def change(settings: Settings, work: Callable[[Orchestrion, Session], T]) -> T:
    """Work on accounts and limits in one transaction: all of it or, where it raises, nothing."""

    async def go() -> T:
        async with Orchestrion.open(settings) as o:
            with o.books.transaction() as session:
                return work(o, session)

    return asyncio.run(go())


def change_calls(settings: Settings, work: Callable[[Session], T]) -> T:
    """The same, on the entries of calls: they stand in the database of the machine that made them."""

    async def go() -> T:
        async with Orchestrion.open(settings) as o:
            with o.database.transaction() as session:
                return work(session)

    return asyncio.run(go())
