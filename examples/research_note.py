"""A research note under fire: a writer, a critic, a revision; up to three rounds, fewer when the critic has nothing.

python examples/research_note.py runs offline; with --live by real models.
"""

import re

from pydantic import BaseModel
from stage import play

from orchestrion import Orchestrion, Step, Task, corrected, workflow
from orchestrion.domain import Money

ROUNDS = 3


class Brief(BaseModel):
    question: str
    sources: dict[str, str]


class Critique(BaseModel):
    objections: list[str]


BRIEF = Brief(
    question="Should we deliver to parcel lockers by default?",
    sources={
        "S1": "Own figures, spring: 11.8 % of home deliveries fail at the first attempt; each costs 4.20 to repeat.",
        "S2": "Pilot in two cities, 3,100 parcels: 1.4 % of locker deliveries failed; 9 % were fetched on day three or later.",
        "S3": "Customer survey, 412 answers: 61 % would choose a locker for a lower fee, 22 % never.",
    },
)


def rests_on_the_sources(note: str, task: Task) -> str | None:
    """It names them, and has no number that nobody gave us."""
    said = re.findall(r"\d+(?:[.,]\d+)*", re.sub(r"\[S\d\]", "", note))
    invented = [figure for figure in said if figure not in str(task.input)]
    return f"not in the sources: {', '.join(invented)}" if invented else None if "[S" in note else "no source is named"


write = Step(
    "write",
    "Write a note of at most 120 words that answers the question from the sources alone, each claim with its [S1]. "
    "If there is an earlier note with objections, mend every one of them.",
    checks=[rests_on_the_sources],
    policy=corrected("writer", times=2),
)
attack = Step(
    "attack",
    "You are the red team. List what in the note is wrong, unsupported or one-sided by the sources, or nothing.",
    output=Critique,
    policy="critic",
)


@workflow
async def research(brief: Brief) -> str:
    note, objections = "", list[str]()
    for n in range(ROUNDS):
        note = await write({"brief": brief.model_dump(), "note": note, "objections": objections})
        objections = (await attack({"brief": brief.model_dump(), "note": note})).objections
        print(f"round {n + 1} of {ROUNDS}: {'; '.join(objections) or 'the critic has nothing'}")
        if not objections:
            return note
    return note + "\n\nStill disputed: " + "; ".join(objections)


async def main(o: Orchestrion) -> Money:
    run = await o.run(research, BRIEF, id="lockers")
    print(f"\n{run.result}\n\nasked: {', '.join(outcome.worker for outcome in o.outcomes())}")
    return run.cost


if __name__ == "__main__":
    play(main)
