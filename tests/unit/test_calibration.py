"""A calibration rises, is never certain, and comes near the truth."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrion.checks.calibration import Calibration, brier, fit

labelled = st.lists(
    st.tuples(st.one_of(st.sampled_from([0.0, 0.2, 0.4, 0.6, 0.8, 1.0]), st.floats(0, 1)), st.booleans()), min_size=1
)


@given(labelled, st.floats(0, 1), st.floats(0, 1))
def test_it_rises_and_is_never_certain(pairs, one, other):
    curve = fit(pairs)
    low, high = sorted((one, other))
    assert 0 < curve.chance(low) <= curve.chance(high) < 1
    assert curve.labels == len(pairs)


@given(labelled)
def test_the_order_of_the_labels_does_not_matter(pairs):
    assert fit(pairs) == fit(pairs[::-1])


@given(labelled)
def test_it_reaches_from_the_lowest_to_the_highest_score(pairs):
    curve = fit(pairs)
    assert curve.scores[0] == min(score for score, _ in pairs)
    assert curve.scores[-1] == max(score for score, _ in pairs)


@given(st.integers(1, 60))
def test_one_kind_of_label_alone_is_not_certain(n):
    assert 0.6 < fit([(1.0, True)] * n).chance(1.0) < 1
    assert 0 < fit([(1.0, False)] * n).chance(1.0) < 0.4


def test_many_labels_are_believed():
    rng = random.Random(3)
    truth = {0.0: 0.05, 0.2: 0.1, 0.4: 0.3, 0.6: 0.5, 0.8: 0.8, 1.0: 0.95}
    pairs = [(score, rng.random() < p) for score, p in truth.items() for _ in range(2000)]
    curve = fit(pairs)
    for score, p in truth.items():
        assert curve.chance(score) == pytest.approx(p, abs=0.03)


def test_a_judge_the_wrong_way_round_is_level():
    curve = fit([(0.0, True)] * 50 + [(1.0, False)] * 50)
    assert curve.chance(0.0) == curve.chance(1.0) == pytest.approx(0.5)


def test_between_two_scores_it_is_a_line():
    curve = Calibration((0.0, 1.0), (0.2, 0.6))
    assert [curve.chance(s) for s in (0.0, 0.25, 1.0)] == pytest.approx([0.2, 0.3, 0.6])


@pytest.mark.parametrize("values", [3, None])
def test_what_is_no_list_of_scores_is_refused(values):
    with pytest.raises(ValueError, match="are lists of numbers"):
        Calibration(values, (0.1,))


def test_no_labels_are_refused():
    with pytest.raises(ValueError, match="needs labels"):
        fit([])


def test_calibrating_an_overconfident_judge_lowers_the_error():
    rng = random.Random(5)
    rows = [
        (f"q{i}", score, rng.random() < 0.3 + 0.4 * score) for i in range(600) for score in (rng.choice([0.0, 1.0]),)
    ]
    raw, calibrated = brier(rows)
    assert calibrated < raw
    assert calibrated == pytest.approx(0.21, abs=0.02)  # 0.3 · 0.7 at either score
