from __future__ import annotations

import json

import pytest

from orchestrion import Attempt, Step, Task, Verdict, corrected, length, matches
from orchestrion.checks.protocol import as_check, verdict
from orchestrion.checks.rules import dump_rule, load_rule
from orchestrion.domain import Call
from orchestrion.engine.execution import House
from orchestrion.engine.saved import read_policy
from orchestrion.engine.workflow import Runner, Start, one_step
from orchestrion.errors import PolicyError, StepFailed
from orchestrion.telemetry import Tracing
from orchestrion.testing import MemoryJournal, MemoryLedger, ScriptedWorker


async def performed(step, *workers, value="q", tags=None, reference=None, journal=None, again=False):
    """One run of a step in memory."""
    runner = Runner(
        journal or MemoryJournal(), House({worker.name: worker for worker in workers}, MemoryLedger(), Tracing())
    )
    return await runner.run(
        one_step(step), Start(id="r", task_id="r", input=value, tags=tags or {}, reference=reference), again=again
    )


@pytest.mark.parametrize(
    ("said", "passed", "score", "reason"),
    [
        (None, True, 1.0, None),
        (True, True, 1.0, None),
        (False, False, 0.0, None),
        ("too short", False, 0.0, "too short"),
        ("", False, 0.0, ""),
        (0.5, True, 0.5, None),
        (0.49, False, 0.49, None),
        (1, True, 1.0, None),
        (0, False, 0.0, None),
    ],
)
def test_what_a_check_may_answer(said, passed, score, reason):
    assert verdict("c", said) == Verdict("c", passed, score, reason)


@pytest.mark.parametrize("said", [2, -0.1, float("nan"), [], object(), {"passed": True}])
def test_anything_else_is_no_answer(said):
    with pytest.raises((TypeError, ValueError)):
        verdict("c", said)


async def test_a_verdict_is_taken_as_it_is():
    said = Verdict("named", False, 0.9, "because", 5)
    run = await performed(Step("s", policy="w", checks=[lambda text: said]), ScriptedWorker("w", ["a"]))
    assert run.error.history[0].verdicts == (said,)


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_a_check_may_take_the_task(asynchronous):
    seen = []

    def plain(text, task):
        seen.append((text, task.input, task.tags, task.reference))
        return True

    async def later(text, task):
        return plain(text, task)

    step = Step("s", policy="w", checks=[later if asynchronous else plain])
    run = await performed(step, ScriptedWorker("w", ["a"]), tags={"k": "v"}, reference="the truth")
    assert run.result == "a"
    assert seen == [("a", "q", {"k": "v"}, None)]  # and never the truth


async def test_a_check_gets_the_value_of_the_steps_type():
    def sums(numbers: list[int]):
        return sum(numbers) == 6 or f"{numbers} make {sum(numbers)}"

    run = await performed(Step("s", output=list[int], policy="w", checks=[sums]), ScriptedWorker("w", ["[1, 2, 3]"]))
    assert run.result == [1, 2, 3]
    run = await performed(Step("s", output=list[int], policy="w", checks=[sums]), ScriptedWorker("w", ["[1, 2]"]))
    with pytest.raises(StepFailed, match=r"step 's' has no accepted answer: sums: \[1, 2\] make 3"):
        _ = run.result


async def test_an_answer_of_the_wrong_form_is_not_judged_further():
    def never(value):
        raise AssertionError("it has no value to look at")

    run = await performed(Step("s", output=int, policy="w", checks=[never]), ScriptedWorker("w", ["many"]))
    [attempt] = run.error.history
    assert [v.check for v in attempt.verdicts] == ["schema"]


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize("raises", [True, False], ids=["raises", "answers nonsense"])
async def test_a_check_that_cannot_answer_never_passes(asynchronous, raises):
    """The answer is kept; when the check is mended, the check alone is asked again."""
    broken = True

    def totals(text):
        if broken and raises:
            raise KeyError("box 1")
        return {"odd": 1} if broken else True

    async def later(text):
        return totals(text)

    later.__name__ = "totals"
    worker, journal = ScriptedWorker("w", ["a"]), MemoryJournal()
    step = Step("s", policy="w", checks=[later if asynchronous else totals])
    run = await performed(step, worker, journal=journal)
    assert run.status == "failed"
    with pytest.raises(
        StepFailed, match=r"totals: the check raised (KeyError: 'box 1'|TypeError: a check answers with)"
    ):
        _ = run.result
    broken = False
    run = await performed(step, worker, journal=journal, again=True)
    assert (run.result, worker.asked) == ("a", 1)


async def test_a_correction_shows_the_answer_and_every_reason():
    worker = ScriptedWorker("w", ["short", "long enough, and 42"])
    step = Step(
        "s",
        "Do it.",
        policy=corrected("w"),
        checks=[length(least=10), matches(r"\d+", name="number"), lambda text: True],
    )
    run = await performed(step, worker)
    assert run.result == "long enough, and 42"
    assert worker.requests[1].messages[:2] == worker.requests[0].messages
    shown, asked = worker.requests[1].messages[2:]
    assert shown == {"role": "assistant", "content": "short"}
    assert asked["role"] == "user"
    assert (
        "- length: the answer has 5 characters, at least 10 are asked for\n- number: nothing in the answer matches \\d+\n"
        in asked["content"]
    )
    assert "lambda" not in asked["content"]  # what passed is not mentioned


def judge(check, output):
    return check(Task("t", "q"), (Attempt(Call("w"), output, output, output),), None)


@pytest.mark.parametrize(
    ("check", "output", "passed"),
    [
        (matches(r"^#### \d+$"), "so\n#### 42", True),
        (matches(r"^#### \d+$"), "so #### 42", False),
        (matches("x"), None, False),
        (length(most=3), "abc", True),
        (length(most=3), "abcd", False),
        (length(most=3), "  abc  ", True),
        (length(), "  ", False),
        (length(least=0), "", True),
    ],
)
def test_rules(check, output, passed):
    said = judge(check, output)
    assert said.passed is passed
    assert bool(said.reason) is not passed


def test_rules_survive_json():
    for rule in (matches("a.b", name="ab"), length(least=2, most=5)):
        assert load_rule(dump_rule(rule), where="x") == rule


def test_a_check_is_called_after_its_function():
    def totals_tie_out(value):
        return True

    class Callable:
        def __call__(self, value):
            return True

    assert as_check(totals_tie_out).name == "totals_tie_out"
    assert as_check(Callable()).name == "Callable"
    rule = length()
    assert as_check(rule) is rule


def test_two_checks_of_one_name_are_refused(tmp_path):
    """By their name verdicts are kept: the second would stand for the first, which would then pass unasked."""
    with pytest.raises(ValueError, match="two checks are called 'matches'"):
        Step("s", policy="w", checks=[matches("a"), matches("b")])
    file = tmp_path / "p.json"
    rules = [{"check": "length"}, {"check": "length", "most": 3}]
    file.write_text(json.dumps({"format": "orchestrion/policy/1", "policy": "w", "checks": rules}))
    with pytest.raises(PolicyError, match="two checks are called 'length'"):
        read_policy(file)
