"""Runs on accounts with limits, on a real database: they wait, wind down, stop with a reason, and go on after a top-up."""

from __future__ import annotations

import asyncio
import contextlib
import time

import pytest

import orchestrion
from orchestrion import Step, StepFailed, best_effort, cascade, fallback, retried, workflow
from orchestrion.domain import Reply, Usage
from orchestrion.engine.workflow import Start
from orchestrion.errors import FundsExhausted, JournalMismatch, UsageError, WorkerFailed
from orchestrion.ledger.books import Books
from orchestrion.testing import ScriptedWorker
from tests.conftest import Crash, echo, entries, kinds, open_holds

COST = 30_000
"""What a call of a scripted worker costs: 10 tokens at $1 and 5 at $4 a million."""


def limit(o, account, *caps, wait_s=None):
    """Give an account these limits: (amount, unit, period)."""
    with o.database.transaction() as session:
        above = account.split("/")
        for name in ("/".join(above[: i + 1]) for i in range(len(above))):
            session.execute("insert into account (name) values ($1) on conflict do nothing", (name,))
        session.execute("update account set wait_s = $1 where name = $2", (wait_s, account))
        session.execute("delete from cap where account = $1", (account,))
        for amount, unit, period in caps:
            session.execute("insert into cap values ($1, $2, $3, $4)", (account, unit, period, amount))
        Books().changed(session, [account], time.time())
    o._ledger.refresh()


def cap(o, account, amount, *, unit="money", period="day", wait_s=None):
    limit(o, account, (amount, unit, period), wait_s=wait_s)


def settled(o, account="a"):
    return o.database.read("select settled, held from balance where account = ?", (account,))


ask = Step("ask", policy="w")


def bound(worker, text="x"):
    """What is held for a call that asks this."""
    from orchestrion.domain import Call, Task

    return worker.bound(ask.request(Task("t", text), Call("w")))


async def test_a_run_that_cannot_be_paid_waits_for_money_and_goes_on_after_a_top_up(open_app):
    worker = echo()
    need = bound(worker)

    @workflow
    async def twice(text: str) -> str:
        await ask(text)
        return await ask(text)

    async with open_app(worker) as o:
        cap(o, "a", need + COST - 1)
        run = await o.run(twice, "x", id="r", account="a")
        assert (run.status, run.wants, run.funds) == ("waiting", "funds a", "a")
        assert isinstance(run.error, FundsExhausted)
        assert run.error.shortage is not None
        assert run.error.shortage.needed == need + COST
        text = str(run.error)
        for part in ("account 'a'", "a day", "asking w", "orchestrion budget set a --limit", "--period day"):
            assert part.lower() in text.lower()
        assert run.waits_for == "waits for money on account 'a'"
        with pytest.raises(FundsExhausted):
            _ = run.result
        assert settled(o) == [(COST, 0)]
        again = await o.run(twice, "x", id="r", account="a")
        assert (again.status, str(again.error)) == ("waiting", text)
    async with open_app(worker) as o:
        found = o.find("r", twice)
        assert found is not None
        assert (found.status, str(found.error)) == ("waiting", text)
        assert o.ready() == ["r"]
        cap(o, "a", need + COST)
        run = await o.run(twice, "x", id="r")  # its account is remembered
        assert (run.result, run.cost) == ("w:x", 2 * COST)
        assert settled(o) == [(2 * COST, 0)]
        assert kinds(o) == {"hold": 2, "post": 2}
        assert o.ready() == []
    assert worker.asked == 2


async def test_the_reason_names_a_command_that_is_enough(open_app):
    worker = echo()
    async with open_app(worker) as o:
        cap(o, "a", 10)
        run = await o.run(ask, "x", id="r", account="a")
        words = str(run.error).split("--limit ")[1].split()
        dollars = float(words[0])
        cap(o, "a", round(dollars * 1e9))
        assert (await o.run(ask, "x", id="r")).status == "done"


async def test_a_cascade_winds_down_and_the_answer_is_constrained(open_app):
    step = Step("s", policy=best_effort(cascade("cheap", "dear")), checks=[lambda text: "dear" in text])
    cheap, dear = echo("cheap"), echo("dear", max_output=100_000)
    async with open_app(cheap, dear) as o:
        cap(o, "a", 2 * bound(cheap))
        run = await o.run(step, "x", id="r", account="a")
        assert run.result == "cheap:x"
        assert [one.constrained for one in o.outcomes()] == [True]
    assert not dear.asked


async def test_a_fallback_goes_to_who_can_be_paid(open_app):
    step = Step("s", policy=fallback("dear", "cheap"))
    cheap, dear = echo("cheap"), echo("dear", max_output=100_000)
    async with open_app(cheap, dear) as o:
        cap(o, "a", 2 * bound(cheap))
        assert (await o.run(step, "x", id="r", account="a")).result == "cheap:x"
        assert kinds(o) == {"hold": 1, "post": 1}
        assert [one.constrained for one in o.outcomes()] == [True]


async def test_a_fallbacks_spend_is_booked_exactly(open_app):
    billed = [
        WorkerFailed("http_500", "oops", cost=7_000),
        WorkerFailed("http_429", "no", billed="no"),
        WorkerFailed("t", "?"),
    ]
    step = Step("s", policy=cascade(retried("w", times=2), "other"))
    worker, other = ScriptedWorker("w", billed), echo("other")
    async with open_app(worker, other) as o:
        cap(o, "a", 10**9)
        run = await o.run(step, "x", id="r", account="a")
        assert run.result == "other:x"
        assert run.cost == 7_000 + 0 + bound(worker) + COST
        assert settled(o) == [(run.cost, 0)]


@pytest.mark.parametrize("policy", ["w", cascade("w", "w2")])
async def test_a_cap_that_pays_for_20_serves_all_20_and_no_more(open_app, policy):
    async def slow(request):
        await asyncio.sleep(0.005)
        return "done"

    worker = ScriptedWorker("w", slow)
    step = Step("s", policy=policy)
    need = bound(worker, "t")
    assert need > 2 * COST
    async with open_app(worker, ScriptedWorker("w2", slow)) as o:
        cap(o, "a", 19 * COST + need)
        starts = [Start(id=f"r{i}", task_id="t", input="t", account="a") for i in range(200)]
        runs = [run async for run in o.run_all(step, starts, concurrency=200)]
        assert sum(run.status == "done" for run in runs) == 20
        assert sum(run.funds == "a" for run in runs) == 180
        assert settled(o) == [(20 * COST, 0)]
        assert not open_holds(o)
        cap(o, "a", 199 * COST + need)
        done = [run async for run in o.run_all(step, starts, concurrency=200)]
        assert {run.status for run in done} == {"done"}
        assert settled(o) == [(200 * COST, 0)]


def held_up(gate, begun=None):
    """A worker that answers when the gate opens."""

    async def slow(request):
        if begun:
            begun.set()
        await gate.wait()
        return "done"

    return ScriptedWorker("w", slow)


@contextlib.asynccontextmanager
async def waiting(open_app, *, wait_s=60.0):
    """An app in which run "one" is being answered, and run "two" waits for what it holds."""
    gate, begun = asyncio.Event(), asyncio.Event()
    worker = held_up(gate, begun)
    async with open_app(worker) as o:
        cap(o, "a", bound(worker) + COST, wait_s=wait_s)
        one = asyncio.create_task(o.run(ask, "x", id="one", account="a"))
        async with asyncio.timeout(10):
            await begun.wait()
        two = asyncio.create_task(o.run(ask, "x", id="two", account="a"))
        await asyncio.sleep(0.05)
        assert not two.done()
        yield o, worker, gate, one, two
        assert not open_holds(o)


async def test_what_fails_only_for_held_money_waits_for_it(open_app):
    async with waiting(open_app) as (o, worker, gate, one, two):
        gate.set()
        assert [(await run).status for run in (one, two)] == ["done", "done"]
        assert worker.asked == 2
        assert settled(o) == [(2 * COST, 0)]


async def test_a_wait_in_vain_says_so(open_app):
    async with waiting(open_app, wait_s=1.1) as (o, _, gate, one, two):
        run = await two
        assert run.status == "waiting"
        assert "held by other calls" in str(run.error)
        assert "1 s were waited for that" in str(run.error)
        gate.set()
        assert (await one).status == "done"
        assert (await o.run(ask, "x", id="two")).status == "done"


async def test_a_wait_in_vain_lets_the_policy_choose_somebody_cheaper(open_app):
    gate = asyncio.Event()
    worker, cheap = held_up(gate), echo("cheap", max_output=1)
    async with open_app(worker, cheap) as o:
        cap(o, "a", bound(worker) + bound(cheap), wait_s=0.1)
        one = asyncio.create_task(o.run(ask, "x", id="one", account="a"))
        await asyncio.sleep(0.05)
        run = await o.run(Step("s", policy=fallback("w", "cheap")), "x", id="two", account="a")
        assert run.result == "cheap:x"
        assert [one.constrained for one in o.outcomes() if one.worker == "cheap"] == [True]
        gate.set()
        await one


async def test_a_stop_ends_the_waiting_at_once(open_app):
    async with waiting(open_app) as (o, worker, gate, one, two):
        o.stop()
        assert (await asyncio.wait_for(two, 1)).status == "running"
        gate.set()
        assert (await one).status == "done"
    async with open_app(worker) as o:
        assert (await o.run(ask, "x", id="two")).status == "done"


async def test_a_cancelled_run_ends_its_waiting_at_once(open_app):
    async with waiting(open_app) as (o, worker, gate, one, two):
        await o.cancel("two")
        assert (await asyncio.wait_for(two, 2)).status == "cancelled"
        gate.set()
        assert (await one).status == "done"
        assert worker.asked == 1


async def test_a_cancelled_task_ends_its_waiting_at_once(open_app):
    async with waiting(open_app) as (o, _, gate, one, two):
        two.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(two, 1)
        gate.set()
        await one
        assert (await o.run(ask, "x", id="two")).status == "done"
        assert settled(o) == [(2 * COST, 0)]


async def test_branches_of_one_run_share_its_limit(open_app):
    worker = echo()

    @workflow
    async def flow(text: str) -> list[str]:
        return await orchestrion.map(ask, [text] * 5)

    async with open_app(worker) as o:
        cap(o, "a", 2 * COST + bound(worker), period="run")
        run = await o.run(flow, "x", id="r", account="a")
        assert run.funds == "a"
        assert run.cost == 3 * COST
        assert "a run" in str(run.error)
        assert "--period run" in str(run.error)
        other = await o.run(ask, "x", id="other", account="a")  # another run has a limit of its own
        assert other.status == "done"
        cap(o, "a", 4 * COST + bound(worker), period="run")
        run = await o.run(flow, "x", id="r")
        assert (run.status, run.cost, worker.asked) == ("done", 5 * COST, 6)


async def test_a_workflow_may_make_do_with_what_it_has(open_app):
    worker = echo()

    @workflow
    async def flow(text: str) -> list[str]:
        done = []
        with contextlib.suppress(FundsExhausted):
            while True:
                done.append(await ask(text))
        return done

    async with open_app(worker) as o:
        cap(o, "a", 2 * COST + bound(worker))
        run = await o.run(flow, "x", id="r", account="a")
        assert run.result == ["w:x"] * 3


async def test_what_was_caught_stands_when_the_run_goes_on_with_money(open_app):
    """Somebody stood in for a step that could not be paid; with money, the run does not go another way."""
    worker, helper = echo("dear", max_output=100_000), echo("cheap", max_output=1)
    dear, cheap = Step("dear", policy="dear"), Step("cheap", policy="cheap")

    @workflow
    async def flow(text: str) -> str:
        try:
            return await dear(text)
        except FundsExhausted:
            said = await cheap(text)
            go: str = await orchestrion.wait_for("go")
            return said + go

    async with open_app(worker, helper) as o:
        cap(o, "a", bound(helper))
        assert (await o.run(flow, "x", id="r", account="a")).wants == "go"
        cap(o, "a", 10**9)
        await o.signal("r", "go", "!")
        run = await o.run(flow, "x", id="r")
        assert run.result == "cheap:x!"
    assert (worker.asked, helper.asked) == (0, 1)


async def test_what_was_caught_stands_too_where_the_code_goes_on_in_branches(open_app):
    worker, helper = echo("dear", max_output=100_000), echo("cheap", max_output=1)
    dear, cheap = Step("dear", policy="dear"), Step("cheap", policy="cheap")
    crash = True

    async def part(text: str) -> str:
        return await cheap(text)

    @workflow
    async def flow(text: str) -> list[str]:
        try:
            return [await dear(text)]
        except FundsExhausted:
            said = await orchestrion.gather(part(text), part(text))
            if crash:
                raise Crash from None
            return said

    async with open_app(worker, helper) as o:
        cap(o, "a", 3 * bound(helper))
        with pytest.raises(Crash):
            await o.run(flow, "x", id="r", account="a")
    crash = False
    async with open_app(worker, helper) as o:
        cap(o, "a", 10**9)
        assert (await o.run(flow, "x", id="r")).result == ["cheap:x"] * 2
    assert (worker.asked, helper.asked) == (0, 2)


async def test_a_branch_that_runs_dry_is_asked_after_a_top_up(open_app):
    """The others went on beside it, and nobody caught anything. All were called before any was asked."""
    worker, helper = echo("dear", max_output=100_000), echo("cheap", max_output=1)
    dear, cheap = Step("dear", policy="dear"), Step("cheap", policy="cheap")

    @workflow
    async def flow(text: str) -> list[str]:
        return await orchestrion.gather(dear(text), cheap(text), cheap(text))

    async with open_app(worker, helper) as o:
        cap(o, "a", 4 * bound(helper))
        assert (await o.run(flow, "x", id="r", account="a")).funds == "a"
        cap(o, "a", 10**9)
        assert (await o.run(flow, "x", id="r")).result == ["dear:x", "cheap:x", "cheap:x"]
    assert (worker.asked, helper.asked) == (1, 2)


async def test_who_stood_in_is_not_paid_for_nothing(open_app):
    """Money came back while the cheaper one answered, whom the policy chose since waiting was in vain."""
    gate = asyncio.Event()

    async def stand_in(request):
        gate.set()
        await one
        return "cheap"

    worker, cheap = held_up(gate), ScriptedWorker("cheap", stand_in, max_output=1)
    async with open_app(worker, cheap) as o:
        cap(o, "a", bound(worker) + bound(cheap), wait_s=0.1)
        one = asyncio.create_task(o.run(ask, "x", id="one", account="a"))
        await asyncio.sleep(0.05)
        run = await o.run(Step("s", policy=fallback("w", "cheap")), "x", id="two", account="a")
        assert run.result == "cheap"
        assert [one.constrained for one in o.outcomes() if one.worker == "cheap"] == [True]
    assert worker.asked == 1


async def test_a_fallback_whose_cheaper_answer_is_refused_waits_for_money(open_app):
    checks = [lambda text: "dear" in text]
    cheap, dear = echo("cheap"), echo("dear", max_output=100_000)
    async with open_app(cheap, dear) as o:
        cap(o, "a", 3 * bound(cheap))
        some = Step("some", policy=best_effort(fallback("dear", "cheap")), checks=checks)
        assert (await o.run(some, "x", id="some", account="a")).result == "cheap:x"
        assert [one.constrained for one in o.outcomes()] == [True]
        good = Step("good", policy=fallback("dear", "cheap"), checks=checks)
        assert (await o.run(good, "x", id="good", account="a")).funds == "a"
        cap(o, "a", 10**9)
        assert (await o.run(good, "x", id="good")).result == "dear:x"


@pytest.mark.parametrize("who", ["worker", "judge"])
async def test_a_second_try_that_runs_dry_is_a_second_try_after_a_top_up(open_app, who):
    failed = WorkerFailed("t", "timeout", billed="no")
    worker = ScriptedWorker("w", [failed, "said"] if who == "worker" else ["said"])
    judge = ScriptedWorker("j", ["5"] if who == "worker" else [failed, "5"], max_output=10_000)

    async def judged(task, attempts, ask):
        from orchestrion.checks.protocol import verdict

        said = await ask("j", ({"role": "user", "content": "good?"},))
        return verdict("judged", said.output == "5")

    judged.name = "judged"  # type: ignore[attr-defined]  # what a check has
    step = Step("s", policy="w", checks=[judged])
    async with open_app(worker, judge) as o:
        cap(o, "a", 10**9)
        assert (await o.run(step, "x", id="r", account="a")).status == "failed"
        cap(o, "a", 10)
        assert (await o.run(step, "x", id="r", again=True)).funds == "a"
    async with open_app(worker, judge) as o:
        cap(o, "a", 10**9)
        run = await o.run(step, "x", id="r")
        assert (run.result, run.cost) == ("said", 2 * COST)


async def test_an_answer_whose_judge_cannot_be_paid_is_judged_after_a_top_up(open_app):
    worker, judge = echo(), ScriptedWorker("j", ["5"], max_output=10_000)

    async def judged(task, attempts, ask):
        from orchestrion.checks.protocol import verdict

        said = await ask("j", ({"role": "user", "content": "good?"},))
        return verdict("judged", said.output == "5")

    judged.name = "judged"  # type: ignore[attr-defined]  # what a check has
    step = Step("s", policy="w", checks=[judged])
    async with open_app(worker, judge) as o:
        cap(o, "a", 2 * bound(worker))
        run = await o.run(step, "x", id="r", account="a")
        assert run.funds == "a"
        assert "asking j" in str(run.error).lower()
        assert settled(o) == [(COST, 0)]
        cap(o, "a", 10**9)
        run = await o.run(step, "x", id="r")
        assert (run.result, run.cost) == ("w:x", 2 * COST)
        assert kinds(o) == {"hold": 2, "post": 2}
    assert (worker.asked, judge.asked) == (1, 1)


async def test_retries_are_paid_under_the_same_limit(open_app):
    fails = [WorkerFailed("t", "timeout")] * 10
    worker = ScriptedWorker("w", fails)
    async with open_app(worker) as o:
        cap(o, "a", 3 * bound(worker))
        run = await o.run(Step("s", policy=retried("w", times=9)), "x", id="r", account="a")
        assert run.funds == "a"
        assert worker.asked == 3
        assert settled(o) == [(3 * bound(worker), 0)]


async def test_tokens_have_limits_too(open_app):
    worker = echo()
    async with open_app(worker) as o:
        cap(o, "a", 400, unit="tokens", period="month")
        runs = [await o.run(ask, "x", id=f"r{i}", account="a") for i in range(20)]
        done = sum(run.status == "done" for run in runs)
        assert 5 < done < 20
        spent, held = o.database.read("select settled, held from balance where unit = 'tokens'")[0]
        assert (spent, held) == (15 * done, 0)
        assert "tokens a month" in str(runs[-1].error)
        assert "--tokens" in str(runs[-1].error)


PEOPLE = {"people": {"boss": {"wage": 60, "minutes": 5}}}


async def test_peoples_time_has_limits_too(open_app):
    step = Step("s", policy="boss")
    async with open_app(**PEOPLE) as o:
        cap(o, "a", 7 * 60, unit="attention", wait_s=30)
        one = await o.run(step, "x", id="one", account="a")
        assert one.review
        began = time.monotonic()
        two = await o.run(step, "x", id="two", account="a")
        assert time.monotonic() - began < 5, "nobody waits for what an open question holds"
        assert two.funds == "a"
        assert "minutes" in str(two.error)
        assert len(o.reviews()) == 1
        request = o.review(one.review)
        await o.decide(request.id, "modify", seen=request.digest, by="me", value="yes", minutes=1)
        assert (await o.run(step, "x", id="one")).result == "yes"
        assert (await o.run(step, "x", id="two")).review


async def test_an_open_question_is_not_counted_twice(open_app):
    step = Step("s", policy="boss")
    async with open_app(**PEOPLE) as o:
        cap(o, "a", 5 * 60, unit="attention")
        run = await o.run(step, "x", id="r", account="a")
        assert run.review
        assert (await o.run(step, "x", id="r", again=True)).review == run.review
        cap(o, "a", 60, unit="attention")  # below what is held
        assert (await o.run(step, "x", id="r", again=True)).review == run.review


async def test_an_overrun_refuses_its_worker_until_its_bound_is_raised(open_app):
    worker = ScriptedWorker("w", lambda request: Reply("said", usage=Usage(10, 5), cost=2 * worker.bound(request)))
    step = Step("s", policy=cascade("w", "other"), checks=[lambda text: True])
    alone = Step("alone", policy="w")
    other = echo("other")
    async with open_app(worker, other) as o:
        cap(o, "a", 10**9)
        run = await o.run(step, "x", id="r1", account="a")
        assert run.result == "said"  # it is paid for, and kept
        assert run.cost == 2 * bound(worker)
        assert settled(o) == [(run.cost, 0)]
        [news] = o.news()
        assert "overrun" in news
        assert "bound: 2.1" in news
        assert o.news() == []
    async with open_app(worker, other) as o:
        refused = await o.run(alone, "x", id="r2", account="a")
        assert (refused.status, refused.cost) == ("failed", 0)
        assert "w is refused" in str(refused.error)
        assert (await o.run(step, "x", id="r3", account="a")).result == "other:x"
        assert kinds(o)["void"] == 2
    assert worker.asked == 1
    worker.margin = 2.5  # type: ignore[attr-defined]  # as a program says of its own worker
    async with open_app(worker, other) as o:
        run = await o.run(alone, "x", id="r2", account="a", again=True)
        assert run.result == "said"


async def test_tokens_above_their_bound_are_an_overrun_too(open_app):
    worker = ScriptedWorker("w", lambda request: Reply("said", usage=Usage(90_000, 10_000), cost=1))
    async with open_app(worker) as o:
        cap(o, "a", 1_000, unit="tokens")
        assert (await o.run(ask, "x", id="r1", account="a")).result == "said"
        [news] = [one for one in o.news() if "overrun" in one]
        assert "was billed 100,000 tokens, and its bound was" in news
        cap(o, "a", 10**6, unit="tokens")
        refused = await o.run(ask, "x", id="r2", account="a")
        assert refused.status == "failed"
        assert "w is refused: a call was billed 100,000 tokens" in str(refused.error)


async def test_another_account_for_a_run_that_is_there_is_refused(open_app):
    async with open_app(echo()) as o:
        cap(o, "a", 10**9)
        cap(o, "b", 10**9)
        await o.run(ask, "x", id="r", account="a")
        with pytest.raises(JournalMismatch, match="was started on account 'a', not on 'b'"):
            await o.run(ask, "x", id="r", account="b")


async def test_who_pays_where_nobody_says(open_app):
    async with open_app(echo()) as o:
        await o.run(ask, "x", id="r0")
        cap(o, "sales/emea", 10**9)
        with pytest.raises(UsageError, match=r"Known: sales, sales/emea"):
            await o.run(ask, "x", id="r1")
        with pytest.raises(UsageError, match="Did you mean 'sales/emea'"):
            await o.run(ask, "x", id="r1", account="sales/emae")
        assert o.find("r1", ask) is None
    async with open_app(echo(), account="sales/emea") as o:
        assert (await o.run(ask, "x", id="r1")).status == "done"
        assert o.database.read("select account from run where id = 'r1'") == [("sales/emea",)]


async def test_another_process_that_was_faster_is_not_passed_over(open_app):
    """Its hold came into the file between this process' look and its commit: nothing is called, and nothing is shown."""
    worker = echo()
    async with open_app(worker) as o, open_app(echo()) as other:
        cap(o, "a", bound(worker))
        other._ledger.refresh()
        runs = await asyncio.gather(
            *(app.run(ask, "x", id=f"{i}.{n}", account="a") for n in range(5) for i, app in enumerate((o, other)))
        )
        done = [run for run in runs if run.status == "done"]
        assert len(done) >= 1
        assert settled(o) == [(len(done) * COST, 0)]
        assert not open_holds(o)
        for run in runs:
            assert run.status == "done" or run.funds == "a"


async def test_a_step_that_fails_otherwise_fails(open_app):
    async with open_app(ScriptedWorker("w", [WorkerFailed("t", "x", billed="no")])) as o:
        cap(o, "a", 10**9)
        run = await o.run(ask, "x", id="r", account="a")
        assert run.status == "failed"
        assert isinstance(run.error, StepFailed)
        assert not isinstance(run.error, FundsExhausted)
        assert entries(o)


class Own:
    """A worker of a program's own, with what the protocol asks for and no more."""

    name, price = "own", None

    def __init__(self, reply):
        self.said = reply

    def bound(self, request):
        return 5_000

    async def reply(self, request, on_delta=None):
        return self.said


@pytest.mark.parametrize(
    "reply",
    [
        Reply("said"),
        Reply("said", cost=-1),
        Reply("said", cost=float("nan")),  # type: ignore[arg-type]  # as a program may do
        Reply("said", cost=1.5),  # type: ignore[arg-type]
        Reply("said", cost=2**63),
        Reply("said", usage=None),  # type: ignore[arg-type]
        "said",
    ],
)
async def test_a_worker_that_does_not_say_what_it_cost_is_booked_in_full(open_app, reply):
    async with open_app(Own(reply)) as o:
        cap(o, "a", 10**6)
        run = await o.run(Step("s", policy="own"), "x", id="r", account="a")
        assert run.status == ("done" if reply == Reply("said") else "failed")
        assert (run.cost, settled(o), kinds(o)) == (5_000, [(5_000, 0)], {"hold": 1, "unknown": 1})


def raised(o, run):
    """Type what a run's error says."""
    [typed] = [part for part in str(run.error).split("`") if part.startswith("orchestrion budget set ")]
    for command in typed.split(" && "):
        account, option, amount, _, period = command.removeprefix("orchestrion budget set ").split()
        unit = {"--limit": "money", "--tokens": "tokens", "--minutes": "attention"}[option]
        value = round(float(amount) * {"money": 1e9, "tokens": 1, "attention": 60}[unit])
        with o.database.transaction() as session:
            told = "update cap set amount = $1 where account = $2 and unit = $3 and period = $4 returning amount"
            assert session.execute(told, (value, account, unit, period))
            Books().changed(session, [account], time.time())
    o._ledger.refresh()


async def test_where_several_limits_are_short_all_are_named(open_app):
    async with open_app(echo()) as o:
        limit(o, "a", (10, "money", "month"))
        limit(o, "a/b", (7, "money", "run"), (5, "tokens", "day"), (10**9, "money", "day"))
        run = await o.run(ask, "x", id="r", account="a/b")
        assert str(run.error).count("orchestrion budget set ") == 3
        raised(o, run)
        assert (await o.run(ask, "x", id="r")).status == "done"


async def test_what_open_questions_hold_is_part_of_what_is_needed(open_app):
    """It may be held for days: a limit that waits for it would not be enough."""
    worker = echo()
    async with open_app(worker, echo("dear", max_output=400), people={"boss": {"wage": 0.006, "minutes": 5}}) as o:
        question = 500_000
        cap(o, "a", question + bound(worker))
        assert (await o.run(Step("s", policy="boss"), "x", id="one", account="a")).review
        assert (await o.run(ask, "x", id="two", account="a")).status == "done"
        dear = Step("dear", policy="dear")
        run = await o.run(dear, "x", id="three", account="a")
        assert run.funds == "a"
        raised(o, run)
        assert (await o.run(dear, "x", id="three")).status == "done"
