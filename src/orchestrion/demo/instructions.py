"""What the models are told. The same words go to simulated models, as tokens to count, and to real ones."""

from orchestrion.demo.cases import Household
from orchestrion.demo.facts import Facts
from orchestrion.demo.tax import TaxReturn

EXTRACT = """\
You read the papers of one household and list what they say about tax year 2024.
- One entry for each Form W-2 of 2024. Copies B and C of one form are one W-2. Forms of other years do not count.
- Where a Form W-2c corrects a box, give the corrected amount.
- One entry for each payer of taxable interest: box 1 and box 4 of Form 1099-INT, or a letter. Tax-exempt interest in
  box 8 does not count.
- Everyone whom the intake note names as a dependant, with the birth date.
- The filing status: as the note says it, or else as the household's life makes it (unmarried, paying for a home shared
  with a dependant: head_of_household).
- Some scans show letters where digits stand (l for 1, O for 0, S for 5): give the digits.
- Never guess. If a paper is missing, a box cannot be read, a birth date is not given, or papers contradict each other
  (two versions of one box; box 4 is not 6.2% of box 3; the filing status does not fit the household), give null for
  what is unknown and say in `missing`, in one sentence each, what the client must be asked.
Answer with one JSON object of the given schema and nothing else."""

AUDIT = """\
You check a colleague's work. You are given a household's papers, the facts that the colleague took from them, and the
2024 return computed from these facts (null: the client is to be asked instead). Read the papers yourself and compare
every amount, person and date that matters. If facts are said to be missing, see whether they are. Answer with one JSON
object and nothing else:
{"agree": true or false, "problem": "one sentence that says what is wrong, or empty"}"""

REREAD = """\
You are given the papers with a colleague's objection to an earlier reading of them. The objection may be wrong: look it
up in the papers, then list everything anew."""


def extract_prompt(household: Household) -> str:
    return f"{EXTRACT}\n\n{household.papers}"


def audit_prompt(household: Household, facts: Facts, tax_return: TaxReturn | None) -> str:
    outcome = tax_return.model_dump_json() if tax_return else "none: the client is to be asked"
    return f"{AUDIT}\n\n{household.papers}\n\nFACTS\n{facts.model_dump_json()}\n\nRETURN\n{outcome}"


def correction(problem: str) -> str:
    """What follows a failed check in the conversation."""
    return f"A check of your answer failed: {problem} Look again and answer with the whole JSON object."
