"""A refund that a person approves: the run waits in the database, and goes on in another process if need be.

Offline: the model is simulated, and so are the dollars. Run it with `python examples/approve_refund.py`.
"""

import asyncio
import tempfile
from pathlib import Path

from pydantic import BaseModel

from orchestrion import Orchestrion, Step, step, wait_for, workflow
from orchestrion.settings import Settings


class Claim(BaseModel):
    order: str
    amount: float
    text: str


class Decision(BaseModel):
    approved: bool
    by: str


summary = Step("summary", "Summarise the customer's claim in one sentence.", policy="clerk")


@step
def pay(claim: Claim) -> str:
    """A side effect: under @step it is done once, however often the run goes on."""
    print(f"   paying {claim.amount:.2f} for {claim.order}")
    return f"transfer-{claim.order}"


@workflow
async def refund(claim: Claim) -> str:
    said = await summary(claim)
    print(f"   for the person: {said[:60]}…")  # plain code: runs again when the run comes back
    decision = await wait_for("decision", output=Decision)
    if not decision.approved:
        return f"refused by {decision.by}"
    return f"{await pay(claim)}, approved by {decision.by}"


async def main(folder: Path) -> None:
    settings = Settings.model_validate(
        {
            "database": f"sqlite:///{folder}/refunds.db",
            "models": {"clerk": {"model": "simulated", "price": {"input": 0.15, "output": 0.6}}},
        }
    )
    claim = Claim(order="A-1302", amount=42.5, text="I asked for blue towels and got green ones.")

    async with Orchestrion.open(settings) as o:
        run = await o.run(refund, claim, id="A-1302")
        print(f"1. {run}, for '{run.wants}' (simulated)")

    async with Orchestrion.open(settings) as o:  # a day later, perhaps: nothing of the run was in memory
        await o.signal("A-1302", "decision", Decision(approved=True, by="ana"))
        run = await o.run(refund, claim, id="A-1302")
        print(f"2. {run} (simulated): {run.result}")

        run = await o.run(refund, claim, id="A-1302")  # the same id is the same run: it is over
        calls = [outcome.worker for outcome in o.outcomes()]
        print(f"3. {run} (simulated); asked in all: {', '.join(calls)}")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        asyncio.run(main(Path(scratch)))
