"""What the certify half says of a policy: how much of the frontier's quality it may lose, at most, with a given confidence.

One bound on the loss answers every target and every share of the traffic: "the policy with probability p, else the frontier" loses p times as
much. Which test gives the bound depends on what there is: see ``Evidence.bound``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from orchestrion.policy.protocol import Policy
from orchestrion.tuning import betting, exact, sparse
from orchestrion.tuning.bounds import clopper_pearson
from orchestrion.tuning.drive import Driven, drive
from orchestrion.tuning.learn import Floats
from orchestrion.tuning.table import Case


class Measured(NamedTuple):
    """A policy on the labelled tasks of the certify half, beside the frontier: scores, and costs in nano-dollars."""

    quality: Floats
    frontier: Floats
    cost: Floats
    frontier_cost: Floats


class Bound(NamedTuple):
    """An upper bound on the share of the frontier's quality that a policy loses, and the test that gave it."""

    loss: float
    method: str


class Evidence:
    """The certify half. ``cases`` were labelled by chance alone, all of them or a fair part; ``more`` lack labels, or were picked for
    labelling because answers differed (with ``Case.picked``). ``grouped``: tasks of a group are not independent."""

    def __init__(self, cases: Sequence[Case], more: Sequence[Case], frontier: str, *, grouped: bool, seed: int) -> None:
        self.cases = cases
        self.more = more
        self.frontier = frontier
        self.grouped = grouped
        self.seed = seed

    def measure(self, policy: Policy) -> Measured:
        """Put the policy's own ``next`` over every task."""
        return measure(policy, self.cases, self.frontier)

    def bound(self, policy: Policy, delta: float, *, worth: float | None = None) -> Bound:
        """How much the policy loses at most, with confidence 1 − ``delta``: of the frontier's mean quality, or, with ``worth``,
        on how many tasks the answer is worth less than this share of the frontier's.

        The exact test where tasks are independent; bets where they come in groups; the sparse test where there are tasks without labels, whose
        answers can be compared.
        """
        measured = self.measure(policy)
        if worth is not None:
            worse = measured.quality < worth * measured.frontier - 1e-12
            if self.grouped:
                ones = np.ones(len(worse))
                return Bound(self._bets(1.0 - worse, ones, delta), "betting, by group")
            return Bound(clopper_pearson(int(worse.sum()), len(worse), delta).high, "binomial")
        if self.grouped:
            return Bound(self._bets(measured.quality, measured.frontier, delta), "betting, by group")
        found = self._sparse(policy) if self.more else None
        if found is not None:
            return Bound(sparse.loss_bound(found, delta), "exact, labels where answers differ")
        counts = exact.count(measured.quality, measured.frontier, self._uniform(self.cases))
        return Bound(exact.loss_bound(counts, delta), "exact")

    def _bets(self, quality: Floats, frontier: Floats, delta: float) -> float:
        groups = [case.group for case in self.cases]
        low, high = 0.0, 1.0
        while high - low > 1e-3:
            middle = (low + high) / 2
            bets = betting.clustered(betting.paired(quality, frontier, rho=1 - middle), groups)
            low, high = (low, middle) if betting.p_value(bets) <= delta else (middle, high)
        return high

    def _uniform(self, cases: Sequence[Case]) -> Floats:
        return np.array([_chance(self.seed, case) for case in cases])

    def _sparse(self, policy: Policy) -> sparse.Sparse | None:
        """Counts over all tasks with answers; None where answers cannot be compared, or labels were picked for other workers."""
        used = {*policy.calls(), self.frontier}
        tasks = differ = labelled = checked = right = 0
        harms = gains = both = 0
        for case in (*self.cases, *self.more):
            driven = drive(policy, case)
            own = case.attempts[self.frontier, 0]
            if driven.accepted is not None and not (driven.accepted.answer and own.answer):
                return None
            tasks += 1
            q, f = driven.score(case), _score(case, self.frontier)
            if case.picked and not used <= case.picked:
                q = f = None  # it was picked by other workers' answers: for this policy it is no fair sample
            known = q is not None and f is not None
            level = _chance(self.seed, case)
            same = driven.accepted is not None and driven.accepted.answer == own.answer
            if same:
                if known and not case.picked:
                    checked += 1
                    right += f is not None and f > level
                continue
            differ += 1
            if known and q is not None and f is not None:
                labelled += 1
                both += q > level and f > level
                harms += f > level >= q
                gains += q > level >= f
        return sparse.Sparse(tasks, differ, labelled, exact.Counts(both, harms, gains), checked, right)


def measure(policy: Policy, cases: Sequence[Case], frontier: str) -> Measured:
    """A policy beside the frontier on labelled tasks, each array of shape (tasks,)."""
    driven: list[Driven] = [drive(policy, case) for case in cases]
    known: list[float] = [_known(one.score(case), case) for one, case in zip(driven, cases, strict=True)]
    return Measured(
        np.array(known),
        np.array([_known(_score(case, frontier), case) for case in cases]),
        np.array([one.spent for one in driven], float),
        np.array([case.attempts[frontier, 0].spent for case in cases], float),
    )


def _score(case: Case, worker: str) -> float | None:
    """What asking this worker alone gives: its score, 0 where a check refused the answer or there is none."""
    return case.scores.get((worker, 0)) if case.attempts[worker, 0].passed else 0.0


def _known(score: float | None, case: Case) -> float:
    if score is None:
        raise ValueError(f"task {case.task.id!r} has an answer without a score")
    return score


def _chance(seed: int, case: Case) -> float:
    """A number in [0, 1) for a task, of its id and the seed alone: graded scores become right or wrong by it."""
    text = "\0".join([str(seed), *map(str, case.key)])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest()) / 2**64


