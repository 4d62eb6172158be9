"""A project from its first run to a certified policy that runs, and to its next certificate, as a stranger types it."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest

SETTINGS = """
database: sqlite:///orchestrion.db
models:
  cheap: {model: simulated, skill: 0.85, answers: answers.jsonl, price: {input: 0.15, output: 0.60}}
  frontier: {model: simulated, skill: 0.97, answers: answers.jsonl, price: {input: 2.50, output: 10.00}}
policies: {both: both.json, tuned: tuned.json}
"""
FLOW = """
from orchestrion import Step

letter = Step("letter", "Answer with one letter.", policy="frontier")
"""
BOTH = {
    "format": "orchestrion/policy/1",
    "policy": {"policy": "agreement", "workers": ["frontier", "cheap"], "samples": 1, "accept": 0.0},
    "checks": [],
}
TASKS = 260


def orchestrion(folder: Path, *arguments: object, status: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "orchestrion", *map(str, arguments)],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert "Traceback" not in done.stderr, done.stderr
    assert done.returncode == status, (done.stdout, done.stderr)
    return done


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """Made by `init`; two sets of tasks that both workers have answered, by a policy that asks them all."""
    folder = tmp_path_factory.mktemp("tuned") / "shop"
    orchestrion(folder.parent, "init", "shop")
    rng = random.Random(0)
    (folder / "orchestrion.yaml").write_text(SETTINGS)
    (folder / "flow.py").write_text(FLOW)
    (folder / "both.json").write_text(json.dumps(BOTH))
    answers = []
    for batch in ("first", "fresh"):
        tasks = []
        for i in range(TASKS):
            right = rng.choice("ABCDEFGH")
            name = f"{batch}-{i}"
            tasks.append(
                {"id": name, "input": f"Question {i} of {batch}", "tags": {"topic": "xyz"[i % 3]}, "reference": right}
            )
            answers.append({"step": "letter", "task_id": name, "answer": right})
        (folder / f"{batch}.jsonl").write_text("".join(json.dumps(task) + "\n" for task in tasks))
    (folder / "answers.jsonl").write_text("".join(json.dumps(answer) + "\n" for answer in answers))
    for batch in ("first", "fresh"):
        orchestrion(folder, "run", "flow.py:letter", f"{batch}.jsonl", "--policy", "letter=both", "--batch", batch)
    orchestrion(folder, "outcomes", "export", "records.jsonl", "--batch", "first")
    orchestrion(folder, "tune", "records.jsonl", "--frontier", "frontier", "--out", "tuned.json")
    return folder


def test_the_projects_own_records_say_what_their_export_says(project):
    exported = orchestrion(project, "tune", "records.jsonl", "--frontier", "frontier", "--json", "--quiet").stdout
    own = orchestrion(project, "tune", "--batch", "first", "--frontier", "frontier", "--json", "--quiet").stdout
    first, second = ({**json.loads(text), "seconds": 0} for text in (exported, own))
    assert first == second
    assert first["certified"] is True
    assert first["labels"] == TASKS
    assert first["cost_ratio"] < 1
    assert first["certificate"]["workers"]["cheap"]["model"] == "simulated"


def test_replay_of_the_saved_policy_costs_what_tune_said(project):
    tuned = json.loads(
        orchestrion(project, "tune", "records.jsonl", "--frontier", "frontier", "--json", "--quiet").stdout
    )
    replayed = json.loads(orchestrion(project, "replay", "records.jsonl", "--policy", "tuned", "--json").stdout)
    assert replayed["cost_usd"] == pytest.approx(tuned["realised"]["cost_usd_per_task"] * TASKS, abs=5e-10)
    assert replayed["quality"] == pytest.approx(tuned["realised"]["quality"])


def test_the_tuned_policy_runs_and_its_certificate_holds(project):
    asked = ("run", "flow.py:letter", "fresh.jsonl", "--policy", "letter=tuned", "--batch", "tuned")
    planned = orchestrion(project, *asked, "--dry-run").stdout
    assert "with confidence 0.9" in planned
    assert "void" not in planned
    done = orchestrion(project, *asked)
    assert "void" not in done.stderr
    orchestrion(project, "outcomes", "export", "live.jsonl", "--batch", "tuned")
    refused = orchestrion(project, "tune", "live.jsonl", "--frontier", "frontier", status=2).stderr
    assert "no fair sample" in refused
    refused = orchestrion(project, "certify", "tuned", "live.jsonl", status=2).stderr
    assert "no fair sample" in refused


def test_fresh_records_certify_it_again(project):
    found = json.loads(
        orchestrion(project, "certify", "tuned", "--batch", "fresh", "--out", "again.json", "--json", "--quiet").stdout
    )
    assert found["labels"] in (TASKS, None)
    assert found["frontier"] == "frontier"
    assert found["left_out"] == 0
    if found["certified"]:
        again = json.loads((project / "again.json").read_text())
        assert len(again["certificate"]["fitted"]) == 2 * TASKS
        assert again["policy"] == json.loads((project / "tuned.json").read_text())["policy"]
        asked = ("run", "flow.py:letter", "first.jsonl", "--policy", "letter=again.json", "--dry-run")
        assert "void" not in orchestrion(project, *asked).stdout
    used = orchestrion(project, "certify", "tuned", "records.jsonl", status=2).stderr
    assert f"chosen or certified on all of these {TASKS} tasks" in used


def test_a_policy_written_by_hand_is_certified_or_says_why_not(project):
    said = orchestrion(project, "certify", "both", "records.jsonl", "--frontier", "frontier").stdout
    assert "Certified: the mean quality is at least 0.95 of the frontier's" in said
    (project / "cheap.json").write_text(json.dumps({**BOTH, "policy": "cheap"}))
    said = orchestrion(project, "certify", "cheap.json", "records.jsonl", "--target", "0.98").stdout
    assert "Not certified" in said
    assert "98.0% was asked for" in said


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda row: row.update(score=7), "score lies between 0 and 1, not 7"),
        (lambda row: row.update(cost_usd=-1.0), "cost_usd is a number of dollars from 0, not -1.0"),
        (lambda row: row.update(probability=0.0), "probability is above 0"),
        (lambda row: row.update(score=None), "no task of 260 has a score for every worker"),
        (lambda row: row.update(cost_usd=None, input_tokens=None), "nobody knows what 'frontier' cost"),
        (lambda row: row.update(score=0.0), "got none of the 260 labelled tasks right"),
        (lambda row: row.pop("task_id"), "this is not an outcome"),
        (
            lambda row: row.update(selected_by="x", worker=row["worker"] if row["task_id"][-1] < "5" else "cheap"),
            "fair sample",
        ),
    ],
)
def test_bad_records_are_refused_in_a_sentence(project, change, said, tmp_path):
    rows = [json.loads(line) for line in (project / "records.jsonl").read_text().splitlines()]
    for row in rows:
        change(row)
    (tmp_path / "bad.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for command in (("tune",), ("certify", "both")):
        found = orchestrion(project, *command, tmp_path / "bad.jsonl", "--frontier", "frontier", status=2).stderr
        assert said in found


def test_a_broken_line_is_named_and_names_are_hinted(project, tmp_path):
    (tmp_path / "broken.jsonl").write_text((project / "records.jsonl").read_text() + "{no json\n")
    said = orchestrion(project, "tune", tmp_path / "broken.jsonl", status=2).stderr
    assert f"broken.jsonl:{2 * TASKS + 1}" in said
    for options, hint in (
        (("--frontier", "fronteir"), "Did you mean 'frontier'"),
        (("--workers", "cheep,frontier"), "Did you mean 'cheap'"),
        (("--step", "lettre"), "Did you mean 'letter'"),
        (("--workload", "lettre"), "Did you mean 'letter'"),
        (("--group-by", "topik"), "Did you mean 'topic'"),
    ):
        assert hint in orchestrion(project, "tune", "records.jsonl", *options, status=2).stderr


def test_forty_labels_say_how_many_would_do(project, tmp_path):
    lines = (project / "records.jsonl").read_text().splitlines()[:80]
    (tmp_path / "few.jsonl").write_text("\n".join(lines))
    found = json.loads(orchestrion(project, "tune", tmp_path / "few.jsonl", "--json", "--quiet").stdout)
    assert (found["certified"], found["labels"]) == (False, 40)
    assert found["labels_needed"] > 40
    assert "too few" in found["reason"]
    assert found["policy"] == {"policy": "fixed", "worker": found["frontier"]}
