"""The floors: what a cap comes to when it is written in ten lines."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
from cap import BOUND, DOLLARS_PER_TOKEN, LIMIT, MESSAGES, MODEL, Asked, main


class Refused(Exception):
    """Over the cap."""


async def cost_of(session: aiohttp.ClientSession, base_url: str) -> float:
    body = {"model": MODEL, "messages": MESSAGES, "max_tokens": LIMIT}
    async with session.post(f"{base_url}/chat/completions", json=body) as response:
        response.raise_for_status()
        return (await response.json())["usage"]["completion_tokens"] * DOLLARS_PER_TOKEN


@asynccontextmanager
async def check_then_book(base_url: str, cap: float) -> AsyncIterator[Asked]:
    """Looks at what is spent before a call, and books it after."""
    spent = 0.0
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

        async def ask() -> None:
            nonlocal spent
            if spent >= cap:
                raise Refused
            spent += await cost_of(session, base_url)

        yield ask


@asynccontextmanager
async def reserve_or_refuse(base_url: str, cap: float) -> AsyncIterator[Asked]:
    """Sets the bound aside before a call, refuses what does not fit, and gives back the rest."""
    spent = 0.0
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

        async def ask() -> None:
            nonlocal spent
            if spent + BOUND > cap + 1e-12:
                raise Refused
            spent += BOUND
            spent += await cost_of(session, base_url) - BOUND

        yield ask


if __name__ == "__main__":
    main({"check, then book": check_then_book, "reserve or refuse": reserve_or_refuse}, "aiohttp")
