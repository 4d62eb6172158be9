"""Support tickets → a topic: three cheap answers must agree, else a better model is asked; contracts go to it at once.

Offline: the models are simulated, and so are the dollars. Run it with `python examples/support_triage.py`.
"""

import asyncio
from collections import Counter

from orchestrion import Orchestrion, Run, Step, agreement, cascade, router
from orchestrion.domain import Price, dollars, nanos
from orchestrion.settings import Settings
from orchestrion.workers.simulated import SimulatedWorker

# Ticket → the plan of the customer, the text, and the right topic (which only the simulated models know).
TICKETS = {
    "t1": ("basic", "Where is my parcel?", "delivery"),
    "t2": ("basic", "I was charged twice.", "billing"),
    "t3": ("contract", "Our lorry stands at your gate since six.", "delivery"),
    "t4": ("basic", "The screen flickers after the update.", "technical"),
    "t5": ("basic", "Please send the invoice again.", "billing"),
    "t6": ("contract", "The interface answers with status 500.", "technical"),
    "t7": ("basic", "The courier left it with nobody.", "delivery"),
    "t8": ("basic", "It does not switch on any more.", "technical"),
}

triage = Step(
    "triage",
    "Name the topic of the ticket in one word: delivery, billing or technical.",
    policy=router(
        "plan",
        {"contract": "frontier"},
        otherwise=cascade(agreement("cheap", samples=3, accept=0.9), "frontier"),
    ),
)


async def main() -> None:
    answers = {("triage", name): topic for name, (_, _, topic) in TICKETS.items()}
    cheap = SimulatedWorker("cheap", price=Price(nanos(0.15), nanos(0.6)), skill=0.85, seed=2, answers=answers)
    frontier = SimulatedWorker("frontier", price=Price(nanos(2.5), nanos(10)), answers=answers)
    async with Orchestrion.open(Settings(database=":memory:"), workers=[cheap, frontier]) as o:
        runs: list[Run] = await asyncio.gather(
            *(o.run(triage, text, id=name, tags={"plan": plan}) for name, (plan, text, _) in TICKETS.items())
        )
        said: dict[str, list[str]] = {}
        calls: Counter[str] = Counter()
        for outcome in o.outcomes():
            said.setdefault(outcome.task_id, []).append(f"{outcome.worker}: {outcome.answer}")
            calls[outcome.worker] += 1
    for run in runs:
        right = run.result == TICKETS[run.id][2]
        print(f"{run.id}  {'✓' if right else '✗'} {run.result:<10} {', '.join(said[run.id])}")
    asked = ", ".join(f"{worker} {n}×" for worker, n in calls.items())
    print(f"asked: {asked}; simulated cost: {dollars(sum(run.cost for run in runs))}")


if __name__ == "__main__":
    asyncio.run(main())
