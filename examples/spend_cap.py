"""A spend cap: when the account has no money for the next call, its run waits, and goes on after a top-up.

python examples/spend_cap.py runs offline; with --live by real models.
"""

from stage import play

from orchestrion import Orchestrion, Step, workflow
from orchestrion.domain import Money, dollars, nanos
from orchestrion.ledger import budgets
from orchestrion.limits import BudgetSettings

ACCOUNT = "newsroom/letters"
ACCOUNTS = {
    "newsroom": BudgetSettings(limit=5.00),
    ACCOUNT: BudgetSettings(limit=0.002),  # pays the cheap model; a call of the frontier may cost more
}

draft = Step("draft", "Answer the reader's letter in two sentences.", policy="cheap", max_output=200)
polish = Step("polish", "Make this answer one that a newspaper would print.", policy="frontier", max_output=200)


@workflow
async def answer(letter: str) -> str:
    return await polish(await draft(letter))


async def main(o: Orchestrion) -> Money:
    letter = "Your crossword of Friday has two solutions for 14 across. Which one is it?"

    run = await o.run(answer, letter, id="letter-7", account=ACCOUNT)
    print(f"1. {run.status}: {run.error}")  # the draft is paid for and kept; no call passed the limit

    with o.database.transaction() as session:  # what `orchestrion budget set newsroom/letters --limit 0.10` does
        budgets.amend(session, ACCOUNT, caps={("money", "forever"): nanos(0.10)}, who="ana")
    print("2. topped up")

    run = await o.run(answer, letter, id="letter-7")
    print(f"3. {run.status}: {run.result}")
    print(
        "asked: " + ", ".join(f"{one.worker} ({dollars(nanos(one.cost_usd or 0))} simulated)" for one in o.outcomes())
    )
    return run.cost


if __name__ == "__main__":
    play(main, budgets=ACCOUNTS)
