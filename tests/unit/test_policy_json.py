from __future__ import annotations

import json
from dataclasses import dataclass

import msgspec
import pytest

from orchestrion import (
    Task,
    agreement,
    best_effort,
    cascade,
    corrected,
    fallback,
    fixed,
    length,
    matches,
    retried,
    router,
)
from orchestrion.checks.protocol import as_check
from orchestrion.domain import UNLIMITED, Ask, Call
from orchestrion.engine.execution import SavedPolicy
from orchestrion.engine.saved import read_policy, write_policy
from orchestrion.errors import PolicyError
from orchestrion.policy.certificate import Certificate, Ground, Target, task_digests
from orchestrion.policy.combinators import mix
from orchestrion.policy.learned import deferral, scored_router
from orchestrion.policy.protocol import _KINDS, dump_policy, load_policy

EACH_KIND = [
    fixed("a"),
    agreement("a", "b", samples=3, accept=0.6),
    cascade("a", agreement("b", samples=2), "c"),
    fallback("a", cascade("b", "c")),
    router("lang", {"de": "a", "fr": cascade("b", "c")}, otherwise=fixed("d")),
    mix({"a": 0.25, "b": 0.75}, salt="s"),
    corrected(cascade("a", "b"), times=2),
    retried("a", times=3),
    best_effort(retried(corrected("a"))),
    deferral({"b": 2, "a": 1}, {"share": 2.5, "verdict:a:schema": 1}, least=0.5, otherwise="c"),
    scored_router({"one": -1, "text:17": 0.25, "tag:policy=x": 3}, least=0, above="a", below=cascade("b", "c")),
]


@pytest.mark.parametrize("policy", EACH_KIND, ids=lambda policy: type(policy).__name__)
def test_every_kind_survives_json(policy):
    text = json.dumps(dump_policy(policy))
    assert load_policy(json.loads(text)) == policy
    assert json.dumps(dump_policy(load_policy(json.loads(text)))) == text


def test_a_worker_or_a_tag_may_be_called_policy():
    for policy in (
        deferral({"policy": 1}, {"agree:policy": 1}, least=0, otherwise="b"),
        router("kind", {"policy": "a"}, otherwise="b"),
    ):
        assert load_policy(json.loads(json.dumps(dump_policy(policy)))) == policy


def test_no_kind_is_left_out_above():
    assert {type(policy) for policy in EACH_KIND} == set(_KINDS.values())


def test_a_name_stands_for_a_fixed_policy():
    assert load_policy("cheap") == fixed("cheap")
    assert load_policy({"policy": "cascade", "stages": ["cheap", "dear"]}) == cascade("cheap", "dear")


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (7, "policy: expected a worker's name or an object with \"policy\", got '7'"),
        ({}, "expected a worker's name or an object"),
        ({"policy": "casade", "stages": []}, "policy: no policy is called 'casade' (did you mean 'cascade'?)"),
        ({"policy": "zzz"}, "known: agreement, best_effort, cascade"),
        ({"policy": ["cascade"]}, "no policy is called ['cascade']"),
        ({"policy": "fixed"}, "policy: fixed: missing 1 required positional argument: 'worker'"),
        (
            {"policy": "fixed", "worker": "a", "samples": 2},
            "policy: fixed: got an unexpected keyword argument 'samples'",
        ),
        ({"policy": "fixed", "worker": 5}, "a worker's name is a text, not 5"),
        ({"policy": "fixed", "worker": ""}, "a worker's name is a text, not ''"),
        ({"policy": "cascade", "stages": []}, "policy: cascade: at least one policy is needed"),
        ({"policy": "cascade", "stages": "a"}, "policy: cascade: at least one policy is needed"),
        ({"policy": "cascade", "stages": ["a", 5]}, "policy: cascade: expected a policy or a worker's name, got 5"),
        (
            {"policy": "cascade", "stages": ["a", {"policy": "mxi"}]},
            "policy.stages[1]: no policy is called 'mxi' (did you mean 'mix'?)",
        ),
        (
            {"policy": "agreement", "workers": ["a"], "samples": 0},
            "policy: agreement: samples must be 1 or more, not 0",
        ),
        (
            {"policy": "agreement", "workers": ["a"], "accept": 1.5},
            "policy: agreement: accept must be between 0 and 1, not 1.5",
        ),
        ({"policy": "agreement", "workers": ["a", "a"]}, "policy: agreement: 'a' is named twice"),
        ({"policy": "agreement", "workers": ["a", 1]}, "a worker's name is a text, not 1"),
        ({"policy": "agreement", "workers": []}, "workers must be a list of at least one name"),
        ({"policy": "mix", "policies": ["a", "b"], "shares": [1]}, "policy: mix: 2 policies, but 1 shares"),
        ({"policy": "mix", "policies": ["a", "b"], "shares": [0.5, 0.6]}, "shares must be at least 0 and add up to 1"),
        ({"policy": "mix", "policies": ["a"], "shares": ["x"]}, "policy: mix: "),
        ({"policy": "router", "tag": "t", "routes": ["a"], "otherwise": "b"}, "policy: router: "),
        (
            {"policy": "router", "tag": "t", "routes": {"x": {"policy": "fixd"}}, "otherwise": "b"},
            "policy.routes.x: no policy is called 'fixd'",
        ),
        ({"policy": "corrected", "iner": "a"}, "policy: corrected: "),
        ({"policy": "retried", "times": 0}, "policy: retried: "),
        ({"policy": "best_effort"}, "policy: best_effort: missing 1 required positional argument"),
    ],
)
def test_a_broken_policy_is_refused_with_its_place(data, expected):
    with pytest.raises(PolicyError) as caught:
        load_policy(data)
    assert expected in str(caught.value)


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda: agreement("a", "a"), "'a' is named twice"),
        (agreement, "at least one"),
        (lambda: agreement("a", samples=0), "samples must be 1 or more"),
        (lambda: agreement("a", accept=-0.1), "accept must be between 0 and 1"),
        (cascade, "at least one policy"),
        (
            lambda: cascade("a", None),  # type: ignore[arg-type]  # meant
            "expected a policy or a worker's name, got None",
        ),
        (lambda: corrected("a", times=0), "times must be 1 or more"),
        (lambda: retried("a", times=0), "times must be 1 or more"),
        (lambda: mix({"a": 0.5}), "add up to 1"),
        (lambda: mix({"a": 1.5, "b": -0.5}), "at least 0"),
    ],
)
def test_a_policy_that_makes_no_sense_is_refused_in_python(make, expected):
    with pytest.raises(ValueError, match=expected):
        make()


def test_a_wrapper_keeps_the_policy_within(tmp_path):
    """`corrected` and its like have a field called policy; so has their JSON: both are kept apart."""
    assert load_policy(json.loads(json.dumps(dump_policy(corrected("a"))))).next(Task("t", ""), (), UNLIMITED) == Ask(
        (Call("a"),)
    )


def test_a_saved_policy_brings_its_rules(tmp_path):
    saved = SavedPolicy(cascade("a", "b"), (matches(r"^\d+$", name="number"), length(most=9)), "triage")
    write_policy(tmp_path / "triage.json", saved, about="by hand")
    assert read_policy(tmp_path / "triage.json") == saved


CERTIFICATE = Certificate(
    target=Target(kind="share", quality=0.95, share=0.9, confidence=0.95),
    frontier="b",
    method="exact",
    p_value=0.0312,
    labels=400,
    certified_on=213,
    quality_ratio=0.981,
    cost_ratio=1 / 3,
    expected=True,
    workers={"a": Ground(model="openai-chat:a", price=(1, 2, None, 4)), "b": Ground()},
    fitted=task_digests(["t1", "t2"]),
    policy="d" * 32,
    seed=3,
    group_by="user",
)


def test_a_saved_policy_keeps_its_certificate_to_the_last_digit(tmp_path):
    saved = SavedPolicy(cascade("a", "b"), (length(most=9),), "p", CERTIFICATE)
    write_policy(tmp_path / "p.json", saved)
    again = read_policy(tmp_path / "p.json")
    assert again == saved
    assert again.certificate == CERTIFICATE
    assert again.digest == saved.digest != SavedPolicy(cascade("a", "b"), (), "p", CERTIFICATE).digest


def test_a_file_without_a_certificate_is_a_policy_without_a_promise(tmp_path):
    for more in ("", ', "certificate": null'):
        (tmp_path / "p.json").write_text(f'{{"format": "orchestrion/policy/1", "policy": "a"{more}}}')
        assert read_policy(tmp_path / "p.json").certificate is None


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"frontier": 7}, "Expected 'str', got 'int' - at '$.frontier'"),
        ({"labels": "many"}, "at '$.labels'"),
        ({"workers": {"a": {"price": [1, 2]}}}, "at '$.workers[...].price'"),
        ({"target": {"kind": "median"}}, "Invalid enum value 'median' - at '$.target.kind'"),
    ],
)
def test_a_malformed_certificate_is_refused_with_its_place(tmp_path, change, expected):
    file = tmp_path / "p.json"
    certificate = msgspec.to_builtins(CERTIFICATE) | change
    file.write_text(json.dumps({"format": "orchestrion/policy/1", "policy": "a", "certificate": certificate}))
    with pytest.raises(PolicyError) as caught:
        read_policy(file)
    assert f"{file}: certificate: " in str(caught.value)
    assert expected in str(caught.value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "is not JSON"),
        ('{"format": "orchestrion/policy/1", "policy": "a", "certificate": "yes"}', "certificate: Expected 'object'"),
        ("[]", 'expected an object with "format": "orchestrion/policy/1"'),
        ('{"format": "orchestrion/policy/9", "policy": "a"}', "got 'orchestrion/policy/9'"),
        ('{"format": "orchestrion/policy/1"}', "expected a worker's name"),
        ('{"format": "orchestrion/policy/1", "policy": "a", "chekcs": []}', "unknown field 'chekcs'"),
        ('{"format": "orchestrion/policy/1", "policy": "a", "checks": 5}', "checks"),
        ('{"format": "orchestrion/policy/1", "policy": "a", "checks": [{"check": "mtches"}]}', "checks[0]: expected"),
        (
            '{"format": "orchestrion/policy/1", "policy": "a", "checks": [{"check": "matches", "pattern": "("}]}',
            "checks[0]: the pattern '(' is not a regular expression",
        ),
        (
            '{"format": "orchestrion/policy/1", "policy": "a", "checks": [{"check": "length", "mots": 3}]}',
            "unexpected keyword argument 'mots'",
        ),
    ],
)
def test_a_broken_policy_file_is_named(tmp_path, text, expected):
    file = tmp_path / "p.json"
    file.write_text(text)
    with pytest.raises(PolicyError) as caught:
        read_policy(file)
    assert str(file) in str(caught.value)
    assert expected in str(caught.value)


def test_a_missing_policy_file(tmp_path):
    with pytest.raises(PolicyError, match=r"gone\.json cannot be read"):
        read_policy(tmp_path / "gone.json")


def test_what_has_no_json_form_is_said(tmp_path):
    @dataclass(frozen=True)
    class Mine:
        def next(self, task, history, funds):
            return Ask((Call("a"),))

        def calls(self):
            return {"a": 1}

    with pytest.raises(PolicyError, match="Mine has no JSON form"):
        dump_policy(cascade(Mine(), "b"))
    with pytest.raises(PolicyError, match=r"check 'check' is code"):
        write_policy(tmp_path / "p.json", SavedPolicy(fixed("a"), (as_check(lambda value: True),)))
