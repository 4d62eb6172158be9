"""The floor: no engine at all. A step is an await; durable, it is one commit in SQLite (WAL, synchronous FULL)."""

import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

from measure import Engine, Node, Peer, main


@asynccontextmanager
async def opened(node: Node, steps: int, folder: Path | None) -> AsyncIterator[Engine]:
    async def run(id: str) -> int:
        value = 0
        for _ in range(steps):
            value = await node(value)
        return value

    if folder is None:
        yield Engine(run)
        return
    with closing(sqlite3.connect(folder / "bare.db", isolation_level=None)) as connection:
        connection.executescript("PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; CREATE TABLE step (run, value)")

        async def run_durably(id: str) -> int:
            value = 0
            for _ in range(steps):
                value = await node(value)
                connection.execute("INSERT INTO step VALUES (?, ?)", (id, value))
            return value

        async def stored() -> int:
            return connection.execute("SELECT count(*) FROM step").fetchone()[0]

        yield Engine(run_durably, stored)


if __name__ == "__main__":
    main(Peer("bare Python", (), "pass", opened))
