"""What may be asked before the frontier, and in which order: structures of stages, and the paths of policies that they make.

A *stage* is a set of cheap workers with their samples, asked at once; each stage of a *structure* holds the one before, so that it
asks only what is new. After the last stage comes the frontier, and a task may skip all stages. One number, the *price of quality* μ
(frontier calls that a unit of quality is worth), makes all decisions of a structure, by backward induction over learned values, in frontier calls
relative to asking the frontier now (cascade routing: Dekoninck et al. 2024, with linear values):

    accept at stage k   a_k(x) = μ·E[Q_stage − Q_frontier | x] + E[C_frontier | x]
    go on from k        g_k(x) = −(c_{k+1} − c_k) + E[max(a_{k+1}, g_{k+1}) | x];   0 after the last stage
    skip                g_0(x) < 0

x are the signals that are known by then. From high μ to low a structure lays a path from cautious to bold.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from itertools import combinations, permutations
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from orchestrion.domain import Attempt
from orchestrion.policy.asking import calls_of, majority
from orchestrion.policy.combinators import fixed
from orchestrion.policy.learned import deferral, scored_router
from orchestrion.policy.protocol import Policy
from orchestrion.policy.signals import form_of, signals
from orchestrion.tuning.learn import Design, Floats, Indices, Learned, Matrix, added, negated
from orchestrion.tuning.table import Case

Stage = tuple[tuple[str, int], ...]
Structure = tuple[Stage, ...]
Booleans = NDArray[np.bool_]

PRICES = 1 / np.geomspace(0.04, 3.0, 26)
"""Prices of quality, from cautious to bold."""

CHEAP = 0.8
"""A stage that costs more than this share of the frontier is not worth asking first."""

MOST_WORKERS = 5
"""So many workers, the most promising alone, are combined with each other."""

SAMPLES = (2, 4, 8)

FOLDS = 5
"""Each fifth of the fit half is judged by models of the others: what was learned from a task says nothing of how well it is done."""

NARROW = frozenset({"share", "agree", "distinct", "verdict"})
MIDDLE = NARROW | {"tag", "answer"}
WIDE = MIDDLE | {
    "text",
    "prompt:length",
    "prompt:numbers",
    "prompt:lines",
    "empty",
    "length",
    "tokens",
    "latency",
    "cost",
}
WIDTHS = (NARROW, MIDDLE, WIDE)
MANY = 300
"""What models may look at, as forms of signals. With few labels a narrow look chooses better: whether answers agree is
nearly always worth something, the words of a prompt may be nothing but noise. With more than MANY to learn from, the wide look
alone is taken."""

_PROMPT = frozenset({"tag", "text", "prompt:length", "prompt:numbers", "prompt:lines"})


class Staged(NamedTuple):
    """A stage over all tasks. ``gain``: quality above the frontier's (nan where a score is not known); ``passed``: there is an answer
    to accept; ``cost`` in frontier calls, and its ``mean``."""

    gain: Floats
    passed: NDArray[np.bool_]
    cost: Floats
    mean: float
    signals: tuple[Mapping[str, float], ...]


class Plan(NamedTuple):
    """What the models of a structure decide for some tasks (rows) at each of PRICES (columns).

    ``asked``: whether any stage is; ``accepts``: by stage, whether its answer is good enough; ``gains`` by stage the gain to expect.
    """

    asked: Booleans
    accepts: tuple[Booleans, ...]
    gains: tuple[Floats, ...]
    worth: tuple[Learned, ...]
    rest: tuple[Learned, ...]


class Path(NamedTuple):
    """The policies of one structure and one of WIDTHS, one a column for each of PRICES, over all tasks (rows).

    ``gain`` and ``cost`` are what each policy does (nan where a score is not known), ``hoped`` the gain that the models expect. On
    the fit half decisions are those of models that were learned from the other folds.
    """

    structure: Structure
    width: int
    gain: Floats
    cost: Floats
    hoped: Floats
    space: Space
    worth: tuple[Learned, ...]
    rest: tuple[Learned, ...]

    def policy(self, column: int) -> Policy:
        """The policy of one price, as it is saved and runs."""
        return self.space.policy(self, column)

    def alike(self, one: int, other: int) -> bool:
        """Whether two prices decide alike for all tasks."""
        same_gain = np.array_equal(self.gain[:, one], self.gain[:, other], equal_nan=True)
        return same_gain and np.array_equal(self.cost[:, one], self.cost[:, other])


class Space:
    """All structures over the tasks of a table. ``fit``: indices of the labelled tasks to learn from; ``seen``: of these and of others
    that are no evidence for a certificate.

    What a stage costs is looked at in those alone, and elsewhere is their mean: a worker that spends more where it is wrong would
    else tell the choice how it does on the certify half.
    """

    def __init__(
        self, cases: Sequence[Case], fit: Indices, frontier: str, samples: Mapping[str, int], *, seen: Indices
    ) -> None:
        self.cases = cases
        self.fit = fit
        self.seen = seen
        self.frontier = frontier
        self.samples = samples
        spent = np.array([case.attempts[frontier, 0].spent for case in cases], float)
        self.unit = float(spent[seen].mean()) or 1.0
        self.frontier_cost = spent / self.unit
        self.frontier_quality = np.array([_quality(case, case.attempts[frontier, 0]) for case in cases])
        self._stages: dict[Stage, Staged] = {}
        self._designs: dict[tuple[Stage, int], Design] = {}
        self._prompts: dict[int, Matrix] = {}

    def _design(self, stage: Stage, width: int) -> Design:
        """What is known after a stage, or before the first (the empty one), as the models of a width see it."""
        if (stage, width) not in self._designs:
            wanted = WIDTHS[width]
            parts = []
            if wanted & _PROMPT:
                if width not in self._prompts:
                    rows = [signals(case.task, forms=wanted & _PROMPT) for case in self.cases]
                    self._prompts[width] = Matrix(rows, self.fit)
                parts.append(self._prompts[width])
            if stage or not parts:
                known: Sequence[Mapping[str, float]] = self.stage(stage).signals if stage else [{} for _ in self.cases]
                rows = [{name: value for name, value in row.items() if form_of(name) in wanted} for row in known]
                parts.append(Matrix(rows, self.fit))
            self._designs[stage, width] = Design(parts)
        return self._designs[stage, width]

    def mean_cost(self, stage: Stage) -> float:
        """Of a whole stage, in frontier calls."""
        calls, cases = calls_of(dict(stage)), [self.cases[i] for i in self.seen]
        spent = [sum(case.attempts[call.worker, call.sample].spent for call in calls) for case in cases]
        return float(np.mean(spent)) / self.unit

    @property
    def widths(self) -> range:
        """The indices of WIDTHS to try."""
        return range(len(WIDTHS)) if len(self.fit) <= MANY else range(len(WIDTHS) - 1, len(WIDTHS))

    def singles(self) -> list[Structure]:
        """Each cheaper worker alone."""
        found: list[Structure] = [(((worker, 1),),) for worker in self.samples if worker != self.frontier]
        return [structure for structure in found if self.mean_cost(structure[0]) < 1]

    def combined(self, best: Sequence[str]) -> Iterator[Structure]:
        """The most promising workers with each other, and with further samples of themselves."""
        for worker in best:
            for n in SAMPLES:
                if n <= self.samples[worker]:
                    yield (((worker, n),),)
                    yield (((worker, 1),), ((worker, n),))
        for pair in combinations(best, 2):
            both = self._together(pair)
            yield (both,)
            for n in SAMPLES:
                if n <= min(self.samples[worker] for worker in pair):
                    yield (tuple((worker, n) for worker, _ in both),)
                    yield (both, tuple((worker, n) for worker, _ in both))
        for first, second in permutations(best, 2):
            yield (((first, 1),), self._together((first, second)))
        for three in combinations(best[:4], 3):
            first, second, third = sorted(three, key=lambda worker: self.mean_cost(((worker, 1),)))
            yield (((first, 1),), self._together((first, second)), self._together((first, second, third)))

    def _together(self, workers: Sequence[str]) -> Stage:
        """Workers in one stage, the best first: of a tie, the first answer is taken."""
        labelled = [self.cases[i] for i in self.fit]
        quality = {w: sum(_quality(case, case.attempts[w, 0]) for case in labelled) for w in workers}
        return tuple((worker, 1) for worker in sorted(workers, key=lambda worker: (-quality[worker], worker)))

    def stage(self, stage: Stage) -> Staged:
        """A stage's answers, signals and models; worked out once."""
        if stage not in self._stages:
            self._stages[stage] = self._staged(stage)
        return self._stages[stage]

    def _staged(self, stage: Stage) -> Staged:
        calls = calls_of(dict(stage))
        rows, quality, passed, spent = [], [], [], []
        for case in self.cases:
            attempts = [case.attempts[call.worker, call.sample] for call in calls]
            agreed = majority(attempts)
            rows.append(signals(case.task, attempts, forms=WIDE - _PROMPT))
            passed.append(bool(agreed))
            quality.append(_quality(case, agreed[0]) if agreed else 0.0)
            spent.append(sum(attempt.spent for attempt in attempts))
        gain = np.array(quality) - self.frontier_quality
        own = np.array(spent, float) / self.unit
        mean = float(own[self.seen].mean())
        cost = np.full(len(own), mean)
        cost[self.seen] = own[self.seen]
        return Staged(gain, np.array(passed), cost, mean, tuple(rows))

    def path(self, structure: Structure, width: int) -> Path:
        """The policies of a structure, from cautious to bold."""
        stages = [self.stage(stage) for stage in structure]
        everybody = np.arange(len(self.fit))
        whole = self._plan(structure, width, everybody, on_fit=False)
        gain, cost, hoped = self._walk(stages, whole, np.arange(len(self.cases)))
        for held in self._folds:
            plan = self._plan(structure, width, np.setdiff1d(everybody, held), on_fit=True)
            part = Plan(
                plan.asked[held],
                tuple(one[held] for one in plan.accepts),
                tuple(one[held] for one in plan.gains),
                (),
                (),
            )
            rows = self.fit[held]
            gain[rows], cost[rows], hoped[rows] = self._walk(stages, part, rows)
        return Path(structure, width, gain, cost, hoped, self, whole.worth, whole.rest)

    @cached_property
    def _folds(self) -> list[Indices]:
        """Positions in the fit half, in FOLDS parts: it is in an order by chance already."""
        return [
            fold for fold in np.array_split(np.arange(len(self.fit)), FOLDS) if len(fold) and len(fold) < len(self.fit)
        ]

    def _plan(self, structure: Structure, width: int, train: Indices, *, on_fit: bool) -> Plan:
        """Backward induction with models learned from a part of the fit half, for the fit half alone or for all tasks."""

        def predicted(learned: Learned) -> Floats:
            return learned.on_fit() if on_fit else learned.on_all()

        stages = [self.stage(stage) for stage in structure]
        rows = self.fit if on_fit else np.arange(len(self.cases))
        accepts: list[Booleans] = []
        gains: list[Floats] = []
        worths: list[Learned] = []
        rests: list[Learned] = []
        rest, rest_fit = np.zeros((1, len(PRICES))), np.zeros((1, len(PRICES)))  # after the last stage, the frontier
        for k in range(len(stages) - 1, -1, -1):
            staged = stages[k]
            targets = np.stack([staged.gain[self.fit], self.frontier_cost[self.fit]], axis=1)
            learned = self._design(structure[k], width).on(train).learn(targets)
            expected = predicted(learned)
            worth = expected[:, :1] * PRICES + expected[:, 1:]
            accepts.append((worth >= rest) & staged.passed[rows, None])
            gains.append(expected[:, :1])
            worths.append(learned)
            of_fit = learned.on_fit()
            worth_fit = of_fit[:, :1] * PRICES + of_fit[:, 1:]
            taken = (worth_fit >= rest_fit) & staged.passed[self.fit, None]
            before = self._design(structure[k - 1] if k else (), width)
            rests.append(before.on(train).learn(np.where(taken, worth_fit, rest_fit)))
            step = staged.mean - (stages[k - 1].mean if k else 0.0)
            rest, rest_fit = predicted(rests[-1]) - step, rests[-1].on_fit() - step
        return Plan(rest >= 0, tuple(accepts[::-1]), tuple(gains[::-1]), tuple(worths[::-1]), tuple(rests[::-1]))

    def _walk(self, stages: Sequence[Staged], plan: Plan, rows: Indices) -> tuple[Floats, Floats, Floats]:
        """Gain, cost and hoped gain of the tasks' ways through the stages."""
        shape = plan.asked.shape
        gain, hoped, cost = np.zeros(shape), np.zeros(shape), np.zeros(shape)
        open_, before = plan.asked, np.zeros(len(rows))
        for staged, accept, expected in zip(stages, plan.accepts, plan.gains, strict=True):
            cost += open_ * (staged.cost[rows] - before)[:, None]
            before = staged.cost[rows]
            taken = open_ & accept
            gain = np.where(taken, staged.gain[rows, None], gain)
            hoped = np.where(taken, expected, hoped)
            open_ = open_ & ~accept
        cost += (open_ | ~plan.asked) * self.frontier_cost[rows, None]
        return gain, cost, hoped

    def policy(self, path: Path, column: int) -> Policy:
        """The policy of a structure at one price: deferrals inside each other, behind a router that may skip them all."""
        one = np.zeros(len(PRICES))
        one[column] = 1.0
        stages = [self.stage(stage) for stage in path.structure]
        policy = fixed(self.frontier)
        for k in range(len(stages) - 1, -1, -1):
            score, least = path.worth[k].coefficients(np.array([PRICES[column], 1.0])), 0.0
            if k + 1 < len(stages):
                score = added(score, negated(path.rest[k + 1].coefficients(one)))
                least = stages[k].mean - stages[k + 1].mean
            policy = deferral(dict(path.structure[k]), added(score), least=least, otherwise=policy)
        enter = added(path.rest[0].coefficients(one))
        return scored_router(enter, least=stages[0].mean, above=policy, below=self.frontier)


def _quality(case: Case, attempt: Attempt) -> float:
    """The true score of an attempt, 0 for one that cannot be accepted; nan where it is not known."""
    if not attempt.passed:
        return 0.0
    return case.scores.get((attempt.call.worker, attempt.call.sample), float("nan"))
