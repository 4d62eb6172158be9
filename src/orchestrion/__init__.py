"""Orchestrion: one person directs models, tools and people at a business's work; checked answers at a known cost.

    domain · errors            facts, and everything that can go wrong
    settings · telemetry       orchestrion.yaml and the environment; names of spans
    store · journal · ledger   the database; the durable memory of runs; money held and posted
    workers · checks · policy  who answers; what is asked about an answer; who is asked next
    evidence                   recorded outcomes
    engine                     the metered ask, the loop that performs a step, workflows, batches
    app                        the composition root
    cli · demo                 the command line; the household tax demo
    testing                    fakes: ScriptedWorker, MemoryLedger, MemoryJournal
"""

from orchestrion.app import Orchestrion
from orchestrion.checks.rules import length, matches
from orchestrion.domain import Attempt, Task, Verdict
from orchestrion.engine.scope import gather, map, wait_for  # noqa: A004  # read as orchestrion.map
from orchestrion.engine.step import Step, step
from orchestrion.engine.workflow import Run, workflow
from orchestrion.errors import OrchestrionError, StepFailed
from orchestrion.policy.combinators import agreement, best_effort, cascade, corrected, fallback, fixed, mix, retried, router
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
    "length",
    "map",
    "matches",
    "mix",
    "retried",
    "router",
    "step",
    "wait_for",
    "workflow",
]
