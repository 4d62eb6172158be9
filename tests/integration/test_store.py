"""The database under a person's feet: what it keeps, and what is said when it cannot."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import textwrap
import time

import apsw
import pytest

from orchestrion import Step, workflow
from orchestrion.errors import RunError, StoreError
from orchestrion.store.queries import migrations
from orchestrion.testing import ScriptedWorker
from tests.conftest import echo, entries, kinds

one = Step("one", policy="w")
two = Step("two", policy="w")


@workflow
async def flow(text: str) -> str:
    return await two(await one(text))


def everything(path):
    """Every value in the database, as one text."""
    connection = apsw.Connection(str(path))
    tables = [name for (name,) in connection.execute("select name from sqlite_master where type = 'table'")]
    text = repr([connection.execute(f"select * from {table}").fetchall() for table in tables])
    connection.close()
    return text


def paragraph(error):
    text = str(error)
    assert "\n" not in text
    assert text.endswith(".")
    return text


# Content


@pytest.mark.parametrize("record", ["full", "digest", "none"])
async def test_what_is_kept_of_the_texts(open_app, database, record):
    async with open_app(ScriptedWorker("w", ["the answer", "its echo"]), record=record) as o:
        run = await o.run(flow, "the secret prompt", id="r")
        assert run.result == "its echo"
        cost = run.cost
    text = everything(database)
    assert ("the answer" in text) == (record == "full")
    async with open_app(ScriptedWorker("w", []), record=record) as o:
        assert o.find("r", flow).cost == cost
        assert kinds(o) == {"hold": 2, "post": 2}
        outcomes = list(o.outcomes())
        assert [outcome.input_tokens for outcome in outcomes] == [10, 10]  # evidence without texts
        if record == "digest":
            assert outcomes[0].output.startswith("blake2b:")
        if record == "none":
            assert outcomes[0].output is None


@pytest.mark.parametrize("record", ["digest", "none"])
async def test_a_failed_run_whose_texts_are_gone_never_goes_on_with_something_else(open_app, record):
    """Its first answer is a digest now, or nothing: that must not become the second step's input."""
    broken = True

    @workflow
    async def breaks(text: str) -> str:
        found = await one(text)
        if broken:
            raise RuntimeError("mend me")
        return await two(found)

    async with open_app(ScriptedWorker("w", ["the answer"]), record=record) as o:
        assert (await o.run(breaks, "a", id="r")).status == "failed"
    broken = False
    worker = echo()
    async with open_app(worker, record=record) as o:
        run = await o.run(breaks, "a", id="r", again=True)
        with pytest.raises(RunError, match="run 'r' cannot go on: the answers of step one#0 were not kept"):
            _ = run.result
        assert worker.asked == 0


async def test_old_texts_are_forgotten_and_the_books_kept(open_app, database):
    async with open_app(ScriptedWorker("w", ["the answer", "its echo"])) as o:
        await o.run(flow, "the secret prompt", id="old")
    async with open_app(echo()) as o:
        await o.run(flow, "the young prompt", id="young")
        o.database.take("update run set updated = updated - 31 * 86400 where id = 'old' returning no", ())
        books = entries(o)
    async with open_app(ScriptedWorker("w", []), keep_days=30) as o:
        assert entries(o) == books
        run = o.find("old", flow)
        assert (run.status, run.cost) == ("done", 60_000)
        with pytest.raises(RunError, match="the result of run 'old' was not kept"):
            _ = run.result
        assert o.find("young", flow).result == "w:w:the young prompt"
        again = await o.run(flow, "the secret prompt", id="old")  # still the same run, and done
        assert again.status == "done"
    text = everything(database)
    assert "the answer" not in text
    assert "the secret prompt" not in text
    assert "the young prompt" in text


# Where it cannot be used


async def test_a_database_of_a_newer_version(open_app, database):
    async with open_app(echo()) as o:
        await o.run(flow, "a", id="r")
    connection = apsw.Connection(str(database))
    connection.pragma("user_version", 99)
    connection.close()
    before = everything(database)
    with pytest.raises(
        StoreError, match=r"newer version of Orchestrion \(its format is 99, this version knows \d+\).*pip install -U"
    ) as caught:
        async with open_app():
            pass
    paragraph(caught.value)
    assert caught.value.exit_status == 2
    assert everything(database) == before


async def test_a_file_that_is_no_database(open_app, database):
    database.write_text("Dear diary, today I was not a database. " * 100)
    with pytest.raises(StoreError, match="is not a database of Orchestrion, or is damaged") as caught:
        async with open_app():
            pass
    paragraph(caught.value)
    assert database.read_text().startswith("Dear diary")


async def test_a_folder_that_is_not_there(open_app, tmp_path):
    with pytest.raises(StoreError, match=r"its folder is missing or not writable\. Create the folder") as caught:
        async with open_app(path=tmp_path / "no" / "o.db"):
            pass
    paragraph(caught.value)


async def test_a_folder_under_a_file(open_app, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot be opened"):
        async with open_app(path=tmp_path / "file" / "o.db"):
            pass


@pytest.mark.skipif(sys.platform != "linux", reason="mounts a read-only tmpfs")
def test_a_read_only_folder(tmp_path):
    """On a real read-only mount: root, as whom CI runs, is not held by permissions."""
    said = _in_mount(
        tmp_path,
        "",
        """
        import os, subprocess
        asyncio.run(work(3))
        subprocess.run(["mount", "-t", "tmpfs", "-o", "remount,ro", "tmpfs", folder], check=True)
        try:
            asyncio.run(work(3))
        except StoreError as error:
            print(error)
    """,
    )
    assert "\n" not in said.strip()
    assert "read-only" in said


@pytest.mark.skipif(sys.platform != "linux", reason="mounts a tmpfs of its own")
def test_a_full_disk_loses_nothing(tmp_path):
    """On a real file system of 1 MB: the run stops with one paragraph, and goes on where there is room again."""
    said = _in_mount(
        tmp_path,
        "size=1m",
        """
        import subprocess
        asked = []
        try:
            asyncio.run(work(10_000, asked))
        except StoreError as error:
            print(error)
        before = len(asked)
        subprocess.run(["mount", "-t", "tmpfs", "-o", "remount,size=64m", "tmpfs", folder], check=True)
        asyncio.run(work(300, asked))
        print(len(asked) - before, flush=True)
        asyncio.run(books())
    """,
    )
    error, more, books = said.strip().splitlines()
    assert error.startswith("the disk that holds ")
    assert "is full. Make room and start again. Everything that was committed before is kept" in error
    kept, unknown, total = map(int, books.split())
    assert kept == 300
    assert int(more) < 300  # what was committed before is not asked again
    assert total == 300 + unknown


def _in_mount(tmp_path, options, body):
    """Run a script in a mount namespace of its own with a small tmpfs in it: nothing of it outlives the script."""
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent("""
        import asyncio, sys, random
        from orchestrion import Orchestrion, Step
        from orchestrion.settings import Settings
        from orchestrion.engine.workflow import Start
        from orchestrion.errors import StoreError
        from orchestrion.testing import ScriptedWorker
        folder = sys.argv[1]
        settings = Settings(database=f"sqlite:///{folder}/o.db")
        step = Step("s", policy="w")

        async def work(n, asked=None):
            def answer(request):
                if asked is not None:
                    asked.append(request.task_id)
                return random.randbytes(400).hex()
            async with Orchestrion.open(settings, workers=[ScriptedWorker("w", answer)]) as o:
                starts = (Start(id=f"t{i}", task_id=f"t{i}", input=str(i)) for i in range(n))
                async for run in o.run_all(step, starts, concurrency=20):
                    assert run.status == "done", run

        async def books():
            async with Orchestrion.open(settings) as o:
                [(kept,)] = o.database.read("select count(*) from run where status = 'done'")
                [(unknown,)] = o.database.read("select count(*) from entry where kind = 'unknown'")
                [(total,)] = o.database.read("select count(*) from entry where kind <> 'hold'")
                print(kept, unknown, total)
        """)
        + textwrap.dedent(body)
    )
    folder = tmp_path / "mount"
    folder.mkdir()
    mount = (
        f"mount -t tmpfs {f'-o {options}' if options else ''} tmpfs {folder} && exec {sys.executable} {script} {folder}"
    )
    unshare = ["unshare", "--mount"] if os.getuid() == 0 else ["unshare", "--map-root-user", "--mount"]
    if not shutil.which("unshare") or subprocess.run([*unshare, "true"], capture_output=True, check=False).returncode:
        pytest.skip("mounting needs root or user namespaces")
    done = subprocess.run([*unshare, "sh", "-c", mount], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


async def test_a_failed_commit_reaches_everybody_and_keeps_what_was_there(open_app):
    """A database that may not grow (as under a quota): every run that waits hears of it, none goes on unrecorded."""
    worker = echo()
    async with open_app(worker) as o:
        await o.run(flow, "a", id="kept")
        [(pages,)] = o.database.read("pragma page_count")
        o.database._connection.pragma("max_page_count", pages + 2)
        runs = [o.run(flow, f"{n}" + os.urandom(3000).hex(), id=f"r{n}") for n in range(20)]
        ended = await asyncio.wait_for(asyncio.gather(*runs, return_exceptions=True), 30)
        assert {type(end) for end in ended} == {StoreError}
        assert "full" in paragraph(ended[0])
        asked = worker.asked
        with pytest.raises(StoreError, match="full"):
            await o.run(flow, "more", id="late")
        assert worker.asked == asked  # nobody is asked when nothing can be noted
    async with open_app(echo()) as o:
        assert o.find("kept", flow).result == "w:w:a"


def test_a_locked_database_is_waited_for(tmp_path):
    """Another program holds the lock for a moment: the commit comes later, and nothing is lost."""
    script = tmp_path / "holds.py"
    script.write_text(
        "import apsw, sys, time\nc = apsw.Connection(sys.argv[1]); c.execute('begin immediate'); print('held', flush=True)\n"
        "sys.stdin.read(); c.execute('commit')\n"
    )

    async def main():
        from orchestrion import Orchestrion
        from orchestrion.settings import Settings

        async with Orchestrion.open(Settings(database=f"sqlite:///{tmp_path}/o.db"), workers=[echo()]) as o:
            with subprocess.Popen(  # noqa: ASYNC220  # it only holds a lock
                [sys.executable, script, tmp_path / "o.db"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            ) as holder:
                assert holder.stdout
                assert holder.stdin
                assert holder.stdout.readline() == "held\n"
                task = asyncio.create_task(o.run(flow, "a", id="r"))
                await asyncio.sleep(0.05)
                assert not task.done()
                holder.stdin.close()
                assert (await task).result == "w:w:a"

    started = time.monotonic()
    asyncio.run(main())
    assert time.monotonic() - started < 10


# A database of an older version


async def test_a_database_of_version_1_is_brought_up_to_date(open_app, database):
    """Made as 0.1 made it: the first migration alone. Its runs stay, and take labels and a content policy."""
    first, *later = migrations()
    assert first[0] == 1
    assert [number for number, _ in later] == sorted({number for number, _ in later})
    connection = apsw.Connection(str(database))
    connection.execute(first[1])
    connection.pragma("user_version", 1)
    connection.execute(
        "insert into run (no, id, workflow, task, input, digest, account, status, result, created, updated)"
        " values (1, 'old', 'm:flow', 't', '\"the old prompt\"', 'd', 'default', 'done', '\"the old result\"', 0, 0)"
    )
    connection.close()
    async with open_app(echo()) as o:
        assert o.find("old", flow).result == "the old result"
        assert (await o.run(flow, "a", id="new")).status == "done"
        [(version,)] = o.database.read("pragma user_version")
        assert version == migrations()[-1][0]
        assert o.database.read("select count(*) from label") == [(0,)]
    async with open_app(record="none") as o:
        assert o.find("old", flow).status == "done"
    assert "the old" not in everything(database)
