"""A judge asked about answers that are there already: each asking is a run, metered and remembered like any other."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from orchestrion.checks.judge import FIRST, SECOND, TIE, Judge
from orchestrion.domain import Attempt, Call, Task
from orchestrion.engine.ask import Asker
from orchestrion.engine.perform import Site
from orchestrion.engine.scope import here
from orchestrion.engine.step import Step
from orchestrion.engine.workflow import Workflow

_WITH_A_FIRST: Mapping[str, str] = {FIRST: "A>B", SECOND: "B>A", TIE: "A=B"}
_WITH_B_FIRST: Mapping[str, str] = {FIRST: "B>A", SECOND: "A>B", TIE: "A=B"}


@dataclass(frozen=True, slots=True)
class Case:
    """What a judge is asked about: an answer to a task, and for a pairwise judge another."""

    task_id: str
    prompt: str
    answer: str
    other: str | None = None
    reference: Any = None
    instructions: str = ""


@dataclass(frozen=True, slots=True)
class Judgement:
    """What it said: the raw score in [0, 1], or the preference with each answer in front; None where twice it was nonsense."""

    score: float | None = None
    decisions: tuple[str | None, str | None] = (None, None)


def judging(judge: Judge) -> Workflow[Judgement]:
    """A workflow of one question to this judge. A run of it fails where the judge's worker does not answer."""
    # A step that is never performed: it gives the judge's asks a name in the journal, in spans and for simulated models.
    asked = Step(re.sub(r"[/#~\s]+", "-", judge.name))

    async def ask_judge(case: Case) -> Judgement:
        scope = here()
        reference = case.reference if judge.reference else None
        task = Task(case.task_id, case.prompt, {}, reference, asked.name, case.instructions)
        asker = Asker(Site(scope.execution, asked, task, scope.key(asked.name)), Attempt(Call("recorded")), {})
        if judge.pairwise:
            a_first, b_first = await judge.compare(task, case.answer, case.other or "", asker)
            return Judgement(decisions=(_WITH_A_FIRST.get(a_first.value), _WITH_B_FIRST.get(b_first.value)))
        said = await judge.score(task, case.answer, asker)
        return Judgement(None if said.value is None else judge.raw(said))

    return Workflow(ask_judge, name=asked.name, ref=f"judge:{asked.name}")
