"""Clauses of contracts → a table: a cheap model first, told once what a check found, then a better one.

python examples/contract_clauses.py writes clauses.csv, offline; with --live by real models.
"""

import asyncio
import csv
from collections import defaultdict
from pathlib import Path
from typing import Literal

from pydantic import BaseModel
from stage import play

from orchestrion import Orchestrion, Run, Step, Task, cascade, corrected
from orchestrion.domain import Money


class Clause(BaseModel):
    kind: Literal["payment", "notice", "warranty"]
    party: str
    days: int


CLAUSES = {
    "acme-4": "Acme pays each invoice within 30 days of its receipt.",
    "acme-9": "Northwind may end this agreement with 90 days' notice.",
    "birch-2": "Birch Ltd warrants the goods for 365 days from delivery.",
    "birch-5": "Southgate settles all invoices within 14 days, Birch Ltd within 30.",
    "cobalt-1": "Cobalt gives notice of any change at least 60 days ahead.",
    "cobalt-7": "Eastbrook warrants its repairs for 180 days.",
}


def stands_in_the_clause(clause: Clause, task: Task) -> str | None:
    """A check sees the answer and the task. What it returns is the reason why the answer is refused."""
    missing = [said for said in (clause.party, str(clause.days)) if said not in task.input]
    return f"not in the clause: {', '.join(missing)}" if missing else None


def number_belongs_to_the_party(clause: Clause, task: Task) -> bool:
    """Somewhere a part of the sentence names both."""
    return any(clause.party in part and str(clause.days) in part for part in task.input.split(","))


read = Step(
    "read",
    "Read the contract clause: its kind, the party that it binds first, and the number of days.",
    output=Clause,
    checks=[stands_in_the_clause, number_belongs_to_the_party],
    policy=cascade(corrected("cheap"), "frontier"),
)


def write_table(rows: list[dict[str, object]]) -> None:
    """As Markdown on the screen, as CSV in a file."""
    print("| " + " | ".join(rows[0]) + " |\n|" + "---|" * len(rows[0]))
    for row in rows:
        print("| " + " | ".join(map(str, row.values())) + " |")
    with Path("clauses.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, fieldnames=list(rows[0]))
        table.writeheader()
        table.writerows(rows)
    print(f"{len(rows)} clauses in clauses.csv")


async def main(o: Orchestrion) -> Money:
    runs: list[Run] = await asyncio.gather(*(o.run(read, text, id=name) for name, text in CLAUSES.items()))
    asked = defaultdict(list)
    for outcome in o.outcomes():
        asked[outcome.task_id].append(outcome.worker + ("" if outcome.accepted else " ✗"))
    rows = [{"clause": run.id, **run.result.model_dump(), "asked": ", ".join(asked[run.id])} for run in runs]

    write_table(rows)
    return sum(run.cost for run in runs)


if __name__ == "__main__":
    play(main)
