"""Returns worked out by hand. The arithmetic stands in the comments; the brackets are Rev. Proc. 2023-34's."""

from datetime import date
from decimal import Decimal

import pytest

from orchestrion.demo.facts import W2, Dependant, Facts, Interest, Taxpayer
from orchestrion.demo.tax import (
    HEAD,
    JOINT,
    SINGLE,
    TaxReturn,
    additional_child_tax_credit,
    compute,
    dependant_credit,
    income_tax,
    standard_deduction,
    tax_by_rates,
)

ADULT = date(1985, 6, 1)


def w2(wages: str, withheld: str = "0") -> W2:
    amount = Decimal(wages)
    return W2(employer="Mill", employee="Ada", box1=amount, box2=Decimal(withheld), box3=amount, box4=Decimal(0),
              box5=amount, box6=Decimal(0))  # fmt: skip


def household(status, *w2s, born=(ADULT,), blind=False, dependants=(), interest=()) -> Facts:
    return Facts(
        filing_status=status,
        taxpayers=tuple(Taxpayer(name=f"A{n}", birth_date=day, blind=blind and n == 0) for n, day in enumerate(born)),
        dependants=tuple(Dependant(name=f"D{n}", birth_date=date.fromisoformat(d)) for n, d in enumerate(dependants)),
        w2s=w2s,
        interest=tuple(Interest(payer="Bank", box1=Decimal(one), box4=Decimal(four)) for one, four in interest),
    )


# The cumulative amounts that the tables of Rev. Proc. 2023-34, section 3.01, print at the end of each bracket.
PRINTED = {
    SINGLE: {11_600: "1160", 47_150: "5426", 100_525: "17168.50", 191_950: "39110.50", 243_725: "55678.50",
             609_350: "183647.25"},
    JOINT: {23_200: "2320", 94_300: "10852", 201_050: "34337", 383_900: "78221", 487_450: "111357",
            731_200: "196669.50"},
    HEAD: {16_550: "1655", 63_100: "7241", 100_500: "15469", 191_950: "37417", 243_700: "53977", 609_350: "181954.50"},
}  # fmt: skip


@pytest.mark.parametrize(
    ("status", "income", "tax"),
    [(s, income, Decimal(tax)) for s, rows in PRINTED.items() for income, tax in rows.items()],
)
def test_the_rates_give_the_printed_amounts_at_bracket_ends(status, income, tax):
    assert tax_by_rates(Decimal(income), status) == tax


@pytest.mark.parametrize(
    ("taxable", "status", "tax"),
    [
        (0, SINGLE, 0),
        (4, SINGLE, 0),  # the table's first row, 0 to 5, has no tax
        (5, SINGLE, 1),  # middle 10: 1.00
        (20, SINGLE, 2),  # middle 20: 2.00
        (30, SINGLE, 4),  # row 25-50, middle 37.50: 3.75
        (3_010, SINGLE, 303),  # row 3,000-3,050, middle 3,025: 302.50, half up
        (25_300, JOINT, 2_575),  # middle 25,325: 2,320 + 12% of 2,125 = 2,320 + 255
        (47_149, SINGLE, 5_423),  # row 47,100-47,150, middle 47,125: 1,160 + 12% of 35,525 = 1,160 + 4,263
        (47_150, SINGLE, 5_432),  # row 47,150-47,200, middle 47,175: 5,426 + 22% of 25 = 5,431.50
        (99_999, HEAD, 15_354),  # row 99,950-100,000, middle 99,975: 7,241 + 22% of 36,875 = 7,241 + 8,112.50
        (100_000, HEAD, 15_359),  # no table: 7,241 + 22% of 36,900 = 7,241 + 8,118
        (100_525, SINGLE, 17_169),  # 17,168.50, half up
        (100_526, SINGLE, 17_169),  # 17,168.74
        (700_000, SINGLE, 217_188),  # 183,647.25 + 37% of 90,650 = 183,647.25 + 33,540.50
    ],
)
def test_tax_on_line_16(taxable, status, tax):
    assert income_tax(taxable, status) == tax


def test_single_with_one_job():
    # 58,000.49 rounds to 58,000. Less 14,600 = 43,400. Middle of 43,400-43,450: 43,425.
    # 1,160 + 12% of 31,825 = 1,160 + 3,819 = 4,979. Withheld 5,200.50, which rounds to 5,201. Refund 222.
    assert compute(household(SINGLE, w2("58000.49", "5200.50"))) == TaxReturn(
        filing_status=SINGLE, wages=58_000, taxable_interest=0, agi=58_000, standard_deduction=14_600,
        taxable_income=43_400, tax=4_979, dependant_credits=0, total_tax=4_979, withholding=5_201,
        additional_child_tax_credit=0, refund=222, owed=0,
    )  # fmt: skip


def test_joint_with_two_children_and_interest():
    # 70,000.30 + 45,000.30 = 115,000.60, rounded once: 115,001. Interest 812.40 → 812. AGI 115,813.
    # Less 29,200 = 86,613.
    # Middle of 86,600-86,650: 86,625. 2,320 + 12% of 63,425 = 2,320 + 7,611 = 9,931. Credits 2 × 2,000. Tax 5,931.
    # Withheld 4,000 + 1,000 + 194.98 → 5,000 + 195 = 5,195. Owed 736.
    facts = household(JOINT, w2("70000.30", "4000"), w2("45000.30", "1000"), born=(ADULT, ADULT),
                      dependants=("2012-01-05", "2015-09-09"), interest=[("812.40", "194.98")])  # fmt: skip
    got = compute(facts)
    assert (got.wages, got.agi, got.taxable_income, got.tax) == (115_001, 115_813, 86_613, 9_931)
    assert (got.dependant_credits, got.total_tax, got.withholding, got.refund, got.owed) == (
        4_000,
        5_931,
        5_195,
        0,
        736,
    )


def test_head_of_household_with_more_credit_than_tax():
    # 60,500 - 21,900 = 38,600. Middle 38,625: 1,655 + 12% of 22,075 = 1,655 + 2,649 = 4,304. Credits 3 × 2,000 = 6,000.
    # 1,696 unused. Refundable: least of 1,696; 3 × 1,700 = 5,100; 15% of 58,000 = 8,700. Withheld 1,500: refund 3,196.
    facts = household(HEAD, w2("60500", "1500"), dependants=("2010-01-01", "2012-01-01", "2014-01-01"))
    got = compute(facts)
    assert (got.tax, got.dependant_credits, got.total_tax) == (4_304, 4_304, 0)
    assert (got.additional_child_tax_credit, got.refund, got.owed) == (1_696, 3_196, 0)


def test_a_child_is_17_on_the_last_day_of_the_year():
    # Born December 31, 2007: 17 in 2024, so $500; born January 1, 2008: 16, so $2,000.
    older = compute(household(HEAD, w2("80000"), dependants=("2007-12-31",)))
    younger = compute(household(HEAD, w2("80000"), dependants=("2008-01-01",)))
    assert (older.dependant_credits, younger.dependant_credits) == (500, 2_000)


def test_other_dependants_credit_is_not_refundable():
    # 30,000 - 21,900 = 8,100. Middle 8,125: 812.50 → 813. Three grown dependants: 1,500, of which 813 are used.
    got = compute(household(HEAD, w2("30000"), dependants=("1950-01-01", "2003-01-01", "2004-01-01")))
    assert (got.tax, got.dependant_credits, got.additional_child_tax_credit, got.refund) == (813, 813, 0, 0)


@pytest.mark.parametrize(
    ("status", "born", "blind", "deduction"),
    [
        (SINGLE, (date(1960, 1, 2),), False, 14_600),
        (SINGLE, (date(1960, 1, 1),), False, 16_550),  # 65 on December 31, 2024: + 1,950
        (SINGLE, (date(1950, 1, 1),), True, 18_500),  # + 2 × 1,950
        (HEAD, (ADULT,), True, 23_850),  # 21,900 + 1,950
        (JOINT, (date(1955, 3, 3), date(1958, 3, 3)), False, 32_300),  # 29,200 + 2 × 1,550
        (JOINT, (date(1955, 3, 3), ADULT), True, 32_300),
    ],
)
def test_standard_deduction(status, born, blind, deduction):
    assert standard_deduction(status, household(status, born=born, blind=blind).taxpayers) == deduction


@pytest.mark.parametrize(
    ("status", "agi", "children", "others", "credit"),
    [
        (SINGLE, 200_000, 1, 0, 2_000),
        (SINGLE, 200_001, 1, 0, 1_950),  # a part of 1,000 counts whole
        (SINGLE, 201_000, 1, 0, 1_950),
        (SINGLE, 201_001, 1, 0, 1_900),
        (JOINT, 400_000, 2, 1, 4_500),
        (JOINT, 412_500, 2, 1, 3_850),  # 13 × 50 = 650
        (HEAD, 260_000, 1, 0, 0),
    ],
)
def test_the_credit_phases_out(status, agi, children, others, credit):
    assert dependant_credit(status, agi, children=children, others=others) == credit


def test_the_refundable_part_is_bound_three_ways():
    assert additional_child_tax_credit(900, children=1, earned=60_000) == 900  # by what is unused
    assert additional_child_tax_credit(2_000, children=1, earned=60_000) == 1_700  # by 1,700 a child
    assert additional_child_tax_credit(2_000, children=1, earned=10_000) == 1_125  # by 15% of 7,500
    assert additional_child_tax_credit(2_000, children=1, earned=2_000) == 0


def test_a_null_box_is_named():
    with pytest.raises(ValueError, match="box 1 of the W-2 from Mill is unknown"):
        compute(household(SINGLE, w2("1").model_copy(update={"box1": None})))


def test_json_round_trips_are_exact():
    facts = household(JOINT, w2("70000.10", "0.70"), born=(ADULT, ADULT), interest=[("0.30", "0")])
    assert Facts.model_validate_json(facts.model_dump_json()) == facts
    assert '"70000.10"' in facts.model_dump_json()
    got = compute(facts)
    assert TaxReturn.model_validate_json(got.model_dump_json()) == got


@pytest.mark.parametrize("written", ["52,310.45", "$52,310.45", 52310.45, "52310.450"])
def test_amounts_are_taken_as_models_write_them(written):
    assert Interest(payer="Bank", box1=written).model_dump_json() == '{"payer":"Bank","box1":"52310.45","box4":"0.00"}'
