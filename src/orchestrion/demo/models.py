"""What simulated models answer. They know the truth and err by a table: nothing here reads a paper.

Which error falls where is a hash of (seed, worker, case, sample, corrections), so that live, resumed and replayed runs
see the same answers. Two answers of one worker to one case err independently of each other; real models less so.
"""

import json
import math
from dataclasses import dataclass

from orchestrion.demo.cases import Case, Opinion, is_right
from orchestrion.demo.dice import Dice
from orchestrion.demo.errors import KINDS
from orchestrion.demo.facts import Facts
from orchestrion.demo.instructions import audit_prompt, correction, extract_prompt
from orchestrion.demo.rates import AUDIT_RATES, ERROR_KINDS, ERROR_RATES
from orchestrion.demo.tax import TaxReturn, compute

SEED = 2024


@dataclass(frozen=True, kw_only=True)
class SimulatedAnswer:
    text: str
    input_tokens: int
    output_tokens: int
    error: str | None  # which kind of error was made: for tests and talk, never for the workflow


def estimated_tokens(text: str) -> int:
    """Four characters to a token: near enough for English and JSON, and the same everywhere."""
    return math.ceil(len(text) / 4)


def extract_answer(
    case: Case, worker: str, *, sample: int = 0, told: tuple[str, ...] = (), seed: int = SEED
) -> SimulatedAnswer:
    """What `worker` writes when asked to extract the facts of `case`: JSON of Facts, right or wrong or broken.

    `told` holds what failed checks said about earlier answers, oldest first: once told anything, a worker errs at its
    corrected rate. Raises KeyError for a worker that is not in the table.
    """
    dice = Dice(seed, "extract", worker, case.id, sample, len(told))
    rate = ERROR_RATES[worker][case.difficulty]
    error, text = None, case.facts.model_dump_json()
    if dice.chance(rate.corrected if told else rate.first):
        error, text = _err(case, dice)
    # Each correction is told in a conversation that repeats the answer before it.
    prompt = extract_prompt(case.household) + "".join(text + correction(problem) for problem in told)
    return SimulatedAnswer(
        text=text, input_tokens=estimated_tokens(prompt), output_tokens=estimated_tokens(text), error=error
    )


def audit_answer(
    case: Case, facts: Facts, worker: str = "frontier", *, sample: int = 0, seed: int = SEED
) -> SimulatedAnswer:
    """What `worker` writes when asked to audit `facts` of `case`: JSON of Opinion."""
    dice = Dice(seed, "audit", worker, case.id, sample, facts.model_dump_json())
    rate = AUDIT_RATES[worker][case.difficulty]
    error: str | None = None
    if is_right(case, facts):
        error = "false_alarm" if dice.chance(rate.false_alarm) else None
        problem = "The withholding looks too low for these wages." if error else ""
    else:
        error = None if dice.chance(rate.catches) else "overlooked"
        problem = "" if error else _difference(case.facts, facts)
    text = Opinion(agree=not problem, problem=problem).model_dump_json()
    prompt = audit_prompt(case.household, facts, _return_or_none(facts))
    return SimulatedAnswer(
        text=text, input_tokens=estimated_tokens(prompt), output_tokens=estimated_tokens(text), error=error
    )


def _err(case: Case, dice: Dice) -> tuple[str, str]:
    """An error's kind and the text it leads to. An error that changes nothing is none, so the next kind is tried."""
    for kind in dice.weighted(tuple(ERROR_KINDS.items())):
        if kind == "broken_json":
            break
        facts = KINDS[kind](case, dice)
        if facts is not None and not is_right(case, facts):
            return kind, facts.model_dump_json()
    whole = case.facts.model_dump_json()
    return "broken_json", whole[: len(whole) * 45 // 100]  # as if the output limit had cut it


def _difference(truth: Facts, facts: Facts) -> str:
    """Where a careful reader's facts differ, as that reader would put it."""
    for name in Facts.model_fields:
        right, wrong = getattr(truth, name), getattr(facts, name)
        if right != wrong:
            told = json.dumps(truth.model_dump(mode="json")[name])
            return f"`{name}` is not what the papers say; I read {told}."
    return "The facts do not match the papers."


def _return_or_none(facts: Facts) -> TaxReturn | None:
    try:
        return None if facts.missing else compute(facts)
    except ValueError:
        return None
