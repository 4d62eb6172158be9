"""Orchestrion: one person directs models, tools and people at a business's work; checked answers at a known cost.

domain · errors            facts, and everything that can go wrong
settings · telemetry       orchestrion.yaml and the environment; names of spans
store · journal · ledger   the database; the durable memory of runs; money held and posted
workers · checks · policy  who answers; what is asked about an answer; who is asked next
evidence                   recorded outcomes
review                     what people are shown, and their decisions
engine                     the metered ask, the loop that performs a step, workflows, batches
report · markup            one page for people who do not speak tokens; cards for notebooks
staff · app                who can be asked; the composition root
cli · demo                 the command line; the household tax demo
testing                    fakes: ScriptedWorker, MemoryLedger, MemoryJournal
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from orchestrion.app import Orchestrion
    from orchestrion.checks.judge import judge
    from orchestrion.checks.rules import length, matches
    from orchestrion.domain import Attempt, Task, Verdict
    from orchestrion.engine.scope import gather, map, wait_for  # noqa: A004  # read as orchestrion.map
    from orchestrion.engine.step import Step, step
    from orchestrion.engine.workflow import Run, workflow
    from orchestrion.errors import OrchestrionError, StepFailed
    from orchestrion.policy.combinators import (
        agreement,
        best_effort,
        cascade,
        corrected,
        fallback,
        fixed,
        retried,
        router,
    )
    from orchestrion.policy.protocol import Policy

__all__ = [
    "Attempt",
    "Orchestrion",
    "OrchestrionError",
    "Policy",
    "Run",
    "Step",
    "StepFailed",
    "Task",
    "Verdict",
    "agreement",
    "best_effort",
    "cascade",
    "corrected",
    "fallback",
    "fixed",
    "gather",
    "judge",
    "length",
    "map",
    "matches",
    "retried",
    "router",
    "step",
    "wait_for",
    "workflow",
]

# Where each name lives: loaded when it is first used, so that `orchestrion --help` does not wait for pydantic.
_HOMES = {
    "Attempt": "orchestrion.domain",
    "Orchestrion": "orchestrion.app",
    "OrchestrionError": "orchestrion.errors",
    "Policy": "orchestrion.policy.protocol",
    "Run": "orchestrion.engine.workflow",
    "Step": "orchestrion.engine.step",
    "StepFailed": "orchestrion.errors",
    "Task": "orchestrion.domain",
    "Verdict": "orchestrion.domain",
    "agreement": "orchestrion.policy.combinators",
    "best_effort": "orchestrion.policy.combinators",
    "cascade": "orchestrion.policy.combinators",
    "corrected": "orchestrion.policy.combinators",
    "fallback": "orchestrion.policy.combinators",
    "fixed": "orchestrion.policy.combinators",
    "gather": "orchestrion.engine.scope",
    "judge": "orchestrion.checks.judge",
    "length": "orchestrion.checks.rules",
    "map": "orchestrion.engine.scope",
    "matches": "orchestrion.checks.rules",
    "retried": "orchestrion.policy.combinators",
    "router": "orchestrion.policy.combinators",
    "step": "orchestrion.engine.step",
    "wait_for": "orchestrion.engine.scope",
    "workflow": "orchestrion.engine.workflow",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'orchestrion' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
