"""Labels through a spreadsheet's CSV: out, filled in as spreadsheets save it, and back in."""

from __future__ import annotations

import csv
import io
import json
import random
import subprocess
import sys

import pytest

from orchestrion import Orchestrion, Step, cascade
from orchestrion.app import as_workflow
from orchestrion.domain import Outcome
from orchestrion.engine.workflow import Start
from orchestrion.evidence.content import Content
from orchestrion.evidence.labelling import draw, items_in, items_of
from orchestrion.evidence.labels import Labels, same
from orchestrion.evidence.records import read_outcomes, write_outcomes
from orchestrion.testing import ScriptedWorker

NASTY = "=cmd|' /C calc'!A0\n\"quoted\"; with, both\tseparators and ümläut 中 – dash"


def refuse_cheap(text):
    return "too cheap" if text.startswith("cheap") else None


city = Step("city", "Which city?", policy=cascade("cheap", "frontier"), checks=[refuse_cheap])


@pytest.fixture
async def project(tmp_path):
    """Six tasks, each answered by two workers, in a folder with settings; the command runs there."""
    (tmp_path / "orchestrion.yaml").write_text("database: sqlite:///o.db\n")
    cheap = ScriptedWorker("cheap", lambda request: f"cheap {request.messages[-1]['content']}")
    frontier = ScriptedWorker("frontier", lambda request: NASTY if "t0" in request.task_id else "true")
    async with Orchestrion.open(tmp_path / "orchestrion.yaml", workers=[cheap, frontier]) as o:
        flow = as_workflow(city)
        starts = [Start(id=f"b/t{i}", task_id=f"t{i}", input=f"question {i}", batch="b") for i in range(6)]
        assert [run.status async for run in o.run_all(flow, starts)] == ["done"] * 6
    return tmp_path


def command(folder, *arguments, status=0):
    done = subprocess.run(
        [sys.executable, "-m", "orchestrion", "outcomes", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Traceback" not in done.stderr, done.stderr
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout + done.stderr


def sheet(folder, name="labels.csv"):
    return list(csv.DictReader(io.StringIO((folder / name).read_bytes().decode("utf-8-sig"), newline="")))


def save(folder, rows, *, encoding="utf-8-sig", separator=",", columns=None, newline="\r\n", name="labels.csv"):
    """As a spreadsheet would save it."""
    file = io.StringIO(newline="")
    writer = csv.DictWriter(
        file,
        columns or list(rows[0]),
        delimiter=separator,
        lineterminator=newline,
        extrasaction="ignore",
        quoting=csv.QUOTE_ALL,
    )
    writer.writeheader()
    writer.writerows(rows)
    (folder / name).write_bytes(file.getvalue().encode(encoding, "replace"))


def exported(folder):
    command(folder, "export", "out.jsonl")
    return list(read_outcomes([folder / "out.jsonl"]))


def scores(folder):
    return {(one.task_id, one.worker): one.score for one in exported(folder) if one.score is not None}


def test_the_sheet_that_is_written(project):
    said = command(project, "label", "--out", "labels.csv")
    assert "12 answers to 6 of 6 tasks" in said
    data = (project / "labels.csv").read_bytes()
    assert data.startswith(b"\xef\xbb\xbfid,task,step,worker,input,output,score,reference,comment,sampled\r\n")
    rows = sheet(project)
    assert {row["worker"] for row in rows} == {"cheap", "frontier"}
    assert {row["sampled"] for row in rows} == {"6 of 6"}
    assert len({row["id"] for row in rows}) == 12
    [nasty] = [row for row in rows if "calc" in row["output"]]
    assert nasty["output"] == f"'{NASTY}"  # no spreadsheet takes it for a formula
    assert all(not value.startswith(("=", "+", "-", "@")) for row in rows for value in row.values())
    command(project, "label", "--out", "blind.csv", "--blind")
    assert "worker" not in sheet(project, "blind.csv")[0]
    assert "frontier" not in (project / "blind.csv").read_text(encoding="utf-8-sig")


async def test_a_sheet_of_several_steps_does_not_call_each_a_task(project):
    async with Orchestrion.open(project / "orchestrion.yaml", workers=[ScriptedWorker("w", lambda _: "Vienna")]) as o:
        await o.run(Step("capital", policy="w"), "Austria", id="r")
    assert "13 answers to 7 of 7 questions (a step of a task)" in command(project, "label", "--out", "labels.csv")
    assert "12 answers to 6 of 6 tasks" in command(project, "label", "--out", "labels.csv", "--step", "city")


def test_scores_and_references_come_back(project):
    command(project, "label", "--out", "labels.csv")
    rows = sheet(project)
    for row in rows:
        if row["task"] == "t1" and row["worker"] == "frontier":
            row["score"], row["comment"] = "0,5", "half of it; süß"
        if row["task"] == "t2" and row["worker"] == "cheap":
            row["reference"] = "TRUE"  # as a spreadsheet writes true
    save(project, rows)
    said = command(project, "label", "--in", "labels.csv", "--by", "ana")
    assert "1 scores and 1 references are new or changed, 0 rows are as before, 9 without a label" in said
    assert scores(project) == {("t1", "frontier"): 0.5, ("t2", "cheap"): 0.0, ("t2", "frontier"): 1.0}
    labelled = [one for one in exported(project) if one.score is not None]
    assert {one.label_source for one in labelled} == {"person"}
    assert {one.label_probability for one in labelled} == {1.0}
    assert {one.reference for one in labelled if one.task_id == "t2"} == {"TRUE"}
    again = command(project, "label", "--in", "labels.csv", "--by", "ana")
    assert "0 scores and 0 references are new or changed" in again
    command(project, "label", "--out", "again.csv")  # filled in with what is known
    save(project, sheet(project, "again.csv"), name="again.csv")
    assert "0 scores and 0 references" in command(project, "label", "--in", "again.csv", "--by", "ben")
    assert command(project, "label", "--history").count("ana") == 2


def test_a_label_that_changes_keeps_its_history(project):
    command(project, "label", "--out", "labels.csv")
    for value, who in (("0", "ana"), ("1", "ben"), ("-", "ana")):
        rows = [{"id": row["id"], "score": value} for row in sheet(project) if row["task"] == "t3"][:1]
        save(project, rows, name="one.csv")
        command(project, "label", "--in", "one.csv", "--by", who)
    history = command(project, "label", "--history").splitlines()
    assert [(line.split()[2], line.rpartition(": ")[2]) for line in history] == [
        ("ana", "score 0"),
        ("ben", "score 1"),
        ("ana", "no score"),
    ]
    assert scores(project) == {}


def test_a_reference_can_be_changed_in_one_row_of_its_task(project):
    command(project, "label", "--out", "labels.csv")
    for reference, expected in (("wrong", 0.0), ("true", 1.0), ("-", None)):
        rows = sheet(project)
        next(row for row in rows if row["task"] == "t4")["reference"] = reference
        save(project, rows)
        command(project, "label", "--in", "labels.csv")
        assert scores(project).get(("t4", "frontier")) == expected
        command(project, "label", "--out", "labels.csv")


@pytest.mark.parametrize(
    ("encoding", "separator", "newline", "said"),
    [
        ("utf-8-sig", ",", "\r\n", "read as UTF-8, separated by ','"),
        ("utf-8", ";", "\n", "read as UTF-8, separated by ';'"),
        ("cp1252", ";", "\r\n", "read as Windows-1252 (guessed: it is not UTF-8), separated by ';'"),
        ("utf-16", "\t", "\r\n", "read as UTF-16, separated by a tab"),
        ("utf-16-le", "\t", "\r\n", "read as UTF-16 (guessed), separated by a tab"),
        ("latin-1", ",", "\r", "read as Windows-1252 (guessed: it is not UTF-8), separated by ','"),
    ],
)
def test_as_spreadsheets_save_it(project, encoding, separator, newline, said):
    """Other encodings, separators, line ends and orders of columns; rows missing, columns added; quoted line breaks stay."""
    command(project, "label", "--out", "labels.csv")
    rows = sheet(project)[2:]
    rows[0]["reference"], rows[0]["comment"] = "süß\nin zwei Zeilen", "größer"
    rows[-1]["score"] = "WAHR"
    for row in rows:
        row["My notes"] = "ä"
    columns = ["My notes", "Score", "comment", "reference", "output", "id"]
    rows = [{**row, "Score": row["score"]} for row in rows]
    save(project, rows, encoding=encoding, separator=separator, newline=newline, columns=columns)
    assert said in command(project, "label", "--in", "labels.csv", "--by", "ana")
    assert scores(project)[rows[-1]["task"], rows[-1]["worker"]] == 1.0
    [reference] = {one.reference for one in exported(project) if one.task_id == rows[0]["task"]}
    assert reference == "süß\nin zwei Zeilen"
    assert "(größer)" in command(project, "label", "--history")


def test_excels_own_first_line(project):
    command(project, "label", "--out", "labels.csv")
    rows = sheet(project)
    rows[0]["score"] = "100%"
    save(project, rows, separator=";", encoding="utf-8")
    (project / "labels.csv").write_bytes(b"sep=;\r\n" + (project / "labels.csv").read_bytes())
    command(project, "label", "--in", "labels.csv")
    assert list(scores(project).values()) == [1.0]


@pytest.mark.parametrize(
    "score", ["2", "-1", "1,5", "maybe", "nan", "inf", "0.5.5", "1e-1", "01.02.2026", "=1", "150%"]
)
def test_a_score_that_is_none(project, score):
    command(project, "label", "--out", "labels.csv")
    rows = sheet(project)
    rows[0]["score"], rows[4]["score"] = "1", score
    save(project, rows)
    said = command(project, "label", "--in", "labels.csv", status=2)
    assert f"row 6, column score: {score!r}: a number from 0 (wrong) to 1 (right), TRUE, FALSE, or -" in said
    assert "1 cells cannot be used, and nothing was changed" in said
    assert scores(project) == {}  # nothing is half applied
    said = command(project, "label", "--in", "labels.csv", "--skip-bad")
    assert "skipped: labels.csv: row 6" in said
    assert list(scores(project).values()) == [1.0]


def test_a_number_that_slipped_into_two_cells_is_no_label(project):
    """0,5 typed into a file that commas separate is a score of 0 and a right answer 5, unless somebody looks."""
    command(project, "label", "--out", "labels.csv")
    rows = sheet(project)
    save(project, [{**row, "score": "HALF"} for row in rows])
    text = (project / "labels.csv").read_bytes()
    (project / "labels.csv").write_bytes(text.replace(b'"HALF"', b"0,5"))
    said = command(project, "label", "--in", "labels.csv", status=2)
    assert "row 2, column (behind the last): " in said
    assert "this row has more cells than there are columns" in said
    assert scores(project) == {}


def test_rows_that_contradict_each_other(project):
    command(project, "label", "--out", "labels.csv")
    rows = sheet(project)
    pair = [row for row in rows if row["task"] == "t2"]
    pair[0]["reference"], pair[1]["reference"] = "one", "other"
    rows.append({**rows[0], "score": "1"})
    rows.append({"id": "a0123456789abcde"})
    save(project, rows)
    said = command(project, "label", "--in", "labels.csv", status=2)
    assert "has another right answer for the same task and step ('one')" in said
    assert "row 2 is about the same answer and says something else" in said
    assert "row 15, column id: 'a0123456789abcde': no answer has this id here" in said
    assert "3 cells cannot be used" in said


def test_a_sheet_of_another_database_is_refused(project, tmp_path):
    command(project, "label", "--out", "labels.csv")
    rows = sheet(project)
    for row in rows:
        row["score"] = "1"
    save(project, rows)
    other = tmp_path / "other"
    other.mkdir()
    (other / "orchestrion.yaml").write_text("database: sqlite:///o.db\n")
    (other / "flow.py").write_text(
        "from orchestrion import Step\nfrom orchestrion.workers.function import FunctionWorker\n"
        "city = Step('city', policy='cheap', workers=[FunctionWorker('cheap', str.upper)])\n"
    )
    (other / "tasks.jsonl").write_text('{"id": "t0", "input": "question 0"}\n')
    run = [sys.executable, "-m", "orchestrion", "run", "flow.py:city", "tasks.jsonl", "-q"]
    subprocess.run(run, cwd=other, check=True, capture_output=True)
    said = command(other, "label", "--in", str(project / "labels.csv"), status=2)
    assert "12 cells cannot be used, and nothing was changed" in said


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "has the columns (none); it needs 'id', and 'score' or 'reference'"),
        (b"task,score\nt1,1\n", "has the columns task, score; it needs 'id'"),
        (b"id,score,Score\n", "two columns are called 'score'"),
        (b'id,score\na1,"1\n', "row 2: this is not CSV"),
        (b"PK\x03\x04 and so on", "is a spreadsheet's own file, not CSV. Save it as CSV (UTF-8)"),
        (bytes(random.Random(7).randbytes(4000)), "labels.csv"),
    ],
)
def test_what_is_no_sheet(project, data, said):
    (project / "labels.csv").write_bytes(data)
    assert said in command(project, "label", "--in", "labels.csv", status=2)


def test_wrong_usage(project):
    assert "either --out" in command(project, "label", status=2)
    assert "either --out" in command(project, "label", "--out", "a.csv", "--in", "b.csv", status=2)
    assert "cannot be read: No such file" in command(project, "label", "--in", "nowhere.csv", status=2)
    assert "cannot be written" in command(project, "label", "--out", "no/where.csv", status=2)
    assert "no answer to label" in command(project, "label", "--out", "a.csv", "--step", "nothing", status=2)


async def test_a_sample_is_uniform_over_tasks_and_grows(open_app):
    """Tasks with ten answers are as likely as tasks with one; a larger sample holds the smaller one."""
    rows = [
        Outcome(workload="w", step="s", task_id=f"t{t}", worker="w", sample=i, output="x")
        for t in range(40)
        for i in range(10 if t % 2 else 1)
    ]
    drawn = [draw(lambda: items_in(rows), sample=10, seed=seed) for seed in range(400)]
    assert {one.chosen for one in drawn} == {10}
    assert {one.questions for one in drawn} == {40}
    odd = [len({item.question for item in one.items if int(item.question.digest[1:]) % 2}) for one in drawn]
    assert 4.7 < sum(odd) / len(odd) < 5.3
    more = draw(lambda: items_in(rows), sample=20, seed=0)
    assert {item.id for item in drawn[0].items} < {item.id for item in more.items}


async def test_what_redaction_and_digests_do_to_a_sheet(project):
    (project / "orchestrion.yaml").write_text("database: sqlite:///o.db\nredact: ['question \\d']\n")
    command(project, "label", "--out", "labels.csv")
    assert {row["input"] for row in sheet(project)} == {"[redacted]"}
    rows = sheet(project)
    for row in rows:
        row["reference"] = "cheap question 1" if row["task"] == "t1" else ""
        row["comment"] = "about question 1"
    save(project, rows)
    said = command(project, "label", "--in", "labels.csv")
    assert "1 answers cannot be compared" in said or scores(project)[("t1", "frontier")] == 0.0
    data = (project / "o.db").read_bytes()
    assert b"question 1" not in data
    (project / "orchestrion.yaml").write_text("database: sqlite:///o.db\nrecord: none\n")
    assert "record: none in the settings keeps no texts" in command(project, "label", "--out", "x.csv", status=2)


async def test_a_score_from_a_reference_outlives_both_texts(project):
    command(project, "label", "--out", "labels.csv")
    rows = sheet(project)
    for row in rows:
        row["reference"] = "true" if row["task"] == "t5" else ""
        row["comment"] = "SECRET comment" if row["task"] == "t5" else ""
    save(project, rows)
    command(project, "label", "--in", "labels.csv")
    before = scores(project)
    assert before == {("t5", "cheap"): 0.0, ("t5", "frontier"): 1.0}
    for record in ("digest", "none"):
        (project / "orchestrion.yaml").write_text(f"database: sqlite:///o.db\nrecord: {record}\n")
        assert scores(project) == before
    assert b"SECRET" not in (project / "o.db").read_bytes()


def test_labels_in_a_records_file(tmp_path):
    """Imported logs have no database: the file itself takes the labels."""
    rows = [
        Outcome(workload="w", task_id=f"t{i}", worker=worker, output=f"{worker} {i}", selected_by="import")
        for i in range(4)
        for worker in ("a", "b")
    ]
    write_outcomes(tmp_path / "logs.jsonl", rows)
    command(tmp_path, "label", "--records", "logs.jsonl", "--out", "labels.csv")
    filled = sheet(tmp_path)
    for row in filled:
        if row["task"] == "t1":
            row["reference"] = "a 1"
        if row["task"] == "t2" and row["worker"] == "b":
            row["score"] = "0.25"
    save(tmp_path, filled)
    command(tmp_path, "label", "--records", "logs.jsonl", "--in", "labels.csv")
    found = list(read_outcomes([tmp_path / "logs.jsonl"]))
    assert {(o.task_id, o.worker): o.score for o in found if o.score is not None} == {
        ("t1", "a"): 1.0,
        ("t1", "b"): 0.0,
        ("t2", "b"): 0.25,
    }
    assert "0 scores and 0 references" in command(tmp_path, "label", "--records", "logs.jsonl", "--in", "labels.csv")
    (tmp_path / "policy.json").write_text(json.dumps({"format": "orchestrion/policy/1", "policy": "a"}))
    replayed = subprocess.run(
        [sys.executable, "-m", "orchestrion", "replay", "logs.jsonl", "--policy", "policy.json", "--json"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert json.loads(replayed.stdout)["quality"] == 1.0, replayed.stderr


@pytest.mark.parametrize(
    ("answer", "truth", "right"),
    [
        ("Vienna", " Vienna\n", True),
        ("Vienna", "vienna", False),
        ('{"a": 1, "b": [true]}', '{"b":[true],"a":1}', True),
        ('{"a":1}', {"a": 1}, True),
        ("true", "TRUE", True),
        ("true", True, True),
        ("true", "1", False),
        ("5", "5.0", True),
        ("5", 5, True),
        ("007", "7", False),
        ('"5"', "5", False),
    ],
)
def test_what_is_the_same_answer(answer, truth, right):
    assert same(answer, truth) is right


async def test_what_checks_ask_is_not_shown(open_app):
    from orchestrion.domain import Verdict

    class Judge:
        name = "judge"

        async def __call__(self, task, attempts, ask):
            await ask("judge", ({"role": "user", "content": "is it?"},))
            return Verdict("judge", True, 1.0)

    step = Step("s", policy="w", checks=[Judge()])
    workers = ScriptedWorker("w", ["x"]), ScriptedWorker("judge", ["yes"])
    async with open_app(*workers) as o:
        assert (await o.run(step, "q", id="r")).status == "done"
        assert [item.outcome.worker for item in items_of(o.database, Content())] == ["w"]
        assert Labels.read(o.database).all == []
