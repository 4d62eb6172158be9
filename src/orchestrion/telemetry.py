"""Every span and attribute name, in one place (OpenTelemetry's gen_ai conventions where they have one).

Spans are made only where the program has set a tracer provider up; without one a step costs nothing more.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Final

SPAN_RUN: Final = "invoke_workflow"
SPAN_STEP: Final = "orchestrion.step"
SPAN_CALL: Final = "chat"
OPERATION: Final = "gen_ai.operation.name"
REQUEST_MODEL: Final = "gen_ai.request.model"
INPUT_TOKENS: Final = "gen_ai.usage.input_tokens"
OUTPUT_TOKENS: Final = "gen_ai.usage.output_tokens"
CACHE_READ_TOKENS: Final = "gen_ai.usage.cache_read.input_tokens"
FINISH_REASONS: Final = "gen_ai.response.finish_reasons"
RUN_ID: Final = "orchestrion.run.id"
STEP_NAME: Final = "orchestrion.step.name"
STEP_KEY: Final = "orchestrion.step.key"
COST_USD: Final = "orchestrion.cost_usd"
ERROR_TYPE: Final = "error.type"


class Tracing:
    """Spans of runs and steps; ``on`` only where somebody listens."""

    def __init__(self) -> None:
        from opentelemetry import trace  # 50 ms, and only an app that is open needs it

        self._tracer = trace.get_tracer("orchestrion")
        self.on = not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider | trace.NoOpTracerProvider)

    def run(self, workflow: str, run_id: str) -> AbstractContextManager[Any]:
        """A span around a run."""
        return self._span(f"{SPAN_RUN} {workflow}", {OPERATION: SPAN_RUN, RUN_ID: run_id})

    def step(self, name: str, key: str) -> AbstractContextManager[Any]:
        """A span around a step."""
        return self._span(f"{SPAN_STEP} {name}", {STEP_NAME: name, STEP_KEY: key})

    def call(self, model: str) -> AbstractContextManager[Any]:
        """A span around a worker's call."""
        return self._span(f"{SPAN_CALL} {model}", {OPERATION: SPAN_CALL, REQUEST_MODEL: model})

    @contextmanager
    def _span(self, name: str, attributes: dict[str, str]) -> Iterator[Any]:
        """A span that an error ends with its kind alone: messages quote inputs, answers and what servers said."""
        from opentelemetry.trace import StatusCode

        with self._tracer.start_as_current_span(
            name, attributes=attributes, record_exception=False, set_status_on_exception=False
        ) as span:
            try:
                yield span
            except Exception as error:
                span.set_attribute(ERROR_TYPE, getattr(error, "kind", type(error).__name__))
                span.set_status(StatusCode.ERROR)
                raise
