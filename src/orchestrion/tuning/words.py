"""A policy in words, with what it did on the labelled tasks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from orchestrion.policy.combinators import Fixed, Mix
from orchestrion.policy.learned import Deferral, ScoredRouter
from orchestrion.policy.protocol import Policy
from orchestrion.policy.signals import form_of
from orchestrion.tuning.drive import Driven

SAID = {
    "tag": "its tags",
    "prompt:length": "its length",
    "prompt:numbers": "its numbers",
    "prompt:lines": "its lines",
    "text": "its words",
    "share": "how many answers agree",
    "agree": "who agrees",
    "distinct": "how many answers differ",
    "answer": "which answer it is",
    "length": "the answer's length",
    "tokens": "the answer's tokens",
    "cost": "what it cost",
    "latency": "how long it took",
    "verdict": "what checks said",
    "empty": "whether there is an answer",
}


def describe(policy: Policy, driven: Sequence[Driven]) -> str:
    """What the policy does, and who answered how many of the tasks that it was put over."""
    answered = Counter(one.accepted.call.worker for one in driven if one.accepted)
    n = max(len(driven), 1)
    shares = ", ".join(f"{worker} {count / n:.0%}" for worker, count in answered.most_common())
    return f"{_said(policy)[:1].upper()}{_said(policy)[1:]}. Of the labelled tasks, so many were answered by each: {shares}."


def _said(policy: Policy) -> str:
    if isinstance(policy, Fixed):
        return f"ask {policy.worker}"
    if isinstance(policy, Mix) and len(policy.policies) == 2:
        return f"{policy.shares[0]:.1%} of the tasks, drawn by chance: {_said(policy.policies[0])}. The others: {_said(policy.policies[1])}"
    if isinstance(policy, ScoredRouter):
        return f"where the task promises little by {_signals(policy.score)}, {_said(policy.below)} at once; else {_said(policy.above)}"
    if isinstance(policy, Deferral):
        who = " and ".join(worker if n == 1 else f"{worker} {n} times" for worker, n in policy.workers.items())
        return (
            f"ask {who}; keep the answer if it looks right by {_signals(policy.score)}; else {_said(policy.otherwise)}"
        )
    return str(policy)


def _signals(score: dict[str, float]) -> str:  # type: ignore[type-arg]
    """The kinds of signals that a score looks at, at most four of them, by the weight that they have."""
    weight: Counter[str] = Counter()
    for name, coefficient in score.items():
        form = form_of(name)
        if form in SAID and coefficient:
            weight[SAID[form]] += abs(coefficient)
    kinds = [kind for kind, _ in weight.most_common(3)]
    return ", ".join(kinds) or "its kind alone"
