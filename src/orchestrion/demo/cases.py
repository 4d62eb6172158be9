"""A household, the truth about it, and how a result is graded."""

from enum import StrEnum
from typing import Literal

from pydantic import BaseModel, ConfigDict

from orchestrion.demo.facts import W2, Amount, Facts
from orchestrion.demo.tax import TaxReturn, compute

Difficulty = Literal["easy", "medium", "hard"]
Grade = Literal["right", "wrong", "flagged"]


class Problem(StrEnum):
    """What a folder can lack, or contradict itself in."""

    MISSING_W2 = "a W-2 that the client speaks of is not in the folder"
    ILLEGIBLE_BOX = "a box of a W-2 cannot be read"
    NO_BIRTH_DATE = "a dependant's birth date is given nowhere"
    BOX_4_IS_OFF = "social security tax is not 6.2 % of social security wages"
    TWO_VERSIONS = "two copies of one W-2 differ in box 1"
    STATUS_CONTRADICTED = "the filing status does not fit the household"


class Status(StrEnum):
    PREPARED = "prepared"
    NEEDS_INFORMATION = "needs_information"  # papers are missing or contradict each other: the client is asked
    NEEDS_PERSON = "needs_person"  # checks still fail, or the auditor disagrees: a preparer looks


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Household(_Record):
    """The workflow's input: a folder of papers as text. No truth in it."""

    id: str
    papers: str


class Result(_Record):
    """The workflow's result: a return, or why there is none."""

    status: Status
    tax_return: TaxReturn | None = None
    reasons: tuple[str, ...] = ()

    @classmethod
    def prepared(cls, tax_return: TaxReturn) -> "Result":
        return cls(status=Status.PREPARED, tax_return=tax_return)

    @classmethod
    def needs_information(cls, *reasons: str) -> "Result":
        return cls(status=Status.NEEDS_INFORMATION, reasons=reasons)

    @classmethod
    def needs_person(cls, *reasons: str) -> "Result":
        return cls(status=Status.NEEDS_PERSON, reasons=reasons)


class Opinion(_Record):
    """An auditor's answer."""

    agree: bool
    problem: str = ""


class Answer(_Record):
    """The truth: the right return, or what the client must be asked (`reasons`)."""

    tax_return: TaxReturn | None = None
    reasons: tuple[str, ...] = ()


class Decoys(_Record):
    """Amounts that stand in the papers and must not be used: what a simulated model may trip over."""

    prior_year: W2 | None = None
    before_correction: W2 | None = None
    state_tax: tuple[Amount, ...] = ()  # box 17 of each W-2, in the facts' order
    exempt_interest: Amount | None = None  # box 8 of the first 1099-INT


class Case(_Record):
    """A household with everything that only the demo's stage hands know."""

    household: Household
    difficulty: Difficulty
    problem: Problem | None
    facts: Facts
    answer: Answer
    decoys: Decoys

    @property
    def id(self) -> str:
        return self.household.id


def is_right(case: Case, facts: Facts) -> bool:
    """Whether these facts lead to the right end: the right return to the dollar, or asking where asking is right.

    Facts may differ from the truth and still be right, if the difference does not reach the return.
    """
    if case.answer.tax_return is None or facts.missing:
        return case.answer.tax_return is None and bool(facts.missing)
    try:
        return compute(facts) == case.answer.tax_return
    except ValueError:
        return False


def grade(case: Case, result: Result) -> Grade:
    """`flagged` is work for a person; `wrong` is a wrong return, or a needless or a forgotten question."""
    if result.status is Status.NEEDS_PERSON:
        return "flagged"
    asked = result.status is Status.NEEDS_INFORMATION
    right = asked if case.answer.tax_return is None else result.tax_return == case.answer.tax_return
    return "right" if right else "wrong"
