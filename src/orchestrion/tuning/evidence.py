"""What the certify half says of a policy: how much of the frontier's quality it may lose, at most, with a given confidence.

One bound on the loss answers every target and every share of the traffic: "the policy with probability p, else the frontier" loses p times as
much. Which test gives the bound depends on what there is: see ``Evidence.bound``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from orchestrion.policy.protocol import Policy
from orchestrion.tuning import betting, exact, sparse
from orchestrion.tuning.bounds import clopper_pearson
from orchestrion.tuning.drive import Driven, drive
from orchestrion.tuning.learn import Floats
from orchestrion.tuning.share import count_worse
from orchestrion.tuning.share import p_value as share_p_value
from orchestrion.tuning.table import Case


class Measured(NamedTuple):
    """A policy on the labelled tasks of the certify half, beside the frontier: scores, and costs in nano-dollars."""

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
    labelling because answers differed (with ``Case.picked``). ``grouped``: tasks of a group are not independent."""

    def __init__(self, cases: Sequence[Case], more: Sequence[Case], frontier: str, *, grouped: bool, seed: int) -> None:
        self.cases = cases
        self.more = more
        self.frontier = frontier
        self.grouped = grouped
        self.seed = seed
        self._measured: dict[int, tuple[Policy, Measured]] = {}

    def measure(self, policy: Policy) -> Measured:
        """Put the policy's own ``next`` over every task; once for each policy."""
        if id(policy) not in self._measured:
            self._measured[id(policy)] = policy, measure(policy, self.cases, self.frontier)
        return self._measured[id(policy)][1]

    def test(self, policy: Policy, *, worth: float | None = None) -> Test:
        """How much the policy loses: of the frontier's mean quality, or, with ``worth``, on how many tasks the answer is worth less than
        this share of the frontier's.

        The exact test where tasks are independent; bets where they come in groups; the sparse test where there are tasks without labels
        whose answers can be compared.
        """
        measured = self.measure(policy)
        if worth is not None:
            worse, tasks = count_worse(measured.quality, measured.frontier, rho=worth), len(self.cases)
            if self.grouped:
                failed = measured.quality < worth * measured.frontier - 1e-12
                return self._by_group(1.0 - failed, np.ones(tasks))
            return Test(
                "binomial",
                lambda loss: float(share_p_value(worse, tasks, share=max(1 - loss, 1e-9))),
                lambda delta: clopper_pearson(worse, tasks, delta).high,
            )
        if self.grouped:
            return self._by_group(measured.quality, measured.frontier)
        found = self._sparse(policy) if self.more else None
        if found is not None:
            seen = found
            return Test(
                "exact, labels where answers differ",
                lambda loss: sparse.loss_p_value(seen, loss),
                lambda delta: sparse.loss_bound(seen, delta),
            )
        uniform = np.array([_chance(self.seed, case) for case in self.cases])
        counts = exact.count(measured.quality, measured.frontier, uniform)
        return Test(
            "exact",
            lambda loss: float(exact.loss_p_value(counts, loss)),
            lambda delta: exact.loss_bound(counts, delta),
        )

    def _by_group(self, quality: Floats, frontier: Floats) -> Test:
        groups = [case.group for case in self.cases]

        def p_value(loss: float) -> float:
            return betting.p_value(betting.clustered(betting.paired(quality, frontier, rho=max(1 - loss, 0.0)), groups))

        def bound(delta: float) -> float:
            low, high = 0.0, 1.0
            while high - low > 1e-3 * high:
                middle = (low + high) / 2
                low, high = (low, middle) if p_value(middle) <= delta else (middle, high)
            return high

        return Test("betting, by group", p_value, bound)

    def spared(self, policy: Policy) -> int:
        """Tasks without labels that need none, since the policy's answer is the frontier's."""
        return sum(self._same(case, drive(policy, case)) for case in self.more if not case.picked)

    def _same(self, case: Case, driven: Driven) -> bool:
        own = case.attempts[self.frontier, 0]
        return driven.accepted is not None and bool(own.answer) and driven.accepted.answer == own.answer

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
            if self._same(case, driven):
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
