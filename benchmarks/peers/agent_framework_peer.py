"""Microsoft Agent Framework: one executor of a workflow a step; durable by FileCheckpointStorage."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from agent_framework import (
    Executor,
    FileCheckpointStorage,
    Workflow,
    WorkflowBuilder,
    WorkflowContext,
    handler,
)
from measure import Engine, Node, Peer, main


class Step(Executor):
    def __init__(self, id: str, node: Node) -> None:
        super().__init__(id=id)
        self.node = node

    @handler
    async def perform(self, value: int, ctx: WorkflowContext[int]) -> None:
        await ctx.send_message(await self.node(value))


class LastStep(Step):
    @handler
    async def perform(self, value: int, ctx: WorkflowContext[None, int]) -> None:
        await ctx.yield_output(await self.node(value))


def chain(node: Node, steps: int, storage: FileCheckpointStorage | None) -> Workflow:
    executors = [*(Step(f"step{i}", node) for i in range(steps - 1)), LastStep("last", node)]
    builder = WorkflowBuilder(name="chain", start_executor=executors[0], checkpoint_storage=storage)
    return builder.add_chain(executors).build()


@asynccontextmanager
async def opened(node: Node, steps: int, folder: Path | None) -> AsyncIterator[Engine]:
    storage = FileCheckpointStorage(folder) if folder else None
    idle: list[Workflow] = []  # a workflow performs one run at a time, and takes as long to build as four steps

    async def run(id: str) -> int:
        workflow = idle.pop() if idle else chain(node, steps, storage)
        (value,) = (await workflow.run(0)).get_outputs()
        idle.append(workflow)
        return value

    async def stored() -> int:
        return len(await storage.list_checkpoint_ids(workflow_name="chain"))

    yield Engine(run, stored if storage else None)


if __name__ == "__main__":
    start = "from agent_framework import Executor, WorkflowBuilder, WorkflowContext, handler"
    main(Peer("Agent Framework", ("agent-framework-core",), start, opened))
