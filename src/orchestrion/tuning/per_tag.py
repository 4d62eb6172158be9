"""A promise for every value of a tag by itself, all of them together with one confidence.

One policy is chosen for all; each value gets a share of it of its own, by what its own tasks in the certify half show. Which values
are tried is settled by how many tasks they have, before any score is looked at; each of N is tested at δ/N (Bonferroni), so that all N promises hold at
once. The other values keep to the frontier, which keeps any promise. What holds for every value holds for the whole.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from msgspec import structs

from orchestrion.errors import RecordsError
from orchestrion.policy.certificate import Target
from orchestrion.policy.combinators import fixed
from orchestrion.policy.learned import scored_router
from orchestrion.policy.protocol import Policy
from orchestrion.settings import nearest
from orchestrion.tuning.choose import Aim, choose
from orchestrion.tuning.evidence import Evidence
from orchestrion.tuning.facts import Promise, TagPromise
from orchestrion.tuning.learn import Floats
from orchestrion.tuning.needed import fewest
from orchestrion.tuning.phrases import percent
from orchestrion.tuning.promise import Made, Spot, Tuning, allowed, certified, expectation, nothing, part
from orchestrion.tuning.table import Case

ABOVE_NOTHING = 1e-9
"""The least score for a share: a value without one, whose score is 0 or less, never gets there."""


class Tested(NamedTuple):
    """One value: how much of it goes to the policy, and the test of that at the value's own level."""

    share: float
    loss: float
    p_value: float
    method: str


def promise_each(tuning: Tuning, target: Target, aim: Aim) -> Made:
    """The promise for every value of the tag ``target.per_tag``; the frontier alone where no value has enough tasks to be tested.

    Raises RecordsError where no task has the tag.
    """
    key = target.per_tag or ""
    counts = _counts(tuning, key)
    if not tuning.paths:
        return Made(
            nothing(tuning, target, f"no worker is cheaper than the frontier '{tuning.space.frontier}'", labels=None)
        )
    tried = values_to_try(counts, target, aim.delta, tuning.level)
    if not tried:
        return Made(_too_few(tuning, target, aim, counts))
    own = aim._replace(delta=aim.delta / len(tried), certify=int(np.median([counts[value] for value in tried])))
    choice = choose(tuning.space, own, tuning.paths)
    inner = choice.path.policy(choice.column)
    tested = {value: _test(tuning, inner, target, own, key, value) for value in tried}
    shares = {value: one.share for value, one in tested.items()}
    measured = expectation(tuning.evidence.measure(inner), _of_each(tuning.halves.certify, key, shares))
    made = certified(
        tuning,
        target,
        routed(inner, tuning.space.frontier, key, shares, tuning.grounds.seed),
        measured,
        method=f"{next(iter(tested.values())).method}, family-wise over {len(tried)} values of {key}",
        p_value=min(1.0, len(tried) * max(one.p_value for one in tested.values())),
        by_chance=any(0 < share < 1 for share in shares.values()),
    )
    by_tag = {value: _of_value(tuning, inner, key, value, tested.get(value), n) for value, n in counts.most_common()}
    spot = Spot(choice.path, choice.column, _of_each(tuning.halves.fit, key, shares))
    free = all(one.loss >= 1 for one in tested.values())
    return Made(structs.replace(made, by_tag=by_tag), spot, free)


def values_to_try(counts: Mapping[str, int], target: Target, delta: float, level: float) -> list[str]:
    """The values with enough tasks to be certified at δ over the number of values tried: as many as can be, those with the most tasks."""
    ranked = sorted(counts, key=lambda value: (-counts[value], value))
    for n in range(len(ranked), 0, -1):
        if counts[ranked[n - 1]] >= fewest(target, delta / n, level):
            return ranked[:n]
    return []


def routed(inner: Policy, frontier: str, key: str, shares: Mapping[str, float], seed: int) -> Policy:
    """Each value's share of its tasks to the policy, by chance, and all other tasks to the frontier."""
    drawn = {f"tag:{key}={value}": share for value, share in shares.items() if share > 0}
    score = {**drawn, f"chance:tune-{seed}": -1.0}
    return scored_router(score, least=ABOVE_NOTHING, above=inner, below=fixed(frontier))


def _counts(tuning: Tuning, key: str) -> Counter[str]:
    """The values of the tag, with how many tasks of the certify half have each. Labels play no part."""
    counts = Counter(value for case in tuning.halves.certify if (value := _value(case, key)) is not None)
    counts.update({value: 0 for case in tuning.halves.fit if (value := _value(case, key)) is not None})
    if not counts:
        keys = dict.fromkeys(tag for case in (*tuning.halves.fit, *tuning.halves.certify) for tag in case.task.tags)
        raise RecordsError(f"no labelled task has a tag '{key}'.{nearest(key, list(keys))}")
    return counts


def _value(case: Case, key: str) -> str | None:
    return str(case.task.tags[key]) if key in case.task.tags else None


def _test(tuning: Tuning, inner: Policy, target: Target, own: Aim, key: str, value: str) -> Tested:
    evidence = Evidence(
        [case for case in tuning.halves.certify if _value(case, key) == value],
        [case for case in tuning.evidence.more if _value(case, key) == value],
        tuning.space.frontier,
        grouped=tuning.halves.grouped,
        seed=tuning.grounds.seed,
    )
    test = evidence.test(inner, worth=own.worth)
    loss = test.bound(own.delta)
    share = part(own.loss, loss)
    return Tested(share, loss, test.p_value(allowed(target) / share) if share else 0.0, test.method)


def _of_each(cases: Sequence[Case], key: str, shares: Mapping[str, float]) -> Floats:
    """Each task's share, as its tag has it."""
    return np.array([shares.get(_value(case, key) or "", 0.0) if key in case.task.tags else 0.0 for case in cases])


def _of_value(tuning: Tuning, inner: Policy, key: str, value: str, tested: Tested | None, tasks: int) -> TagPromise:
    frontier = tuning.space.frontier
    if tested is None:
        words = f"Ask {frontier}: {tasks} labelled tasks are too few to test."
        return TagPromise(certified=False, tasks=tasks, quality_ratio=1.0, cost_ratio=1.0, words=words)
    mine = np.array([_value(case, key) == value for case in tuning.halves.certify])
    measured = expectation(tuning.evidence.measure(inner), tested.share)
    quality, level = measured.quality[mine].sum(), measured.frontier[mine].sum()
    cost, dearer = measured.cost[mine].sum(), measured.frontier_cost[mine].sum()
    share = tested.share
    words = (
        "All of them go this way."
        if share == 1
        else f"{percent(share)} of them, drawn by chance, go this way, the others to {frontier}."
    )
    return TagPromise(
        certified=True,
        tasks=tasks,
        quality_ratio=float(quality / level) if level else float("nan"),
        cost_ratio=float(cost / dearer) if dearer else float("nan"),
        words=words,
    )


def _too_few(tuning: Tuning, target: Target, aim: Aim, counts: Counter[str]) -> Promise:
    value, most = counts.most_common(1)[0]
    least = fewest(target, aim.delta, tuning.level)
    in_proportion = -(-least * tuning.labels // max(most, 1))
    reason = (
        f"no value of '{target.per_tag}' has enough labelled tasks to be tested by itself: {least} are needed, and '{value}', the most frequent one, "
        f"has {most}"
    )
    return nothing(tuning, target, reason, labels=max(in_proportion, tuning.labels + 1))
