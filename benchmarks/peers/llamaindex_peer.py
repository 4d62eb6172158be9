"""LlamaIndex Workflows: one pass through a step that loops a step; durable by the WorkflowServer's SqliteWorkflowStore."""

import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from llama_agents.server import SqliteWorkflowStore, WorkflowServer
from measure import Engine, Node, Peer, main
from workflows import Workflow, step
from workflows.events import Event, StartEvent, StopEvent


class Value(Event):
    value: int


def chain(node: Node, steps: int) -> Workflow:
    class Chain(Workflow):
        @step
        async def begin(self, ev: StartEvent) -> Value | StopEvent:
            return Value(value=await node(0)) if steps > 1 else StopEvent(result=await node(0))

        @step
        async def go_on(self, ev: Value) -> Value | StopEvent:
            value = await node(ev.value)
            return Value(value=value) if value < steps else StopEvent(result=value)

    return Chain(timeout=None)


@asynccontextmanager
async def opened(node: Node, steps: int, folder: Path | None) -> AsyncIterator[Engine]:
    workflow = chain(node, steps)
    if folder is None:

        async def run(id: str) -> int:
            return await workflow.run()

        yield Engine(run)
        return
    import httpx

    path = str(folder / "workflows.db")
    server = WorkflowServer(workflow_store=SqliteWorkflowStore(path))
    server.add_workflow("chain", workflow)
    async with server.contextmanager():
        transport = httpx.ASGITransport(app=server.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://server", timeout=None) as client:

            async def run_durably(id: str) -> int:
                answer = await client.post("/workflows/chain/run", json={"handler_id": id})
                return answer.json()["result"]["value"]["result"]

            connection = sqlite3.connect(path)

            async def stored() -> int:
                return connection.execute("SELECT count(*) FROM ticks").fetchone()[0]

            journal_mode = connection.execute("PRAGMA journal_mode").fetchone()[0]
            yield Engine(run_durably, stored, {"journal_mode": journal_mode, "synchronous": "SQLite's default, FULL"})
            connection.close()


if __name__ == "__main__":
    packages = ("llama-index-workflows", "llama-agents-server")
    main(Peer("LlamaIndex Workflows", packages, "from workflows import Workflow, step", opened))
