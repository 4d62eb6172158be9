"""Clauses of contracts → a table: a cheap model first, told once what a check found, then a better one.

Offline: the models are simulated, and so are the dollars. Run it with `python examples/contract_clauses.py`.
"""

import asyncio
from typing import Literal

from pydantic import BaseModel

from orchestrion import Orchestrion, Run, Step, Task, cascade, corrected
from orchestrion.domain import Price, dollars, nanos
from orchestrion.settings import Settings
from orchestrion.workers.simulated import SimulatedWorker


class Clause(BaseModel):
    kind: Literal["payment", "notice", "warranty"]
    party: str
    days: int


CLAUSES = {
    "acme-4": "Acme pays each invoice within 30 days of its receipt.",
    "acme-9": "Northwind may end this agreement with 90 days' notice.",
    "birch-2": "Birch Ltd warrants the goods for 365 days from delivery.",
    "birch-5": "Southgate settles all invoices within 14 days.",
    "cobalt-1": "Cobalt gives notice of any change at least 60 days ahead.",
    "cobalt-7": "Eastbrook warrants its repairs for 180 days.",
}

# What a right answer says. Only the simulated models know it: neither the checks nor the policy see it.
RIGHT = {
    "acme-4": Clause(kind="payment", party="Acme", days=30),
    "acme-9": Clause(kind="notice", party="Northwind", days=90),
    "birch-2": Clause(kind="warranty", party="Birch Ltd", days=365),
    "birch-5": Clause(kind="payment", party="Southgate", days=14),
    "cobalt-1": Clause(kind="notice", party="Cobalt", days=60),
    "cobalt-7": Clause(kind="warranty", party="Eastbrook", days=180),
}


def stands_in_the_clause(clause: Clause, task: Task) -> str | None:
    """A check sees the answer and the task. What it returns is the reason why the answer is refused."""
    missing = [said for said in (clause.party, str(clause.days)) if said not in task.input]
    return f"not in the clause: {', '.join(missing)}" if missing else None


read = Step(
    "read",
    "Read the contract clause: its kind, the party it binds, and the number of days.",
    output=Clause,
    checks=[stands_in_the_clause],
    policy=cascade(corrected("cheap"), "frontier"),
)


async def main() -> None:
    answers = {("read", name): clause.model_dump_json() for name, clause in RIGHT.items()}
    cheap = SimulatedWorker("cheap", price=Price(nanos(0.15), nanos(0.6)), skill=0.5, seed=2, answers=answers)
    frontier = SimulatedWorker("frontier", price=Price(nanos(2.5), nanos(10)), answers=answers)
    async with Orchestrion.open(Settings(database=":memory:"), workers=[cheap, frontier]) as o:
        runs: list[Run] = await asyncio.gather(*(o.run(read, text, id=name) for name, text in CLAUSES.items()))
        asked: dict[str, list[str]] = {}
        for outcome in o.outcomes():
            asked.setdefault(outcome.task_id, []).append(outcome.worker + ("" if outcome.accepted else " ✗"))
    print(f"{'clause':<10} {'kind':<10} {'party':<10} {'days':>4}   {'simulated':>10}   asked")
    for run in runs:
        clause: Clause = run.result
        print(f"{run.id:<10} {clause.kind:<10} {clause.party:<10} {clause.days:>4}   ", end="")
        print(f"{dollars(run.cost):>10}   {', '.join(asked[run.id])}")


if __name__ == "__main__":
    asyncio.run(main())
