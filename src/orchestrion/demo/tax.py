"""A household's 2024 US federal income tax return, from the facts in its papers. Not tax advice.

Sources: Rev. Proc. 2023-34 (brackets, standard deduction, the refundable part of the child tax credit), the 2024 Form
1040 with its Tax Table, and Schedule 8812. Amounts are whole dollars, rounded half up where the form is: cents are
added first, and the line is rounded (Form 1040 instructions, "Rounding Off to Whole Dollars").

In scope: single, married filing jointly, head of household; wages; taxable interest; the standard deduction with its
additions for age and blindness; the child tax credit, the credit for other dependants and their phase-out; the
additional child tax credit; withholding.

Out of scope: the earned income credit, the saver's credit, the credits for child care and education, itemised
deductions and adjustments to income, dividends and capital gains, self-employment, retirement income and social
security benefits, the Additional Medicare Tax, the net investment income tax, the excess social security credit,
Schedule 8812's Part II-B (families with three children and very low wages), being somebody's dependant, the penalty
for underpayment, state tax. `households` draws families to whom none of this applies, and says how.
"""

from collections.abc import Iterable
from datetime import date
from decimal import ROUND_HALF_UP, Decimal
from typing import TypeVar

from pydantic import BaseModel, ConfigDict

from orchestrion.demo.facts import Facts, FilingStatus, Taxpayer

T = TypeVar("T")

SINGLE, JOINT, HEAD = FilingStatus.SINGLE, FilingStatus.JOINT, FilingStatus.HEAD_OF_HOUSEHOLD

# Rev. Proc. 2023-34, section 3.01, tables 1 to 3: the taxable income at which each rate ends.
RATES = (10, 12, 22, 24, 32, 35, 37)
BRACKETS = {
    SINGLE: (11_600, 47_150, 100_525, 191_950, 243_725, 609_350),
    JOINT: (23_200, 94_300, 201_050, 383_900, 487_450, 731_200),
    HEAD: (16_550, 63_100, 100_500, 191_950, 243_700, 609_350),
}

# Rev. Proc. 2023-34, section 3.15.
STANDARD_DEDUCTION = {SINGLE: 14_600, JOINT: 29_200, HEAD: 21_900}
ADDITION_FOR_AGE_OR_BLINDNESS = {SINGLE: 1_950, JOINT: 1_550, HEAD: 1_950}
# One is 65 on the day before one's birthday: January 1, 1960 still counts for 2024.
BORN_BEFORE_FOR_AGE = date(1960, 1, 2)

# Internal Revenue Code, section 24(b) and (h); Rev. Proc. 2023-34, section 3.05, for the refundable part.
CHILD_CREDIT = 2_000
OTHER_DEPENDANT_CREDIT = 500
CHILD_BORN_AFTER = date(2007, 12, 31)
PHASE_OUT_STARTS = {SINGLE: 200_000, JOINT: 400_000, HEAD: 200_000}
REFUNDABLE_PER_CHILD = 1_700
EARNED_INCOME_FLOOR = 2_500


class TaxReturn(BaseModel):
    """The lines of Form 1040 that this demo fills, in whole dollars."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    filing_status: FilingStatus
    wages: int  # line 1a
    taxable_interest: int  # line 2b
    agi: int  # line 11
    standard_deduction: int  # line 12
    taxable_income: int  # line 15
    tax: int  # line 16
    dependant_credits: int  # line 19
    total_tax: int  # line 24
    withholding: int  # line 25d
    additional_child_tax_credit: int  # line 28
    refund: int  # line 35a
    owed: int  # line 37


def compute(facts: Facts) -> TaxReturn:
    """The return that follows from `facts`. Raises ValueError, naming the paper, if a box or date it needs is null."""
    status = facts.filing_status
    wages = _whole(_known(w2.box1, f"box 1 of the W-2 from {w2.employer}") for w2 in facts.w2s)
    interest = _whole(form.box1 for form in facts.interest)
    agi = wages + interest

    deduction = standard_deduction(status, facts.taxpayers)
    taxable = max(0, agi - deduction)
    tax = income_tax(taxable, status)

    births = [_known(person.birth_date, f"the birth date of {person.name}") for person in facts.dependants]
    children = sum(born > CHILD_BORN_AFTER for born in births)
    credit = dependant_credit(status, agi, children=children, others=len(births) - children)
    used = min(credit, tax)
    refundable = additional_child_tax_credit(credit - used, children=children, earned=wages)

    withheld = _whole(_known(w2.box2, f"box 2 of the W-2 from {w2.employer}") for w2 in facts.w2s)
    withheld += _whole(form.box4 for form in facts.interest)
    balance = withheld + refundable - (tax - used)
    return TaxReturn(
        filing_status=status,
        wages=wages,
        taxable_interest=interest,
        agi=agi,
        standard_deduction=deduction,
        taxable_income=taxable,
        tax=tax,
        dependant_credits=used,
        total_tax=tax - used,
        withholding=withheld,
        additional_child_tax_credit=refundable,
        refund=max(0, balance),
        owed=max(0, -balance),
    )


def standard_deduction(status: FilingStatus, taxpayers: Iterable[Taxpayer]) -> int:
    """Line 12: the basic amount, and an addition for each taxpayer who is 65 and again for each who is blind."""
    additions = sum((person.birth_date < BORN_BEFORE_FOR_AGE) + person.blind for person in taxpayers)
    return STANDARD_DEDUCTION[status] + additions * ADDITION_FOR_AGE_OR_BLINDNESS[status]


def income_tax(taxable: int, status: FilingStatus) -> int:
    """Line 16: by the Tax Table below $100,000, which taxes each row at its middle; by the rates from there on."""
    return _round(tax_by_rates(_table_row_middle(taxable) if taxable < 100_000 else Decimal(taxable), status))


def tax_by_rates(taxable: Decimal, status: FilingStatus) -> Decimal:
    """The tax rate schedule itself, to the cent."""
    ends = BRACKETS[status]
    tax = Decimal(0)
    for rate, start, end in zip(RATES, (0, *ends), (*ends, None), strict=True):
        if taxable > start:
            tax += (taxable - start if end is None else min(taxable, Decimal(end)) - start) * rate / 100
    return tax


def dependant_credit(status: FilingStatus, agi: int, *, children: int, others: int) -> int:
    """Schedule 8812, line 12: what is left after the phase-out, $50 for each $1,000 or part of it above the start."""
    full = children * CHILD_CREDIT + others * OTHER_DEPENDANT_CREDIT
    thousands_above = -(-max(0, agi - PHASE_OUT_STARTS[status]) // 1_000)
    return max(0, full - 50 * thousands_above)


def additional_child_tax_credit(unused: int, *, children: int, earned: int) -> int:
    """Schedule 8812, line 27: the refundable part of the credit that the tax was too small to use."""
    from_wages = _round(Decimal(max(0, earned - EARNED_INCOME_FLOOR)) * 15 / 100)
    return min(unused, children * REFUNDABLE_PER_CHILD, from_wages)


def _table_row_middle(taxable: int) -> Decimal:
    """Rows of the Tax Table: 0 to 5 (no tax), 5 to 15, 15 to 25, then $25 wide, and $50 wide from $3,000."""
    if taxable < 5:
        return Decimal(0)
    if taxable < 25:
        return Decimal(10 if taxable < 15 else 20)
    width = 25 if taxable < 3_000 else 50
    return taxable // width * width + Decimal(width) / 2


def _known(value: T | None, what: str) -> T:
    if value is None:
        raise ValueError(f"{what} is unknown")
    return value


def _whole(amounts: Iterable[Decimal]) -> int:
    return _round(sum(amounts, Decimal(0)))


def _round(amount: Decimal) -> int:
    return int(amount.quantize(Decimal(1), ROUND_HALF_UP))
