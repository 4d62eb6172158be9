"""A policy in words: every kind of ours, with shares that are those of its own `next`."""

from __future__ import annotations

from collections import Counter

import pytest

from orchestrion.domain import Attempt, Call, Failure, Task, Verdict
from orchestrion.policy.combinators import (
    Mix,
    agreement,
    best_effort,
    cascade,
    corrected,
    fallback,
    fixed,
    mix,
    retried,
    router,
)
from orchestrion.policy.learned import deferral, scored_router
from orchestrion.tuning.drive import drive_all
from orchestrion.tuning.table import Case
from orchestrion.tuning.words import describe


def said(worker, answer, sample=0, *, passed=True):
    return Attempt(
        Call(worker, sample), answer, answer, answer, None, (Verdict("looks", passed, float(passed)),), cost=len(answer)
    )


def case(i):
    """Of ten tasks: cheap's two samples agree on six; the seventh's answer fails its check; three are of kind b."""
    second = "x" if i < 6 else "z"
    attempts = {
        ("cheap", 0): said("cheap", "x", passed=i != 6),
        ("cheap", 1): said("cheap", second, 1, passed=i != 6),
        ("mid", 0): said("mid", "x" if i < 8 else "y"),
        ("frontier", 0): said("frontier", "x"),
    }
    task = Task(f"t{i}", "word " * (i + 1), {"kind": "a" if i < 7 else "b"}, None, "s")
    return Case(("w", "s", f"t{i}"), task, attempts, dict.fromkeys(attempts, 1.0), f"t{i}")


CASES = [case(i) for i in range(10)]
TWICE = deferral({"cheap": 2}, {"share": 1.0}, least=1.0, otherwise="frontier")


@pytest.mark.parametrize(
    ("policy", "words"),
    [
        (fixed("frontier"), "Ask frontier."),
        (
            TWICE,
            "Ask cheap twice; keep the answer where both agree (60% of the tasks). Else ask frontier (40%).",
        ),
        (
            Mix((TWICE, fixed("frontier")), (0.88, 0.12), "s"),
            "Ask cheap twice; keep the answer where both agree (53% of the tasks). Else ask frontier (35%). The other 12%, drawn by chance, go "
            "to frontier at once.",
        ),
        (
            deferral({"cheap": 1}, {"share": 1.0, "tag:kind=b": -1.0}, least=1.0, otherwise=TWICE),
            "Ask cheap; keep the answer where it looks right, judged by the task's kind and whether there is an answer (60% of the tasks). Else "
            "ask cheap once more; keep the answer where both agree (on none of these tasks). Else ask frontier (40%).",
        ),
        (
            scored_router({"one": 1.0, "tag:kind=b": -2.0}, least=0, above="cheap", below="frontier"),
            "Send 30% of the tasks, judged by the task's kind, to frontier at once. For the others, ask cheap (70%). On 10% no answer is accepted.",
        ),
        (
            scored_router({"one": 1.0, "tag:kind=c": -2.0}, least=0, above="mid", below="frontier"),
            "Ask mid.",
        ),
        (
            scored_router(
                {"tag:kind=a": 0.5, "tag:kind=b": 1.0, "chance:s": -1.0}, least=1e-9, above="mid", below="frontier"
            ),
            "For a share of the tasks of each kind, drawn by chance (b 100% and a 50%): ask mid (65% of the tasks). All others go to frontier at "
            "once (35%).",
        ),
        (
            cascade("cheap", agreement("mid", "cheap", accept=1), "frontier"),
            "Ask cheap; keep the answer if it passes its checks (90% of the tasks). Else ask mid; keep the answer where both agree (on none of "
            "these tasks). Else ask frontier (10%).",
        ),
        (
            router("kind", {"a": "cheap", "c": "cheap", "b": "mid"}, otherwise="frontier"),
            "Where kind is a or c, ask cheap (70% of the tasks). Where kind is b, ask mid (30%). For all others, ask frontier (on none of these "
            "tasks). On 10% no answer is accepted.",
        ),
        (
            mix({"cheap": 0.25, "mid": 0.75}),
            "By chance, ask cheap (25% of the tasks). By chance, ask mid (75%). On 2% no answer is accepted.",
        ),
        (
            cascade(corrected("cheap", times=2), "frontier"),
            "Ask cheap; keep the answer if it passes its checks. A refused answer is shown to its worker with the reasons, at most 2 times. Else "
            "ask frontier.",
        ),
        (fallback("cheap", "mid"), "Ask cheap. If that fails, ask mid."),
        (retried("cheap"), "Ask cheap. A call that fails is made again, once."),
        (best_effort("cheap"), "Ask cheap. Where nothing is accepted, the best answer there is counts."),
        (
            agreement("cheap", "mid", samples=3, accept=0.5),
            "Ask cheap 3 times and mid 3 times; keep the answer on which at least 3 of 6 agree.",
        ),
    ],
)
def test_a_policy_in_words(policy, words):
    assert describe(policy, CASES) == words


def test_without_tasks_there_are_no_shares():
    assert describe(TWICE, []) == "Ask cheap twice; keep the answer where both agree. Else ask frontier."


def test_a_worker_that_was_not_recorded_has_no_shares():
    assert describe(cascade("other", "frontier"), CASES) == (
        "Ask other; keep the answer if it passes its checks. Else ask frontier."
    )


def test_a_policy_of_somebody_else_is_named():
    class Mine:
        def next(self, task, history, funds):
            raise AssertionError

        def calls(self):
            return Counter()

    assert describe(Mine(), CASES) == "Follow the policy 'Mine'."


def test_shares_are_those_of_what_the_policy_does():
    policy = scored_router(
        {"one": 2.0, "prompt:length": -0.55},
        least=0,
        above=deferral({"cheap": 2}, {"share": 1.0, "length:cheap": 0.1}, least=0.9, otherwise="mid"),
        below="frontier",
    )
    answered = Counter(one.accepted.call.worker for one in drive_all(policy, CASES) if one.accepted)
    words = describe(policy, CASES)
    assert {"frontier", "cheap", "mid"} <= set(answered)
    for worker, clause in (("frontier", "Send {}"), ("cheap", "({})"), ("mid", "Else ask mid ({})")):
        assert clause.format(f"{answered[worker] / 10:.0%}") in words


def test_what_is_named_moves_the_score_and_a_large_coefficient_of_what_never_changes_is_not():
    """All prompts have one line, however large its coefficient; the length differs, and so does the cost."""
    score = {"prompt:lines": 100.0, "prompt:length": 1.0, "cost:cheap": 0.001, "one": -70.0}
    words = describe(deferral({"cheap": 1}, score, least=2.0, otherwise="frontier"), CASES)
    assert "judged by the task's length (" in words


def test_what_fails_for_good_is_said():
    broken = [case(i) for i in range(3)]
    dead = Attempt(Call("frontier"), failure=Failure("http_500", "it failed"))
    cases = [one._replace(attempts={**one.attempts, ("frontier", 0): dead}) for one in broken] + CASES
    words = describe(fixed("frontier"), cases)
    assert words == "Ask frontier. On 23% of the tasks no answer is accepted."
