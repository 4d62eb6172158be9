"""What the tuner is measured beside: every method sees a sample of labelled tasks and decides for all tasks of the workload.

A method is ``(sample, rng, target, delta) -> Decision``. It may read scores of ``sample.labelled`` alone; answers, costs and prompts of
any task that it decides, since a policy sees those when it runs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations
from typing import Any, TypeAlias

import numpy as np
from scipy.stats import norm

from benchmarks.quality.exact import betting_share, counts, exact_share, p_value
from benchmarks.quality.workloads import Floats, Ints, Workload

Rng: TypeAlias = np.random.Generator
PRIOR, RECIPE_PRIOR = 10, 30
SAMPLES = (2, 4, 8)


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """Indices of the labelled tasks, in random order, and of those whose answers are known and scores are not."""

    workload: Workload
    labelled: Ints
    unlabelled: Ints


@dataclass(frozen=True, slots=True)
class Decision:
    """A policy's expected score and dollars on each task of the workload. ``certified``: more than what is free was certified.

    ``promised`` is the share of the frontier's quality that was promised (None: the target asked for). Where ``kept`` is given, the promise is
    about the share of tasks instead, and ``kept`` is each task's chance of an answer that is as good as was promised.
    """

    quality: Floats
    cost: Floats
    certified: bool
    words: str
    promised: float | None = None
    kept: Floats | None = None


Method: TypeAlias = Callable[[Sample, Rng, float, float], Decision]


@dataclass(frozen=True, slots=True)
class Option:
    """Take a cheap answer, or ask the frontier, by the group that a task is in.

    ``after``: the group is known once ``cost`` is spent; else from the task alone. ``match``: the answer is the frontier's.
    """

    name: str
    quality: Floats
    match: Floats
    cost: Floats
    group: Ints
    after: bool

    def taken(self, workload: Workload, accept: NDArrayBool) -> tuple[Floats, Floats]:
        """Score and cost of every task where the groups in ``accept`` are answered cheaply."""
        frontier = workload.frontier
        cheap = accept[self.group]
        deferred = workload.cost(frontier) + (self.cost if self.after else 0.0)
        return np.where(cheap, self.quality, workload.quality(frontier)), np.where(cheap, self.cost, deferred)


NDArrayBool: TypeAlias = "np.ndarray[Any, np.dtype[np.bool_]]"


@lru_cache(maxsize=32)
def options(workload: Workload) -> tuple[Option, ...]:
    """Every pair of a cheap answer and a grouping: tags before it, its length and its agreement after it."""
    found = [*_before(workload), *_by_length(workload), *_by_agreement(workload)]
    dear = workload.cost(workload.frontier).mean()
    return tuple(one for one in found if one.cost.mean() < dear and (one.group.max() > 0 or not one.after))


def _before(workload: Workload) -> Iterator[Option]:
    for u in workload.cheap:
        yield Option(f"{u} by tag", workload.quality(u), workload.matches(u), workload.cost(u), workload.group, False)


def _by_length(workload: Workload) -> Iterator[Option]:
    for u in workload.cheap:
        known = workload.answers[u]
        length = np.floor(2 * np.log2(known.length[:, 0] + 1)).astype(np.int64)
        if (known.code >= 0).any():
            length[known.code[:, 0] < 0] = 99
        group = np.unique(length, return_inverse=True)[1]
        yield Option(f"{u} by length", workload.quality(u), workload.matches(u), workload.cost(u), group, True)


def _by_agreement(workload: Workload) -> Iterator[Option]:
    """One worker with itself, two workers with each other: the majority's first answer, by how many gave it."""
    by_price = sorted(workload.cheap, key=lambda u: -float(workload.cost(u).mean()))
    teams: list[tuple[tuple[str, ...], int]] = [((u,), k) for u in by_price for k in SAMPLES]
    teams += [(pair, k) for pair in combinations(by_price, 2) for k in (1, *SAMPLES)]
    frontier = workload.answers[workload.frontier].code[:, 0]
    every = np.arange(len(workload))
    for team, k in teams:
        asked = [workload.answers[u] for u in team]
        if min(one.samples for one in asked) < k or not all((one.code >= 0).any() for one in asked):
            continue
        code, score = (
            np.stack([getattr(one, what)[:, i] for i in range(k) for one in asked], axis=1)
            for what in ("code", "score")
        )
        votes = ((code[:, :, None] == code[:, None, :]) & (code[:, None, :] >= 0)).sum(axis=1)
        first = votes.argmax(axis=1)
        answer = code[every, first]
        yield Option(
            f"{k} of {' + '.join(team)} by agreement",
            np.where(answer >= 0, score[every, first], 0.0),
            np.asarray((answer == frontier) & (answer >= 0), float),
            np.sum([one.cost[:, :k].sum(axis=1) for one in asked], axis=0),
            votes.max(axis=1),
            True,
        )


@dataclass(frozen=True, slots=True)
class Ranked:
    """An option's groups, best first by the shrunk mean of D = cheap - frontier on the fitting tasks.

    Row k of the figures is the policy that accepts the first k + 1 groups, on the fitting tasks: ``seen`` the plain mean of D, ``d`` and ``v``
    the shrunk mean and variance, ``cost`` the mean dollars.
    """

    option: Option
    order: Ints
    seen: Floats
    d: Floats
    v: Floats
    cost: Floats

    def accept(self, k: int) -> NDArrayBool:
        groups = np.zeros(len(self.order), bool)
        groups[self.order[: k + 1]] = True
        return groups


def ranked(option: Option, quality: Floats, frontier: Floats, dear: Floats, fit: Ints, prior: float) -> Ranked:
    """``quality`` and ``frontier`` are what D compares (truth, or sameness and 1), ``dear`` the frontier's dollars."""
    groups = int(option.group.max()) + 1
    group, gain = option.group[fit], (quality - frontier)[fit]
    n, s, s2, cheap = (
        np.bincount(group, weights, groups) for weights in (np.ones(len(fit)), gain, gain**2, option.cost[fit])
    )
    mean = (s + prior * gain.mean()) / (n + prior)
    square = (s2 + prior * (gain**2).mean()) / (n + prior)
    order = np.argsort(-mean, kind="stable")
    d = np.cumsum((n * mean)[order]) / len(fit)
    spent = np.cumsum((cheap - np.bincount(group, dear[fit], groups))[order]) / len(fit) + dear[fit].mean()
    if option.after:
        spent += (option.cost[fit].sum() - np.cumsum(cheap[order])) / len(fit)
    return Ranked(
        option,
        order,
        np.cumsum(s[order]) / len(fit),
        d,
        np.maximum(np.cumsum((n * square)[order]) / len(fit) - d**2, 0),
        spent,
    )


def frontier_alone(sample: Sample, rng: Rng, target: float, delta: float) -> Decision:
    w = sample.workload
    return Decision(w.quality(w.frontier), w.cost(w.frontier), False, "frontier")


def cheapest_worker(sample: Sample, rng: Rng, target: float, delta: float) -> Decision:
    """The cheapest worker that keeps the target on the labels."""
    w, fit = sample.workload, sample.labelled
    least = target * w.quality(w.frontier)[fit].mean()
    best = min((u for u in w.workers if w.quality(u)[fit].mean() >= least), key=lambda u: float(w.cost(u)[fit].mean()))
    return Decision(w.quality(best), w.cost(best), False, best)


def random_mix(sample: Sample, rng: Rng, target: float, delta: float) -> Decision:
    """One cheap worker with the share that just keeps the target on the labels, else the frontier."""
    w, fit = sample.workload, sample.labelled
    q, c = w.quality(w.frontier), w.cost(w.frontier)

    def share(u: str) -> float:
        loss = float((q - w.quality(u))[fit].mean())
        return 1.0 if loss <= 0 else min(1.0, (1 - target) * float(q[fit].mean()) / loss)

    best = min(w.cheap, key=lambda u: share(u) * float((w.cost(u) - c)[fit].mean()))
    p = share(best) if w.cost(best)[fit].mean() < c[fit].mean() else 0.0
    return Decision(p * w.quality(best) + (1 - p) * q, p * w.cost(best) + (1 - p) * c, False, f"{p:.2f} {best}")


def _naive(sample: Sample, target: float, wanted: Callable[[Option], bool], *, shrunk: bool) -> Decision:
    """The cheapest threshold of any option that keeps the target on the labels that it was chosen on, by the plain or the shrunk mean."""
    w, fit = sample.workload, sample.labelled
    q, c = w.quality(w.frontier), w.cost(w.frontier)
    least = -(1 - target) * q[fit].mean()
    best: tuple[float, Ranked | None, int] = (float(c[fit].mean()), None, 0)
    for option in filter(wanted, options(w)):
        one = ranked(option, option.quality, q, c, fit, PRIOR)
        cost = np.where((one.d if shrunk else one.seen) >= least - 1e-12, one.cost, np.inf)
        k = int(cost.argmin())
        if cost[k] < best[0]:
            best = (float(cost[k]), one, k)
    _, found, k = best
    if found is None:
        return Decision(q, c, False, "frontier")
    return Decision(*found.option.taken(w, found.accept(k)), False, found.option.name)


def tag_router(sample: Sample, rng: Rng, target: float, delta: float) -> Decision:
    return _naive(sample, target, lambda option: not option.after, shrunk=True)


def cascade(sample: Sample, rng: Rng, target: float, delta: float) -> Decision:
    return _naive(sample, target, lambda option: option.after, shrunk=True)


def naive(sample: Sample, rng: Rng, target: float, delta: float) -> Decision:
    return _naive(sample, target, lambda option: True, shrunk=False)


def text_router(sample: Sample, rng: Rng, target: float, delta: float) -> Decision:
    """TF-IDF + logistic regression of "the frontier is better" on half of the labels; the threshold on the other half."""
    from sklearn.linear_model import LogisticRegression

    w = sample.workload
    half = len(sample.labelled) // 2
    fit, rest = sample.labelled[:half], sample.labelled[half:]
    q, c, text = w.quality(w.frontier), w.cost(w.frontier), _tfidf(w)
    best, decision = 1.0, frontier_alone(sample, rng, target, delta)
    for u in w.cheap:
        worse = w.quality(u)[fit] < q[fit]
        if worse.all() or not worse.any() or w.cost(u)[fit].mean() >= c[fit].mean():
            continue
        risk = LogisticRegression(C=10).fit(text[fit], worse).predict_proba(text)[:, 1]
        order = rest[np.argsort(risk[rest], kind="stable")]
        kept = np.cumsum((w.quality(u) - q)[order]) >= -(1 - target) * q[rest].sum() - 1e-12
        spent = c[rest].sum() + np.cumsum((w.cost(u) - c)[order])
        kept &= np.append(np.diff(risk[order]) > 0, True)  # a threshold cannot part equal risks
        ratio = np.where(kept, spent / c[rest].sum(), np.inf)
        k = int(ratio.argmin())
        if ratio[k] < best:
            cheap = risk <= risk[order[k]]
            best, decision = (
                float(ratio[k]),
                Decision(np.where(cheap, w.quality(u), q), np.where(cheap, w.cost(u), c), False, u),
            )
    return decision


@lru_cache(maxsize=32)
def _tfidf(workload: Workload) -> Any:
    """Weights of words over all prompts: no label is in them."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    return TfidfVectorizer(sublinear_tf=True, min_df=2, max_features=20_000).fit_transform(workload.prompts).tocsr()


@dataclass(frozen=True, slots=True)
class Split:
    """The recipe's choice on the fit quarter, and what the certify part says of it and of its riskier thresholds."""

    found: Ranked
    k: int
    certify: Ints
    quality: Floats
    frontier: Floats

    def on_certify(self, k: int) -> tuple[Floats, Floats]:
        """What the policy with k + 1 groups and the frontier score on the certify part."""
        cheap = self.found.accept(k)[self.found.option.group[self.certify]]
        frontier = self.frontier[self.certify]
        return np.where(cheap, self.quality[self.certify], frontier), frontier


def chosen(sample: Sample, target: float, delta: float, *, match: bool = False) -> Split | None:
    """The recipe of METHODS §2: the option and threshold that is cheapest once diluted so much that it would probably pass.

    None where nothing is cheaper than the frontier.
    """
    w, e = sample.workload, 1 - target
    n_a = len(sample.labelled) // 4
    fit, certify = sample.labelled[:n_a], sample.labelled[n_a:]
    q, c = np.ones(len(w)) if match else w.quality(w.frontier), w.cost(w.frontier)
    margin = norm.ppf(1 - delta) / np.sqrt(len(certify)) + 0.5 / np.sqrt(n_a)
    best: tuple[float, Ranked, int] | None = None
    for option in options(w):
        one = ranked(option, option.match if match else option.quality, q, c, fit, RECIPE_PRIOR)
        need = -one.d + np.sqrt(one.v + 0.5 / n_a) * margin
        p = np.where(need <= 0, 1.0, np.clip(e * q[fit].mean() / np.maximum(need, 1e-12), e, 1))
        cost = 1 - p * (1 - one.cost / c[fit].mean())
        k = int(cost.argmin())
        if best is None or cost[k] < best[0]:
            best = (float(cost[k]), one, k)
    if best is None:
        return None
    _, found, k = best
    return Split(found, k, certify, found.option.match if match else found.option.quality, q)


def _diluted(sample: Sample, split: Split, k: int, p: float, target: float) -> Decision:
    w = sample.workload
    quality, cost = split.found.option.taken(w, split.found.accept(k))
    q, c = w.quality(w.frontier), w.cost(w.frontier)
    words = f"{p:.2f} {split.found.option.name}, {k + 1} of {len(split.found.order)} groups"
    return Decision(p * quality + (1 - p) * q, p * cost + (1 - p) * c, p > 1 - target + 1e-9, words)


def diluted_betting(sample: Sample, rng: Rng, target: float, delta: float) -> Decision:
    split = chosen(sample, target, delta)
    if split is None:
        return frontier_alone(sample, rng, target, delta)
    return _diluted(sample, split, split.k, betting_share(*split.on_certify(split.k), target, delta), target)


def exact(sample: Sample, rng: Rng, target: float, delta: float) -> Decision:
    return _exact(sample, rng, target, delta, chosen(sample, target, delta))


def match_oracle(sample: Sample, rng: Rng, target: float, delta: float) -> Decision:
    """BARGAIN's target: answers the same as the frontier's on the target's share of tasks, certified with the same recipe and test."""
    return _exact(sample, rng, target, delta, chosen(sample, target, delta, match=True))


def _exact(sample: Sample, rng: Rng, target: float, delta: float, split: Split | None) -> Decision:
    if split is None:
        return frontier_alone(sample, rng, target, delta)
    u = rng.random(len(split.certify))
    k = split.k
    p = exact_share(counts(*split.on_certify(k), u), target, delta)
    if p == 1:
        while k + 1 < len(split.found.order):
            if p_value(*counts(*split.on_certify(k + 1), u), 1.0, target, delta) > delta:
                break
            k += 1
    return _diluted(sample, split, k, p, target)


def oracle(sample: Sample, rng: Rng, target: float, delta: float) -> Decision:
    """In hindsight: of each task's first answers the cheapest that is as good as the frontier's."""
    w = sample.workload
    quality, cost = (np.stack([what(u) for u in w.workers]) for what in (w.quality, w.cost))
    cost = np.where(quality >= w.quality(w.frontier), cost, np.inf)
    best = cost.argmin(axis=0)
    every = np.arange(len(w))
    return Decision(quality[best, every], cost[best, every], False, "hindsight")


METHODS: Mapping[str, Method] = {
    "frontier": frontier_alone,
    "cheapest worker": cheapest_worker,
    "random mix": random_mix,
    "tag router": tag_router,
    "text router": text_router,
    "cascade": cascade,
    "naive": naive,
    "match oracle": match_oracle,
    "diluted betting": diluted_betting,
    "exact": exact,
    "oracle": oracle,
}
CERTIFIED: Sequence[str] = ("match oracle", "diluted betting", "exact")
