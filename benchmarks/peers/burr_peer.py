"""Burr: one action of an application a step, an application a run; durable by AsyncSQLitePersister."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path

from burr.core import ApplicationBuilder, GraphBuilder, State, action
from burr.core.graph import Graph
from burr.integrations.persisters.b_aiosqlite import AsyncSQLitePersister
from measure import Engine, Node, Peer, main


def chain(node: Node, steps: int) -> Graph:
    @action(reads=["value"], writes=["value"])
    async def step(state: State) -> State:
        return state.update(value=await node(state["value"]))

    names = [f"step{i}" for i in range(steps)]
    return GraphBuilder().with_actions(**dict.fromkeys(names, step)).with_transitions(*pairwise(names)).build()


@asynccontextmanager
async def opened(node: Node, steps: int, folder: Path | None) -> AsyncIterator[Engine]:
    graph, last = chain(node, steps), f"step{steps - 1}"

    async def finished(builder: ApplicationBuilder) -> int:
        app = await builder.abuild()
        _, _, state = await app.arun(halt_after=[last])
        return state["value"]

    if folder is None:

        async def run(id: str) -> int:
            new = ApplicationBuilder().with_graph(graph).with_identifiers(app_id=id)
            return await finished(new.with_entrypoint("step0").with_state(value=0))

        yield Engine(run)
        return
    async with AsyncSQLitePersister.from_values(db_path=str(folder / "burr.db")) as persister:
        await persister.initialize()
        await persister.connection.execute("PRAGMA journal_mode=WAL")  # faster than its default, and as safe

        async def run_durably(id: str) -> int:
            new = ApplicationBuilder().with_graph(graph).with_identifiers(app_id=id)
            resumable = new.initialize_from(
                persister, resume_at_next_action=True, default_state={"value": 0}, default_entrypoint="step0"
            )
            return await finished(resumable.with_state_persister(persister))

        async def value(sql: str) -> int | str:
            async with persister.connection.execute(sql) as cursor:
                return (await cursor.fetchone())[0]

        settings = {name: await value(f"PRAGMA {name}") for name in ("journal_mode", "synchronous")}
        yield Engine(run_durably, lambda: value("SELECT count(*) FROM burr_state"), settings)


if __name__ == "__main__":
    main(Peer("Burr", ("apache-burr", "aiosqlite"), "from burr.core import ApplicationBuilder, action", opened))
