"""The tests behind a certificate keep their level, agree with their definitions, and say so where they cannot be used."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from orchestrion.tuning import betting, bounds, exact, share, sparse
from orchestrion.tuning.exact import Counts, count, largest_share, loss_bound, loss_p_value, p_value

small_counts = st.builds(Counts, st.integers(0, 120), st.integers(0, 15), st.integers(0, 15))


def above(seen: float, level: float, draws: int) -> float:
    """By how many standard errors a simulated level lies above the stated one."""
    return (seen - level) / math.sqrt(level * (1 - level) / draws)


# --- the exact test of a mean ---


def by_definition(n11: int, n10: int, n01: int, rho: float, p: float) -> float:
    """The recipe of METHODS §2, word by word, by brute force."""
    m, v1, v2, v3 = n11 + n10 + n01, 1 - rho, p - (1 - rho), p

    def harm(g: float) -> float:
        return (v1 * (1 - g) + v3 * g) / (v1 + v2)

    def deviation(k: int) -> float:
        g = (k + 0.5) / (m + 1)
        b = harm(g)
        return math.sqrt(m * (v1**2 * max(1 - b - g, 0) + v2**2 * b + v3**2 * g))

    def statistic(harms: int, gains: int) -> float:
        return (v1 * (m - harms - gains) - v2 * harms + v3 * gains) / deviation(gains)

    seen = statistic(n10, n01)
    most = [sum(statistic(c, k) >= seen - 1e-12 for c in range(m - k + 1)) - 1 for k in range(m + 1)]
    interval = stats.binomtest(n01, m).proportion_ci(0.999, method="exact")
    top = v2 / (v2 + v3)
    worst = 0.0
    for g in np.linspace(min(interval.low, top), min(interval.high, top), 100):
        k = np.arange(m + 1)
        worst = max(worst, float(stats.binom.pmf(k, m, g) @ stats.binom.cdf(most, m - k, min(harm(g) / (1 - g), 1))))
    return worst + 0.001


@pytest.mark.parametrize(
    ("counts", "rho", "p"),
    [
        (Counts(33, 6, 1), 0.9, 0.5),
        (Counts(24, 3, 3), 0.9, 0.78),
        (Counts(17, 0, 0), 0.95, 0.66),
        (Counts(50, 2, 0), 0.95, 1.0),
        (Counts(41, 3, 14), 0.8, 0.98),
        (Counts(26, 18, 2), 0.95, 0.16),
        (Counts(0, 4, 9), 0.9, 1.0),
        (Counts(20, 3, 9), 1.0, 1.0),
    ],
)
def test_the_fast_p_value_is_the_one_of_the_recipe(counts: Counts, rho: float, p: float) -> None:
    assert float(p_value(counts, rho=rho, p=p)) == pytest.approx(by_definition(*counts, rho, p), rel=0.006, abs=1e-4)


def rejected(m: int, loss: float, delta: float) -> np.ndarray:
    """Of m tasks with k gains each, the most harms with which the loss is ruled out (-1: none)."""
    most = np.full(m + 1, -1)
    for k in range(m + 1):
        low, high = -1, m - k + 1
        while high - low > 1:  # more harms never make it more certain (tested below)
            middle = (low + high) // 2
            passes = float(loss_p_value(Counts(m - k - middle, middle, k), loss)) <= delta
            low, high = (middle, high) if passes else (low, middle)
        most[k] = low
    return most


@pytest.mark.parametrize(("m", "loss", "delta"), [(30, 0.05, 0.2), (30, 0.2, 0.05), (60, 0.0625, 0.1), (100, 0.1, 0.1)])
def test_the_level_of_the_exact_test_holds_on_the_whole_boundary(m: int, loss: float, delta: float) -> None:
    most, k = rejected(m, loss, delta), np.arange(m + 1)
    levels = []
    for g in np.linspace(0, (1 - loss) / (2 - loss), 60):
        harm = min((loss + g * (1 - loss)) / (1 - g), 1)
        levels.append(float(stats.binom.pmf(k, m, g) @ stats.binom.cdf(most, m - k, harm)))
    assert max(levels) <= delta
    assert max(levels) > 0.8 * delta  # nor is it given away


def test_the_bound_found_by_bisection_keeps_its_level_too() -> None:
    m, delta = 15, 0.1
    k, h = np.meshgrid(np.arange(m + 1), np.arange(m + 1), indexing="ij")
    found = np.ones((m + 1, m + 1))
    for gains, harms in zip(*np.nonzero((k + h <= m) & (h <= k + 6)), strict=True):
        found[gains, harms] = loss_bound(Counts(int(m - gains - harms), int(harms), int(gains)), delta)
    for loss in (0.03, 0.05, 0.1, 0.2, 0.3):
        for g in np.linspace(0, (1 - loss) / (2 - loss), 15):
            harm = min((loss + g * (1 - loss)) / (1 - g), 1)
            chance = stats.binom.pmf(k, m, g) * np.where(k + h <= m, stats.binom.pmf(h, m - k, harm), 0)
            assert chance[found < loss].sum() <= delta


def test_graded_scores_keep_the_level_with_one_uniform_a_task() -> None:
    rng, draws, broken = np.random.default_rng(7), 400, 0
    for _ in range(draws):
        frontier = rng.beta(4, 1, 120)
        policy = np.clip(frontier + rng.choice([-0.4, 0.0, 0.25], 120, p=[0.2, 0.6, 0.2]), 0, 1)
        policy *= 0.9 * GRADED_FRONTIER / GRADED_POLICY  # the mean is exactly at the target
        counts = count(np.minimum(policy, 1), frontier, rng.random(120))
        broken += float(p_value(counts, rho=0.9)) <= 0.1
    assert above(broken / draws, 0.1, draws) < 3
    assert broken > 0.03 * draws


def graded_means() -> tuple[float, float]:
    rng = np.random.default_rng(8)
    frontier = rng.beta(4, 1, 400_000)
    policy = np.clip(frontier + rng.choice([-0.4, 0.0, 0.25], 400_000, p=[0.2, 0.6, 0.2]), 0, 1)
    return float(frontier.mean()), float(policy.mean())


GRADED_FRONTIER, GRADED_POLICY = graded_means()


@settings(max_examples=40, deadline=None)
@given(small_counts, st.sampled_from([0.01, 0.05, 0.1, 0.3]))
def test_fewer_harms_and_more_gains_make_it_more_certain(counts: Counts, loss: float) -> None:
    here = float(loss_p_value(counts, loss))
    assert 0 < here <= 1
    if counts.harms:
        assert float(loss_p_value(counts._replace(harms=counts.harms - 1, both=counts.both + 1), loss)) <= here + 1e-9
    worse = counts._replace(harms=counts.harms + 1, both=max(counts.both - 1, 0))
    if sum(worse) == sum(counts):
        assert float(loss_p_value(worse, loss)) >= here - 1e-9


@settings(max_examples=25, deadline=None)
@given(small_counts, st.sampled_from([0.8, 0.9, 0.95]), st.sampled_from([0.05, 0.1, 0.2]))
def test_the_certified_share_passes_and_is_what_the_bound_says(counts: Counts, rho: float, delta: float) -> None:
    certified = largest_share(counts, rho=rho, delta=delta)
    bound = loss_bound(counts, delta)
    assert 1 - rho <= certified <= 1
    assert float(p_value(counts, rho=rho, p=certified)) <= delta
    assert bound == 0 or float(loss_p_value(counts, bound)) <= delta
    assert (
        certified >= min(1, (1 - rho) / max(bound, 1e-9)) - 0.15
    )  # one by 96 steps, one without; p-values have small steps


def test_a_larger_share_is_harder_but_for_small_steps_and_the_result_has_its_shape() -> None:
    values = p_value(Counts(90, 4, 3), rho=0.95, p=np.linspace(0.05, 1, 96))
    assert values.shape == (96,)
    assert values[0] == 0
    assert (np.maximum.accumulate(values) - values < 0.04).all()
    assert values[-1] == values.max()


def test_extremes_of_the_exact_test() -> None:
    nothing, harms, gains = Counts(0, 0, 0), Counts(0, 12, 0), Counts(0, 0, 12)
    assert float(p_value(nothing, rho=0.9)) == 1
    assert float(p_value(nothing, rho=0.9, p=0.1)) == 0  # free
    assert float(p_value(harms, rho=0.95)) == pytest.approx(1, abs=1e-6)
    assert float(p_value(gains, rho=1.0)) < 0.01
    assert float(p_value(Counts(12, 0, 0), rho=1.0)) == 1  # nothing says that it is better
    assert largest_share(harms, rho=0.95, delta=0.1) == pytest.approx(0.05)
    assert loss_bound(nothing, 0.1) == 1
    assert loss_bound(gains, 0.1) == 0
    assert float(p_value(Counts(900_000, 30_000, 20_000), rho=0.95)) < 0.01
    assert loss_bound(Counts(900_000, 30_000, 20_000), 0.1) == pytest.approx(10_000 / 930_000, rel=0.05)


def test_a_policy_without_a_single_harm_needs_about_the_labels_that_were_said_first() -> None:
    needed = bounds.fewest_labels(0.95, 0.1, 0.9)
    assert needed == 50
    assert float(p_value(Counts(round(0.9 * needed), 0, 0), rho=0.95)) <= 0.105
    assert float(p_value(Counts(round(0.9 * needed) - 4, 0, 0), rho=0.95)) > 0.1


def test_scores_become_counts() -> None:
    assert count([1, 0, 1, 0, 1], [1, 1, 0, 0, 1]) == Counts(2, 1, 1)
    assert count([0.5, 0.5, 0.2], [0.9, 0.5, 0.6], [0.7, 0.4, 0.1]) == Counts(2, 1, 0)


@pytest.mark.parametrize(
    ("policy", "frontier", "uniform", "words"),
    [
        ([1, 0], [1], None, "one length"),
        ([1.2], [1], None, "between 0 and 1"),
        ([math.nan], [1], None, "between 0 and 1"),
        ([0.5], [1], None, "uniform number a task"),
        ([0.5], [1], [1.0], r"in \[0, 1\)"),
    ],
)
def test_scores_that_cannot_be_counted_are_refused(
    policy: list[float], frontier: list[float], uniform: list[float] | None, words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        count(policy, frontier, uniform)


@pytest.mark.parametrize(
    "bad", [{"rho": 0}, {"rho": 1.1}, {"rho": 0.9, "p": 0}, {"rho": 0.9, "p": 1.5}, {"rho": 0.9, "p": math.nan}]
)
def test_a_target_or_share_that_cannot_be_is_refused(bad: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must be above 0 and at most 1"):
        p_value(Counts(9, 1, 0), **bad)


def test_counts_below_zero_are_refused() -> None:
    with pytest.raises(ValueError, match="counts"):
        loss_p_value(Counts(9, -1, 0), 0.1)
    with pytest.raises(ValueError, match="cannot be"):
        sparse.loss_p_value(sparse.Sparse(100, 20, 30, Counts(1, 1, 1), 10, 9), 0.1)


# --- the share of tasks ---


@pytest.mark.parametrize("p", [0.25, 0.6, 1.0])
@pytest.mark.parametrize("delta", [0.05, 0.1, 0.2])
def test_the_level_of_the_share_test_is_exact(p: float, delta: float) -> None:
    n, worse = 90, np.arange(91)
    certified = np.array([float(share.p_value(int(k), n, share=0.9, p=p)) <= delta for k in worse])
    assert stats.binom.pmf(worse, n, 0.1 / p)[certified].sum() <= delta + 1e-12
    for k in (0, 3, 9, 20, 90):
        largest = share.largest_share(k, n, share=0.9, delta=delta)
        assert 0.1 - 1e-9 <= largest <= 1
        assert float(share.p_value(k, n, share=0.9, p=largest)) <= delta + 1e-9
        if 0.11 < largest < 1:
            assert float(share.p_value(k, n, share=0.9, p=largest * 1.001)) > delta


def test_the_share_test_at_its_ends() -> None:
    assert share.count_worse([1, 0.95, 0.9, 0, 0.5], [1, 1, 1, 0, 0.4], rho=0.95) == 1
    assert float(share.p_value(0, 0, share=0.9)) == 1
    assert float(share.p_value(5, 5, share=0.9, p=0.1)) == 0
    assert float(share.p_value(3, 40, share=0.9)) == pytest.approx(stats.binom.cdf(3, 40, 0.1))
    with pytest.raises(ValueError, match="cannot be"):
        share.p_value(6, 5, share=0.9)


# --- betting ---


def test_wealth_is_the_mean_over_stakes_of_the_products() -> None:
    bets = betting.paired([1, 1, 0, 1, 0, 1], [1, 0, 1, 1, 0, 1], rho=0.9)
    m = 0.9 / 1.9
    x = (bets.values + 0.9) / 1.9  # as METHODS §2 writes it
    product = np.mean([np.cumprod(1 + (stake / m) * (x - m)) for stake in betting.STAKES], axis=0)
    assert np.exp(betting.log_wealth(bets)) == pytest.approx(product)
    assert betting.p_value(bets) == pytest.approx(min(1, 1 / product.max()))


def simulated_level(bets_of, draws: int = 500, delta: float = 0.1) -> float:
    rng = np.random.default_rng(11)
    return sum(betting.p_value(bets_of(rng)) <= delta for _ in range(draws)) / draws


def at_the_boundary(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Right and wrong of policy and frontier, where the policy keeps exactly .9 of the frontier's."""
    kind = rng.choice(4, n, p=[0.72, 0.18, 0.09, 0.01])  # both, harm, gain, neither: (.72 + .09)/.9 = .9
    return np.isin(kind, (0, 2)).astype(float), np.isin(kind, (0, 1)).astype(float)


def test_betting_keeps_its_level_at_every_look_paired_and_weighted() -> None:
    def paired(rng: np.random.Generator) -> betting.Bets:
        return betting.paired(*at_the_boundary(rng, 300), rho=0.9)

    def weighted(rng: np.random.Generator) -> betting.Bets:
        policy, frontier = at_the_boundary(rng, 400)
        probability = np.where(rng.random(400) < 0.5, 0.9, 0.4)
        labelled = rng.random(400) < probability
        bets = betting.paired(policy, frontier, rho=0.9)
        return betting.weighted(betting.Bets(bets.values[labelled], bets.worst), 1 / probability[labelled], cap=2.5)

    assert above(simulated_level(paired), 0.1, 500) < 3
    assert above(simulated_level(weighted), 0.1, 500) < 3


def test_clusters_that_rise_and_fall_together_fool_single_bets_and_not_clustered_ones() -> None:
    def drawn(rng: np.random.Generator) -> tuple[betting.Bets, list[int]]:
        policy, frontier = at_the_boundary(rng, 60)  # sixty users; every task of a user ends alike
        users = np.repeat(np.arange(60), rng.choice([1, 12], 60))
        return betting.paired(policy[users], frontier[users], rho=0.9), users.tolist()

    def together(rng: np.random.Generator) -> betting.Bets:
        bets, users = drawn(rng)
        return betting.clustered(bets, users, largest=12)

    assert above(simulated_level(together), 0.1, 500) < 3
    assert above(simulated_level(lambda rng: drawn(rng)[0]), 0.1, 500) > 3


@pytest.mark.parametrize("guess", [0.0, 0.9])
def test_labels_only_where_answers_differ_keep_the_level_and_certify_more(guess: float) -> None:
    def drawn(rng: np.random.Generator, harm: float) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        n = 600
        kind = rng.choice(4, n, p=[0.7, 0.1, 0.2 - 0.1 + 0.1 - harm, harm])
        frontier, policy = np.isin(kind, (0, 3)).astype(float), np.isin(kind, (0, 2)).astype(float)
        return policy, frontier, kind < 2, np.where(kind < 2, 0.15, 0.7)

    def bets(rng: np.random.Generator, harm: float) -> betting.Bets:
        policy, frontier, same, probability = drawn(rng, harm)
        unlabelled = rng.random(600) >= probability
        policy[unlabelled], frontier[unlabelled] = math.nan, math.nan
        return betting.where_different(
            policy, frontier, same=same, probability=probability, rho=0.9, guess=guess, least=0.7
        )

    # P(frontier right) = .7 + h, P(policy right) = .7 + .2 − h: at the target of .9 where .9 − h = .9(.7 + h)
    boundary = 0.27 / 1.9
    assert above(simulated_level(lambda rng: bets(rng, boundary)), 0.1, 500) < 3
    assert simulated_level(lambda rng: bets(rng, 0.08), draws=100) > 0.9


def test_what_betting_cannot_take_is_refused() -> None:
    bets = betting.paired([1, 0], [1, 1], rho=0.9)
    assert betting.p_value(betting.paired([0, 0], [1, 1], rho=0.9, p=0.1)) == 0  # free
    assert betting.p_value(betting.Bets(np.zeros(0), 0.9)) == 1
    with pytest.raises(ValueError, match="stated cap"):
        betting.weighted(bets, [1, 5], cap=4)
    with pytest.raises(ValueError, match="more than the 1"):
        betting.clustered(bets, ["ann", "ann"], largest=1)
    with pytest.raises(ValueError, match="below the stated"):
        betting.p_value(betting.Bets(np.array([0.1, -1.0]), 0.9))
    with pytest.raises(ValueError, match="between 0 and 1"):
        betting.paired([math.nan], [1], rho=0.9)


def test_a_long_stream_does_not_overflow() -> None:
    assert betting.p_value(betting.paired(np.ones(50_000), np.ones(50_000), rho=0.5)) == 0
    assert betting.p_value(betting.paired(np.zeros(50_000), np.ones(50_000), rho=0.5)) == 1


# --- few labels, many answers ---


def test_where_everything_is_labelled_the_sparse_test_is_close_to_the_exact_one() -> None:
    for both, harms, gains, neither, right, wrong in [
        (8, 9, 5, 6, 110, 12),
        (3, 4, 6, 3, 80, 4),
        (10, 20, 12, 10, 240, 30),
    ]:
        differ, same = both + harms + gains + neither, right + wrong
        seen = sparse.Sparse(differ + same, differ, differ, Counts(both, harms, gains), same, right)
        plain = float(loss_p_value(Counts(both + right, harms, gains), 0.08))
        assert sparse.loss_p_value(seen, 0.08) == pytest.approx(1.1 * plain, rel=0.15, abs=0.01)


@pytest.mark.parametrize(("labelled", "checked", "loss"), [(120, 30, 0.05), (60, 30, 0.1)])
def test_the_sparse_test_keeps_its_level_at_the_boundary(labelled: int, checked: int, loss: float) -> None:
    rng, draws, broken = np.random.default_rng(3), 60, 0
    d, g, b, a = 0.3, 0.12, 0.08, 0.9
    h = (g + loss * ((1 - d) / d * a + b)) / (1 - loss)
    for _ in range(draws):
        differ = rng.binomial(600, d)
        both, harms, gains, _neither = map(int, rng.multinomial(labelled, [b, h, g, 1 - b - h - g]))
        seen = sparse.Sparse(
            600, int(differ), labelled, Counts(both, harms, gains), checked, int(rng.binomial(checked, a))
        )
        broken += sparse.loss_p_value(seen, loss) <= 0.1
    assert above(broken / draws, 0.1, draws) < 3


def test_labels_where_answers_differ_say_more_than_labels_at_random() -> None:
    # the same shares: of 150 labels at random 37 fall on answers that differ; of 150 spent on purpose, 120 do
    at_random = loss_bound(Counts(6 + 102, 9, 7), 0.1)
    on_purpose = sparse.loss_bound(sparse.Sparse(600, 150, 120, Counts(20, 29, 23), 30, 27), 0.1)
    assert on_purpose < 0.75 * at_random


def test_the_sparse_test_at_its_ends() -> None:
    assert sparse.loss_p_value(sparse.Sparse(600, 150, 0, Counts(0, 0, 0), 30, 28), 0.1) == 1
    assert sparse.loss_p_value(sparse.Sparse(600, 150, 100, Counts(0, 0, 100), 0, 0), 0.1) < 0.01
    assert sparse.loss_p_value(sparse.Sparse(600, 150, 100, Counts(0, 100, 0), 30, 30), 0.1) > 0.9
    assert sparse.loss_p_value(sparse.Sparse(600, 600, 100, Counts(97, 1, 2), 0, 0), 0.1) < 0.01
    assert sparse.loss_p_value(sparse.Sparse(600, 0, 0, Counts(0, 0, 0), 30, 28), 0.1) == 0


# --- small bounds ---


def test_clopper_pearson_is_scipys() -> None:
    for seen, n in [(0, 10), (3, 10), (10, 10), (40, 400)]:
        interval = stats.binomtest(seen, n).proportion_ci(0.9, method="exact")
        assert bounds.clopper_pearson(seen, n, 0.05) == pytest.approx((interval.low, interval.high))
    assert bounds.clopper_pearson(0, 0, 0.05) == (0, 1)


def test_fewest_labels_and_batches() -> None:
    assert (bounds.fewest_labels(0.95, 0.1, 0.9), bounds.fewest_labels(0.95, 0.05, 0.9)) == (50, 65)
    assert bounds.batch_delta(0.1, 150, math.inf) == pytest.approx(0.1)
    assert bounds.batch_delta(0.1, 150, 150) == pytest.approx(stats.norm.sf(stats.norm.isf(0.1) * math.sqrt(2)))
    for bad in [(1.0, 0.1, 0.9), (0.9, 0.0, 0.9), (0.9, 0.1, 0.0)]:
        with pytest.raises(ValueError, match="frontier that is right at times"):
            bounds.fewest_labels(*bad)


def test_intervals_of_a_ratio() -> None:
    rng = np.random.default_rng(5)
    under = rng.random(200) + 0.5
    over = 0.8 * under + rng.normal(0, 0.05, 200)
    low, high = bounds.bootstrap_ratio(over, under)
    assert bounds.bootstrap_ratio(over, under) == (low, high)
    assert low < over.sum() / under.sum() < high
    assert high - low < 0.03  # paired: what both share cancels
    twice = bounds.bootstrap_ratio(
        np.repeat(over, 9), np.repeat(under, 9), groups=np.repeat(np.arange(200), 9).tolist()
    )
    assert twice == pytest.approx((low, high), abs=0.003)  # nine copies of a task are no new task
    assert bounds.bootstrap_ratio([1.0], [0.0]) == (0, math.inf)
    with pytest.raises(ValueError, match="at least one task"):
        bounds.bootstrap_ratio([], [])


@settings(max_examples=40, deadline=None)
@given(st.dictionaries(st.text(max_size=3), st.floats(0, 1), max_size=8))
def test_holm_is_between_the_p_values_and_bonferroni(values: dict[str, float]) -> None:
    adjusted = bounds.holm(values)
    assert list(adjusted) == list(values)
    for name, value in values.items():
        assert value <= adjusted[name] <= min(1, len(values) * value) + 1e-12
    by_size = sorted(values, key=lambda name: values[name])
    assert [adjusted[name] for name in by_size] == sorted(adjusted.values())


def test_holm_by_hand() -> None:
    assert bounds.holm({"a": 0.04, "b": 0.01, "c": 0.03}) == pytest.approx({"a": 0.06, "b": 0.03, "c": 0.06})


def test_the_steps_of_the_nuisance_are_fine_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    cases = [(Counts(14, 0, 1), 0.05), (Counts(66, 4, 1), 0.07), (Counts(234, 10, 4), 0.05), (Counts(70, 3, 1), 0.1)]
    coarse = [float(loss_p_value(*case)) for case in cases]
    monkeypatch.setattr(exact, "NUISANCE_POINTS", 200)
    assert coarse == pytest.approx([float(loss_p_value(*case)) for case in cases], rel=0.005)
