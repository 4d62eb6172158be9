"""What went wrong with money in other systems, asked of this one: over real HTTP, beside the provider's own invoice.

The provider keeps count of what it would ask for. Where the outcome of every call is known, the books say the same to the
nano-dollar; where it is not, they say no less.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Iterable
from typing import Any

import pytest
from aiohttp import web

from orchestrion import Orchestrion, Step, cascade, fallback, judge, retried, workflow
from orchestrion.domain import Call, Price, Reply, Task, Usage
from orchestrion.engine.execution import SavedPolicy
from orchestrion.engine.replay import replay
from orchestrion.engine.workflow import Start
from orchestrion.ledger.accounts import Account, Cap
from orchestrion.ledger.budgets import apply
from orchestrion.ledger.reconcile import reconcile, unknown
from orchestrion.settings import Settings
from orchestrion.testing import ScriptedWorker
from orchestrion.workers import again
from tests.conftest import entries, kinds, open_holds

READ, WRITE, CACHED = 2_000, 10_000, 200
"""Nano-dollars a token: $2, $10 and $0.20 a million."""

TEXT = "How many? " * 120
"""Long enough to have the tokens that the provider bills."""

USAGE = {"prompt_tokens": 1_000, "completion_tokens": 100}
COST = 1_000 * READ + 100 * WRITE
DOLLAR = 10**9


class Provider:
    """OpenAI's chat completions on loopback. Each request meets the next of ``fates``, and is ``served`` when none are left.

    ``invoice`` is what the provider asks for, in nano-dollars: a call that it worked on, whatever became of the answer.
    """

    def __init__(self, fates: Iterable[str] = (), *, usage: dict[str, Any] = USAGE, delay: float = 0.0) -> None:
        self._fates, self._usage, self._delay = iter(fates), usage, delay
        self.invoice = 0
        self.requests = 0

    def bill(self) -> int:
        cached = (self._usage.get("prompt_tokens_details") or {}).get("cached_tokens", 0)
        fresh = self._usage["prompt_tokens"] - cached
        return int(fresh * READ + cached * CACHED + self._usage["completion_tokens"] * WRITE)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.requests += 1
        fate = next(self._fates, "served")
        body = await request.json()
        await asyncio.sleep(self._delay)
        if fate == "429":
            return web.json_response({"error": {"message": "slow down"}}, status=429, headers={"Retry-After": "0"})
        if fate == "400":
            return web.json_response({"error": {"message": "no such thing"}}, status=400)
        self.invoice += self.bill()
        if fate == "500":
            return web.json_response({"error": {"message": "after the work was done"}}, status=500)
        if fate == "slow":
            await asyncio.sleep(5)
        said = '{"reason": "it is", "score": 5}' if "response_format" in body else "42"
        whole = {
            "choices": [{"message": {"role": "assistant", "content": said}, "finish_reason": "stop"}],
            "usage": self._usage,
        }
        if fate == "unmetered":
            del whole["usage"]
        payload = json.dumps(whole).encode()
        response = web.StreamResponse(headers={"Content-Type": "application/json", "Content-Length": str(len(payload))})
        await response.prepare(request)
        if fate == "cut":
            await response.write(payload[: len(payload) // 2])
            assert request.transport
            request.transport.close()
        else:
            await response.write(payload)
        return response


@pytest.fixture
async def serve():
    """``await serve(provider)``: its base_url."""
    async with contextlib.AsyncExitStack() as stack:

        async def started(provider: Provider) -> str:
            app = web.Application()
            app.router.add_post("/v1/chat/completions", provider.answer)
            runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
            await runner.setup()
            stack.push_async_callback(runner.cleanup)
            await web.TCPSite(runner, "127.0.0.1", 0, backlog=1024).start()
            return f"http://127.0.0.1:{runner.addresses[0][1]}/v1"

        yield started


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch):
    monkeypatch.setattr(again, "FIRST_PAUSE_S", 0.001)


def model(base_url: str, **options: Any) -> dict[str, Any]:
    price = {"input": READ / 1_000, "output": WRITE / 1_000, "cache_read": CACHED / 1_000}
    return {"model": "openai-chat:metered", "base_url": base_url, "price": price, "max_output": 200, **options}


@contextlib.asynccontextmanager
async def opened(database, models, *workers, **budgets):
    """An app on these models, and accounts with limits of money a day: ``co=5 * DOLLAR``, `**{"co/a": None}`."""
    settings = Settings(database=f"sqlite:///{database}", models=models)
    async with Orchestrion.open(settings, workers=workers) as app:
        limit(app, **budgets)
        yield app


def limit(app: Orchestrion, **budgets: int | None) -> None:
    accounts = [
        Account(name=name, caps=(Cap("money", "day", most),) if most is not None else ())
        for name, most in budgets.items()
    ]
    with app.database.transaction() as session:
        apply(session, accounts, who="test")
    app._ledger.refresh()


def settled(app: Orchestrion, account: str = "co") -> int:
    [(money, held)] = app.database.read("select settled, held from balance where account = ?", (account,))
    assert held == 0
    return int(money)


def bound(app: Orchestrion, name: str = "m", text: str = TEXT) -> int:
    return app.workers[name].bound(ask.request(Task("t", text), Call(name)))


def starts(n: int, *accounts: str) -> list[Start]:
    return [Start(id=f"r{i}", task_id=f"t{i}", input=TEXT, account=accounts[i % len(accounts)]) for i in range(n)]


ask = Step("ask", policy="m")


@pytest.mark.parametrize(("team", "key"), [(10 * COST, 1_000 * COST), (1_000 * COST, 10 * COST)])
async def test_a_childs_budget_is_bypassed_neither_by_its_parents_nor_the_other_way_round(database, serve, team, key):
    """LiteLLM checked a key's budget or its team's, whichever it looked at."""
    provider = Provider()
    async with opened(database, {"m": model(await serve(provider))}, **{"co": team, "co/key": key}) as o:
        runs = [run async for run in o.run_all(ask, starts(40, "co/key"), concurrency=40)]
        done = sum(run.status == "done" for run in runs)
        assert 0 < done <= 10
        assert settled(o, "co") == settled(o, "co/key") == provider.invoice == done * COST


async def test_many_children_do_not_add_up_to_more_than_their_parent(database, serve):
    provider = Provider(delay=0.01)
    accounts = {"co": 20 * COST, **{f"co/{i}": 15 * COST for i in range(4)}}
    async with opened(database, {"m": model(await serve(provider))}, **accounts) as o:
        _ = [run async for run in o.run_all(ask, starts(120, *list(accounts)[1:]), concurrency=120)]
        assert settled(o) == provider.invoice == sum(settled(o, f"co/{i}") for i in range(4)) <= 20 * COST


async def test_a_five_dollar_cap_spends_no_more_than_five_dollars(database, serve):
    """Elsewhere a $5 cap spent $5.135: what was under way was not counted."""
    usage = {"prompt_tokens": 1_000, "completion_tokens": 4_300}  # 4.5 cents a call
    provider = Provider(usage=usage, delay=0.02)
    async with opened(database, {"m": model(await serve(provider), max_output=4_400)}, co=5 * DOLLAR) as o:
        runs = [run async for run in o.run_all(ask, starts(250, "co"), concurrency=250)]
        assert settled(o) == provider.invoice <= 5 * DOLLAR
        assert provider.invoice + bound(o) > 5 * DOLLAR, "what is left pays for no other call"
        assert {run.status for run in runs} == {"done", "waiting"}


@pytest.mark.parametrize("fate", ["500", "cut", "unmetered"])
async def test_a_primary_that_was_billed_and_failed_and_the_fallback_that_answered(database, serve, fate):
    """Elsewhere booked 35 % low (the primary forgotten) or 109 % high (the answer's cost for both)."""
    primary, other = Provider([fate]), Provider()
    models = {"m": model(await serve(primary)), "other": model(await serve(other))}
    step = Step("ask", policy=fallback("m", "other"))
    async with opened(database, models, co=DOLLAR) as o:
        run = await o.run(step, TEXT, id="r", account="co")
        most = bound(o)
        assert run.result == "42"
        assert run.cost == settled(o) == most + COST, "what nobody knows in full, and the answer to the nano-dollar"
        assert settled(o) >= primary.invoice + other.invoice
        with o.database.transaction() as session:
            [lost] = unknown(session)
            assert (lost.booked, lost.worker, lost.run) == (most, "m", "r")
            reconcile(session, lost.hold, primary.invoice, name="it", who="test")
        assert settled(o) == primary.invoice + other.invoice
        assert [one.cost_usd for one in o.outcomes()].count(None) == 0, "no null cost after a fallback"


@pytest.mark.parametrize("fate", ["400", "429"])
async def test_what_was_refused_costs_nothing(database, serve, fate):
    primary, other = Provider([fate] * 9), Provider()
    models = {"m": model(await serve(primary)), "other": model(await serve(other))}
    async with opened(database, models, co=DOLLAR) as o:
        run = await o.run(Step("ask", policy=fallback("m", "other")), TEXT, id="r", account="co")
        assert primary.invoice == 0
        assert run.cost == settled(o) == other.invoice == COST
        assert kinds(o) == {"hold": 2, "void": 1, "post": 1}


async def test_a_rate_limit_that_passes_is_paid_once(database, serve):
    provider = Provider(["429", "429"])
    async with opened(database, {"m": model(await serve(provider))}, co=DOLLAR) as o:
        run = await o.run(ask, TEXT, id="r", account="co")
        assert provider.requests == 3
        assert run.cost == settled(o) == provider.invoice == COST
        assert kinds(o) == {"hold": 1, "post": 1}


@pytest.mark.parametrize("fate", ["500", "cut", "slow"])
async def test_each_try_that_may_have_been_billed_is_paid_each_time(database, serve, fate):
    provider = Provider([fate, fate])
    models = {"m": model(await serve(provider), timeout_s=0.3)}
    async with opened(database, models, co=DOLLAR) as o:
        run = await o.run(Step("ask", policy=retried("m", times=3)), TEXT, id="r", account="co")
        assert run.result == "42"
        assert provider.requests == 3
        assert provider.invoice == 3 * COST
        assert run.cost == settled(o) == 2 * bound(o) + COST >= provider.invoice


async def test_retries_stop_at_the_cap(database, serve):
    provider = Provider(["500"] * 99)
    async with opened(database, {"m": model(await serve(provider))}, co=DOLLAR) as o:
        limit(o, co=3 * bound(o))
        run = await o.run(Step("ask", policy=retried("m", times=50)), TEXT, id="r", account="co")
        assert (run.status, provider.requests) == ("waiting", 3)
        assert settled(o) == 3 * bound(o)


async def test_cached_tokens_are_paid_once_at_their_own_price(database, serve):
    """OpenAI's prompt_tokens include the cached ones: added up, they would be paid twice."""
    usage = {"prompt_tokens": 1_000, "completion_tokens": 100, "prompt_tokens_details": {"cached_tokens": 900}}
    provider = Provider(usage=usage)
    async with opened(database, {"m": model(await serve(provider))}, co=DOLLAR) as o:
        run = await o.run(ask, TEXT, id="r", account="co")
        assert run.cost == settled(o) == provider.invoice == 100 * READ + 900 * CACHED + 100 * WRITE


async def test_nothing_is_paid_for_what_is_remembered(database, serve):
    """Elsewhere a cache hit was booked at the full price. Here: the same run again, resumed after its workflow broke, and replayed."""
    provider, broken = Provider(), True

    @workflow
    async def flow(text: str) -> str:
        said = await ask(text)
        if broken:
            raise ValueError("a bug in the code behind a paid answer")
        return said

    models = {"m": model(await serve(provider))}
    async with opened(database, models, co=DOLLAR) as o:
        assert (await o.run(flow, TEXT, id="r", account="co")).status == "failed"
        broken = False
    async with opened(database, models, co=DOLLAR) as o:
        assert (await o.run(flow, TEXT, id="r", again=True)).result == "42"
        assert (await o.run(flow, TEXT, id="r")).result == "42"
        before = entries(o)
        assert (await replay(o.outcomes(), SavedPolicy(cascade("m", "m")))).calls
        assert entries(o) == before
        assert settled(o) == provider.invoice == COST
        assert provider.requests == 1


async def test_judges_are_paid_under_the_same_cap(database, serve):
    provider, judged = Provider(), Provider()
    models = {"m": model(await serve(provider)), "judge": model(await serve(judged))}
    step = Step("ask", policy="m", checks=[judge("judge", "Is it a number?")])
    async with opened(database, models, co=DOLLAR) as o:
        run = await o.run(step, TEXT, id="r", account="co")
        assert judged.invoice
        assert run.cost == settled(o) == provider.invoice + judged.invoice


@pytest.mark.parametrize("factor", [0.5, 3])
async def test_a_price_that_changes_while_a_call_is_under_way(open_app, factor):
    """Held at the old price, billed at the new one: the post is true, whatever was held."""

    async def dearer(request):
        worker.price = Price(int(READ * 1e6 * factor), int(WRITE * 1e6 * factor))
        return Reply("42", usage=Usage(1_000, 100))

    worker = ScriptedWorker("m", dearer, price=Price(READ * 10**6, WRITE * 10**6), max_output=200)
    async with open_app(worker) as o:
        limit(o, co=DOLLAR)
        run = await o.run(ask, TEXT, id="r", account="co")
        assert run.cost == settled(o) == int(COST * factor)
        overruns = o.database.read("select bound, actual from overrun")
        assert overruns == ([] if factor < 1 else [(worker.bound(ask.request(Task("t", TEXT), Call("m"))), run.cost)])


async def test_a_provider_that_bills_more_tokens_than_can_be_is_booked_as_it_bills(database, serve):
    """The cap cannot be kept against that; but it is said, and nobody asks there again."""
    provider = Provider(usage={"prompt_tokens": 1_000, "completion_tokens": 5_000})
    async with opened(database, {"m": model(await serve(provider))}, co=DOLLAR) as o:
        await o.run(ask, TEXT, id="r1", account="co")
        again_ = await o.run(ask, TEXT, id="r2", account="co")
        assert settled(o) == provider.invoice == 1_000 * READ + 5_000 * WRITE
        assert provider.requests == 1
        assert again_.status == "failed"
        assert "m is refused" in str(again_.error)


async def test_whatever_goes_wrong_the_books_are_the_invoice_or_above_it(database, serve):
    """200 calls at once through every failure there is, under a cap that does not pay for all."""
    fates = ["served", "500", "cut", "served", "429", "400", "unmetered", "served"] * 60
    provider = Provider(fates, delay=0.002)
    async with opened(database, {"m": model(await serve(provider))}, co=DOLLAR) as o:
        limit(o, **{"co": 60 * bound(o), "co/a": 40 * bound(o), "co/b": 40 * bound(o)})
        step = Step("ask", policy=retried("m", times=3))
        runs = [run async for run in o.run_all(step, starts(200, "co/a", "co/b"), concurrency=200)]
        assert {run.status for run in runs} >= {"done", "waiting"}
        assert not open_holds(o)
        assert provider.invoice <= settled(o) == settled(o, "co/a") + settled(o, "co/b") <= 60 * bound(o)
        assert sum(run.cost for run in runs) == settled(o)
        with o.database.transaction() as session:
            for lost in unknown(session):
                reconcile(session, lost.hold, provider.bill(), name="it", who="test")
        assert settled(o) == provider.invoice
