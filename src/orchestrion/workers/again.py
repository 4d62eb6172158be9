"""Asking again by itself what certainly was not billed: what every wire has in common.

Whatever else goes wrong is a WorkerFailed that the policy sees, since asking again may cost again.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable

from orchestrion.domain import Reply
from orchestrion.errors import WorkerFailed
from orchestrion.workers.protocol import unsent

TRIES = 6
FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 30.0


class NotBilled(Exception):
    """A provider turned the request away before it did any work, or was not reached. ``retry_after`` in seconds."""

    def __init__(self, kind: str, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message
        self.retry_after = retry_after


async def asked(name: str, ask: Callable[[], Awaitable[Reply]], *, key: str | None) -> Reply:
    """``ask()``, again after growing pauses while it raises NotBilled. Raises WorkerFailed, never with the key in it."""
    try:
        return await _asked(name, ask)
    except WorkerFailed as failed:
        if key and key in failed.message:  # servers quote it; errors are shown, journaled and exported
            raise WorkerFailed(failed.kind, failed.message.replace(key, "(key)"), billed=failed.billed) from None
        raise


async def _asked(name: str, ask: Callable[[], Awaitable[Reply]]) -> Reply:
    attempt = 1
    while True:
        try:
            return await ask()
        except NotBilled as refused:
            if attempt == TRIES:
                raise WorkerFailed(refused.kind, f"{name}: {refused.message} ({TRIES} tries)", billed="no") from None
            pause = refused.retry_after
        jitter = random.uniform(0.5, 1.0)  # noqa: S311  # not a secret
        backoff = min(FIRST_PAUSE_S * 2 ** (attempt - 1), LONGEST_PAUSE_S) * jitter
        with unsent():
            await asyncio.sleep(backoff if pause is None else min(pause, LONGEST_PAUSE_S))
        attempt += 1
