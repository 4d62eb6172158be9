"""The yardstick itself: what benchmarks/quality measures with must be right, or its tables say nothing."""

from __future__ import annotations

import asyncio
import math

import numpy as np
import pytest

from benchmarks.quality import exact
from benchmarks.quality.judge import judged, redrawn, resamples, run, stream
from benchmarks.quality.methods import METHODS, Decision, Sample, frontier_alone, oracle
from benchmarks.quality.nulls import NULLS, null
from benchmarks.quality.tuned import branches, expected, rows
from orchestrion.domain import UNLIMITED, Ask, Call, Task
from orchestrion.engine.execution import SavedPolicy
from orchestrion.engine.replay import replay
from orchestrion.policy.combinators import Fixed, Mix, Router, agreement, cascade
from orchestrion.policy.learned import scored_router
from orchestrion.policy.protocol import dump_policy
from orchestrion.tuning import exact as tuning

POPULATION = null("agreement")
CHEAP, FRONTIER = POPULATION.cheap[0], POPULATION.frontier


def test_the_exact_test_of_the_recipe_and_the_tuners_were_written_apart_and_agree():
    rng = np.random.default_rng(0)
    for _ in range(60):
        harm, gain = rng.uniform(0, 0.2, 2)
        n = tuple(int(k) for k in rng.multinomial(rng.integers(10, 300), [1 - harm - gain, harm, gain]))
        rho = float(rng.choice([0.8, 0.9, 0.95]))
        p = float(rng.uniform(1 - rho + 0.01, 1))
        ours, theirs = exact.p_value(*n, p, rho), float(tuning.p_value(tuning.Counts(*n), rho=rho, p=p))
        assert ours == pytest.approx(theirs, abs=0.002), (n, rho, p)
        at_delta = exact.p_value(*n, p, rho, 0.1)
        assert (at_delta <= 0.1) == (ours <= 0.1)


@pytest.mark.parametrize("name", [name for name in NULLS if name != "agreement"])
def test_a_population_at_the_boundary_is_just_below_it(name):
    population = null(name)
    cheap = np.array([population.quality(worker).mean() for worker in population.cheap])
    lost = 0.1 if name == "half" else 0.05
    boundary = (1 - lost) * population.quality(population.frontier).mean()
    assert (cheap < boundary).all()
    assert cheap == pytest.approx(boundary, abs=2 / len(population))


def test_a_naive_threshold_breaks_its_promise_there_and_the_exact_recipe_keeps_it():
    samples = list(redrawn(null("many workers"), 150, 60, 0))
    assert run("naive", METHODS["naive"], samples, 150, 0.95, 0.1).broken > 0.9
    assert run("exact", METHODS["exact"], samples, 150, 0.95, 0.1).broken < 0.25  # .1, and four standard errors


def test_no_method_reads_a_score_that_it_has_no_label_of():
    [sample] = resamples(POPULATION, 100, 1, 0)
    hidden = np.ones(len(POPULATION), bool)
    hidden[sample.labelled] = False
    blind = null("agreement")
    for answers in blind.answers.values():
        answers.score[hidden] = 0.5
    other = Sample(blind, sample.labelled, sample.unlabelled)
    for name, method in METHODS.items():
        if name in ("oracle", "match oracle"):
            continue  # hindsight is its point; and the other asks for the frontier's answers, not for scores
        one, two = (method(each, stream(name), 0.9, 0.1) for each in (sample, other))
        assert one.words == two.words
        assert (one.cost == two.cost).all()


def test_the_frontier_is_its_own_yardstick_and_hindsight_is_never_worse_than_it():
    [sample] = resamples(POPULATION, 100, 1, 0)
    alone = judged(sample, frontier_alone(sample, stream(), 0.95, 0.1), 0.95)
    assert (alone.quality_rest, alone.cost_rest, alone.cost, alone.broken) == (1, 1, 1, False)
    best = judged(sample, oracle(sample, stream(), 0.95, 0.1), 0.95)
    assert best.quality_rest >= 1
    assert best.cost < 1


def test_a_promise_about_the_share_of_tasks_is_judged_by_the_share():
    [sample] = resamples(POPULATION, 100, 1, 0)
    q, c = POPULATION.quality(FRONTIER), POPULATION.cost(FRONTIER)
    kept = np.full(len(POPULATION), 0.89)
    assert judged(sample, Decision(q, c, True, "", promised=0.9, kept=kept), 0.95).broken
    assert not judged(sample, Decision(q, c, True, "", promised=0.88, kept=kept), 0.95).broken


def test_a_policy_is_judged_as_replay_finds_it():
    policy = cascade(agreement(CHEAP, samples=3, accept=0.9), FRONTIER)
    quality, cost, _ = expected(policy, POPULATION, 0.95)
    found = asyncio.run(replay(POPULATION.outcomes, SavedPolicy(policy, (), "tuned"), frontier=FRONTIER))
    assert quality.mean() == pytest.approx(found.quality)
    assert round(cost.sum() * 1e9) == found.cost


def test_mixes_are_judged_in_expectation_and_those_of_one_salt_draw_one_number():
    cheap, dear = Fixed(CHEAP), Fixed(FRONTIER)
    mix = Mix((cheap, dear), (0.25, 0.75), "salt")
    quality, cost, _ = expected(mix, POPULATION, 0.95)
    assert quality == pytest.approx(0.25 * POPULATION.quality(CHEAP) + 0.75 * POPULATION.quality(FRONTIER))
    assert cost == pytest.approx(0.25 * POPULATION.cost(CHEAP) + 0.75 * POPULATION.cost(FRONTIER))
    twice = Router("kind", {"0": mix}, Mix((mix, dear), (0.5, 0.5), "salt"))
    found = [(share, dump_policy(part)["otherwise"]["worker"]) for share, part in branches(twice)]
    assert found == [(0.25, CHEAP), (0.25, FRONTIER), (0.5, FRONTIER)]


def test_the_tuner_gets_a_task_that_was_drawn_twice_as_two_and_no_truth_of_the_unlabelled():
    drawn = np.array([3, 5, 3])
    given = rows(Sample(POPULATION, drawn, np.array([7])))
    assert len({row.task_id for row in given}) == 4
    hidden = [row for row in given if row.task_id == POPULATION.tasks[7]]
    assert hidden
    assert all(row.score is None and row.reference is None for row in hidden)


def test_a_share_of_each_tag_value_is_an_expectation_too():
    score = {"tag:topic=a": 0.25, "tag:topic=b": 1.0, "chance:s": -1.0}
    found = branches(scored_router(score, least=1e-9, above="cheap", below="frontier"))
    assert math.isclose(sum(share for share, _ in found), 1)

    def to_cheap(**tags):
        task = Task("t", "?", tags)
        return sum(share for share, one in found if one.next(task, (), UNLIMITED) == Ask((Call("cheap"),)))

    assert [to_cheap(topic="a"), to_cheap(topic="b"), to_cheap(topic="c"), to_cheap()] == pytest.approx([0.25, 1, 0, 0])
