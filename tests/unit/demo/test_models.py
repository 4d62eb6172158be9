"""Simulated models err as often as the table says, and a cascade of them is worth its checks."""

import math
from collections import Counter

import pytest
from pydantic import ValidationError

from orchestrion.demo import checks
from orchestrion.demo.cases import Case, Opinion, Result, grade, is_right
from orchestrion.demo.facts import Facts
from orchestrion.demo.households import households
from orchestrion.demo.models import SimulatedAnswer, audit_answer, estimated_tokens, extract_answer
from orchestrion.demo.rates import AUDIT_RATES, ERROR_KINDS, ERROR_RATES, PRICES
from orchestrion.demo.tax import compute

CASES = households()
SEEDS = range(8)


def parsed(text: str) -> Facts | None:
    try:
        return Facts.model_validate_json(text)
    except ValidationError:
        return None


def leads_right(case: Case, answer: SimulatedAnswer) -> bool:
    facts = parsed(answer.text)
    return facts is not None and is_right(case, facts)


def within(count: int, total: int, rate: float) -> bool:
    """Four standard deviations, and a little for rates near zero."""
    return abs(count - total * rate) <= 4 * math.sqrt(total * rate * (1 - rate)) + 2


@pytest.mark.parametrize("worker", ERROR_RATES)
@pytest.mark.parametrize("told", [(), ("box 1 is misread",)], ids=["first", "corrected"])
def test_error_rates_are_the_tables(worker, told):
    wrong: Counter[str] = Counter()
    asked: Counter[str] = Counter()
    for case in CASES:
        for sample in range(6):
            answer = extract_answer(case, worker, sample=sample, told=told)
            assert leads_right(case, answer) == (answer.error is None)
            asked[case.difficulty] += 1
            wrong[case.difficulty] += answer.error is not None
    for difficulty, rate in ERROR_RATES[worker].items():
        assert within(wrong[difficulty], asked[difficulty], rate.corrected if told else rate.first), difficulty


@pytest.mark.parametrize("worker", AUDIT_RATES)
def test_audit_rates_are_the_tables(worker):
    alarms: Counter[str] = Counter()
    asked: Counter[str] = Counter()
    for case in CASES:
        for sample in range(6):
            opinion = Opinion.model_validate_json(audit_answer(case, case.facts, worker, sample=sample).text)
            asked[case.difficulty] += 1
            alarms[case.difficulty] += not opinion.agree
    for difficulty, rate in AUDIT_RATES[worker].items():
        assert within(alarms[difficulty], asked[difficulty], rate.false_alarm), difficulty


def test_an_auditor_that_objects_says_where():
    caught = total = expected = 0.0
    for case in CASES:
        for sample in range(4):
            facts = parsed(extract_answer(case, "cheap", sample=sample).text)
            if facts is None or is_right(case, facts):
                continue
            opinion = Opinion.model_validate_json(audit_answer(case, facts).text)
            total, caught = total + 1, caught + (not opinion.agree)
            expected += AUDIT_RATES["frontier"][case.difficulty].catches
            assert opinion.agree or opinion.problem
    assert total > 40
    assert abs(caught - expected) < 0.12 * total


def test_answers_are_the_same_every_time_and_differ_between_samples():
    hard = [case for case in CASES if case.difficulty == "hard"]
    first = [extract_answer(case, "cheap") for case in hard]
    assert first == [extract_answer(case, "cheap") for case in hard]
    assert first != [extract_answer(case, "cheap", sample=1) for case in hard]
    assert first != [extract_answer(case, "cheap", seed=1) for case in hard]


def test_every_kind_of_error_happens():
    made = {extract_answer(case, "cheap", sample=s).error for case in households(300, seed=3) for s in range(8)}
    assert made == {None, *ERROR_KINDS}


def test_tokens_are_a_quarter_of_the_characters():
    assert [estimated_tokens(text) for text in ("", "a", "abcd", "abcde")] == [0, 1, 1, 2]
    answer = extract_answer(CASES[0], "cheap")
    assert answer.output_tokens == estimated_tokens(answer.text)
    assert answer.input_tokens > estimated_tokens(CASES[0].household.papers)
    assert extract_answer(CASES[0], "cheap", told=("no",)).input_tokens > answer.input_tokens


# The workflow in small, to see that its parts are worth having: engine, budget and durability come on top of it.


class Loop:
    def __init__(self, seed: int) -> None:
        self.seed, self.cost = seed, 0.0

    def paid(self, worker: str, answer: SimulatedAnswer) -> str:
        price_in, price_out = PRICES[worker]
        self.cost += (answer.input_tokens * price_in + answer.output_tokens * price_out) / 1e6
        return answer.text

    def alone(self, case: Case, worker: str) -> Result:
        facts = parsed(self.paid(worker, extract_answer(case, worker, seed=self.seed)))
        return Result.needs_person("no facts") if facts is None else finished(facts)

    def cascade(self, case: Case) -> Result:
        facts = self.extract(case, ("cheap", "frontier"))
        if facts is None:
            return Result.needs_person("checks still fail")
        result = finished(facts)
        if checks.risky(case.household, facts, result.tax_return):
            opinion = self.audit(case, facts)
            if not opinion.agree:
                facts = self.extract(case, ("frontier",), told=(opinion.problem,))
                if facts is None or not self.audit(case, facts).agree:
                    return Result.needs_person(opinion.problem)
                return finished(facts)
        return result

    def extract(self, case: Case, workers: tuple[str, ...], told: tuple[str, ...] = ()) -> Facts | None:
        for worker in workers:
            heard = told
            for _ in range(2):
                facts = parsed(self.paid(worker, extract_answer(case, worker, told=heard, seed=self.seed)))
                problem = checks.first_problem(facts, case.household) if facts else "This is not JSON of the schema."
                if problem is None:
                    return facts
                heard = (*heard, problem)
        return None

    def audit(self, case: Case, facts: Facts) -> Opinion:
        return Opinion.model_validate_json(self.paid("frontier", audit_answer(case, facts, seed=self.seed)))


def finished(facts: Facts) -> Result:
    if facts.missing:
        return Result.needs_information(*facts.missing)
    try:
        return Result.prepared(compute(facts))
    except ValueError as unknown:
        return Result.needs_person(str(unknown))


def test_the_cascade_is_as_good_as_the_frontier_at_under_half_its_cost():
    grades: dict[str, Counter[str]] = {"cheap": Counter(), "frontier": Counter(), "cascade": Counter()}
    costs = dict.fromkeys(grades, 0.0)
    for seed in SEEDS:
        for name, count in grades.items():
            loop = Loop(seed)
            for case in CASES:
                result = loop.cascade(case) if name == "cascade" else loop.alone(case, name)
                count[grade(case, result)] += 1
            costs[name] += loop.cost
    cheap, frontier, cascade = grades["cheap"], grades["frontier"], grades["cascade"]
    assert cascade["wrong"] <= frontier["wrong"]
    assert cascade["wrong"] < 0.25 * cheap["wrong"]
    assert cascade["right"] >= 0.97 * frontier["right"]
    assert cascade["flagged"] <= 0.03 * len(CASES) * len(SEEDS)
    assert costs["cascade"] < 0.5 * costs["frontier"]
