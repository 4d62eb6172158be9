"""What of the texts is on the disk, and when: strings are planted everywhere, and looked for in the raw files."""

from __future__ import annotations

import logging
import re
import subprocess
import sys
import time

import apsw
import pytest

from orchestrion import Orchestrion, Step, corrected, gather, wait_for, workflow
from orchestrion.cli.load import load_workflow
from orchestrion.domain import Reply, Usage
from orchestrion.engine.workflow import Start
from orchestrion.errors import RunError, SettingsError, WorkerFailed
from orchestrion.evidence.redaction import PATTERNS, Redaction
from orchestrion.settings import REDACTIONS, Settings
from orchestrion.testing import ScriptedWorker
from tests.conftest import kinds

LONG = "and so on. " * 300  # long enough to be compressed, and to fill pages


def quotes(text):
    return f"REASON-{text}" if "refused" in text else None


first = Step("first", policy=corrected("w"), checks=[quotes])
second = Step("second", policy="w")
fails = Step("fails", policy="broken")


@workflow
async def flow(text: str) -> str:
    """Plants a text wherever one can be: input, corrections, answers, reasons, a signal, a failure, a result."""
    found = await first(text)
    both = await gather(second(found), second(found + "!"))
    said = await wait_for("go") if "wait" in text else ""
    if "fail" in text:
        await fails(text)
    return both[0] + said


def workers():
    def answer(request):
        return "PLANT-refused" if request.context is None and request.step == "first" else f"PLANT-answer {LONG}"

    def broken(request):
        raise WorkerFailed("http_500", f"PLANT-server {request.messages[-1]['content']}")

    return ScriptedWorker("w", answer), ScriptedWorker("broken", broken)


def raw(database):
    """Every byte of the database's files."""
    return b"".join(file.read_bytes() for file in sorted(database.parent.glob(database.name + "*")) if file.is_file())


def values(database):
    """Every value of its rows, unpacked."""
    from orchestrion.journal.codec import unpack

    connection = apsw.Connection(str(database))
    tables = [name for (name,) in connection.execute("select name from sqlite_master where type = 'table'")]
    found = []
    for table in tables:
        for row in connection.execute(f"select * from {table}"):
            found += [unpack(value) if isinstance(value, bytes) else value for value in row]
    connection.close()
    return repr(found)


def planted(database):
    return {
        word for word in ("PLANT", "REASON") if word.encode() in raw(database) or word in values(database)
    }  # compressed texts are only in the values


@pytest.mark.parametrize(("record", "left"), [("full", {"PLANT", "REASON"}), ("digest", set()), ("none", set())])
async def test_no_text_of_ended_runs_is_on_the_disk(open_app, database, record, left):
    async with open_app(*workers(), record=record) as o:
        for i in range(40):
            assert (await o.run(flow, f"PLANT-prompt {i} {LONG[: i * 70]}", id=f"r{i}")).status == "done"
        failed = await o.run(flow, "PLANT-prompt fail", id="f")
        assert "PLANT-server" in str(failed.error)  # whoever ran it hears all of it
        waits = await o.run(flow, "PLANT-prompt wait", id="s")
        await o.signal("s", "go", "PLANT-signal")
        assert waits.status == "waiting"
        assert "PLANT-signal" in (await o.run(flow, "PLANT-prompt wait", id="s")).result
        assert kinds(o)["post"] > 100
    assert planted(database) == left


async def test_an_open_run_keeps_its_texts_and_cancelling_it_ends_that(open_app, database):
    async with open_app(*workers(), record="none") as o:
        assert (await o.run(flow, "PLANT-prompt wait", id="s")).status == "waiting"
    assert "PLANT" in values(database)  # without them it could not go on
    async with open_app(*workers(), record="none") as o:
        [asked, *_] = o.outcomes()
        assert (asked.prompt, asked.output, asked.score) == (None, None, None)  # but none of them leaves
        await o.cancel("s")
    assert planted(database) == set()


async def test_a_process_that_died_before_it_forgot_leaves_it_to_the_next(open_app, database):
    async with open_app(*workers()) as o:
        await o.run(flow, "PLANT-prompt", id="r")
    async with open_app(record="digest") as o:
        assert o.find("r", flow).status == "done"
    assert planted(database) == set()


async def test_scores_outlive_the_texts(open_app, database):
    start = Start(id="r", task_id="t", input="Austria?", reference="Vienna")
    city = Step("city", policy="w")
    for record in ("digest", "none"):
        async with open_app(ScriptedWorker("w", ["Vienna"]), record=record) as o:
            [run] = [run async for run in o.run_all(city, [start])]
            assert run.status == "done"
            [outcome] = o.outcomes()
            assert (outcome.score, outcome.label_source) == (1.0, "reference")
            assert outcome.output is None or outcome.output.startswith("blake2b:")
    assert b"Vienna" not in raw(database)


async def test_old_texts_go_after_their_days(open_app, database):
    async with open_app(*workers(), keep_days=30) as o:
        await o.run(flow, "PLANT-prompt fail", id="old")
        o.database.take("update run set updated = updated - 31 * 86400 returning no", ())
    assert planted(database) == {"PLANT", "REASON"}
    async with open_app(keep_days=30):
        pass
    assert planted(database) == set()


# A batch on the command line

PROJECT = """
from orchestrion import Step, workflow
from orchestrion.workers.function import FunctionWorker
say = Step("say", policy="w", workers=[FunctionWorker("w", lambda text: "PLANT " + text)])
@workflow
async def talk(text: str) -> str:
    return await say(text)
"""


def command(folder, *arguments, status=0):
    done = subprocess.run(
        [sys.executable, "-m", "orchestrion", *arguments], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == status, done.stderr
    assert "Traceback" not in done.stderr
    return done


def project(folder, settings):
    (folder / "flow.py").write_text(PROJECT)
    (folder / "orchestrion.yaml").write_text(settings)
    (folder / "tasks.jsonl").write_text('{"id": "a", "input": "one"}\n{"id": "b", "input": "two"}\n')


async def test_a_batch_keeps_its_results_until_they_are_in_the_file(tmp_path):
    """A process killed between a run's end and the results file must not have lost what was paid for."""
    project(tmp_path, "record: none\n")
    flow = load_workflow(str(tmp_path / "flow.py"))
    async with Orchestrion.open(tmp_path / "orchestrion.yaml") as o:  # as `run` does, and it dies before the file
        starts = [Start(id="talk:tasks/a", task_id="a", input="one", batch="talk:tasks")]
        flow.ref = "flow.py:talk"
        [run] = [run async for run in o.run_all(flow, starts)]
        assert "PLANT one" in run.result
    command(tmp_path, "run", "flow.py:talk", "tasks.jsonl")
    results = (tmp_path / "tasks.results.jsonl").read_text()
    assert "PLANT one" in results
    assert "PLANT two" in results
    assert planted(tmp_path / "orchestrion.db") == set()
    command(tmp_path, "run", "flow.py:talk", "tasks.jsonl")
    assert (tmp_path / "tasks.results.jsonl").read_text() == results  # what was handed over stays in the file
    (tmp_path / "tasks.results.jsonl").unlink()
    assert "2 results were not kept" in command(tmp_path, "run", "flow.py:talk", "tasks.jsonl").stderr


def test_results_that_are_nowhere_else_are_set_aside_and_not_overwritten(tmp_path):
    """Tomorrow's tasks under the same name, or another batch: the file was the only copy of what was paid for."""
    project(tmp_path, "record: none\n")
    command(tmp_path, "run", "flow.py:talk", "tasks.jsonl")
    first_day = (tmp_path / "tasks.results.jsonl").read_text()
    said = command(tmp_path, "run", "flow.py:talk", "tasks.jsonl", "--batch", "b").stderr
    assert "tasks.results.jsonl had results of other runs" in said
    assert "they are in tasks.results.1.jsonl now" in said
    assert (tmp_path / "tasks.results.1.jsonl").read_text() == first_day
    (tmp_path / "tasks.jsonl").write_text('{"id": "c", "input": "three"}\n')
    command(tmp_path, "run", "flow.py:talk", "tasks.jsonl", "--batch", "b")
    assert "PLANT one" in (tmp_path / "tasks.results.2.jsonl").read_text()
    assert "PLANT three" in (tmp_path / "tasks.results.jsonl").read_text()


def test_results_that_the_database_keeps_are_written_over(tmp_path):
    project(tmp_path, "record: full\n")
    command(tmp_path, "run", "flow.py:talk", "tasks.jsonl")
    command(tmp_path, "run", "flow.py:talk", "tasks.jsonl", "--batch", "b")
    assert not (tmp_path / "tasks.results.1.jsonl").exists()


def test_results_do_not_overwrite_the_tasks(tmp_path):
    project(tmp_path, "record: full\n")
    tasks = (tmp_path / "tasks.jsonl").read_text()
    done = command(tmp_path, "run", "flow.py:talk", "tasks.jsonl", "--out", "tasks.jsonl", status=2)
    assert "these are the tasks" in done.stderr
    assert (tmp_path / "tasks.jsonl").read_text() == tasks


# Redaction


async def test_redaction_is_put_on_what_stays_and_on_what_leaves(open_app, database):
    seen = []

    def answer(request):
        seen.append(request.messages[-1]["content"])
        return f"answer to {request.messages[-1]['content']}"

    async with open_app(ScriptedWorker("w", answer), redact=("email", r"A-\d+")) as o:
        run = await o.run(second, "write to ana@example.com about A-17", id="r")
        assert run.result == "answer to write to ana@example.com about A-17"  # the worker and the caller see all of it
        plain = await o.run(second, "nothing to hide", id="p")
        assert plain.status == "done"
        outcome, other = o.outcomes()
        assert (outcome.prompt, outcome.output) == (
            "write to [email] about [redacted]",
            "answer to write to [email] about [redacted]",
        )
        assert other.output == "answer to nothing to hide"
        assert o.find("p", second_flow()).result == "answer to nothing to hide"
        with pytest.raises(RunError, match=r"not kept \(record, redact and keep_days"):
            _ = o.find("r", second_flow()).result  # a redacted result never passes for the result
    assert seen == ["write to ana@example.com about A-17", "nothing to hide"]
    assert "ana@example.com" not in values(database)
    assert b"ana@example.com" not in raw(database)


def second_flow():
    from orchestrion.app import as_workflow

    return as_workflow(second)


async def test_a_waiting_run_goes_on_with_its_real_texts_under_redaction(open_app, database):
    @workflow
    async def waits(text: str) -> str:
        found = await second(text)
        await wait_for("go")
        return await second(found)

    worker = ScriptedWorker("w", lambda request: f"<{request.messages[-1]['content']}>")
    async with open_app(worker, redact=("email",)) as o:
        await o.run(waits, "ana@example.com", id="r")
        assert [outcome.output for outcome in o.outcomes()] == ["<[email]>"]  # open, and still nothing leaves
    async with open_app(worker, redact=("email",)) as o:
        await o.signal("r", "go", "yes")
        run = await o.run(waits, "ana@example.com", id="r")
        assert run.result == "<<ana@example.com>>"
    assert "ana@example.com" not in values(database)


async def test_a_failed_run_never_goes_on_with_redacted_answers(open_app):
    broken = True

    @workflow
    async def breaks(text: str) -> str:
        found = await second(text)
        if broken:
            raise RuntimeError(f"mend me, {found}")
        return found

    async with open_app(ScriptedWorker("w", ["to ana@example.com"]), redact=("email",)) as o:
        run = await o.run(breaks, "a", id="r")
        assert "ana@example.com" in str(run.error)
        assert "mend me, to [email]" in str(o.find("r", breaks).error)
        broken = False
        again = await o.run(breaks, "a", id="r", again=True)
        assert again.status == "failed"
        assert "the answers of step second#0 were not kept" in str(again.error)


HOOK = """
def shout(text):
    return text.upper().replace("ANA", "[name]") + "!"
def broken(text):
    raise ValueError("my words quote the text: " + text)
def nothing(text):
    return None
"""


async def test_a_function_of_the_users(tmp_path, database):
    (tmp_path / "privacy_hook.py").write_text(HOOK)
    (tmp_path / "o.yaml").write_text(f"database: sqlite:///{database}\nredact: [python:privacy_hook.shout]\n")
    async with Orchestrion.open(tmp_path / "o.yaml", workers=[ScriptedWorker("w", ["ana did"])]) as o:
        await o.run(second, "x", id="r")
        assert [outcome.output for outcome in o.outcomes()] == ["[name] DID!"]


@pytest.mark.parametrize(("name", "said"), [("broken", "raised ValueError"), ("nothing", "returned NoneType")])
async def test_a_function_that_raises_withholds_and_loses_nothing(tmp_path, database, caplog, name, said):
    (tmp_path / "privacy_hook.py").write_text(HOOK)
    settings = f"database: sqlite:///{database}\nredact: [python:privacy_hook.{name}]\n"
    (tmp_path / "o.yaml").write_text(settings)
    with caplog.at_level(logging.WARNING, "orchestrion"):
        async with Orchestrion.open(tmp_path / "o.yaml", workers=[ScriptedWorker("w", ["ana did"])]) as o:
            assert (await o.run(second, "prompt", id="r")).result == "ana did"
            [outcome] = o.outcomes()
            assert (outcome.prompt, outcome.output, outcome.answer) == (None, None, None)
            assert outcome.input_tokens == 10
    [message] = [record.getMessage() for record in caplog.records]
    assert f"python:privacy_hook.{name} {said}" in message
    assert "quote the text" not in message
    (tmp_path / "o.yaml").write_text(settings.replace(name, "shout"))
    async with Orchestrion.open(tmp_path / "o.yaml") as o:  # mended: nothing was lost, and now it is redacted
        assert [outcome.output for outcome in o.outcomes()] == ["[name] DID!"]
    assert "ana did" not in values(database)


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ("python:not_there.f", "cannot be imported: ModuleNotFoundError"),
        ("python:json.no_such", "cannot be imported: AttributeError"),
        ("python:json.__name__", "is no function but str"),
    ],
)
def test_a_function_that_is_not_there(entry, said, tmp_path):
    with pytest.raises(SettingsError, match=said):
        Redaction([entry], folder=tmp_path)


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ("emial", "'emial' is not a pattern that has a name. Did you mean 'email'?"),
        ("(", "is not a regular expression: "),
        ("a*", "matches the empty text"),
        ("python:nothing", "names no function: write python:MODULE.FUNCTION"),
    ],
)
def test_settings_refuse_what_would_redact_nothing(entry, said):
    with pytest.raises(ValueError, match=re.escape(said)):
        Settings(redact=(entry,))


def test_patterns_that_have_a_name(tmp_path):
    assert tuple(sorted(PATTERNS)) == REDACTIONS
    redact = Redaction(REDACTIONS, folder=tmp_path)
    assert redact("to ana.b+c@mail.example.co.uk, card 4111 1111 1111 1111.") == "to [email], card [card]."
    assert redact("SSN 078-05-1120, call +49 30 1234567 or (030) 123-4567") == "SSN [ssn], call [phone] or [phone]"
    assert redact("IBAN DE89 3704 0044 0532 0130 00") == "IBAN [iban]"
    kept = "order 1234567890123 of 2024-11-21, 2024-12-31 12:00:00, 12.03.2024 14:30, $1,234.56, version 1.2, A-1302, 3.14159"
    assert redact(kept) == kept  # thirteen digits that fail the check digit are no card


@pytest.mark.parametrize("unit", ["a", "1", "12 ", "a.", "+", "AB12", "x@", "1-"])
def test_patterns_take_no_longer_for_texts_without_a_blank(unit, tmp_path):
    redact = Redaction(REDACTIONS, folder=tmp_path)
    started = time.perf_counter()
    redact(unit * (500_000 // len(unit)))
    assert time.perf_counter() - started < 10  # a second or two here; the square of it would be hours


async def test_usage_and_reply_survive(open_app):
    async with open_app(ScriptedWorker("w", [Reply("x", usage=Usage(3, 4))]), record="none") as o:
        await o.run(second, "a", id="r")
        assert [(one.input_tokens, one.output_tokens) for one in o.outcomes()] == [(3, 4)]
