import hashlib
import re
from collections import Counter

from orchestrion.demo.cases import Answer, Household, Problem, Result, grade, is_right
from orchestrion.demo.facts import Facts
from orchestrion.demo.households import (
    EARNED_INCOME_CREDIT_ENDS,
    MOST_WAGES,
    SAVERS_CREDIT_ENDS,
    SOCIAL_SECURITY_WAGE_BASE,
    households,
)
from orchestrion.demo.tax import JOINT

CASES = households()
MANY = households(600, seed=5)


def test_the_same_seed_draws_the_same_families_everywhere():
    drawn = "".join(case.model_dump_json() for case in households(12))
    assert hashlib.sha256(drawn.encode()).hexdigest()[:16] == "3046f2848c9724c1"


def test_a_longer_draw_begins_with_the_shorter_one():
    assert households(30) == CASES[:30]
    assert households(30, seed=1) != CASES[:30]


def test_the_mix_is_as_promised():
    assert Counter(case.difficulty for case in CASES) == {"easy": 72, "medium": 30, "hard": 18}
    problems = Counter(case.problem for case in CASES)
    assert problems.pop(None) == 105
    assert set(problems) == set(Problem)
    assert len({case.id for case in CASES}) == 120


def test_nobody_has_a_number_that_was_ever_issued():
    for case in CASES:
        numbers = re.findall(r"\b(\d{3})-\d{2}-\d{4}\b", case.household.papers)
        assert numbers
        assert set(numbers) == {"000"}
        assert set(re.findall(r"\b(\d{2})-\d{7}\b", case.household.papers)) <= {"00"}


def test_the_input_holds_no_truth():
    assert set(Household.model_fields) == {"id", "papers"}


def test_an_answer_is_a_return_or_questions():
    for case in MANY:
        assert (case.problem is None) == (case.answer.tax_return is not None) == (not case.answer.reasons)
        assert is_right(case, case.facts)
        assert Answer.model_validate_json(case.answer.model_dump_json()) == case.answer
        assert Facts.model_validate_json(case.facts.model_dump_json()) == case.facts


def test_what_the_tax_code_leaves_out_does_not_arise():
    for case in MANY:
        facts, status = case.facts, case.facts.filing_status
        if case.problem:
            continue
        wages = sum(w2.box1 or 0 for w2 in facts.w2s)
        medicare = sum(w2.box5 or 0 for w2 in facts.w2s)
        interest = sum(form.box1 for form in facts.interest)
        assert wages > EARNED_INCOME_CREDIT_ENDS[status][min(3, len(facts.dependants))]
        assert wages <= MOST_WAGES[status] + 3  # the cents of three jobs
        ceiling = 250_000 if status is JOINT else 200_000
        assert medicare < ceiling, "Additional Medicare Tax"
        assert wages + interest < ceiling, "net investment income tax"
        if medicare > wages:
            assert wages > SAVERS_CREDIT_ENDS[status]
        for person in facts.taxpayers:
            jobs = [w2.box3 or 0 for w2 in facts.w2s if w2.employee == person.name]
            assert len(jobs) < 2 or sum(jobs) <= SOCIAL_SECURITY_WAGE_BASE, "excess social security tax"


def test_every_kind_of_return_arises():
    returns = [case.answer.tax_return for case in CASES if case.answer.tax_return]
    assert any(line.additional_child_tax_credit for line in returns)
    assert any(line.owed for line in returns)
    assert any(line.refund for line in returns)
    assert any(line.taxable_income >= 100_000 for line in returns)
    assert len({line.standard_deduction for line in returns}) > 3


def test_grades():
    sound = next(case for case in CASES if case.problem is None)
    spoiled = next(case for case in CASES if case.problem)
    assert sound.answer.tax_return
    right = Result.prepared(sound.answer.tax_return)
    assert grade(sound, right) == "right"
    assert grade(sound, Result.needs_information("why?")) == "wrong"
    assert grade(sound, Result.needs_person("a check fails")) == "flagged"
    assert grade(spoiled, right) == "wrong"
    assert grade(spoiled, Result.needs_information("why?")) == "right"
