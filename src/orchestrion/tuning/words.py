"""A policy in words: who is asked in which order, what is kept, and on how many of the tasks.

Every percentage is a share of all tasks that the policy was put over, also behind a draw by chance, so that those of one
description add up to the whole. What decides is named by how much it moved the score on those tasks, not by its coefficient.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from orchestrion.checks.protocol import Check
from orchestrion.domain import Call
from orchestrion.policy.asking import calls_of, majority
from orchestrion.policy.combinators import (
    Agreement,
    BestEffort,
    Cascade,
    Corrected,
    Fallback,
    Fixed,
    Mix,
    Retried,
    Router,
)
from orchestrion.policy.learned import Deferral, ScoredRouter
from orchestrion.policy.protocol import Policy
from orchestrion.policy.signals import Score, form_of
from orchestrion.tuning.drive import judged as judged_by
from orchestrion.tuning.learn import Floats
from orchestrion.tuning.phrases import Seen, agreeing, judged, percent, several, times, values, who
from orchestrion.tuning.table import Case, Cell

MOST_TOLD = 2000
"""So many tasks give shares that are right to a percent."""

OF_THE_TASKS = "\0"
"""Stands behind every share; the first one in a description says what it is a share of."""


def describe(policy: Policy, cases: Sequence[Case], checks: Sequence[Check] = ()) -> str:
    """What the policy does, for a manager, with its shares of these tasks; without shares where the tasks lack what it asks for.

    ``checks`` are the rules that it brings along. Of many tasks, MOST_TOLD are looked at.
    """
    told = cases[:: -(-len(cases) // MOST_TOLD)] if cases else ()
    if checks:
        told = [_judged(case, checks) for case in told]
    clauses, rest = _said(policy, Flow(told, np.ones(len(told)) if told else None), {}, last=True)
    if rest.mass is not None and rest.mass.any():
        clauses.append(f"on {rest.share}{OF_THE_TASKS} no answer is accepted")
    text = ". ".join(clause[:1].upper() + clause[1:] for clause in clauses) + "."
    return text.replace(OF_THE_TASKS, " of the tasks", 1).replace(OF_THE_TASKS, "")


class Flow(NamedTuple):
    """The tasks that come to a part of a policy, each with the probability that it does; None where that is not known."""

    cases: Sequence[Case]
    mass: Floats | None

    def part(self, of: Floats | None) -> Flow:
        """Those of which a share, or all or none, goes one way."""
        return Flow(self.cases, None if self.mass is None or of is None else self.mass * of)

    @property
    def share(self) -> str:
        """Of all tasks."""
        return percent(0.0 if self.mass is None else float(self.mass.mean()))

    @property
    def brackets(self) -> str:
        """The share behind a clause; nothing where it is not known, or goes without saying."""
        if self.mass is None or (self.mass == 1).all():
            return ""
        return f" ({self.share}{OF_THE_TASKS})" if self.mass.any() else " (on none of these tasks)"

    @property
    def empty(self) -> bool:
        return self.mass is not None and not self.mass.any()

    def each(self, of: Callable[[Case], float]) -> Floats | None:
        """A number of each task; None where one lacks what was asked for."""
        try:
            return np.array([of(case) for case in self.cases], float) if self.mass is not None else None
        except KeyError:
            return None


Told = tuple[list[str], Flow]
"""Clauses in the order of what happens, and the tasks that are left without an answer."""

Asked = Mapping[str, int]


def _said(policy: Policy, flow: Flow, asked: Asked, *, last: bool) -> Told:
    """``asked``: whom the stages before have asked, how often. ``last``: nobody is asked after this."""
    tell = _TELLERS.get(type(policy))
    if tell:
        return tell(policy, flow, asked, last)
    return [f"follow the policy '{type(policy).__name__}'"], flow.part(None)


def _fixed(policy: Fixed, flow: Flow, asked: Asked, last: bool) -> Told:
    passed = flow.each(lambda case: case.attempts[policy.worker, 0].passed)
    rest = flow.part(None if passed is None else 1 - passed)
    if last:
        return [f"ask {policy.worker}{flow.brackets}"], rest
    return [f"ask {policy.worker}; keep the answer if it passes its checks{flow.part(passed).brackets}"], rest


def _agreement(policy: Agreement, flow: Flow, asked: Asked, last: bool) -> Told:
    workers = dict.fromkeys(policy.workers, policy.samples)
    calls = calls_of(workers)

    def kept(case: Case) -> float:
        agreed = majority([case.attempts[call.worker, call.sample] for call in calls])
        return float(bool(agreed) and min(len(agreed) / len(calls), agreed[0].confidence) >= policy.accept)

    accepted = flow.each(kept)
    rest = flow.part(None if accepted is None else 1 - accepted)
    return [f"ask {who(workers, asked)}; {agreeing(policy.accept, len(calls))}{flow.part(accepted).brackets}"], rest


def _deferral(policy: Deferral, flow: Flow, asked: Asked, last: bool) -> Told:
    calls, score = calls_of(policy.workers), Score(policy.score)
    before = [(w, n) for w in sorted(asked) if w not in policy.workers for n in range(asked[w])]

    def kept(case: Case) -> float:
        attempts = [case.attempts[call.worker, call.sample] for call in calls]
        earlier = [case.attempts[cell] for cell in before]
        return float(bool(majority(attempts)) and score(case.task, attempts, earlier) >= policy.least)

    accepted = flow.each(kept)
    answer = "the answer" if len(calls) == 1 else "the most frequent answer"
    if set(policy.score) == {"share"} and policy.score["share"] > 0:
        keep = agreeing(policy.least / policy.score["share"], len(calls))
    else:
        by = judged(policy.score, _seen(flow, calls, before))
        keep = f"keep {answer} {f'where it looks right, judged by {by}' if by else 'if there is one'}"
    clause = f"ask {who(policy.workers, asked)}; {keep}{flow.part(accepted).brackets}"
    further = flow.part(None if accepted is None else 1 - accepted)
    clauses, rest = _said(policy.otherwise, further, {**asked, **policy.workers}, last=last)
    return [clause, *_after("else ", clauses)], rest


def _scored(policy: ScoredRouter, flow: Flow, asked: Asked, last: bool) -> Told:
    draws = [name for name in policy.score if form_of(name) == "chance" and policy.score[name]]
    if draws:
        return _drawn(policy, draws, flow, asked, last)
    score = Score(policy.score)
    up = flow.each(lambda case: score(case.task) >= policy.least)
    above, below = flow.part(up), flow.part(None if up is None else 1 - up)
    if below.empty or above.empty:
        return _said(policy.below if above.empty and not below.empty else policy.above, flow, asked, last=last)
    why = judged(policy.score, _seen(flow, (), ()))
    by = f", judged by {why}," if why else ""
    first, rest_below = _said(policy.below, below, asked, last=last)
    then, rest = _said(policy.above, above, asked, last=last)
    if isinstance(policy.below, Fixed):
        how_many = f"{below.share}{OF_THE_TASKS}" if below.mass is not None else "some tasks"
        first = [f"send {how_many}{by} to {policy.below.worker} at once"]
    else:
        first = _after(f"for some tasks{by} ", first)
    return [*first, *_after("for the others, ", then)], _together(rest_below, rest)


def _drawn(policy: ScoredRouter, draws: Sequence[str], flow: Flow, asked: Asked, last: bool) -> Told:
    """A router whose score has a draw by chance: each task goes ``above`` with a probability of its own."""
    score = Score({name: value for name, value in policy.score.items() if name not in draws})
    slope = policy.score[draws[0]]

    def chance(case: Case) -> float:
        edge = (policy.least - score(case.task)) / slope
        return float(np.clip(edge if slope < 0 else 1 - edge, 0, 1))

    up = flow.each(chance) if len(draws) == 1 else None
    above, below = flow.part(up), flow.part(None if up is None else 1 - up)
    then, rest = _said(policy.above, above, asked, last=last)
    first, rest_below = _said(policy.below, below, asked, last=last)
    at_once = isinstance(policy.below, Fixed) and f"all others go to {policy.below.worker} at once{below.brackets}"
    others = [at_once] if at_once else _after("for all others, ", first)
    tags = [name for name in score.coefficients if form_of(name) == "tag"]
    keys = {name[4:].partition("=")[0] for name in tags}
    if len(keys) == 1 and len(tags) == len(score.coefficients) and slope < 0:
        key = keys.pop()
        shares = {name[5 + len(key) :]: (policy.least - policy.score[name]) / slope for name in tags}
        some = f"a share of the tasks of each {key}, drawn by chance ({values(shares)})"
    else:
        some = "a share of the tasks, drawn by chance"
    return [*_after(f"for {some}: ", then), *others], _together(rest, rest_below)


def _mix(policy: Mix, flow: Flow, asked: Asked, last: bool) -> Told:
    parts = [
        (one, flow.part(None if flow.mass is None else np.full(len(flow.cases), share)), share)
        for one, share in zip(policy.policies, policy.shares, strict=True)
        if share
    ]
    told = [_said(one, part, asked, last=last) for one, part, _ in parts]
    rest = flow.part(None) if flow.mass is None else flow.part(np.zeros(len(flow.cases)))
    for _, left in told:
        rest = _together(rest, left)
    main = [i for i, (one, _, _) in enumerate(parts) if not isinstance(one, Fixed)]
    if len(main) != 1 or len(parts) == 1:
        return [
            clause
            for (_, part, share), (clauses, _) in zip(parts, told, strict=True)
            for clause in _after("by chance, " if part.mass is not None else f"by chance ({percent(share)}), ", clauses)
        ], rest
    others = [
        f"{'the other ' if len(parts) == 2 else ''}{part.share if part.mass is not None else percent(share)}, drawn by chance, go to "
        f"{one.worker} at once"
        for one, part, share in parts
        if isinstance(one, Fixed)
    ]
    return [*told[main[0]][0], *others], rest


def _router(policy: Router, flow: Flow, asked: Asked, last: bool) -> Told:
    by_route: dict[str, tuple[Policy, list[str]]] = {}
    for value, route in policy.routes.items():
        by_route.setdefault(repr(route), (route, []))[1].append(value)
    clauses: list[str] = []
    rest = flow.part(None if flow.mass is None else np.zeros(len(flow.cases)))
    for route, those in by_route.values():
        own = flow.each(lambda case, those=those: str(case.task.tags.get(policy.tag)) in those)  # type: ignore[misc]
        told, left = _said(route, flow.part(own), asked, last=last)
        clauses += _after(f"where {policy.tag} is {several(those, 'or')}, ", told)
        rest = _together(rest, left)
    others = flow.each(lambda case: str(case.task.tags.get(policy.tag)) not in policy.routes)
    told, left = _said(policy.otherwise, flow.part(others), asked, last=last)
    return [*clauses, *_after("for all others, ", told)], _together(rest, left)


def _cascade(policy: Cascade, flow: Flow, asked: Asked, last: bool) -> Told:
    clauses: list[str] = []
    rest, before = flow, dict(asked)
    for i, stage in enumerate(policy.stages):
        told, rest = _said(stage, rest, before, last=last and i == len(policy.stages) - 1)
        clauses += _after("else ", told) if i else told
        before |= stage.calls()
    return clauses, rest


def _fallback(policy: Fallback, flow: Flow, asked: Asked, last: bool) -> Told:
    unknown = flow.part(None)
    told = [_said(one, unknown, asked, last=True)[0] for one in policy.policies]
    return [clause for i, one in enumerate(told) for clause in (_after("if that fails, ", one) if i else one)], unknown


def _wrapped(says: Callable[[Any], str]) -> Callable[[Any, Flow, Asked, bool], Told]:
    """A policy around another: what the inner one does, then what is added; how often is not known from records."""

    def tell(policy: Any, flow: Flow, asked: Asked, last: bool) -> Told:
        unknown = flow.part(None)
        return [*_said(policy.inner, unknown, asked, last=last)[0], says(policy)], unknown

    return tell


def _judged(case: Case, checks: Sequence[Check]) -> Case:
    attempts = {cell: judged_by(case.task, (attempt,), checks) for cell, attempt in case.attempts.items()}
    return case._replace(attempts=attempts)


def _seen(flow: Flow, calls: Sequence[Call], before: Sequence[Cell]) -> list[Seen]:
    """What a score sees on the tasks that come to it; nothing where one lacks what was asked for."""
    here = [case for case, mass in zip(flow.cases, flow.mass, strict=True) if mass] if flow.mass is not None else []
    try:
        return [
            (case.task, [case.attempts[c.worker, c.sample] for c in calls], [case.attempts[cell] for cell in before])
            for case in here
        ]
    except KeyError:
        return []


def _after(prefix: str, clauses: Sequence[str]) -> list[str]:
    return [prefix + clauses[0], *clauses[1:]]


def _together(one: Flow, other: Flow) -> Flow:
    return Flow(one.cases, None if one.mass is None or other.mass is None else one.mass + other.mass)


_TELLERS: Mapping[type, Callable[[Any, Flow, Asked, bool], Told]] = {
    Fixed: _fixed,
    Agreement: _agreement,
    Deferral: _deferral,
    ScoredRouter: _scored,
    Mix: _mix,
    Router: _router,
    Cascade: _cascade,
    Fallback: _fallback,
    Corrected: _wrapped(
        lambda policy: f"a refused answer is shown to its worker with the reasons{times(policy.times)}"
    ),
    Retried: _wrapped(lambda policy: f"a call that fails is made again{times(policy.times)}"),
    BestEffort: _wrapped(lambda policy: "where nothing is accepted, the best answer there is counts"),
}
