"""The checks pass what is true and catch what they say they catch. What they are blind to is written down here too."""

import inspect
from datetime import date
from decimal import Decimal

import pytest

from orchestrion.demo import checks, errors
from orchestrion.demo.cases import Problem, is_right
from orchestrion.demo.dice import Dice
from orchestrion.demo.facts import W2, FilingStatus
from orchestrion.demo.households import households

CASES = households(400, seed=11)
CAUGHT = ("transposed_digits", "dropped_digit", "missed_w2", "missed_dependant",
          "wrong_birth_year", "siblings_mixed_up", "gap_filled")  # fmt: skip
BLIND_TO = ("box_3_for_box_1", "correction_ignored", "exempt_interest_taken", "missed_interest_withholding")


def mistakes(kind: str):
    for case in CASES:
        wrong = errors.KINDS[kind](case, Dice("mistake", case.id))
        if wrong is not None and not is_right(case, wrong):
            yield case, wrong


@pytest.mark.parametrize("check", checks.EXTRACT_CHECKS, ids=lambda check: check.__name__)
def test_no_false_alarm_on_the_truth(check):
    assert [problem for case in CASES if (problem := check(case.facts, case.household))] == []


def test_no_false_alarm_on_a_right_return():
    for case in CASES:
        if case.answer.tax_return:
            assert checks.return_adds_up(case.facts, case.answer.tax_return) is None


@pytest.mark.parametrize("kind", CAUGHT)
def test_most_errors_of_this_kind_are_caught(kind):
    results = [checks.first_problem(wrong, case.household) is not None for case, wrong in mistakes(kind)]
    assert len(results) >= 4
    assert sum(results) >= 0.8 * len(results)


@pytest.mark.parametrize("kind", BLIND_TO)
def test_the_checks_are_blind_to_this_kind(kind):
    results = [checks.first_problem(wrong, case.household) for case, wrong in mistakes(kind)]
    assert len(results) >= 4
    assert set(results) == {None}


@pytest.mark.parametrize("kind", ["correction_ignored", "prior_year_w2_used"])
def test_what_the_checks_may_miss_here_goes_to_the_auditor(kind):
    for case, wrong in mistakes(kind):
        caught = checks.first_problem(wrong, case.household)
        assert caught or checks.risky(case.household, wrong, case.answer.tax_return)


def sound(**wanted):
    """A case without a problem: of a kind, with a form to fill in for a note."""
    return next(
        case
        for case in CASES
        if case.problem is None
        and "CLIENT INTAKE FORM" in case.household.papers
        and all(getattr(case.facts, name) == value for name, value in wanted.items())
    )


def with_first_w2(case, **boxes: Decimal):
    first: W2 = case.facts.w2s[0].model_copy(update=boxes)
    return case.facts.model_copy(update={"w2s": (first, *case.facts.w2s[1:])})


def test_a_made_up_amount_is_named():
    case = sound()
    problem = checks.amounts_stand_in_papers(with_first_w2(case, box1=Decimal("1234567.89")), case.household)
    assert problem == (
        f"Box 1 of the W-2 from {case.facts.w2s[0].employer} is given as 1,234,567.89, and no such amount stands "
        "anywhere in the papers."
    )


def test_social_security_tax_must_follow_from_its_wages():
    case = sound()
    off = case.facts.w2s[0].box4 + 2
    problem = checks.boxes_tie_out(with_first_w2(case, box4=off), case.household)
    assert problem
    assert "box 4 is not 6.2% of box 3" in problem
    assert checks.boxes_tie_out(with_first_w2(case, box4=off - Decimal("1.50")), case.household) is None


def test_amounts_are_found_in_bad_scans():
    assert set(checks._amounts("box lO,9O4.0S and l2,4O0.00, no SO.x, 7.5")) == {Decimal("10904.05"), Decimal("12400")}


def test_a_date_that_no_paper_shows_is_named():
    case = next(case for case in CASES if case.facts.dependants and not case.problem)
    first = case.facts.dependants[0].model_copy(update={"birth_date": date(2011, 11, 11)})
    facts = case.facts.model_copy(update={"dependants": (first, *case.facts.dependants[1:])})
    problem = checks.people_stand_in_papers(facts, case.household)
    assert problem
    assert "2011-11-11, a date that no paper shows" in problem


def test_the_status_must_be_the_notes():
    case = sound(filing_status=FilingStatus.SINGLE)
    facts = case.facts.model_copy(update={"filing_status": FilingStatus.HEAD_OF_HOUSEHOLD})
    assert checks.filing_status_fits(facts, case.household) == (
        "The intake note says 'single'; the facts say 'head of household'."
    )


@pytest.mark.parametrize(
    ("problem", "sentence"),
    [
        (Problem.ILLEGIBLE_BOX, "cannot be read"),
        (Problem.TWO_VERSIONS, "Two copies of one W-2 differ"),
        (Problem.BOX_4_IS_OFF, "box 4 is not 6.2% of box 3"),
        (Problem.STATUS_CONTRADICTED, "speaks of a spouse"),
    ],
)
def test_a_gap_passed_over_in_silence_is_found(problem, sentence):
    for case, filled in mistakes("gap_filled"):
        if case.problem is problem:
            every = " ".join(check(filled, case.household) or "" for check in checks.EXTRACT_CHECKS)
            assert sentence in every


def test_a_return_that_does_not_add_up_is_named():
    case = sound()
    wrong = case.answer.tax_return.model_copy(update={"agi": case.answer.tax_return.agi + 1})
    assert (
        checks.return_adds_up(case.facts, wrong)
        == "On the return, the adjusted gross income is not wages and interest."
    )
    wrong = case.answer.tax_return.model_copy(update={"refund": 1, "owed": 1})
    assert checks.return_adds_up(case.facts, wrong) == "On the return, the refund or the amount owed does not follow."


def test_about_a_third_is_risky():
    share = sum(bool(checks.risky(c.household, c.facts, c.answer.tax_return)) for c in CASES) / len(CASES)
    assert 0.2 < share < 0.4


def test_checks_share_no_code_with_what_they_check():
    """Neither the generator nor the simulated models, nor what only they import."""
    source = inspect.getsource(checks)
    imported = {line.split()[1] for line in source.splitlines() if line.startswith("from orchestrion")}
    assert imported == {"orchestrion.demo.cases", "orchestrion.demo.facts", "orchestrion.demo.tax"}
