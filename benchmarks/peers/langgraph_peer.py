"""LangGraph: one node of a compiled StateGraph a step; durable by AsyncSqliteSaver."""

import os

os.environ["LANGSMITH_TRACING"] = "false"  # before the imports below: its tracing is no part of what is measured

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path
from typing import TypedDict

import aiosqlite
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.graph import END, START, StateGraph
from measure import Engine, Node, Peer, main


class State(TypedDict):
    value: int


def chain(node: Node, steps: int) -> StateGraph:
    async def step(state: State) -> State:
        return {"value": await node(state["value"])}

    builder = StateGraph(State)
    names = [START, *(f"step{i}" for i in range(steps)), END]
    for name in names[1:-1]:
        builder.add_node(name, step)
    for before, after in pairwise(names):
        builder.add_edge(before, after)
    return builder


@asynccontextmanager
async def opened(node: Node, steps: int, folder: Path | None) -> AsyncIterator[Engine]:
    if folder is None:
        graph = chain(node, steps).compile()

        async def run(id: str) -> int:
            return (await graph.ainvoke({"value": 0}))["value"]

        yield Engine(run)
        return
    async with aiosqlite.connect(folder / "checkpoints.db") as connection:
        saver = AsyncSqliteSaver(connection)
        await saver.setup()  # sets WAL
        await connection.execute("PRAGMA synchronous=FULL")
        durable = chain(node, steps).compile(checkpointer=saver)

        async def run_durably(id: str) -> int:
            config = {"configurable": {"thread_id": id}}
            return (await durable.ainvoke({"value": 0}, config, durability="sync"))["value"]

        async def value(sql: str) -> int | str:
            async with connection.execute(sql) as cursor:
                return (await cursor.fetchone())[0]

        settings = {name: await value(f"PRAGMA {name}") for name in ("journal_mode", "synchronous")}
        yield Engine(run_durably, lambda: value("SELECT count(*) FROM checkpoints"), settings)


PACKAGES = ("langgraph", "langgraph-checkpoint-sqlite", "langchain-core", "aiosqlite")

if __name__ == "__main__":
    main(Peer("LangGraph", PACKAGES, "from langgraph.graph import START, END, StateGraph", opened))
