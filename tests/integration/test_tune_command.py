"""`orchestrion tune` and `certify` as they are typed: what reaches the tuner, and what is said of what it found."""

from __future__ import annotations

import csv
import io
import json
import math
import subprocess
import sys
from types import SimpleNamespace

import pytest
from click import unstyle
from click.testing import CliRunner
from msgspec.structs import replace

from orchestrion.cli import cli
from orchestrion.cli.promise_text import tuned_lines
from orchestrion.domain import Outcome, dollars
from orchestrion.engine.execution import SavedPolicy
from orchestrion.engine.saved import read_policy, write_policy
from orchestrion.errors import OrchestrionError
from orchestrion.evidence.records import read_outcomes, write_outcomes
from orchestrion.policy.certificate import Target, task_digest
from orchestrion.tuning.facts import Interval, Wish
from tests.unit.tuned_sample import BY_TAG, CERTIFICATE, CERTIFIED, MIXED, REFUSED, TO_LABEL, TUNED, TWICE

ROWS = [
    Outcome(
        workload="demo",
        task_id=f"t{i}",
        tags={"topic": "refund"},
        worker=worker,
        prompt=f"question {i}",
        output=f"answer of {worker}",
        score=float(worker == "frontier") if i < 120 else None,
        cost_usd=cost,
    )
    for i in range(118, 126)
    for worker, cost in (("cheap", 0.001), ("frontier", 0.01))
]


class Tuner:
    """In place of the search: keeps what it is asked, and finds the sample."""

    def __init__(self) -> None:
        self.found = TUNED
        self.promise = CERTIFIED

    def tune(self, outcomes, wish, *, prices, models):
        self.outcomes, self.wish, self.prices, self.models = list(outcomes), wish, prices, models
        return self.found

    def certify(self, saved, outcomes, target, *, frontier, **options):
        self.saved, self.outcomes, self.target, self.frontier, self.options = (
            saved,
            list(outcomes),
            target,
            frontier,
            options,
        )
        return self.promise


@pytest.fixture
def tuner(tmp_path, monkeypatch):
    """A folder with records, and the tuner's place taken."""
    monkeypatch.chdir(tmp_path)
    write_outcomes(tmp_path / "records.jsonl", ROWS)
    tuner = Tuner()
    monkeypatch.setitem(sys.modules, "orchestrion.tuning.tune", SimpleNamespace(tune=tuner.tune))
    monkeypatch.setitem(sys.modules, "orchestrion.tuning.certify", SimpleNamespace(certify=tuner.certify))
    return tuner


def say(*arguments, status=0):
    """What a command prints; an error's own text where it fails."""
    done = CliRunner().invoke(cli, [*map(str, arguments)])
    if status == 0:
        assert done.exit_code == 0, (done.output, done.exception)
        return done
    if isinstance(done.exception, OrchestrionError):
        assert done.exception.exit_status == status
        return str(done.exception)
    assert done.exit_code == status, done.output
    return done.output


def strict_json(text):
    def refuse(name):
        raise AssertionError(name)

    return json.loads(text, parse_constant=refuse)


# What reaches the tuner


def test_nothing_but_records_is_enough(tuner):
    say("tune", "records.jsonl")
    assert tuner.wish == Wish()
    assert tuner.outcomes == ROWS
    assert (tuner.prices, tuner.models) == ({}, {})


def test_every_option_reaches_the_tuner(tuner):
    say(
        *(
            "tune",
            "records.jsonl",
            "records.jsonl",
            "--target",
            "0.9",
            "--confidence",
            "0.95",
            "--frontier",
            "frontier",
        ),
        *("--workers", "cheap, frontier", "--seed", "7", "--share", "0.8", "--per-tag", "topic", "--group-by", "user"),
        *("--step", "triage", "--workload", "demo", "--batch-size", "50", "--label-next", "3"),
    )
    assert tuner.wish == Wish(
        target=0.9,
        confidence=0.95,
        frontier="frontier",
        workers=("cheap", "frontier"),
        seed=7,
        share=0.8,
        per_tag="topic",
        group_by="user",
        step="triage",
        workload="demo",
        batch=50,
        label_next=3,
    )
    assert len(tuner.outcomes) == 2 * len(ROWS)
    say("tune", "records.jsonl", "--max-cost", "0.1")
    assert tuner.wish == Wish(max_cost=0.1)


def test_the_settings_say_prices_and_models(tuner, tmp_path):
    (tmp_path / "orchestrion.yaml").write_text(
        "models:\n  cheap: {model: simulated, price: {input: 1, output: 2}}\n  frontier: {model: simulated}\n"
    )
    said = say("tune", "records.jsonl").stdout
    assert tuner.prices["cheap"].output == 2_000_000_000
    assert tuner.models == {}  # simulated ones are no models
    assert "$0.0000481 (simulated) a task" in said
    (tmp_path / "orchestrion.yaml").write_text(
        "models:\n  cheap: {model: simulated}\n  frontier: {model: 'openai-chat:x', price: {input: 1, output: 2}}\n"
    )
    assert "(simulated)" not in say("tune", "records.jsonl").stdout
    assert tuner.models == {"frontier": "openai-chat:x"}


def test_without_records_the_projects_own_are_read(tuner, tmp_path):
    assert "there is no database" in say("tune", "--config", tmp_path / "none.yaml", status=2) + say("tune", status=2)
    say("init", "shop")
    say("run", "shop/workflow.py:support", "shop/tasks.jsonl", "--config", "shop/orchestrion.yaml", "--batch", "one")
    say("tune", "--config", "shop/orchestrion.yaml", "--step", "triage")
    assert {one.worker for one in tuner.outcomes} == {"cheap", "frontier"}
    assert set(tuner.prices) == {"cheap", "frontier"}
    say("tune", "--config", "shop/orchestrion.yaml", "--batch", "none")
    assert tuner.outcomes == []
    assert "--batch" in say("tune", "records.jsonl", "--batch", "one", status=2)


def test_the_only_tag_needs_no_name(tuner, tmp_path):
    say("tune", "records.jsonl", "--per-tag")
    assert tuner.wish.per_tag == "topic"
    assert "records.jsonl is a file" in say("tune", "--per-tag", "records.jsonl", status=2)
    rows = [replace(one, tags={}) for one in ROWS]
    write_outcomes(tmp_path / "bare.jsonl", rows)
    assert "These records have none" in say("tune", "bare.jsonl", "--per-tag", status=2)
    write_outcomes(tmp_path / "two.jsonl", [*ROWS, replace(ROWS[0], tags={"user": "a"})])
    assert "several: topic, user" in say("tune", "two.jsonl", "--per-tag", status=2)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--target", "95"], "--target 95: this is a share, above 0 and at most 1. For 95 % write 0.95."),
        (["--target", "0"], "--target 0"),
        (["--target", "nan"], "--target nan"),
        (["--target", "-1"], "--target -1"),
        (["--confidence", "1"], "--confidence 1: some tasks cannot show"),
        (["--share", "90"], "For 90 % write 0.9."),
        (["--max-cost", "2000"], "--max-cost 2000"),
        (["--max-cost", "0.1", "--share", "0.9"], "Give one"),
        (["--workers", "cheap,,frontier"], "a comma between"),
        (["--workers", ""], "a comma between"),
        (["--workers", "cheap,cheap"], "twice"),
        (["--out", "no/such/policy.json"], "there is no folder no/such"),
        (["--report", "."], "this is a folder"),
        (["--labels-out", "labels.csv"], "--label-next 20"),
        (["--label-next", "3", "--labels-out", "labels.xlsx"], "a .csv"),
        (["--label-next", "3", "--labels-out", "labels.csv", "records.jsonl"], "one records file"),
        (["--batch-size", "0"], "x>=1"),
    ],
)
def test_bad_options_are_refused_before_the_search(tuner, options, said):
    assert said in say("tune", "records.jsonl", *options, status=2)
    assert not hasattr(tuner, "wish")


@pytest.mark.parametrize("name", ["numpy", "scipy.stats", "sklearn"])
def test_without_its_libraries_the_way_out_is_said(tuner, monkeypatch, name):
    class Missing:
        @property
        def tune(self):
            raise ModuleNotFoundError(f"No module named '{name}'", name=name)

        certify = tune

    monkeypatch.setitem(sys.modules, "orchestrion.tuning.tune", Missing())
    assert "pip install 'orchestrion[tune]'" in say("tune", "records.jsonl", status=2)


def test_the_help_loads_no_statistics():
    code = (
        "import sys; from orchestrion.cli import cli\n"
        "for name in ('tune', 'certify'):\n    cli.main([name, '--help'], standalone_mode=False)\n"
        "sys.exit(str({'numpy', 'scipy', 'sklearn'} & set(sys.modules) or ''))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr.strip() == "", done.stderr


# What is said


def test_the_text_says_feasibility_first_and_then_the_promise(tuner):
    said = say("tune", "records.jsonl").stdout
    lines = said.splitlines()
    assert lines[0].startswith("120 labelled tasks; at least 50 are needed for 0.95 with confidence 0.9")
    assert (
        "30 of them chose the policy, 90 others tested it. Of 40 more tasks, without a label or picked to get one, 29"
        in lines[0]
    )
    assert lines[2] == "Certified: the mean quality is at least 0.95 of the frontier's, with confidence 0.9."
    assert lines[3] == "The policy: Ask cheap twice. Where both answers agree, accept them; else ask frontier."
    assert lines[4] == "  quality  98.1% of frontier's (95% interval: 95.3% to 100.4%)"
    assert lines[5] == "  cost     36.2% of frontier's (95% interval: 31.1% to 42.0%); $0.0000481 a task"
    assert lines[6].startswith("  saving   76% of what could be saved")
    assert "  0.95 on 0.9 of tasks  no: 260 labels   100.0%  100.0%" in said
    assert "\nWhat would make it better\n  - Label 140 more" in said
    assert "\nAbout the records\n  - 3 tasks lack" in said
    assert "nan" not in said.lower()


def test_what_is_not_certified_says_why_and_is_no_failure(tuner):
    tuner.found = replace(TUNED, promises=(REFUSED, CERTIFIED))
    said = say("tune", "records.jsonl", "--share", "0.9").stdout
    assert "Not certified: on at least 0.9 of the tasks the answer is worth 0.95 of the frontier's" in said
    assert f"Why: {REFUSED.reason} About 260 labelled tasks would probably do.\n" in said
    assert "The policy: Ask frontier for every task." in said


def test_a_price_at_which_nothing_can_be_promised_is_said(tuner):
    tuner.found = replace(TUNED, promises=(replace(REFUSED, target=Target(quality=-0.0)), CERTIFIED))
    said = say("tune", "records.jsonl", "--max-cost", "0.01").stdout
    assert "at least 50 are needed for a promise with confidence 0.9" in said
    assert "Not certified: no quality can be promised at this cost." in said
    assert "  best at this cost  no: 260" in said


def test_a_policy_of_chance_is_called_so(tuner):
    tuner.found = replace(TUNED, promises=(MIXED,))
    said = say("tune", "records.jsonl").stdout
    assert "  chance   the policy tosses a coin for each task" in said
    assert "side by side" not in said


def test_each_tag_value_has_a_row(tuner):
    tuner.found = replace(TUNED, promises=(replace(CERTIFIED, by_tag=BY_TAG),))
    said = say("tune", "records.jsonl", "--per-tag").stdout
    assert "  refund    yes           70    99.0%   21.0%" in said
    found = json.loads(say("tune", "records.jsonl", "--per-tag", "--json").stdout)
    assert found["by_tag"]["delivery"] == {
        "certified": False,
        "tasks": 50,
        "quality_ratio": 1.0,
        "cost_ratio": 1.0,
        "words": "Ask frontier.",
    }


def test_the_json_has_what_programs_need(tuner):
    tuner.found = replace(TUNED, label_next=TO_LABEL)
    found = strict_json(say("tune", "records.jsonl", "--json").stdout)
    assert {name: found[name] for name in ("certified", "target", "confidence", "labels", "frontier", "workers")} == {
        "certified": True,
        "target": 0.95,
        "confidence": 0.9,
        "labels": 120,
        "frontier": "frontier",
        "workers": ["cheap", "frontier"],
    }
    assert (found["quality_ratio"], found["quality_interval"]) == (0.981, [0.953, 1.004])
    assert (found["cost_ratio"], found["cost_usd_per_task"], found["captured"]) == (0.362, 0.0000481, 0.758)
    assert (found["n_min"], found["fit"], found["certify"], found["seed"]) == (50, 30, 90, 0)
    assert found["policy"]["policy"] == "cascade"
    assert found["reason"] is None
    assert [one["certified"] for one in found["promises"]] == [True, True, False]
    assert found["promises"][2]["reason"] == REFUSED.reason
    assert found["label_next"][0] == {
        "workload": "demo",
        "task_id": "t121",
        "probability": 0.25,
        "why": "cheap and frontier answer differently",
    }
    assert found["notes"] == list(TUNED.notes)
    assert found["advice"] == list(TUNED.advice)


def test_what_is_no_number_is_null_in_json_and_a_dash_in_text(tuner):
    unknown = Interval(math.nan, -math.inf, math.inf)
    promise = replace(CERTIFIED, cost_ratio=unknown, cost=math.nan, captured=math.inf, p_value=math.nan)
    tuner.found = replace(TUNED, promises=(promise, promise), oracle=replace(TUNED.oracle, cost=math.nan))
    found = strict_json(say("tune", "records.jsonl", "--json").stdout)
    assert (found["cost_ratio"], found["cost_interval"], found["captured"]) == (None, [None, None], None)
    assert (found["p_value"], found["oracle"]["cost"]) == (None, None)
    said = say("tune", "records.jsonl").stdout
    assert "an unknown share of frontier's" in said
    assert "nan" not in said.lower()
    assert "inf" not in said.lower()


def test_a_window_of_eighty_columns_is_enough():
    found = replace(TUNED, label_next=TO_LABEL)
    for line in tuned_lines(found, wide=80, shown=dollars):
        assert len(unstyle(line)) <= 80, line


# Files


def test_out_writes_the_policy_with_its_certificate(tuner, tmp_path):
    said = say("tune", "records.jsonl", "--out", "tuned.json")
    assert "tuned.json: the policy with its certificate." in said.stderr
    saved = read_policy(tmp_path / "tuned.json")
    assert (saved.policy, saved.certificate) == (TWICE, CERTIFICATE)
    tuner.found = replace(TUNED, promises=(REFUSED,))
    assert "without a certificate" in say("tune", "records.jsonl", "--out", "tuned.json").stderr
    assert read_policy(tmp_path / "tuned.json").certificate is None


def test_quiet_and_json_say_nothing_beside(tuner):
    done = say("tune", "records.jsonl", "--json", "--quiet", "--out", "tuned.json")
    assert done.stderr == ""
    assert json.loads(done.stdout)["certified"]


def test_labels_go_out_as_a_sheet_and_come_back_with_their_chance(tuner, tmp_path):
    tuner.found = replace(TUNED, label_next=TO_LABEL)
    said = say("tune", "records.jsonl", "--label-next", "2", "--labels-out", "labels.csv")
    assert "  t121  cheap and frontier answer differently      0.25" in said.stdout
    then = "orchestrion outcomes label --records records.jsonl --in labels.csv"
    assert f"labels.csv: 4 answers. Fill in score or reference, save it as CSV, then: {then}" in said.stderr
    text = (tmp_path / "labels.csv").read_bytes().decode("utf-8-sig")
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    assert [(row["task"], row["sampled"]) for row in rows] == [("t121", "0.25")] * 2 + [("t125", "1")] * 2
    for row in rows:
        row["score"] = "1"
        row["sampled"] = row["sampled"].replace(".", ",")  # as a German spreadsheet saves it
    with (tmp_path / "labels.csv").open("w", newline="") as file:
        sheet = csv.DictWriter(file, list(rows[0]), delimiter=";")
        sheet.writeheader()
        sheet.writerows(rows)
    say(*then.split()[1:])
    labelled = [one for one in read_outcomes([tmp_path / "records.jsonl"]) if one.label_source == "person"]
    assert [(one.task_id, one.score, one.label_probability) for one in labelled] == [
        ("t121", 1.0, 0.25),
        ("t121", 1.0, 0.25),
        ("t125", 1.0, 1.0),
        ("t125", 1.0, 1.0),
    ]


def test_labels_of_the_project_come_back_into_its_database(tuner, tmp_path, monkeypatch):
    say("init", "shop")
    monkeypatch.chdir(tmp_path / "shop")
    say("run", "workflow.py:support", "tasks.jsonl")
    workload = next(read_outcomes([_exported(tmp_path)])).workload
    tuner.found = replace(
        TUNED, label_next=(replace(TO_LABEL[0], workload=workload, task_id="ticket-02", probability=1 / 3),)
    )
    say("tune", "--step", "triage", "--label-next", "1", "--labels-out", "labels.csv")
    rows = list(csv.DictReader(io.StringIO((tmp_path / "shop/labels.csv").read_text("utf-8-sig"), newline="")))
    assert {(row["task"], row["step"], row["sampled"]) for row in rows} == {("ticket-02", "triage", "0.333333333")}
    rows[0]["score"] = "0"
    with (tmp_path / "shop/labels.csv").open("w", newline="") as file:
        sheet = csv.DictWriter(file, list(rows[0]))
        sheet.writeheader()
        sheet.writerows(rows)
    say("outcomes", "label", "--in", "labels.csv", "--by", "ana")
    labelled = [one for one in read_outcomes([_exported(tmp_path)]) if one.label_probability is not None]
    assert [(one.task_id, one.score, one.label_probability) for one in labelled] == [("ticket-02", 0.0, 0.333333333)]


def _exported(folder):
    say("outcomes", "export", folder / "out.jsonl")
    return folder / "out.jsonl"


def test_tasks_without_texts_go_out_as_ids(tuner, tmp_path):
    tuner.found = replace(TUNED, label_next=TO_LABEL)
    write_outcomes(tmp_path / "bare.jsonl", [replace(one, output=None) for one in ROWS])
    said = say("tune", "bare.jsonl", "--label-next", "2", "--labels-out", "labels.csv", status=2)
    assert "no texts of these answers" in said
    say("tune", "bare.jsonl", "--label-next", "2", "--labels-out", "labels.jsonl")
    lines = [json.loads(line) for line in (tmp_path / "labels.jsonl").read_text().splitlines()]
    assert [(one["task_id"], one["probability"]) for one in lines] == [("t121", 0.25), ("t125", 1.0)]


# certify


def test_a_policy_is_tested_by_its_own_certificate(tuner, tmp_path):
    write_policy(tmp_path / "tuned.json", SavedPolicy(TWICE, (), "tuned", certificate=CERTIFICATE))
    tuner.promise = replace(CERTIFIED, certificate=replace(CERTIFICATE, certified_on=6))
    said = say("certify", "tuned.json", "records.jsonl").stdout
    assert (tuner.target, tuner.frontier) == (CERTIFICATE.target, "frontier")
    assert tuner.saved.policy == TWICE
    assert tuner.outcomes == ROWS
    assert "6 labelled tasks" in said
    assert "2 tasks left out: the policy was chosen or certified on them." in said  # t118 and t119
    assert "Certified: the mean quality is at least 0.95" in said
    found = strict_json(say("certify", "tuned.json", "records.jsonl", "--json").stdout)
    assert (found["certified"], found["left_out"], found["labels"], found["frontier"]) == (True, 2, 6, "frontier")


def test_options_of_certify_go_before_its_certificate(tuner, tmp_path):
    write_policy(tmp_path / "tuned.json", SavedPolicy(TWICE, (), "tuned", certificate=CERTIFICATE))
    options = ("--target", "0.9", "--confidence", "0.8", "--share", "0.7", "--frontier", "cheap", "--group-by", "user")
    say("certify", "tuned.json", "records.jsonl", *options)
    assert tuner.target == Target(kind="share", quality=0.9, share=0.7, confidence=0.8)
    assert tuner.frontier == "cheap"
    assert tuner.options["group_by"] == "user"


def test_a_policy_without_a_certificate_is_tested_at_the_defaults(tuner, tmp_path):
    write_policy(tmp_path / "plain.json", SavedPolicy(TWICE, (), "plain"))
    say("certify", "plain.json", "records.jsonl")
    assert (tuner.target, tuner.frontier) == (Target(quality=0.95, confidence=0.9), None)


def test_certify_writes_what_was_certified_and_nothing_else(tuner, tmp_path):
    write_policy(tmp_path / "plain.json", SavedPolicy(TWICE, (), "plain"))
    say("certify", "plain.json", "records.jsonl", "--out", "new.json")
    assert read_policy(tmp_path / "new.json").certificate == CERTIFICATE
    tuner.promise = REFUSED
    done = say("certify", "plain.json", "records.jsonl", "--out", "none.json")
    assert "none.json was not written: nothing was certified." in done.stderr
    assert not (tmp_path / "none.json").exists()


def test_certify_names_what_is_not_there(tuner, tmp_path):
    assert "cannot be read" in say("certify", "nope.json", "records.jsonl", status=2)
    assert "no policy is called 'nope'" in say("certify", "nope", "records.jsonl", status=2)
    write_policy(tmp_path / "plain.json", SavedPolicy(TWICE, (), "plain"))
    assert "nope.jsonl cannot be read" in say("certify", "plain.json", "nope.jsonl", status=2)


@pytest.mark.parametrize("command", [("tune",), ("certify", "policy.json")])
def test_a_seed_is_no_negative_number(tuner, tmp_path, command):
    write_policy(tmp_path / "policy.json", SavedPolicy(CERTIFIED.policy))
    assert "-3 is not in the range x>=0" in say(*command, "records.jsonl", "--seed", "-3", status=2)


def test_the_fewest_labels_of_a_search_for_the_best_quality_are_of_no_certain_quality():
    lines = list(tuned_lines(replace(TUNED, max_cost=0.5), wide=0, shown=dollars))
    assert "are needed for a promise with confidence" in lines[0]


def test_a_number_that_json_does_not_have_is_named(tmp_path):
    file = tmp_path / "nan.jsonl"
    file.write_text('{"task_id": "a", "worker": "b", "score": NaN}\n')
    assert "JSON has no NaN" in say("tune", file, status=2)


def test_tasks_of_another_workload_do_not_count_as_left_out(tuner, tmp_path, monkeypatch):
    used = replace(CERTIFICATE, fitted=(task_digest("t119"),))
    write_policy(tmp_path / "policy.json", SavedPolicy(CERTIFIED.policy, certificate=used))

    def certify(saved, outcomes, target, **options):
        list(outcomes)
        return CERTIFIED

    monkeypatch.setitem(sys.modules, "orchestrion.tuning.certify", SimpleNamespace(certify=certify))
    here = strict_json(say("certify", "policy.json", "records.jsonl", "--workload", "demo", "--json").stdout)
    there = strict_json(say("certify", "policy.json", "records.jsonl", "--workload", "other", "--json").stdout)
    assert (here["left_out"], there["left_out"]) == (1, 0)
