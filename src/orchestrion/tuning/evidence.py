"""What the certify half says of a policy: how much of the frontier's quality it may lose, at most, with a given confidence.

One bound on the loss answers every target and every share of the traffic: "the policy with probability p, else the frontier" loses p times as
much. Which test gives the bound depends on what there is: see ``Evidence.test``.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np

from orchestrion.checks.protocol import Check
from orchestrion.policy.protocol import Policy
from orchestrion.tuning import betting, exact, sparse
from orchestrion.tuning.bounds import clopper_pearson
from orchestrion.tuning.drive import Driven, drive
from orchestrion.tuning.learn import Floats, Indices
from orchestrion.tuning.share import count_worse
from orchestrion.tuning.share import p_value as share_p_value
from orchestrion.tuning.table import Case, passed


class Measured(NamedTuple):
    """A policy on the labelled tasks of the certify half, beside the frontier: scores, and costs in nano-dollars. Each task counts as
    much as it stands for, so that means are those of all tasks."""

    quality: Floats
    frontier: Floats
    cost: Floats
    frontier_cost: Floats


class Test(NamedTuple):
    """A test of how much of the frontier's quality a policy loses. ``p_value(loss)``: of "it loses more"; ``bound(delta)``: the least
    loss that can be promised with confidence 1 − delta."""

    method: str
    p_value: Callable[[float], float]
    bound: Callable[[float], float]


class Evidence:
    """The certify half. ``cases`` were labelled by chance alone, all of them or a fair part; ``more`` lack labels, or were picked for
    labelling because answers differed (with ``Case.picked``). ``grouped``: tasks of a group are not independent. ``checks`` are the rules
    that the policies bring along; the frontier, as the yardstick, is not held to them."""

    def __init__(
        self,
        cases: Sequence[Case],
        more: Sequence[Case],
        frontier: str,
        *,
        grouped: bool,
        seed: int,
        checks: Sequence[Check] = (),
    ) -> None:
        self.cases = cases
        self.more = more
        self.frontier = frontier
        self.grouped = grouped
        self.seed = seed
        self.checks = checks
        self._weights: Floats = np.array([case.weight for case in cases])
        self._cap = max((case.weight for case in (*cases, *more)), default=1.0)
        self._measured: dict[int, tuple[Policy, Measured]] = {}

    @property
    def weighted(self) -> bool:
        """Whether tasks were recorded with unequal probabilities."""
        return self._cap > 1

    @property
    def labels(self) -> int:
        """Labelled tasks that may test a policy's mean quality, picked ones among them."""
        return len(self.cases) + sum(bool(case.picked and len(case.scores) == len(case.attempts)) for case in self.more)

    def measure(self, policy: Policy) -> Measured:
        """Put the policy's own ``next`` over every task; once for each policy."""
        weights = self._weights / (self._weights.mean() if self.cases else 1.0)
        return Measured(*(weights * one for one in self._raw(policy)))

    def _raw(self, policy: Policy) -> Measured:
        if id(policy) not in self._measured:
            self._measured[id(policy)] = policy, measure(policy, self.cases, self.frontier, self.checks)
        return self._measured[id(policy)][1]

    def test(self, policy: Policy, *, worth: float | None = None) -> Test:
        """How much the policy loses: of the frontier's mean quality, or, with ``worth``, on how many tasks the answer is worth less than
        this share of the frontier's.

        The exact test (of a share of tasks: the binomial) where tasks are independent and equally likely, else bets. The sparse test
        where labels were picked because answers differ, for workers that this policy asks; which one is settled by answers alone.
        """
        raw = self._raw(policy)
        if worth is not None:
            worse, tasks = count_worse(raw.quality, raw.frontier, rho=worth), len(self.cases)
            if self.grouped or self.weighted:
                kept: Floats = (raw.quality >= worth * raw.frontier - 1e-12).astype(np.float64)
                return self._betting(kept, np.ones(tasks))
            return Test(
                "binomial",
                lambda loss: float(share_p_value(worse, tasks, share=max(1 - loss, 1e-9))),
                lambda delta: clopper_pearson(worse, tasks, delta).high,
            )
        if self.grouped or self.weighted:
            return self._betting(raw.quality, raw.frontier)
        seen = self._sparse(policy)
        if seen is not None:
            return Test(
                "exact, labels where answers differ",
                lambda loss: sparse.loss_p_value(seen, loss),
                lambda delta: sparse.loss_bound(seen, delta),
            )
        counts = exact.count(raw.quality, raw.frontier, self._levels)
        return Test(
            "exact",
            lambda loss: float(exact.loss_p_value(counts, loss)),
            lambda delta: exact.loss_bound(counts, delta),
        )

    @cached_property
    def _levels(self) -> Floats:
        return np.array([_level(self.seed, case) for case in self.cases])

    @cached_property
    def _by_chance(self) -> Indices:
        """The tasks in an order by chance, group by group: a bettor who looks at every step must not be led by names, which may tell
        the easy tasks from the hard ones, nor by how large a group is."""
        groups = [case.group for case in self.cases]
        names = sorted(set(groups))
        place = dict(zip(names, np.random.default_rng(self.seed).permutation(len(names)).tolist(), strict=True))
        return np.argsort([place[group] for group in groups], kind="stable")

    def _betting(self, quality: Floats, frontier: Floats) -> Test:
        order = self._by_chance
        quality, frontier, weights = quality[order], frontier[order], self._weights[order]
        groups = [self.cases[i].group for i in order]

        def p_value(loss: float) -> float:
            bets = betting.paired(quality, frontier, rho=max(1 - loss, 0.0))
            if self.weighted:
                bets = betting.weighted(bets, weights, cap=self._cap)
            return betting.p_value(betting.clustered(bets, groups) if self.grouped else bets)

        def bound(delta: float) -> float:
            low, high = 0.0, 1.0
            while high - low > 1e-3 * high:
                middle = (low + high) / 2
                low, high = (low, middle) if p_value(middle) <= delta else (middle, high)
            return high

        how = [name for name, used in (("by group", self.grouped), ("weighted", self.weighted)) if used]
        return Test(", ".join(["betting", *how]), p_value, bound)

    def spared(self, policy: Policy) -> int:
        """Tasks without labels that need none, since the policy's answer is the frontier's."""
        return sum(self._same(case, drive(policy, case, self.checks)) for case in self.more if not case.picked)

    def _same(self, case: Case, driven: Driven) -> bool:
        own = case.attempts[self.frontier, 0]
        return driven.accepted is not None and bool(own.answer) and driven.accepted.answer == own.answer

    def _sparse(self, policy: Policy) -> sparse.Sparse | None:
        """Counts over all tasks with answers; None where no label was picked for this policy, or answers cannot be compared."""
        if not any(case.picked for case in self.more):
            return None
        cases = [*self.cases, *self.more]
        driven = [drive(policy, case, self.checks) for case in cases]
        owns = [case.attempts[self.frontier, 0] for case in cases]
        if any(
            one.accepted and not (one.accepted.answer and own.answer) for one, own in zip(driven, owns, strict=True)
        ):
            return None
        same = [self._same(case, one) for case, one in zip(cases, driven, strict=True)]
        fair = self._drawn_for([case for case, alike in zip(cases, same, strict=True) if not alike])
        if not fair:
            return None
        labelled = checked = right = harms = gains = both = 0
        for case, one, alike in zip(cases, driven, same, strict=True):
            q, f = one.score(case), _score(case, self.frontier, self.checks)
            if q is None or f is None or (case.picked and (alike or case.picked not in fair)):
                continue
            if case.picked is None and len(case.scores) < len(case.attempts):
                continue  # labelled in part: by its answers, who knows
            level = _level(self.seed, case)
            if alike:
                checked += 1
                right += f > level
            else:
                labelled += 1
                both += q > level and f > level
                harms += f > level >= q
                gains += q > level >= f
        return sparse.Sparse(
            len(cases), len(cases) - sum(same), labelled, exact.Counts(both, harms, gains), checked, right
        )

    def _drawn_for(self, differ: Sequence[Case]) -> set[float]:
        """The draws of picked labels that are fair over all of these tasks, on which a policy answers otherwise than the frontier.

        A draw was among tasks on which some of certain workers disagree with the frontier, and which workers, it does not say. But if a
        task was drawn on which these disagree, one of them is among those; so all tasks on which all of them disagree, and perhaps more,
        could have been drawn.
        """
        drawn: dict[float, set[frozenset[str]]] = defaultdict(set)
        for case in self.more:
            if case.picked:
                drawn[case.picked].add(self._disagree(case))
        sets = {self._disagree(case) for case in differ}
        return {
            chance for chance, known in drawn.items() if all(any(some <= one for some in known if some) for one in sets)
        }

    def _disagree(self, case: Case) -> frozenset[str]:
        """The workers one of whose answers is not the frontier's."""
        own = case.attempts[self.frontier, 0].answer
        return frozenset(worker for (worker, _), attempt in case.attempts.items() if attempt.answer != own)


def measure(policy: Policy, cases: Sequence[Case], frontier: str, checks: Sequence[Check] = ()) -> Measured:
    """A policy beside the frontier on labelled tasks, each array of shape (tasks,)."""
    driven: list[Driven] = [drive(policy, case, checks) for case in cases]
    known: list[float] = [_known(one.score(case), case) for one, case in zip(driven, cases, strict=True)]
    return Measured(
        np.array(known),
        np.array([_known(_score(case, frontier, checks), case) for case in cases]),
        np.array([one.spent for one in driven], float),
        np.array([case.attempts[frontier, 0].spent for case in cases], float),
    )


def _score(case: Case, frontier: str, checks: Sequence[Check]) -> float | None:
    """What asking the frontier alone gives: its score, 0 where a check (but the policy's own) refused the answer or there is none."""
    alone = passed(case.attempts[frontier, 0], {check.name for check in checks})
    return case.scores.get((frontier, 0)) if alone else 0.0


def _known(score: float | None, case: Case) -> float:
    if score is None:
        raise ValueError(f"task {case.task.id!r} has an answer without a score")
    return score


def _level(seed: int, case: Case) -> float:
    """A number in [0, 1) for a task, of its id and the seed alone: graded scores become right or wrong by it."""
    text = "\0".join([str(seed), *map(str, case.key)])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest()) / 2**64
