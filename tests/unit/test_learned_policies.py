"""Deferrals and scored routers: what signals are, who is asked, what is accepted, and what no decision depends on."""

from __future__ import annotations

import json
import math
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrion import best_effort, cascade, fixed
from orchestrion.domain import (
    REJECTED,
    UNLIMITED,
    Accept,
    Ask,
    Attempt,
    Call,
    Failure,
    Funds,
    Outcome,
    Stop,
    Task,
    Usage,
    Verdict,
)
from orchestrion.engine.execution import SavedPolicy
from orchestrion.engine.replay import replay
from orchestrion.errors import PolicyError
from orchestrion.policy.combinators import mix
from orchestrion.policy.learned import Deferral, deferral, logistic, scored_router
from orchestrion.policy.protocol import dump_policy, load_policy
from orchestrion.policy.signals import BUCKETS, READ, Score, form_of, others, signals, weighed

TASK = Task("t1", "How many legs do 3 cows have?\nThey lost 12.", {"kind": "sums"}, "the truth", "s")


def said(worker, answer, sample=0, *, passed=True, score=1.0, output=None, **more):
    verdicts = (Verdict("looks", passed, score),)
    return Attempt(Call(worker, sample), output or answer, answer, answer, None, verdicts, **more)


def failed(worker, sample=0, kind="http_500"):
    return Attempt(Call(worker, sample), failure=Failure(kind, "it failed"))


def end(policy, history, funds=UNLIMITED) -> Any:
    return policy.next(TASK, history, funds)


def asked(policy) -> Any:
    return policy.next(TASK, (), UNLIMITED).calls


def agrees(least=0.6, otherwise="dear", **workers):
    return deferral(workers or {"a": 3}, {"share": 1.0}, least=least, otherwise=otherwise)


# Signals


def test_signals_of_a_task():
    found = signals(TASK)
    assert found["one"] == 1
    assert found["tag:kind=sums"] == 1
    assert found["prompt:length"] == math.log1p(len(TASK.input))
    assert found["prompt:lines"] == math.log1p(2)
    assert found["prompt:numbers"] == math.log1p(2)
    words = [value for name, value in found.items() if name.startswith("text:")]
    assert math.fsum(value**2 for value in words) == pytest.approx(1)
    assert len(found) == 5 + len(words)


def test_words_are_told_apart_by_neither_case_nor_punctuation():
    texts = [
        {k: v for k, v in signals(Task("t", text)).items() if form_of(k) == "text"} for text in ("Aé b", "aé,\nB!")
    ]
    assert texts[0] == texts[1]
    assert set(texts[0].values()) == {math.sqrt(0.5)}


def test_of_a_long_prompt_the_words_at_both_ends_count():
    def words(text):
        return {k: v for k, v in signals(Task("t", text)).items() if form_of(k) == "text"}

    head, tail = "first " * READ, " last" * READ
    assert words(head + "middle" + tail) == words(head + tail)
    assert words(head + tail) != words(head + "other " * READ)
    assert words("first middle last") != words("first last")


@pytest.mark.parametrize("value", [{"b": [1, None], "a": "ä"}, 17, None, ["x"], "", "\ud800 half"])
def test_a_prompt_may_be_any_json_value(value):
    found = signals(Task("t", value))
    text = value if isinstance(value, str) else json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    assert found["prompt:length"] == math.log1p(len(text))
    assert Score({"text:5": 1.0, "prompt:numbers": 1.0})(Task("t", value)) >= 0


def test_signals_of_answers():
    usage = Usage(10, 20)
    attempts = (
        said("a", "yes", 0, score=0.7, output="it is so: yes", usage=usage, cost=900, latency_s=2.0),
        said("b", "no"),
        said("a", "yes", 1),
        failed("b", 1),
    )
    found = signals(TASK, attempts, (said("c", "yes"), said("d", "", passed=True)))
    assert found["share"] == 0.5
    assert found["distinct"] == 0.5
    assert found["answer:yes"] == 1
    assert "answer:no" not in found
    assert [found[f"share:{w}"] for w in "abcd"] == [1, 0, 1, 0]
    assert [found[f"agree:{w}"] for w in "abcd"] == [1, 0, 1, 0]
    assert [found[f"empty:{w}"] for w in "abcd"] == [0, 0, 0, 1]
    assert [found[f"asked:{w}"] for w in "abcd"] == [1, 1, 1, 1]
    assert found["length:a"] == math.log1p(len("it is so: yes"))
    assert found["tokens:a"] == math.log1p(20)
    assert found["cost:a"] == math.log1p(900)
    assert found["latency:a"] == math.log1p(2)
    assert found["verdict:a:looks"] == 0.7
    assert not any(name.endswith(":e") for name in found)


def test_signals_where_nobody_answered():
    found = signals(TASK, (failed("a"), failed("b")))
    assert (found["share"], found["distinct"], found["empty:a"]) == (0, 0, 1)
    assert "agree:a" not in found
    assert Score({"agree:a": 5.0, "share:z": 5.0, "empty:a": 1.0})(TASK, (failed("a"), failed("b"))) == 1


def test_a_long_answer_is_no_signal():
    assert not any(form_of(name) == "answer" for name in signals(TASK, (said("a", "x" * 13),)))
    assert "answer:" + "x" * 12 in signals(TASK, (said("a", "x" * 12),))


def test_others_are_the_last_attempts_at_the_plain_task():
    again, corrected = said("b", "two"), Attempt(Call("b", 1, ({"role": "user", "content": "again"},)), "x", "x", "x")
    history = (said("c", "z"), said("a", "x"), failed("b"), corrected, again)
    assert others(history, {"a"}) == (again, history[0])


NAMES = st.one_of(
    st.integers(0, BUCKETS - 1).map(lambda bucket: f"text:{bucket}"),
    st.sampled_from(
        ["one", "share", "distinct", "prompt:length", "prompt:numbers", "prompt:lines", "tag:k=v", "tag:k=w"]
    ),
    st.sampled_from(["asked", "share", "agree", "empty", "length", "tokens", "cost", "latency"]).flatmap(
        lambda form: st.sampled_from("abc").map(lambda worker: f"{form}:{worker}")
    ),
    st.sampled_from("abc").map(lambda worker: f"verdict:{worker}:looks"),
    st.sampled_from(["answer:x", "answer:", "answer:A"]),
)
ATTEMPTS = st.lists(
    st.tuples(st.sampled_from("abc"), st.sampled_from(["x", "A", "", "x" * 20]), st.booleans(), st.floats(0, 1)),
    max_size=6,
).map(
    lambda drawn: tuple(
        failed(worker, n) if not answer and passed else said(worker, answer, n, passed=passed, score=score, cost=n)
        for n, (worker, answer, passed, score) in enumerate(drawn)
    )
)
PROMPTS = st.text(max_size=60) | st.lists(st.sampled_from(["one", "two 2", "Three,"])).map(" ".join)


@given(st.dictionaries(NAMES, st.floats(-10, 10)), PROMPTS, ATTEMPTS, st.data())
def test_a_compiled_score_is_the_weighed_signals_to_the_last_bit(coefficients, prompt, attempts, data):
    task = Task("t", prompt, {"k": data.draw(st.sampled_from("vw"))})
    cut = data.draw(st.integers(0, len(attempts)))
    every = signals(task, attempts[:cut], attempts[cut:])
    text = [name for name in every if form_of(name) == "text"]
    coefficients |= dict.fromkeys(text[:3], 0.3)
    score = Score(coefficients)(task, attempts[:cut], attempts[cut:])
    assert score == weighed(every, coefficients)
    turned = list(coefficients.items())
    random.Random(1).shuffle(turned)
    assert score == Score(dict(turned))(task, attempts[:cut], attempts[cut:])
    assert score == pytest.approx(sum(coefficients[name] * every.get(name, 0.0) for name in coefficients))


@given(PROMPTS, ATTEMPTS)
def test_every_signal_can_be_saved(prompt, attempts):
    found = signals(Task("t", prompt, {"k": "v"}), attempts)
    assert all(math.isfinite(value) for value in found.values())
    assert Score(found).coefficients == found


@pytest.mark.parametrize(
    ("score", "expected"),
    [
        ({"promt:length": 1.0}, "no signal is called 'promt:length' (did you mean 'prompt:length'?)"),
        ({"lenght:cheap": 1.0}, "no signal is called 'lenght:cheap' (did you mean 'length:cheap'?)"),
        ({"shares": 1.0}, "(did you mean 'share'?)"),
        ({"length": 1.0}, "no signal is called 'length' (did you mean 'length:W'?)"),
        ({"chance": 1.0}, "no signal is called 'chance' (did you mean 'chance:SALT'?)"),
        ({"text:4096": 1.0}, "no signal is called 'text:4096': a bucket is a number from 0 to 4095"),
        ({"text:007": 1.0}, "a bucket is a number"),
        ({"tag:kind": 1.0}, "tag:KEY=VALUE"),
        ({"verdict:a": 1.0}, "verdict:W:CHECK"),
        ({"answer:" + "x" * 13: 1.0}, "answers are told apart up to 12 characters"),
        ({"share": math.nan}, "the coefficient of 'share' must be a finite number, not nan"),
        ({"share": math.inf}, "the coefficient of 'share' must be a finite number, not inf"),
        ({"share": 10**400}, "the coefficient of 'share' must be a finite number"),
        ({"share": "1"}, "the coefficient of 'share' must be a finite number, not '1'"),
        ({"share": True}, "the coefficient of 'share' must be a finite number, not True"),
        (["share"], "score must be names of signals with their coefficients, not ('share',)"),
    ],
)
def test_a_score_that_cannot_be_used_is_named(score, expected):
    data = {"policy": "deferral", "workers": {"a": 1}, "score": score, "least": 0, "otherwise": "b"}
    with pytest.raises(PolicyError) as refused:
        load_policy(data)
    assert expected in str(refused.value)
    assert str(refused.value).startswith("policy: deferral: ")


# A deferral


def test_it_asks_all_samples_at_once_and_takes_the_first_of_the_majority():
    policy = agrees(a=2, b=1)
    calls = (Call("a"), Call("b"), Call("a", 1))
    assert policy.next(TASK, (), UNLIMITED) == Ask(calls)
    assert policy.calls() == {"a": 2, "b": 1, "dear": 1}
    history = (said("a", "y", 1), said("b", "y"), said("a", "x"))
    accepted = policy.next(TASK, history, UNLIMITED)
    assert accepted == Accept(history[1], logistic(2 / 3))


def test_below_the_least_score_the_next_policy_decides():
    history = (said("a", "x"), said("a", "y", 1), said("a", "z", 2))
    assert agrees().next(TASK, history, UNLIMITED) == Ask((Call("dear"),))
    dear = said("dear", "x")
    assert agrees().next(TASK, (*history, dear), UNLIMITED) == Accept(dear, 1.0)
    assert end(agrees(least=1 / 3), history).attempt is history[0]  # "or more", and of a tie the first


@given(st.permutations(range(4)), st.lists(st.sampled_from("xy"), min_size=4, max_size=4))
def test_the_order_of_the_history_changes_nothing(order, answers):
    policy = deferral({"a": 2, "b": 1}, {"share": 2.0, "agree:c": 1.0, "answer:x": 0.3}, least=1.9, otherwise="d")
    calls = (("a", 0), ("b", 0), ("a", 1), ("c", 0))
    history = tuple(said(worker, answer, n) for (worker, n), answer in zip(calls, answers, strict=True))
    assert policy.next(TASK, tuple(history[i] for i in order), UNLIMITED) == policy.next(TASK, history, UNLIMITED)


@given(st.sets(st.integers(0, 3)))
def test_after_a_crash_only_what_is_missing_is_asked(kept):
    policy = agrees(a=3, b=1)
    calls = asked(policy)
    history = tuple(said(call.worker, "x", call.sample) for call in calls)
    decision = policy.next(TASK, tuple(history[i] for i in sorted(kept)), UNLIMITED)
    missing = tuple(call for i, call in enumerate(calls) if i not in kept)
    assert decision == (Ask(missing) if missing else Accept(history[0], logistic(1.0)))


def test_failed_and_refused_answers_count_against_the_share():
    refused = said("a", "x", 1, passed=False, score=0.0)
    one = (said("a", "x"), refused, failed("a", 2))
    assert agrees(least=0.34).next(TASK, one, UNLIMITED) == Ask((Call("dear"),))
    assert agrees(least=1 / 3).next(TASK, one, UNLIMITED) == Accept(one[0], logistic(1 / 3))


@pytest.mark.parametrize("kind", ["http_500", REJECTED])
def test_where_no_answer_passed_the_next_policy_decides_whatever_the_score(kind):
    none = (failed("a", 0, kind), failed("a", 1, kind), failed("a", 2, kind))
    assert agrees(least=-9).next(TASK, none, UNLIMITED) == cascade("a", "dear").next(TASK, none, UNLIMITED)
    assert agrees(least=-9).next(TASK, none, UNLIMITED) == Ask((Call("dear"),))


def test_when_all_stop_the_last_reason_is_given_and_no_attempt_is_lost():
    history = (said("a", "x"), said("a", "y", 1), said("a", "z", 2), failed("dear"))
    stop = end(agrees(), history)
    assert (stop.kind, stop.reason, stop.attempts) == ("failed", "dear: it failed", history)


def funds(left, **bounds):
    return Funds(left, lambda call: bounds.get(call.worker, 0))


def test_a_stage_that_cannot_be_paid_is_passed_over_and_the_answer_marked():
    poor = funds(5, a=2, dear=5)
    assert agrees().next(TASK, (), poor) == Ask((Call("dear"),))
    dear = said("dear", "x")
    assert agrees().next(TASK, (dear,), poor) == Accept(dear, 1.0, constrained=True)


def test_where_the_next_cannot_be_paid_best_effort_takes_the_answer_there_is():
    history = (said("a", "x"), said("a", "y", 1), said("a", "z", 2))
    poor = funds(1, dear=5)
    stop = end(agrees(), history, poor)
    assert (stop.kind, stop.attempts) == ("funds", history)
    taken = best_effort(agrees()).next(TASK, history, poor)
    assert isinstance(taken, Accept)
    assert taken.constrained


def test_a_later_stage_sees_the_answers_of_earlier_ones():
    policy = deferral(
        {"a": 2},
        {"share": 1.0},
        least=2,
        otherwise=deferral({"b": 1}, {"agree:a": 1.0}, least=1, otherwise="dear"),
    )
    first = (said("a", "x"), said("a", "y", 1))
    same, other = said("b", "x"), said("b", "y")
    assert policy.next(TASK, first, UNLIMITED) == Ask((Call("b"),))
    assert end(policy, (*first, same)).attempt is same
    assert policy.next(TASK, (*first, other), UNLIMITED) == Ask((Call("dear"),))
    assert policy.next(TASK, (failed("a"), failed("a", 1), same), UNLIMITED) == Ask((Call("dear"),))


@pytest.mark.parametrize("name", ["agree:dear", "verdict:dear:looks"])
def test_it_cannot_look_at_what_is_asked_afterwards(name):
    with pytest.raises(ValueError, match="only 'otherwise' asks 'dear', afterwards"):
        deferral({"a": 1}, {name: 1.0}, least=0, otherwise=cascade("b", "dear"))
    deferral({"a": 1, "dear": 1}, {name: 1.0}, least=0, otherwise=fixed("dear"))


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"workers": {}}, "workers must be at least one name"),
        ({"workers": ["a"]}, "workers must be at least one name with its number of samples"),
        ({"workers": {"a": 0}}, "the samples of 'a' must be 1 or more, not 0"),
        ({"workers": {"a": True}}, "the samples of 'a' must be 1 or more, not True"),
        ({"workers": {"": 1}}, "a worker's name is a text, not ''"),
        ({"least": "high"}, "least must be a finite number, not 'high'"),
        ({"least": math.nan}, "least must be a finite number, not nan"),
        ({"otherwise": 5}, "expected a policy or a worker's name, got 5"),
        ({"more": 5}, "got an unexpected keyword argument 'more'"),
    ],
)
def test_a_deferral_that_cannot_be_is_refused(change, expected):
    data = {"policy": "deferral", "workers": {"a": 1}, "score": {"share": 1}, "least": 0, "otherwise": "b"} | change
    with pytest.raises(PolicyError) as refused:
        load_policy(data)
    assert expected in str(refused.value)


def test_a_worker_in_the_json_keeps_its_place():
    policy = deferral({"z": 1, "a": 1}, {"share": 1}, least=0, otherwise="d")
    loaded = load_policy(json.loads(json.dumps(dump_policy(policy))))
    assert isinstance(loaded, Deferral)
    assert [call.worker for call in asked(loaded)] == ["z", "a"]


@pytest.mark.parametrize("score", [-1e6, -3.0, 0.0, 3.0, 1e6])
def test_a_confidence_is_in_0_to_1(score):
    policy = deferral({"a": 1}, {"one": score}, least=-1e9, otherwise="d")
    accepted = end(policy, (said("a", "x"),))
    assert 0 <= accepted.confidence <= 1
    assert accepted.confidence == pytest.approx(1 / (1 + math.exp(-score)) if abs(score) < 9 else float(score > 0))


# A scored router


def test_a_router_chooses_by_the_task_alone():
    policy = scored_router(
        {"tag:kind=sums": 1.0, "prompt:length": -0.01}, least=0.5, above="a", below=cascade("b", "c")
    )
    assert policy.next(TASK, (), UNLIMITED) == Ask((Call("a"),))
    assert policy.next(Task("t", "?", {"kind": "prose"}), (), UNLIMITED) == Ask((Call("b"),))
    assert policy.calls() == {"a": 1, "b": 1, "c": 1}
    assert end(policy, (failed("a"),)).kind == "failed"


def test_a_router_at_its_least_goes_above():
    policy = scored_router({"one": 0.1, "tag:kind=sums": 0.2}, least=math.fsum([0.1, 0.2]), above="a", below="b")
    assert policy.next(TASK, (), UNLIMITED) == Ask((Call("a"),))


def test_a_share_of_each_tag_value_by_chance_and_nothing_of_any_other():
    policy = scored_router({"tag:kind=a": 0.25, "tag:kind=b": 1.0, "chance:s": -1.0}, least=1e-9, above="x", below="y")
    assert load_policy(json.loads(json.dumps(dump_policy(policy)))) == policy

    def to_x(**tags):
        decisions = [policy.next(Task(f"t{i}", "?", tags), (), UNLIMITED) for i in range(4000)]
        return sum(decision == Ask((Call("x"),)) for decision in decisions) / 4000

    assert to_x(kind="a") == pytest.approx(0.25, abs=0.03)
    assert to_x(kind="b") == 1
    assert to_x(kind="c") == to_x() == to_x(other="a") == 0


def test_chance_is_the_draw_of_a_mix_of_the_same_salt():
    routed = scored_router({"one": 0.3, "chance:s": -1.0}, least=1e-12, above="x", below="y")
    mixed = mix({"x": 0.3, "y": 0.7}, salt="s")
    for i in range(500):
        task = Task(f"t{i}", "?", {}, None, "step")
        assert routed.next(task, (), UNLIMITED) == mixed.next(task, (), UNLIMITED)
    assert len({Score({"chance:s": 1.0})(Task("t", "?", {}, None, step)) for step in "abc"}) == 3


def test_the_lowest_draw_does_not_let_a_share_of_nothing_through(monkeypatch):
    monkeypatch.setattr("orchestrion.policy.signals.chance", lambda *_: 0.0)
    policy = scored_router({"tag:kind=sums": 0.0, "chance:s": -1.0}, least=1e-9, above="x", below="y")
    assert policy.next(TASK, (), UNLIMITED) == Ask((Call("y"),))


def test_the_most_calls_of_a_router_are_those_of_either_way():
    policy = scored_router({"one": 1.0}, least=0, above=agrees(a=3), below=agrees(a=1, b=2))
    assert policy.calls() == {"a": 3, "b": 2, "dear": 1}


def test_a_worker_whose_name_begins_with_another_ones_has_verdicts_of_its_own():
    policy = deferral({"gpt:short": 1}, {"verdict:gpt:short:ok": 1.0}, least=0.5, otherwise="gpt")
    assert policy.calls() == {"gpt:short": 1, "gpt": 1}
    with pytest.raises(ValueError, match="looks at 'verdict:gpt:ok', but only 'otherwise' asks 'gpt'"):
        deferral({"gpt:short": 1}, {"verdict:gpt:ok": 1.0}, least=0.5, otherwise="gpt")


def test_a_router_cannot_look_at_answers():
    with pytest.raises(ValueError, match="looks at 'agree:a', and a scored_router chooses before any answer"):
        scored_router({"one": 1.0, "agree:a": 1.0}, least=0, above="a", below="b")


# Truth


def rows(scores):
    answers = {"a": "xyxz", "b": "xxyy", "dear": "xxxx"}
    places = [(worker, n) for worker in answers for n in range(4)]
    return [
        Outcome(
            task_id=f"t{n}",
            worker=worker,
            prompt=f"task {n}",
            output=answers[worker][n],
            answer=answers[worker][n],
            score=score,
            reference=str(score),
            cost_usd=0.01,
        )
        for (worker, n), score in zip(places, scores, strict=True)
    ]


async def test_no_decision_depends_on_scores_or_references():
    policy = scored_router(
        {"prompt:numbers": 1.0},
        least=0.1,
        above=deferral({"a": 1, "b": 1}, {"share": 1.0, "answer:z": 1.0}, least=1, otherwise="dear"),
        below="dear",
    )
    seen = []
    for seed in range(5):
        dice = random.Random(seed)
        scores = [dice.random() for _ in range(12)]
        done = await replay(rows(scores), SavedPolicy(policy))
        seen.append(
            [(one.task_id, [a.call for a in one.attempts], one.accepted and one.accepted.call) for one in done.tasks]
        )
    assert all(one == seen[0] for one in seen)
    assert [len(calls) for _, calls, _ in seen[0]] == [2, 3, 3, 2]


def test_a_stop_is_a_stop_where_nothing_else_is_left():
    stop = deferral({"a": 1}, {"one": -1.0}, least=0, otherwise="a").next(
        TASK, (said("a", "x", passed=False, score=0),), UNLIMITED
    )
    assert isinstance(stop, Stop)
    assert stop.kind == "checks"
