"""A span around every call of a worker: wrapped around workers only where somebody listens."""

from __future__ import annotations

from orchestrion import telemetry
from orchestrion.domain import FREE, NANOS_PER_DOLLAR, Reply, Request
from orchestrion.telemetry import Tracing
from orchestrion.workers.protocol import OnDelta, Worker
from orchestrion.workers.wrapper import Wrapper


class TracedWorker(Wrapper):
    """Asks the worker inside, and tells its tokens, cost and failure to a span. Never the texts."""

    def __init__(self, worker: Worker, tracing: Tracing) -> None:
        super().__init__(worker)
        self._tracing = tracing

    async def reply(self, request: Request, on_delta: OnDelta | None = None) -> Reply:
        with self._tracing.call(self.name) as span:
            reply = await self._worker.reply(request, on_delta)
            cost = reply.cost if reply.cost is not None else (self.price or FREE).cost(reply.usage)
            span.set_attribute(telemetry.INPUT_TOKENS, reply.usage.input_tokens)
            span.set_attribute(telemetry.OUTPUT_TOKENS, reply.usage.output_tokens)
            span.set_attribute(telemetry.CACHE_READ_TOKENS, reply.usage.cache_read_tokens)
            span.set_attribute(telemetry.COST_USD, cost / NANOS_PER_DOLLAR)
            if reply.finish_reason:
                span.set_attribute(telemetry.FINISH_REASONS, [reply.finish_reason])
            return reply
