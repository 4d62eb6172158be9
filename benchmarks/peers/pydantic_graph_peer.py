"""pydantic-graph: one step of a graph from GraphBuilder a step. Version 2 has no persistence of its own."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path

from measure import Cannot, Engine, Node, Peer, main
from pydantic_graph import GraphBuilder, StepContext


@asynccontextmanager
async def opened(node: Node, steps: int, folder: Path | None) -> AsyncIterator[Engine]:
    if folder:
        raise Cannot("no durable store: version 2 dropped its persistence")

    async def step(ctx: StepContext[None, None, int]) -> int:
        return await node(ctx.inputs)

    builder = GraphBuilder(input_type=int, output_type=int)
    nodes = [builder.start_node, *(builder.step(step, node_id=f"step{i}") for i in range(steps)), builder.end_node]
    builder.add(*(builder.edge_from(before).to(after) for before, after in pairwise(nodes)))
    graph = builder.build()
    yield Engine(lambda id: graph.run(inputs=0))


if __name__ == "__main__":
    main(Peer("pydantic-graph", ("pydantic-graph",), "from pydantic_graph import GraphBuilder", opened))
