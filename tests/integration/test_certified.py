"""Certificates as a run meets them: what voids one, and whether it is warned of or refused. Outcomes tell what they are compared with."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from typing import Any

import apsw
import msgspec
import pytest
from pydantic import BaseModel

from orchestrion import Orchestrion, Step, cascade, fixed, judge, step, workflow
from orchestrion.domain import Price
from orchestrion.engine.certified import ground_of, unknown, void
from orchestrion.engine.execution import SavedPolicy
from orchestrion.engine.saved import write_policy
from orchestrion.errors import PolicyError, UsageError, WorkerFailed
from orchestrion.evidence.records import read_outcomes, write_outcomes
from orchestrion.policy.certificate import Certificate, Ground, Target
from orchestrion.settings import Settings
from orchestrion.staff import Staff
from orchestrion.store.queries import migrations
from orchestrion.telemetry import Tracing
from orchestrion.testing import ScriptedWorker
from tests.conftest import echo, kinds

MEASURED = Ground(model="openai-chat:gpt-mini", price=(10**8, 4 * 10**8, None, None))
answer = Step("answer", "Answer in a word.", policy="frontier")


def scripted(name="cheap", *, model="openai-chat:gpt-mini", price=(10**8, 4 * 10**8, None, None)):
    return ScriptedWorker(name, lambda request: f"{name}'s answer", price=Price(*price), model=model)


def certified(by="cheap", *, checks=(), name="tuned", of=answer, **changed):
    """A policy whose certificate fits it, save what is ``changed``."""
    saved = SavedPolicy(cascade(by, "frontier"), checks, name)
    facts = {
        "target": Target(quality=0.95, confidence=0.9),
        "frontier": "frontier",
        "method": "exact",
        "p_value": 0.04,
        "labels": 400,
        "certified_on": 200,
        "quality_ratio": 0.98,
        "cost_ratio": 0.3,
        "expected": False,
        "workers": {"cheap": MEASURED},
        "fitted": ("0123456789ab",),
        "policy": saved.digest,
        "seed": 0,
        "prompt": of.prompt_digest,
    }
    return SavedPolicy(saved.policy, checks, name, Certificate(**facts | changed))


# What voids a certificate


@pytest.mark.parametrize(
    ("worker", "changed", "expected"),
    [
        ({}, {}, ()),
        ({}, {"workers": {"cheap": Ground()}, "prompt": None}, ()),  # what is not known is no reason
        ({}, {"workers": {"cheap": MEASURED, "gone": MEASURED}}, ()),  # nor is one that is not there any more
        (
            {"price": (10**8, 4 * 10**8, 10**8, 10**8)},
            {},
            (),
        ),  # cached input costs as input does, where nothing is said
        (
            {"model": "openai-chat:gpt-max"},
            {},
            ("'cheap' is now openai-chat:gpt-max; it was measured as openai-chat:gpt-mini",),
        ),
        (
            {"model": None},
            {},
            ("'cheap' does not say which model it is now; it was measured as openai-chat:gpt-mini",),
        ),
        (
            {"price": (2 * 10**8, 4 * 10**8, None, None)},
            {},
            (
                "'cheap' now costs input $0.200, output $0.400 a million tokens; it was measured at input $0.100, "
                "output $0.400 a million tokens",
            ),
        ),
        (
            {},
            {"prompt": "another"},
            ("the step's instructions or output type are others than those it was measured with",),
        ),
        ({}, {"policy": "another"}, ("the policy was changed after it was certified",)),
    ],
)
def test_what_voids_a_certificate(worker, changed, expected):
    assert void(certified(**changed), answer, {"cheap": scripted(**worker)}) == expected


def test_a_check_that_was_changed_voids_it_too():
    measured = certified(checks=(judge("cheap", "polite"),))
    edited = msgspec.structs.replace(measured.certificate)
    assert void(measured, answer, {}) == ()
    assert void(SavedPolicy(measured.policy, (judge("cheap", "short"),), "p", edited), answer, {}) == (
        "the policy was changed after it was certified",
    )


def test_every_reason_is_said_at_once():
    saved = certified(prompt="another")
    assert len(void(saved, answer, {"cheap": scripted(model="m", price=(1, 1, None, None))})) == 3


def test_a_policy_without_a_certificate_promises_nothing_that_could_be_void():
    assert void(SavedPolicy(fixed("cheap")), answer, {}) == ()


def test_what_a_certificate_does_not_know_is_named():
    certificate = certified(workers={"cheap": Ground(), "frontier": MEASURED}, prompt=None).certificate
    assert unknown(certificate) == ("which model 'cheap' was", "the price of 'cheap'", "the step's instructions")
    assert unknown(certified().certificate) == ()


def test_the_ground_of_a_worker_of_the_settings_is_seen_through_its_wrappers(monkeypatch):
    models = {
        "plain": {"model": "openai-chat:gpt-mini", "price": {"input": 0.1, "output": 0.4}, "bound": 1.5},
        "made-up": {"model": "simulated", "price": {"input": 1, "output": 2, "cache_read": 0.5}},
    }
    staff = Staff(Settings.model_validate({"models": models}), [echo()], tracing=Tracing(), proceed=lambda: None)
    assert ground_of(staff["plain"]) == Ground(model="openai-chat:gpt-mini", price=(10**8, 4 * 10**8, None, None))
    assert ground_of(staff["made-up"]) == Ground(model="simulated", price=(10**9, 2 * 10**9, 5 * 10**8, None))
    assert ground_of(staff["w"]).model is None


def test_a_frontier_that_cannot_be_asked_any_more_is_no_reason():
    """The policy does not ask it; that its price is not known any more must not stop those who do not need it."""
    models = {"local": {"model": "openai-chat:nobody-knows-it", "base_url": "http://localhost:1/v1"}}
    staff = Staff(Settings.model_validate({"models": models}), [scripted()], tracing=Tracing(), proceed=lambda: None)
    assert void(certified(workers={"cheap": MEASURED, "local": MEASURED}), answer, staff) == ()


# What a run does about it


async def test_a_void_certificate_is_warned_of_once(open_app, caplog):
    worker = scripted(model="openai-chat:gpt-max")
    saved = certified()
    async with open_app(worker, scripted("frontier")) as o:
        for i in range(3):
            assert (await o.run(answer, f"q{i}", policies={"answer": saved})).result == "cheap's answer"
        again = SavedPolicy(saved.policy, (), "tuned", saved.certificate)  # read from its file again
        await o.run(answer, "q4", policies={"answer": again})
    [said] = [record for record in caplog.records if record.name == "orchestrion"]
    assert said.levelno == logging.WARNING
    assert said.getMessage().startswith(
        "the certificate of policy 'tuned' is void for step 'answer': 'cheap' is now openai-chat:gpt-max; it was measured as"
    )


async def test_a_void_certificate_is_refused_before_anything_is_held(open_app):
    worker = scripted(model="openai-chat:gpt-max")
    async with open_app(worker, scripted("frontier"), certificates="refuse") as o:
        with pytest.raises(PolicyError, match=r"Nothing was asked\. Certify the policy on fresh records") as refused:
            await o.run(answer, "q", id="r", policies={"answer": certified()})
        assert isinstance(refused.value, UsageError)
        with pytest.raises(PolicyError):  # again, however often it is tried
            await o.run(answer, "q", id="r", policies={"answer": certified()})
        assert (kinds(o), worker.asked) == ({}, 0)
        worker.model = "openai-chat:gpt-mini"  # mended
        assert (await o.run(answer, "q", id="r", policies={"answer": certified()})).result == "cheap's answer"


async def test_a_certificate_that_holds_is_not_spoken_of(open_app, caplog):
    async with open_app(scripted(), scripted("frontier"), certificates="refuse") as o:
        assert (await o.run(answer, "q", policies={"answer": certified()})).status == "done"
    assert caplog.records == []


async def test_a_step_that_was_answered_stands_when_its_run_is_resumed(open_app):
    """What is remembered asks nobody; only what is asked now would be without the promise."""

    @workflow
    async def two(text: str) -> str:
        return await last(await answer(text))

    last = Step("last", policy="w")
    saved = certified()
    fails = ScriptedWorker("w", [WorkerFailed("busy", "no"), "done"])
    async with open_app(scripted(), scripted("frontier"), fails, certificates="refuse") as o:
        assert (await o.run(two, "q", id="r", policies={"answer": saved})).status == "failed"
    async with open_app(scripted(model="openai-chat:gpt-max"), scripted("frontier"), fails, certificates="refuse") as o:
        assert (await o.run(two, "q", id="r", policies={"answer": saved}, again=True)).result == "done"


async def test_one_policy_may_be_certified_for_one_step_and_void_for_another(open_app, caplog):
    other = Step("other", "Answer at length.", policy="frontier")

    @workflow
    async def both(text: str) -> str:
        return await other(await answer(text))

    saved = certified()
    async with open_app(scripted(), scripted("frontier")) as o:
        await o.run(both, "q", policies={"answer": saved, "other": saved})
    [said] = caplog.messages
    assert "void for step 'other': the step's instructions or output type are others" in said


# On the command line


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project with a certified policy, whose cheap model is what ``model`` says in its settings."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "flow.py").write_text(
        "from orchestrion import Step\nanswer = Step('answer', 'Answer in a word.', policy='frontier')\n"
    )
    (tmp_path / "tasks.jsonl").write_text('{"id": "t1", "input": "hello"}\n')
    simulated = Ground(model="simulated", price=(10**8, 4 * 10**8, None, None))
    saved = certified(workers={"cheap": simulated, "frontier": Ground()})
    write_policy(tmp_path / "tuned.json", saved)

    def settings(price=0.1, **more):
        models = {
            name: {"model": "simulated", "price": {"input": price, "output": 0.4}} for name in ("cheap", "frontier")
        }
        config = {"models": models, "policies": {"tuned": "tuned.json"}, **more}
        (tmp_path / "orchestrion.yaml").write_text(json.dumps(config))

    settings()
    return settings


def orchestrion(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "orchestrion", *arguments], check=False, capture_output=True, text=True
    )


RUN = ("run", "flow.py:answer", "tasks.jsonl", "--policy", "tuned")


def test_a_dry_run_says_what_is_certified(project):
    shown = orchestrion(*RUN, "--dry-run")
    assert (
        "Step 'answer' by policy 'tuned' is certified: the mean quality is at least 0.95 of the frontier's, with confidence 0.9 "
        "(as far as is known: the certificate does not say which model 'frontier' was, the price of 'frontier')."
    ) in shown.stdout
    project(price=0.2)
    shown = orchestrion(*RUN, "--dry-run")
    assert "with confidence 0.9 (void: 'cheap' now costs input $0.200" in shown.stdout
    data = json.loads(orchestrion(*RUN, "--dry-run", "--json").stdout)
    [one] = data["certificates"]
    assert (one["step"], one["policy"], len(one["void"])) == ("answer", "tuned", 1)
    assert one["certified"].startswith("the mean quality is at least 0.95")


def test_the_command_warns_or_refuses_before_anything_starts(project, tmp_path):
    project(price=0.2)
    warned = orchestrion(*RUN, "--batch", "warned")
    assert warned.returncode == 0
    assert warned.stderr.count("is void for step 'answer'") == 1
    project(price=0.2, certificates="refuse")
    refused = orchestrion(*RUN)
    assert refused.returncode == 2
    assert "the certificate of policy 'tuned' is void for step 'answer'" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert "answer:tasks" not in orchestrion("runs", "list", "--json").stdout
    project(price=0.1, certificates="refuse")
    assert orchestrion(*RUN).returncode == 0
    project(price=0.2, certificates="refuse")
    assert orchestrion(*RUN).returncode == 0  # all is done: nothing is asked


def test_a_misspelt_setting_is_refused(project):
    project(certificates="ignore")
    said = orchestrion(*RUN)
    assert said.returncode == 2
    assert "certificates" in said.stderr
    assert "'warn' or 'refuse'" in said.stderr


# What outcomes tell


class Word(BaseModel):
    word: str


async def test_outcomes_tell_which_model_answered_and_under_which_instructions(open_app, tmp_path):
    failing = ScriptedWorker("cheap", [WorkerFailed("busy", "no room")], model="openai-chat:gpt-mini")
    asked = Step("asked", "Say it.", policy=cascade("cheap", "frontier"), checks=[judge("judge", "polite")])
    worker, polite = (
        scripted("frontier", model="openai-chat:gpt-max"),
        ScriptedWorker("judge", lambda _: '{"score": 5}', model="anthropic:judge"),
    )
    async with open_app(failing, worker, polite) as o:
        await o.run(asked, "q", id="r")
        rows = {row.worker: row for row in o.outcomes()}
        assert {name: row.model for name, row in rows.items()} == {
            "cheap": "openai-chat:gpt-mini",
            "frontier": "openai-chat:gpt-max",
            "judge": "anthropic:judge",
        }
        assert rows["cheap"].failure
        assert rows["cheap"].instructions == rows["frontier"].instructions == asked.prompt_digest
        assert rows["judge"].instructions is None  # what a check asks has its own prompt
        write_outcomes(tmp_path / "out.jsonl", o.outcomes())
    assert {row.worker: row.model for row in read_outcomes([tmp_path / "out.jsonl"])}["cheap"] == "openai-chat:gpt-mini"
    async with open_app(record="none") as o:
        [row] = [row for row in o.outcomes() if row.worker == "frontier"]
        assert (row.output, row.model, row.instructions) == (None, "openai-chat:gpt-max", asked.prompt_digest)


async def test_a_model_that_changed_between_two_runs_is_told_apart(open_app):
    async with open_app(scripted(model="a:1")) as o:
        await o.run(Step("s", policy="cheap"), "q1")
        await o.run(Step("s", policy="cheap"), "q2")
        assert o.database.read("select count(*) from basis") == [(1,)]
    async with open_app(scripted(model="a:2")) as o:
        await o.run(Step("s", policy="cheap"), "q3")
        await o.run(Step("s", "Otherwise.", policy="cheap"), "q4")
        rows = list(o.outcomes())
    assert [row.model for row in rows] == ["a:1", "a:1", "a:2", "a:2"]
    assert rows[0].instructions == rows[1].instructions == rows[2].instructions != rows[3].instructions


async def test_a_worker_that_says_nothing_of_itself_has_no_model(open_app):
    @step
    def shout(text: str) -> str:
        return text.upper()

    strange = echo("v")
    strange.model = 7  # type: ignore[assignment]  # a program's own attribute, which is no name
    async with open_app(strange) as o:
        await o.run(shout, "a")
        await o.run(Step("s", policy="v"), "a")
        assert [row.model for row in o.outcomes()] == [None, None]


def test_the_prompt_digest_tells_instructions_and_output_type():
    prompts: list[Step[Any]] = [
        Step("s", "a"),
        Step("s", "b"),
        Step("s", "a", output=Word),
        Step("s", "a", output=int),
    ]
    assert len({one.prompt_digest for one in prompts}) == 4
    assert Step("s", "a", policy="x").prompt_digest == Step("t", "a", policy="y").prompt_digest


async def test_outcomes_of_an_older_database_know_neither(open_app, database):
    """Made as it was before outcomes told it: its runs are exported, and new ones tell."""
    connection = apsw.Connection(str(database))
    for number, text in migrations():
        if number < 7:
            connection.execute(text)
            connection.pragma("user_version", number)
    connection.execute(
        "insert into run (no, id, workflow, task, input, digest, account, status, created, updated)"
        " values (1, 'old', 'm:s', 't', '\"q\"', 'd', 'default', 'done', 0, 0);"
        "insert into ask (run, scope, step, n, turn, digest, input, calls) values (1, '', 's', 0, 0, 'd', '\"q\"', '[[5,\"cheap\",0,[]]]');"
        "insert into hold (hold, account, amount, run, at) values (5, 'default', 9, 1, 0);"
        "insert into post (hold, kind, amount, at) values (5, 'post', 9, 0);"
        "insert into attempt values (5, 'cheap', 9, 1, 'a', '{\"tokens\":[1,1,0,0,0,false],\"latency_s\":0.1,\"verdicts\":[]}')"
    )
    connection.close()
    async with open_app(scripted()) as o:
        await o.run(Step("s", policy="cheap"), "q", id="new")
        rows = {row.run_id: row for row in o.outcomes()}
    assert (rows["old"].output, rows["old"].model, rows["old"].instructions) == ("a", None, None)
    assert rows["new"].model == "openai-chat:gpt-mini"


async def test_it_is_told_where_nothing_is_kept_on_disk():
    async with Orchestrion.open(Settings(database=":memory:"), workers=[scripted()]) as o:
        await o.run(Step("s", policy="cheap"), "q")
        assert [row.model for row in o.outcomes()] == ["openai-chat:gpt-mini"]
