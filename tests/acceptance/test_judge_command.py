"""`orchestrion judge test` as a stranger uses it: a live judge on a real HTTP server, killed and resumed, and recorded judges."""

from __future__ import annotations

import asyncio
import json
import random
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrion import Task
from orchestrion.checks.calibration import as_calibration
from orchestrion.checks.judge import Judge
from tests.acceptance.stub_server import Faults, StubServer

JUDGEBENCH = Path(__file__).parents[3] / "shared" / "data" / "judgebench.jsonl.zst"
RUBRIC = "The letter is polite and names a date."
JUDGES = f"""
from pathlib import Path
from orchestrion import Step, judge

polite = judge("checker", {RUBRIC!r}, name="polite")
politer = judge("checker", {RUBRIC!r}, name="politer", pairwise=True)
nobody = judge("chekcer", {RUBRIC!r})
letter = Step("letter", checks=[polite], policy="checker")
if Path("polite.json").exists():
    sure = judge("checker", {RUBRIC!r}, name="polite", calibration="polite.json", threshold=0.5)
"""
CHANCE = {0: 0.1, 1: 0.1, 2: 0.3, 3: 0.3, 4: 0.6, 5: 0.9}
"""How often people accept what the stub's judge gives so many points: it is too kind."""


def letters(n: int) -> tuple[list[dict], list[dict]]:
    """Labelled answers, and what the judge on the server says of each."""
    rng = random.Random(17)
    labelled, said = [], []
    for i in range(n):
        points = rng.choice(list(CHANCE))
        prompt = f"Letter {i:04}."
        output = "Please pay. " * rng.randint(1, 4)
        labelled.append(
            {
                "task_id": f"t{i}",
                "worker": "w",
                "prompt": prompt,
                "output": output,
                "score": float(rng.random() < CHANCE[points]),
            }
        )
        said.append(answer(prompt, json.dumps({"reason": "so", "score": points})))
    return labelled, said


def answer(prompt: str, output: str) -> dict:
    return {
        "worker": "checker",
        "prompt": prompt,
        "sample": 0,
        "output": output,
        "input_tokens": 100,
        "output_tokens": 10,
    }


def project(folder: Path, base_url: str, rows: list[dict], *, fast: bool = True) -> None:
    (folder / "orchestrion.yaml").write_text(
        "database: sqlite:///runs.db\nmodels:\n"
        f'  checker: {{model: "openai-chat:checker", base_url: "{base_url}", price: {{input: 1, output: 2}}, '
        f"max_output: 200, timeout_s: 20, concurrency: {64 if fast else 4}}}\n"
    )
    (folder / "judges.py").write_text(JUDGES)
    (folder / "labelled.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def start(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "orchestrion", "judge", "test", *arguments]
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


async def judge_test(folder: Path, *arguments: str, status: int = 0) -> tuple[str, str]:
    process = start(folder, *arguments)
    out, err = await asyncio.to_thread(process.communicate, timeout=120)
    assert "Traceback" not in out + err
    assert process.returncode == status, err
    return out, err


async def test_a_live_judge_is_tested_calibrated_and_used(tmp_path):
    labelled, said = letters(400)
    async with StubServer(said) as stub:
        project(tmp_path, stub.base_url, labelled)
        bound, _ = await judge_test(tmp_path, "judges.py:polite", "labelled.jsonl", "--dry-run", "--json")
        assert stub.counts()["total"]["requests"] == 0
        out, _ = await judge_test(tmp_path, "judges.py:polite", "labelled.jsonl", "--json", "--out", "polite.json")
        found = json.loads(out)
        assert (found["labels"], found["unanswered"], found["kind"]) == (400, 0, "pointwise")
        assert found["cost_usd"] * 400 == pytest.approx(400 * (100 * 1 + 10 * 2) / 1e6)
        assert found["cost_usd"] * 400 < json.loads(bound)["bound_usd"]
        right = [
            row["score"] == (json.loads(one["output"])["score"] >= 4) for row, one in zip(labelled, said, strict=True)
        ]
        assert found["agreement"]["value"] == pytest.approx(sum(right) / 400)
        curve = as_calibration(tmp_path / "polite.json")
        for points, chance in CHANCE.items():
            assert curve.chance(points / 5) == pytest.approx(chance, abs=0.12)
        again, _ = await judge_test(tmp_path, "judges.py:polite", "labelled.jsonl", "--json")
        assert json.loads(again) == found
        sure, _ = await judge_test(tmp_path, "judges.py:sure", "labelled.jsonl", "--json")
        assert json.loads(sure)["agreement"]["value"] >= found["agreement"]["value"]
        assert stub.counts()["total"]["requests"] == 400, "what is known is not asked again, calibrated or not"


async def test_a_changed_rubric_voids_a_calibration(tmp_path):
    labelled, said = letters(40)
    async with StubServer(said) as stub:
        project(tmp_path, stub.base_url, labelled)
        await judge_test(tmp_path, "judges.py:polite", "labelled.jsonl", "--out", "polite.json", "--quiet")
        (tmp_path / "judges.py").write_text(JUDGES.replace("names a date", "is short"))
        _, err = await judge_test(tmp_path, "judges.py:sure", "labelled.jsonl", status=2)
    assert "the calibration was made for another judge than 'polite'" in err
    assert "judges.py:" in err


async def test_killed_and_started_again_it_asks_nothing_twice(tmp_path):
    labelled, said = letters(60)
    async with StubServer(said, latency=0.05) as stub:
        project(tmp_path, stub.base_url, labelled, fast=False)
        process = start(tmp_path, "judges.py:polite", "labelled.jsonl", "--quiet")
        for _ in range(3000):
            await asyncio.sleep(0.01)
            if stub.counts()["total"]["requests"] >= 20:
                break
        process.send_signal(signal.SIGKILL)
        await asyncio.to_thread(process.communicate)
        out, _ = await judge_test(tmp_path, "judges.py:polite", "labelled.jsonl", "--json")
        asked = stub.counts()["total"]["requests"]
    assert json.loads(out)["labels"] == 60
    assert 60 <= asked <= 60 + 2 * 4, "only calls in flight, and answers not yet on the disk, are asked again"


async def test_errors_of_the_server_are_named_and_asked_again(tmp_path):
    labelled, said = letters(40)
    async with StubServer(said, faults=Faults(http500=0.2), fault_seed=3) as stub:
        project(tmp_path, stub.base_url, labelled)
        out, err = await judge_test(tmp_path, "judges.py:polite", "labelled.jsonl", "--json", "-q", status=1)
        failed = 40 - json.loads(out)["labels"]
        assert failed > 0
        assert f"{failed} could not be asked, and are not in the figures; --retry-failed asks them again." in err
        assert "500" in err
        for _ in range(6):
            process = start(tmp_path, "judges.py:polite", "labelled.jsonl", "--json", "-q", "--retry-failed")
            out, _ = await asyncio.to_thread(process.communicate, timeout=120)
        assert (process.returncode, json.loads(out)["labels"]) == (0, 40)


async def test_a_judge_that_talks_nonsense_is_found_out(tmp_path):
    labelled, said = letters(40)
    nonsense = [{**one, "output": "I like it!"} for one in said]
    async with StubServer([*nonsense, answer("This cannot be used", "still talking")]) as stub:
        project(tmp_path, stub.base_url, labelled)
        out, said_too = await judge_test(tmp_path, "judges.py:polite", "labelled.jsonl", "--out", "polite.json")
        assert stub.counts()["total"]["requests"] == 80
    assert re.search(r"without a usable answer +40: they count as refused", out)
    assert "written to polite.json, without a calibration" in said_too


async def test_a_pairwise_judge_is_asked_in_both_orders(tmp_path):
    judge = Judge("politer", "checker", RUBRIC, pairwise=True)
    rows, said = [], []
    for i in range(40):
        row = {
            "task_id": f"t{i}",
            "prompt": f"Letter {i:04}.",
            "response_a": f"Please pay, {i}.",
            "response_b": f"Pay {i}!",
            "label": "A>B",
        }
        a, b = row["response_a"], row["response_b"]
        if i % 2:
            row["response_a"], row["response_b"], row["label"] = b, a, "B>A"
        rows.append(row)
        task = Task(row["task_id"], row["prompt"])
        for first, second in ((a, b), (b, a)):
            right = "first" if first == a or i < 10 else "second"  # the first ten: whatever stands first
            question = judge.question(task, first, second)[1]["content"]
            said.append(answer(question, json.dumps({"reason": "so", "better": right})))
    async with StubServer(said) as stub:
        project(tmp_path, stub.base_url, rows)
        out, _ = await judge_test(tmp_path, "judges.py:politer", "labelled.jsonl", "--json")
        assert stub.counts()["total"]["requests"] == 80
    found = json.loads(out)
    assert (found["agreement"]["value"], found["flips"]["value"]) == (0.75, 0.25)
    assert found["first"]["value"] == pytest.approx((20 + 30) / 80)
    assert found["right_if_decided"]["value"] == 1.0
    assert found["calibration"] is None


@pytest.mark.parametrize(
    ("target", "lines", "said"),
    [
        ("judges.py:polite", ["{"], "labelled.jsonl:1: this is no labelled answer or pair"),
        (
            "judges.py:politer",
            [{"task_id": "t", "worker": "w", "prompt": "p", "output": "o", "score": 1}],
            "compares two answers",
        ),
        ("judges.py:polite", [{"task_id": "t", "worker": "w", "output": "o", "score": 1}], "task 't' has no prompt"),
        (
            "judges.py:polite",
            [{"task_id": "t", "worker": "w", "prompt": "p", "output": "o"}],
            "nothing to test on: 1 without a label",
        ),
        (
            "judges.py:nobody",
            [{"task_id": "t", "worker": "w", "prompt": "p", "output": "o", "score": 1}],
            "Did you mean 'checker'?",
        ),
        ("judges.py:nothing", [], "has no judge 'nothing'"),
        ("judge.json", [], "judge file judge.json cannot be read"),
        ("polite", [{"task_id": "t", "worker": "w", "output": "o", "score": 1}], "1 not judged by 'polite'"),
    ],
)
async def test_what_cannot_be_tested_is_refused_in_a_sentence(tmp_path, target, lines, said):
    project(tmp_path, "http://127.0.0.1:9", [])
    (tmp_path / "labelled.jsonl").write_text(
        "".join((one if isinstance(one, str) else json.dumps(one)) + "\n" for one in lines)
    )
    out, err = await judge_test(tmp_path, target, "labelled.jsonl", status=2)
    assert said in err
    assert out == ""


# Recorded judges


@pytest.mark.skipif(
    not JUDGEBENCH.exists(), reason=f"no recorded judgements at {JUDGEBENCH}: the project does not ship them"
)
@pytest.mark.parametrize(
    ("judge", "labels", "agreement", "one_order"),
    [
        ("arena_hard:o1-mini-2024-09-12", 258, 0.578, 0.731),
        ("arena_hard:claude-3-haiku-20240307", 205, 0.151, 0.322),
        ("reward_model:Skywork_Skywork-Reward-Gemma-2-27B", 258, 0.643, 0.647),
    ],
)
async def test_judgebench(tmp_path, judge, labels, agreement, one_order):
    out, _ = await judge_test(tmp_path, judge, str(JUDGEBENCH), "--json")
    found = json.loads(out)
    assert found["labels"] == labels
    assert found["agreement"]["value"] == pytest.approx(agreement, abs=5e-4)
    assert found["one_order"]["value"] == pytest.approx(one_order, abs=5e-4)
    if judge.startswith("reward_model"):
        assert found["flips"]["value"] < 0.01, "it scores each answer by itself: the order means next to nothing"
    else:
        assert found["first"]["low"] > 0.5, "it prefers what is shown first"
