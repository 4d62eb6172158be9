"""What every journal must do, in memory and in SQLite alike."""

from __future__ import annotations

import pytest

from orchestrion.domain import Attempt, Call, Failure, Usage, Verdict
from orchestrion.errors import RunBusy, UsageError
from orchestrion.journal.codec import COMPRESS_FROM
from orchestrion.journal.embedded import EmbeddedJournal, statements
from orchestrion.journal.memory import MemoryJournal
from orchestrion.journal.protocol import Key, NewRun
from orchestrion.ledger.books import Books
from orchestrion.ledger.books import statements as ledger_statements
from orchestrion.store.database import Database

KEY = Key("", "step", 0)
NEW = NewRun(
    id="r",
    workflow="m:flow",
    input='"in"',
    digest="d",
    task_id="t",
    tags={"k": "v"},
    reference={"a": [1]},
    account="acc",
    batch="b",
    policy="p",
)


@pytest.fixture(params=["memory", "embedded"])
async def journal(request, tmp_path):
    if request.param == "memory":
        yield MemoryJournal()
        return
    database = Database(
        tmp_path / "j.db", statements=statements() | ledger_statements(), claims="claim", keeper=Books()
    )
    yield EmbeddedJournal(database)
    await database.close()


def attempt(hold, worker="w", **fields):
    fields.setdefault("output", f"out {hold}")
    fields.setdefault("answer", fields["output"])
    return Attempt(Call(worker), hold=hold, cost=hold * 10, **fields)


async def begun(journal, *, asks=((1, 2),)):
    log = journal.start(NEW)
    for turn, holds in enumerate(asks):
        log.ask(
            KEY, turn, "input digest", "the input" if not turn else None, [(hold, Call("w", hold)) for hold in holds]
        )
    await log.durable()
    return log


async def again(journal, log, **options):
    log.release()
    return await journal.resume("r", **options)


async def test_an_unknown_run(journal):
    assert journal.find("r") is None
    for unknown in (journal.resume("r"), journal.signal("r", "s", "1"), journal.cancel("r"), journal.reopen("r")):
        with pytest.raises(UsageError, match="there is no run 'r'"):
            await unknown


async def test_a_run_is_found_as_it_was_started(journal):
    await begun(journal)
    record = journal.find("r")
    assert (record.id, record.workflow, record.input, record.digest, record.task_id) == (
        "r",
        "m:flow",
        '"in"',
        "d",
        "t",
    )
    assert (record.tags, record.reference, record.account, record.batch, record.policy) == (
        {"k": "v"},
        {"a": [1]},
        "acc",
        "b",
        "p",
    )
    assert (record.status, record.owned, record.cancel, record.wants, record.result, record.error) == (
        "running",
        True,
        False,
        None,
        None,
        None,
    )


async def test_a_fresh_run_remembers_nothing(journal):
    log = await begun(journal)
    assert log.recall(KEY) is None
    assert log.unvisited() == []


async def test_attempts_are_remembered_in_the_order_of_their_asks(journal):
    log = await begun(journal, asks=((1, 2), (3,)))
    log.attempt(attempt(3), checked=True)
    log.attempt(attempt(2), checked=True)
    log.attempt(attempt(1), checked=True)
    await log.durable()
    memory = (await again(journal, log)).recall(KEY)
    assert [a.hold for a in memory.history] == [1, 2, 3]
    assert (memory.digest, memory.input, memory.turns, memory.lost, memory.accepted) == (
        "input digest",
        "the input",
        2,
        (),
        None,
    )


async def test_an_attempt_comes_back_whole(journal):
    call = Call("w", 3, ({"role": "assistant", "content": "é"}, {"role": "user", "content": "again"}))
    said = Attempt(
        call,
        "text \0 é",
        None,
        "canon",
        None,
        (Verdict("c", False, 0.25, "because", 7),),
        Usage(1, 2, 3, 4, 5, True),
        99,
        1.5,
        "stop",
        1,
    )
    failed = Attempt(Call("v"), failure=Failure("http_500", "w: status 500"), cost=5, latency_s=0.5, hold=2)
    log = journal.start(NEW)
    log.ask(KEY, 0, "d", "i", [(1, call), (2, Call("v"))])
    log.attempt(said, checked=True)
    log.attempt(failed, checked=True)
    await log.durable()
    memory = (await again(journal, log)).recall(KEY)
    for kept, was in zip(memory.history, (said, failed), strict=True):
        for name in (
            "call",
            "output",
            "answer",
            "failure",
            "verdicts",
            "usage",
            "cost",
            "latency_s",
            "finish_reason",
            "hold",
        ):
            assert getattr(kept, name) == getattr(was, name), name


@pytest.mark.parametrize("length", [0, COMPRESS_FROM - 1, COMPRESS_FROM, 300_000])
async def test_long_texts_come_back(journal, length):
    text = ("wört " * length)[:length]
    log = journal.start(NEW)
    log.ask(KEY, 0, "d", text, [(1, Call("w"))])
    log.attempt(attempt(1, output=text), checked=True)
    await log.durable()
    await journal.signal("r", "s", text)
    again_log = await again(journal, log)
    memory = again_log.recall(KEY)
    assert (memory.input, memory.history[0].output, again_log.signals["s"]) == (text, text, text)
    await again_log.finish("done", result=text)
    assert journal.find("r").result == text


async def test_what_was_in_flight_is_listed_as_lost(journal):
    log = await begun(journal, asks=((1, 2, 3),))
    log.attempt(attempt(2), checked=True)
    await log.durable()
    memory = (await again(journal, log)).recall(KEY)
    assert ([a.hold for a in memory.history], memory.lost, memory.turns) == (
        [2],
        ((1, Call("w", 1)), (3, Call("w", 3))),
        1,
    )


async def test_unchecked_attempts_are_named_until_they_are_judged(journal):
    log = await begun(journal)
    log.attempt(attempt(1), checked=False)
    log.attempt(attempt(2), checked=False)
    await log.durable()
    log.judged(attempt(2, verdicts=(Verdict("c", True, 1.0),)))
    await log.durable()
    memory = (await again(journal, log)).recall(KEY)
    assert memory.unchecked == {1}
    assert memory.history[1].verdicts == (Verdict("c", True, 1.0),)


@pytest.mark.parametrize("constrained", [False, True])
@pytest.mark.parametrize("late", [False, True], ids=["in one commit", "in two"])
async def test_the_accepted_attempt_is_remembered(journal, constrained, late):
    log = await begun(journal)
    log.attempt(attempt(1), checked=True)
    log.attempt(attempt(2), checked=True)
    if late:
        await log.durable()
    log.accept(2, constrained=constrained)
    await log.durable()
    memory = (await again(journal, log)).recall(KEY)
    assert (memory.accepted, memory.constrained) == (2, constrained)


async def test_branches_and_numbers_have_keys_of_their_own(journal):
    log = journal.start(NEW)
    keys = [Key("", "a", 0), Key("", "a", 1), Key("0.0/", "a", 0), Key("0.1/", "a", 0), Key("0.0/", "b", 0)]
    for hold, key in enumerate(keys, start=1):
        log.ask(key, 0, str(key), None, [(hold, Call("w"))])
        log.attempt(attempt(hold), checked=True)
    await log.durable()
    resumed = await again(journal, log)
    for hold, key in reversed(list(enumerate(keys, start=1))):
        assert [a.hold for a in resumed.recall(key).history] == [hold]
        assert resumed.recall(key) is None  # each call once
    assert resumed.recall(Key("", "b", 0)) is None


async def test_what_was_not_recalled_is_named(journal):
    log = journal.start(NEW)
    for hold, key in enumerate([Key("", "a", 0), Key("0.1/", "b", 0), Key("a#0~1/", "judge", 0)], start=1):
        log.ask(key, 0, "d", None, [(hold, Call("w"))])
    await log.durable()
    resumed = await again(journal, log)
    assert resumed.unvisited() == [Key("", "a", 0), Key("0.1/", "b", 0)]  # a check's own calls go with its attempt
    assert resumed.unvisited("0.1/") == [Key("0.1/", "b", 0)]
    resumed.recall(Key("", "a", 0))
    assert resumed.unvisited("") == []


async def test_failures_are_forgotten_where_that_is_asked(journal):
    log = await begun(journal)
    log.attempt(attempt(1, output=None, failure=Failure("timeout", "slow")), checked=True)
    log.attempt(attempt(2), checked=True)
    await log.finish("failed", error="e")
    await journal.reopen("r")
    log = await journal.resume("r")
    memory = log.recall(KEY)
    assert ([a.hold for a in memory.history], memory.forgotten, memory.lost) == ([2], 1, ())
    # A failure since then stands, and the old ones stay forgotten: when it waits, or its process dies.
    log.ask(KEY, 1, "input digest", None, [(3, Call("w"))])
    log.attempt(attempt(3, output=None, failure=Failure("timeout", "slow")), checked=True)
    await log.finish("waiting", wants="funds acc")
    memory = (await journal.resume("r")).recall(KEY)
    assert ([a.hold for a in memory.history], memory.forgotten) == ([2, 3], 1)


async def test_a_broken_check_is_asked_again_once_where_its_run_was_reopened(journal):
    log = await begun(journal, asks=((1,),))
    broken = attempt(1, verdicts=(Verdict("c", False, 0.0, "?", broken=True),))
    log.attempt(broken, checked=True)
    await log.finish("failed", error="e")
    await journal.reopen("r")
    log = await journal.resume("r")
    assert log.recall(KEY).unchecked == {1}
    await log.finish("waiting", wants="funds acc")
    log = await journal.resume("r")
    assert log.recall(KEY).unchecked == {1}, "it was not asked yet"
    log.judged(broken)
    await log.finish("waiting", wants="go")
    assert (await journal.resume("r")).recall(KEY).unchecked == frozenset()


async def test_the_end_of_a_run(journal):
    log = await begun(journal)
    await log.finish("done", result='"x"')
    record = journal.find("r")
    assert (record.status, record.result, record.error, record.owned) == ("done", '"x"', None, False)


async def test_only_failed_and_cancelled_runs_are_reopened(journal):
    log = await begun(journal)
    await log.finish("failed", error="why")
    assert journal.find("r").error == "why"
    await journal.reopen("r")
    assert (journal.find("r").status, journal.find("r").error) == ("running", None)
    log = await journal.resume("r")
    await log.finish("done", result="1")
    await journal.reopen("r")
    assert (journal.find("r").status, journal.find("r").result) == ("done", "1")


async def test_waits_and_signals(journal):
    log = await begun(journal)
    await log.finish("waiting", wants="go")
    assert (journal.find("r").status, journal.find("r").wants, journal.ready()) == ("waiting", "go", [])
    await journal.signal("r", "other", "0")
    assert journal.ready() == []
    await journal.signal("r", "go", "1")
    await journal.signal("r", "go", "2")  # not taken yet: it can be replaced
    assert journal.ready() == ["r"]
    resumed = await journal.resume("r")
    assert resumed.signals == {"other": "0", "go": "2"}
    resumed.take("go")
    await resumed.durable()
    with pytest.raises(UsageError, match="run 'r' has taken its signal 'go' already: 2"):
        await journal.signal("r", "go", "3")
    await journal.signal("r", "go", "2")  # delivered again: nothing changes
    assert (journal.find("r").status, journal.find("r").wants, journal.ready()) == ("running", None, [])


async def test_cancelling(journal):
    log = await begun(journal)
    await journal.cancel("r")
    assert (journal.find("r").status, journal.find("r").cancel) == ("running", True)  # its process ends it
    await log.finish("cancelled")
    await journal.reopen("r")
    assert (journal.find("r").status, journal.find("r").cancel) == ("running", False)
    await journal.cancel("r")  # nobody performs it
    assert journal.find("r").status == "cancelled"


async def test_cancelling_what_is_done_changes_nothing(journal):
    log = await begun(journal)
    await log.finish("done", result="1")
    await journal.cancel("r")
    assert (journal.find("r").status, journal.find("r").cancel) == ("done", False)


# What only the one in a file can do


async def test_a_run_is_taken_by_one_process_only(tmp_path):
    one, other = (
        Database(tmp_path / "j.db", statements=statements() | ledger_statements(), claims="claim", keeper=Books())
        for _ in range(2)
    )
    mine, theirs = EmbeddedJournal(one), EmbeddedJournal(other)
    log = await begun(mine)
    with pytest.raises(RunBusy):
        await theirs.resume("r")
    log.release()
    await log.durable()
    taken = await theirs.resume("r")
    with pytest.raises(RunBusy):
        await mine.resume("r")
    await taken.finish("done")
    record = mine.find("r")
    assert record
    assert record.status == "done"
    await one.close()
    await other.close()


async def test_the_second_claim_of_an_id_is_told_before_it_acts(tmp_path):
    one, other = (
        Database(tmp_path / "j.db", statements=statements() | ledger_statements(), claims="claim", keeper=Books())
        for _ in range(2)
    )
    mine = EmbeddedJournal(one).start(NEW)
    await mine.durable()
    theirs = EmbeddedJournal(other).start(NEW)  # it had looked before, and found nothing
    theirs.ask(KEY, 0, "d", None, [(other.serial(), Call("w"))])
    with pytest.raises(RunBusy, match="started by another process at the same moment"):
        await theirs.durable()
    await theirs.finish("done", result="not mine")
    record = EmbeddedJournal(one).find("r")
    assert record
    assert record.status == "running"
    await one.close()
    await other.close()


async def test_long_texts_are_compressed(tmp_path):
    database = Database(
        tmp_path / "j.db", statements=statements() | ledger_statements(), claims="claim", keeper=Books()
    )
    log = EmbeddedJournal(database).start(NEW)
    log.ask(KEY, 0, "d", "word " * 100_000, [(1, Call("w"))])
    log.attempt(attempt(1, output="word " * 100_000), checked=True)
    await log.durable()
    for table, column in (("ask", "input"), ("attempt", "output")):
        [(kind, size)] = database.read(f"select typeof({column}), length({column}) from {table}")
        assert (kind, size < 5_000) == ("blob", True)
    await database.close()
