"""The workflow: read the papers, compute the return, have the risky ones audited. Knows no truth and no simulation.

    extract   the cheap model, corrected once by the checks; where they still refuse, the frontier, corrected once
    compute   plain code, $0; its sums are checked
    audit     the frontier, only where `checks.risky` says why; where it cannot be paid, three cheap ones of one mind
    reread    where the auditor disagrees: the frontier extracts once more, told the objection; then audit again

It ends prepared, needs_information (the client is asked) or needs_person (a preparer looks).
"""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import BaseModel, ConfigDict

from orchestrion.checks.protocol import CodeCheck
from orchestrion.demo import checks
from orchestrion.demo.cases import Household, Opinion, Result
from orchestrion.demo.facts import Facts
from orchestrion.demo.instructions import AUDIT, EXTRACT, REREAD
from orchestrion.demo.tax import TaxReturn, compute
from orchestrion.domain import Task
from orchestrion.engine.step import Step
from orchestrion.engine.workflow import workflow
from orchestrion.errors import StepFailed
from orchestrion.policy.combinators import agreement, as_policy, best_effort, cascade, corrected
from orchestrion.policy.protocol import Policy
from orchestrion.workers.function import FunctionWorker


class Review(BaseModel):
    """What the auditor is shown."""

    model_config = ConfigDict(frozen=True)

    papers: str
    facts: Facts
    tax_return: TaxReturn | None


class Objection(BaseModel):
    """What the frontier is shown when it reads the papers again."""

    model_config = ConfigDict(frozen=True)

    papers: str
    objection: str


def policies(cheap: str = "cheap", frontier: str = "frontier") -> Mapping[str, Policy]:
    """Who is asked at which step, in which order: the machinery, as data."""
    return {
        "extract": cascade(corrected(cheap), corrected(frontier)),
        "audit": cascade(corrected(frontier), agreement(cheap, samples=3, accept=1.0)),
        "reread": corrected(frontier),
    }


def against_papers(check: checks.Check) -> CodeCheck:
    """A check of facts against the papers that they were taken from."""

    def ask(facts: Facts, task: Task) -> str | None:
        papers = task.input.papers if isinstance(task.input, Objection) else task.input
        return check(facts, Household(id=task.id, papers=papers))

    return CodeCheck(ask, name=check.__name__)


def adds_up(tax_return: TaxReturn, task: Task) -> str | None:
    """Sums that hold on every return."""
    return checks.return_adds_up(task.input, tax_return)


POLICIES = policies()
TIE_OUT = tuple(map(against_papers, checks.EXTRACT_CHECKS))

extract = Step("extract", EXTRACT, output=Facts, policy=POLICIES["extract"], checks=TIE_OUT)
compute_return = Step(
    "compute", output=TaxReturn, policy="compute", checks=[adds_up], workers=[FunctionWorker("compute", compute)]
)
audit = Step("audit", AUDIT, output=Opinion, policy=POLICIES["audit"])
reread = Step("reread", f"{EXTRACT}\n{REREAD}", output=Facts, policy=POLICIES["reread"], checks=TIE_OUT)


@workflow
async def tax_return(household: Household) -> Result:
    """With the machinery: a household's papers → its return, or why there is none."""
    papers = household.papers
    try:
        facts = await extract(papers)
        filled = await _filled(facts)
        if not checks.risky(household, facts, filled):
            return _ended(facts, filled)
        opinion = await audit(Review(papers=papers, facts=facts, tax_return=filled))
        if opinion.agree:
            return _ended(facts, filled)
        facts = await reread(Objection(papers=papers, objection=opinion.problem))
        filled = await _filled(facts)
        opinion = await audit(Review(papers=papers, facts=facts, tax_return=filled))
    except StepFailed as failed:
        return _left_to_a_person(failed)
    return _ended(facts, filled) if opinion.agree else Result.needs_person(opinion.problem)


@workflow
async def one_model(household: Household) -> Result:
    """Without: what the model says is what is filed. Its policy names the model."""
    try:
        facts = await unchecked(household.papers)
        return _ended(facts, await _filled(facts))
    except StepFailed as failed:
        return _left_to_a_person(failed)


unchecked = Step("extract", EXTRACT, output=Facts)


def alone(worker: str) -> Mapping[str, Policy]:
    """The policy of ``one_model``: ask this worker once, and take whatever has the form of an answer."""
    return {"extract": best_effort(as_policy(worker))}


async def _filled(facts: Facts) -> TaxReturn | None:
    return None if facts.missing else await compute_return(facts)


def _ended(facts: Facts, filled: TaxReturn | None) -> Result:
    return Result.prepared(filled) if filled else Result.needs_information(*facts.missing)


def _left_to_a_person(failed: StepFailed) -> Result:
    """Raises again where no model answered: that is no household's fault, and the run goes on later."""
    if failed.step != compute_return.name and all(attempt.failure for attempt in failed.history):
        raise failed
    return Result.needs_person(failed.reason)
