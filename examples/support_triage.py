"""Support tickets → a topic: three cheap answers must agree, else a better model is asked; contracts go to it at once.

python examples/support_triage.py runs offline; with --live by real models.
"""

import asyncio
from collections import Counter, defaultdict
from typing import Literal

from pydantic import BaseModel
from stage import play

from orchestrion import Orchestrion, Run, Step, agreement, cascade, router
from orchestrion.domain import Money


class Triage(BaseModel):
    topic: Literal["delivery", "billing", "technical"]


# Ticket → the plan of the customer, and the text.
TICKETS = {
    "t1": ("basic", "Where is my parcel?"),
    "t2": ("basic", "I was charged twice."),
    "t3": ("contract", "Our lorry stands at your gate since six."),
    "t4": ("basic", "The screen flickers after the update."),
    "t5": ("basic", "The parcel came, the invoice did not: I cannot pay."),
    "t6": ("contract", "The interface answers with status 500."),
    "t7": ("basic", "The courier left it with nobody."),
    "t8": ("basic", "It does not switch on any more."),
}

triage = Step(
    "triage",
    "Name the topic of the support ticket.",
    output=Triage,
    policy=router(
        "plan",
        {"contract": "frontier"},
        otherwise=cascade(agreement("cheap", samples=3, accept=0.9), "frontier"),
    ),
)


async def main(o: Orchestrion) -> Money:
    runs: list[Run] = await asyncio.gather(
        *(o.run(triage, text, id=name, tags={"plan": plan}) for name, (plan, text) in TICKETS.items())
    )
    said, calls = defaultdict(list), Counter[str]()
    for outcome in o.outcomes():
        said[outcome.task_id].append(f"{outcome.worker}: {Triage.model_validate_json(outcome.output or '').topic}")
        calls[outcome.worker] += 1
    for run in runs:
        print(f"{run.id}  {run.result.topic:<10} {', '.join(said[run.id])}")
    print("asked:", ", ".join(f"{worker} {n}×" for worker, n in calls.items()))
    return sum(run.cost for run in runs)


if __name__ == "__main__":
    play(main)
