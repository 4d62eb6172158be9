"""A refund that a person approves: the run waits in the database, and goes on when the decision is there.

python examples/approve_refund.py runs offline; with --live by real models.
"""

from pydantic import BaseModel
from stage import play

from orchestrion import Orchestrion, Step, step, wait_for, workflow
from orchestrion.domain import Money


class Claim(BaseModel):
    order: str
    amount: float
    text: str


class Decision(BaseModel):
    approved: bool
    by: str


summary = Step("summary", "Summarise the customer's claim in one sentence.", policy="cheap")


@step
def pay(claim: Claim) -> str:
    """A side effect: under @step it is done once, however often the run goes on."""
    print(f"   paying {claim.amount:.2f} for {claim.order}")
    return f"transfer-{claim.order}"


@workflow
async def refund(claim: Claim) -> str:
    said = await summary(claim)
    print(f"   for the person: {said}")  # plain code: runs again when the run comes back
    decision = await wait_for("decision", output=Decision)
    if not decision.approved:
        return f"refused by {decision.by}"
    return f"{await pay(claim)}, approved by {decision.by}"


async def main(o: Orchestrion) -> Money:
    claim = Claim(order="A-1302", amount=42.5, text="I asked for blue towels and got green ones.")

    run = await o.run(refund, claim, id="A-1302")
    print(f"1. {run.status}, for '{run.wants}'")  # nothing of it is in memory: this process could end here

    await o.signal("A-1302", "decision", Decision(approved=True, by="ana"))  # a day later, from anywhere
    run = await o.run(refund, claim, id="A-1302")
    print(f"2. {run.status}: {run.result}")

    run = await o.run(refund, claim, id="A-1302")  # the same id is the same run: it is over
    print(f"3. {run.status}; asked in all: {', '.join(outcome.worker for outcome in o.outcomes())}")
    return run.cost


if __name__ == "__main__":
    play(main)
