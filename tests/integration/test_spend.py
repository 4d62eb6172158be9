"""Who spent what: sums equal the entries to the nano-dollar, whatever happened and however it is grouped."""

from __future__ import annotations

import asyncio
import contextlib
import csv
import io
import itertools
import json
import tempfile
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrion import Orchestrion, Step, Verdict, cascade, corrected, workflow
from orchestrion.cli import cli
from orchestrion.cli.spent import exact
from orchestrion.domain import Price, Reply, Usage, nanos
from orchestrion.engine.workflow import Start
from orchestrion.errors import UsageError, WorkerFailed
from orchestrion.limits import BudgetSettings
from orchestrion.report.calls import KINDS, calls_of_entries, calls_of_runs
from orchestrion.report.facts import Figures, total
from orchestrion.report.page import render
from orchestrion.report.recorded import newest_batch, report_runs
from orchestrion.report.spend import DIMENSIONS, Selection, spending
from orchestrion.settings import Settings
from orchestrion.testing import ScriptedWorker
from orchestrion.workers.people import Person
from tests.conftest import Crash, entries

PRICES = {"cheap": Price(150_000_000, 600_000_001), "frontier": Price(2_500_000_007, 10_000_000_000)}
EVERY = (*DIMENSIONS, "day", "tag:plan")


class Judge:
    """A check that asks a worker of its own."""

    name = "judge"

    async def __call__(self, task, attempts, ask):
        said = await ask("judge", ({"role": "user", "content": attempts[-1].output or ""},))
        return Verdict("judge", said.output != "no", 1.0)


def good(answer: str) -> str | None:
    return "bad" if answer == "bad" else None


draft = Step("draft", "Draft.", policy=cascade(corrected("cheap"), "frontier", "ana"), checks=[good])
polish = Step("polish", "Polish.", policy=cascade("frontier", "ana"), checks=[good, Judge()])


@workflow
async def letter(text: str) -> str:
    return await polish(await draft(text))


@workflow
async def note(text: str) -> str:
    return await draft(text)


FAILURES = {
    "down": lambda: WorkerFailed("http_500", "down"),
    "billed": lambda: WorkerFailed("garbage", "no text", billed="yes", cost=1_234_567),
    "unsent": lambda: WorkerFailed("http_429", "later", billed="no"),
}


def scripted(answers):
    """Workers that answer by what is left of a list; a crash is one of the answers."""
    left = iter(answers)

    def answer(request):
        said, read, written = next(left, ("fine", 10, 5))
        if said == "crash":
            raise Crash
        if said in FAILURES:
            raise FAILURES[said]()
        return Reply(said, usage=Usage(input_tokens=read, output_tokens=written))

    models = [ScriptedWorker(name, answer, price=price, max_output=1_000) for name, price in PRICES.items()]
    judge = ScriptedWorker("judge", answer)
    return (*models, judge, Person("ana", wage=nanos(61), minutes=7.0))


SAID = st.tuples(
    st.sampled_from(["fine", "fine", "fine", "bad", "no", "crash", *FAILURES]), st.integers(0, 40), st.integers(0, 40)
)
RUNS = st.lists(
    st.tuples(st.booleans(), st.sampled_from(["co", "co/a", "co/b", "co/b/x"]), st.sampled_from(["free", "paid", ""])),
    min_size=1,
    max_size=5,
)
DECISIONS = st.lists(st.sampled_from(["modify", "reject", "ask", "cancel", "leave"]), max_size=5)


async def perform(database: Path, runs, answers, decisions) -> None:
    """Runs of all kinds; the process dies now and then, people decide, others take up what was left."""
    config = Settings(database=f"sqlite:///{database}")
    for turn in range(2):
        workers = scripted(answers if not turn else ())
        async with Orchestrion.open(config, workers=workers) as o:
            for i, (short, account, plan) in enumerate(runs):
                tags = {"plan": plan} if plan else {}
                start = Start(id=f"r{i}", task_id=f"t{i}", input=f"{i}", account=account, tags=tags, batch=f"b{i % 2}")
                with contextlib.suppress(Crash):
                    async for _ in o.run_all(note if short else letter, [start], again=bool(turn)):
                        pass
            for request, what in zip((one for one in o.reviews() if one.state == "open"), decisions, strict=False):
                if what == "cancel":
                    await o.cancel(request.run_id)
                elif what != "leave":
                    more = {"value": "mine"} if what == "modify" else {"text": "why?"}
                    await o.decide(request.id, what, seen=request.digest, by="ana", minutes=1 / 3, **more)


async def look(database: Path, see) -> None:
    async with Orchestrion.open(Settings(database=f"sqlite:///{database}")) as o:
        see(o)


def sums_of(o) -> tuple[int, int]:
    """What the entries say: posted, and held by holds that are open."""
    [(posted,)] = o.database.read("select coalesce(sum(amount), 0) from post")
    [(held,)] = o.database.read(
        "select coalesce(sum(amount), 0) from hold where not exists (select 1 from post where post.hold = hold.hold)"
    )
    return posted, held


def check_all(o) -> None:
    posted, held = sums_of(o)
    tagged = bool(o.database.read("select 1 from run where tags like '%plan%'"))
    names = [name for name in EVERY if tagged or not name.startswith("tag:")]
    for by in [*((name,) for name in names), *itertools.combinations(names, 2)]:
        found = spending(o.database, by=by, prices=PRICES)
        figures = total(row.figures for row in found.rows)
        assert (figures.cost, figures.held) == (posted, held)
        assert figures == found.total.figures or figures.minutes == pytest.approx(found.total.figures.minutes)
        assert len({row.keys for row in found.rows}) == len(found.rows)
        for one in (*(row.figures for row in found.rows), found.total.figures):
            check_figures(one)
    of_entries, of_runs = list(calls_of_entries(o.database)), list(calls_of_runs(o.database))
    assert of_entries == of_runs
    report = report_runs(o.database, o.settings, prices=PRICES)
    for parts in (report.cells, report.accounts, report.kinds):
        assert sum(part.figures.cost for part in parts) == report.figures.cost == posted
    for account in ("co", "co/b"):
        with contextlib.suppress(UsageError):  # nobody spent there
            below = spending(o.database, by=["account"], selection=Selection(account=account), prices=PRICES)
            [(booked,)] = o.database.read(
                "select coalesce(sum(amount), 0) from entry where kind <> 'hold' and (account = ?1 or account like ?1 || '/%')",
                (account,),
            )
            assert below.total.figures.cost == booked == below.within.get(account, below.rows[0].figures).cost


def check_figures(one: Figures) -> None:
    ways = (one.accepted, one.refused, one.unused, one.failed, one.declined, one.lost, one.unsent, one.open)
    assert one.calls == sum(ways)
    assert one.reserved + one.over == one.cost + one.released + one.held
    assert one.tokens == one.tokens_in + one.tokens_out
    assert one.voided <= one.released


@settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow])
@given(runs=RUNS, answers=st.lists(SAID, max_size=20), decisions=DECISIONS)
def test_rows_sum_to_the_entries_whatever_happened_and_however_they_are_grouped(runs, answers, decisions):
    with tempfile.TemporaryDirectory() as folder:
        database = Path(folder) / "o.db"
        asyncio.run(perform(database, runs, answers, decisions))
        asyncio.run(look(database, check_all))


# What each thing is counted as -------------------------------------------------------------------------------------


@pytest.fixture
async def spent(open_app):
    """Two accounts, two workflows; a correction, a failure, a judge, a person, a call that is open, one that was lost."""

    def dies(request):
        raise Crash

    async with open_app(ScriptedWorker("cheap", dies)) as o:
        with pytest.raises(Crash):
            await o.run(note, "lost", id="lost", account="co/lost")
    said = [("bad", 100, 10), ("fine", 150, 10)]  # a refused answer, and its correction
    said += [("fine", 120, 20), ("yes", 30, 1)]  # polish by the frontier, and what the judge says
    said += [("bad", 100, 10), ("bad", 100, 10), ("down", 0, 0)]  # all that models can do; then a person
    said += [("bad", 100, 10), ("bad", 100, 10), ("down", 0, 0)]
    async with open_app(*scripted(said)) as o:
        starts = [
            (letter, Start(id="x/1", task_id="1", input="1", account="co/a", tags={"plan": "paid"}, batch="x")),
            (note, Start(id="x/2", task_id="2", input="2", account="co/b", tags={"plan": "free"}, batch="x")),
            (note, Start(id="x/3", task_id="3", input="3", account="co/b", batch="x")),
        ]
        for flow, start in starts:
            assert len([run async for run in o.run_all(flow, [start])]) == 1
        first = next(one for one in o.reviews() if one.task_id == "2")
        await o.decide(first.id, "modify", value="mine", seen=first.digest, by="ana", minutes=2.5)
        assert len([run async for run in o.run_all(note, [starts[1][1]])]) == 1
        yield o


def by(o, *names, **more):
    found = spending(o.database, by=names, prices=PRICES, **more)
    return {row.keys if len(names) > 1 else row.keys[0]: row for row in found.rows}


async def test_checks_are_counted_at_their_step_and_as_checks(spent):
    steps = by(spent, "step")
    assert set(steps) == {"draft", "polish"}
    judged = steps["polish"].figures.checks
    assert judged == by(spent, "worker")["judge"].figures.cost == by(spent, "kind")["checks"].figures.cost > 0
    assert steps["draft"].figures.checks == 0


async def test_people_are_counted_with_their_wages_and_minutes_and_what_is_open_is_held(spent):
    people = by(spent, "person")
    assert people["ana"].figures.minutes == 2.5
    assert people["ana"].figures.wages == people["ana"].figures.cost == -(-nanos(61) * 5 // 120)
    assert (people["(nobody yet)"].figures.open, people["(nobody yet)"].figures.cost) == (1, 0)
    assert people["(nobody yet)"].figures.held == by(spent, "kind")["held"].figures.held > 0
    assert people["(no person)"].figures.wages == 0


async def test_kinds_say_what_became_of_it(spent):
    kinds = by(spent, "kind")
    assert list(kinds) == [name for name in KINDS if name in kinds]
    counted = {name: row.figures.calls for name, row in kinds.items()}
    assert counted == {"accepted": 2, "refused": 5, "failed": 2, "lost": 1, "people": 1, "checks": 1, "held": 1}
    assert kinds["lost"].figures.unknown == kinds["lost"].figures.cost > 0


async def test_an_accepted_outcome_costs_all_that_it_took(spent):
    found = spending(spent.database, by=["workflow"], prices=PRICES)
    booked = sum(amount for _, kind, amount in entries(spent) if kind != "hold")
    assert (found.answered, found.of_runs) == (2, True)
    assert found.each == round(booked / 2)
    rows = {row.keys[0]: row for row in found.rows}
    assert {name: row.outcomes for name, row in rows.items()} == {"letter": 1, "note": 1}
    assert rows["note"].each == rows["note"].figures.cost
    assert by(spent, "step")["draft"].outcomes == 2


async def test_the_frontier_alone_is_compared_with_what_models_cost_on_the_same_work(spent):
    rows = by(spent, "workflow")
    price = PRICES["frontier"]
    alone = rows["letter"].alone
    assert (alone.worker, alone.estimated, alone.left_out) == ("frontier", True, 0)
    assert alone.cost == price.cost(Usage(100, 10)) + price.cost(Usage(120, 20))
    assert rows["letter"].compared == rows["letter"].figures.cost
    assert rows["letter"].ratio == rows["letter"].figures.cost / alone.cost
    assert rows["note"].alone.left_out == 1
    assert rows["note"].ratio is None
    assert by(spent, "worker")["cheap"].alone is None


async def test_the_dearest_is_the_one_at_whose_price_this_work_would_have_cost_most(spent):
    dear = {"cheap": Price(10**12, 0), "frontier": Price(0, 10**12)}  # mostly read here, and little written
    found = [
        spending(spent.database, by=["step"], prices=dear).total.alone,
        spending(spent.database, by=["step"], prices=PRICES, frontier="cheap").total.alone,
    ]
    assert [one and one.worker for one in found] == ["cheap", "cheap"]


async def test_tags_and_accounts(spent):
    assert set(by(spent, "tag:plan")) == {"paid", "free", "(no plan)"}
    found = spending(spent.database, by=["account"], prices=PRICES)
    assert [row.keys[0] for row in found.rows] == ["co/a", "co/b", "co/lost"]
    assert found.within == {"co": found.total.figures}
    assert set(by(spent, "account", selection=Selection(account="co/b"))) == {"co/b"}
    assert set(by(spent, "run", selection=Selection(batch="x"))) == {"x/1", "x/2", "x/3"}


async def test_what_no_run_made_does_not_vanish(spent):
    before = spending(spent.database, by=["run"], prices=PRICES).total.figures
    with spent.database.reader:
        spent.database.reader.execute(
            "insert into hold (hold, account, amount, run, at) values (1, 'co/b', 900, null, 5)"
        )
        spent.database.reader.execute("insert into post (hold, kind, amount, at) values (1, 'post', 1000, 6)")
        spent.database.reader.execute(
            "insert into hold (hold, account, amount, run, at) values (2, 'co/b', 70, null, 5)"
        )
    for name in ("run", "workflow", "step", "worker", "batch", "kind"):
        row = by(spent, name)["(no run)"]
        assert (row.figures.cost, row.figures.over) == (1000, 100)
    after = spending(spent.database, by=["run"], prices=PRICES).total.figures
    assert (after.cost, after.held) == (before.cost + 1000, before.held + 70)
    early = spending(spent.database, by=["day"], selection=Selection(until=10.0), prices=PRICES)
    assert [row.keys for row in early.rows] == [("1970-01-01",)]
    assert early.answered == 0
    assert early.each is None


async def test_days_are_those_of_the_account_s_time_zone(spent):
    spent.database.reader.execute("insert into account (name, zone) values ('co', 'Asia/Tokyo')")
    spent.database.reader.execute("insert into hold (hold, account, amount, run, at) values (1, 'co', 1, null, 57600)")
    found = spending(spent.database, by=["day"], prices=PRICES)
    assert (found.zone, found.rows[0].keys) == ("Asia/Tokyo", ("1970-01-02",))


@pytest.mark.parametrize(
    ("names", "selected", "said"),
    [
        (["stepp"], {}, "Did you mean 'step'"),
        (["plan"], {}, "--by tag:plan"),
        (["tag:plam"], {}, "Did you mean 'plan'"),
        (["step"], {"account": "co/c"}, "Did you mean 'co/"),
        (["step"], {"batch": "y"}, "Known: x"),
    ],
)
async def test_unknown_names_are_refused_with_the_nearest(spent, names, selected, said):
    with pytest.raises(UsageError, match=r"no |grouped by") as refused:
        spending(spent.database, by=names, selection=Selection(**selected), prices=PRICES)
    assert said in str(refused.value)


# Model checks ------------------------------------------------------------------------------------------------------


async def test_model_checks_are_in_the_money_and_in_no_evidence(spent):
    before = spending(spent.database, by=["kind"], prices=PRICES)
    outcomes = len(list(spent.outcomes()))
    answers = report_runs(spent.database, spent.settings, prices=PRICES)
    await spent.run(Step("check", "One word.", policy="frontier"), "Say: ok", id="models-check/frontier/1")
    after = spending(spent.database, by=["kind"], prices=PRICES)
    probe = next(row for row in after.rows if row.keys == ("models --check",))
    assert after.total.figures.cost == before.total.figures.cost + probe.figures.cost > before.total.figures.cost
    assert (after.answered, after.total.alone) == (before.answered, before.total.alone)
    assert after.total.compared == before.total.compared
    assert len(list(spent.outcomes())) == outcomes
    report = report_runs(spent.database, spent.settings, prices=PRICES)
    assert (report.tasks, report.alone, report.quality) == (answers.tasks, answers.alone, answers.quality)
    assert report.figures.cost == after.total.figures.cost
    assert newest_batch(spent.database)[0] == "x"


# The command -------------------------------------------------------------------------------------------------------


@pytest.fixture
def say(spent, database, tmp_path):
    config = tmp_path / "o.yaml"
    config.write_text(
        f"database: sqlite:///{database}\nmodels:\n"
        "  frontier: {model: 'openai-chat:x', base_url: 'http://127.0.0.1:9/v1', price: {input: 2.5, output: 10}}\n"
    )

    def invoke(*arguments):
        return CliRunner().invoke(cli, ["budget", "spent", *arguments, "--config", str(config)])

    return invoke


def test_csv_and_json_have_every_nano_dollar(say, database):
    shown = say("--by", "worker", "--csv")
    rows = list(csv.DictReader(io.StringIO(shown.stdout)))
    found = json.loads(say("--by", "worker", "--json").stdout)
    assert [row["worker"] for row in rows] == [row["keys"]["worker"] for row in found["rows"]]
    for name in ("cost", "reserved", "released", "held", "unknown"):
        nanos_ = sum(int(row[f"{name}_nanos"]) for row in rows)
        assert nanos_ == found["total"][f"{name}_nanos"]
        assert all(row[f"{name}_usd"] == exact(int(row[f"{name}_nanos"])) for row in rows)
    assert found["total"]["cost_usd"] == pytest.approx(found["total"]["cost_nanos"] / 1e9)
    assert exact(-1_000_000_001) == "-1.000000001"


def test_the_table_shows_accounts_as_a_tree_and_says_what_an_outcome_cost(say):
    shown = say().stdout
    lines = [line.split("  ")[0] if not line.startswith(" ") else line[:6].rstrip() for line in shown.splitlines()]
    tree = lines[lines.index("account") + 1 : lines.index("total")]
    assert tree == ["co", "  a", "  b", "  lost"[:6]]
    assert "An accepted outcome cost" in shown
    assert "2 runs ended with an answer" in shown
    assert "is people's wages, for 2.5 minutes" in shown
    assert "frontier alone would have cost at least" in shown


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--since", "yesterday-ish"], "no day and no moment"),
        (["--since", "2026-02-30"], "no day and no moment"),
        (["--since", "999999w"], "from 1970-01-01 00:00 (UTC): $"),
        (["--since", "2026-11-22", "--until", "2026-11-21"], "nothing lies between"),
        (["--until", "1999-12-31"], "nothing is booked or held"),
        (["--frontier", "fronteir"], "Did you mean 'frontier'"),
        (["--by", "step", "--by", "step"], "the same twice"),
        (["--csv", "--json"], "Give one of them"),
        (["co/aa"], "Did you mean 'co/a'"),
    ],
)
def test_bad_input_is_said_in_a_sentence(say, arguments, said):
    shown = say(*arguments)
    assert said in (shown.stdout + str(shown.exception or ""))
    assert isinstance(shown.exception, UsageError | None)


def test_of_an_empty_database_it_says_so(database, tmp_path):
    async def make() -> None:
        async with Orchestrion.open(Settings(database=f"sqlite:///{database}")):
            pass

    asyncio.run(make())
    config = tmp_path / "empty.yaml"
    config.write_text(f"database: sqlite:///{database}\n")
    shown = CliRunner().invoke(cli, ["budget", "spent", "--config", str(config)])
    assert (shown.exit_code, shown.stdout) == (0, "all accounts: nothing is booked or held.\n")


# Money that ran out -------------------------------------------------------------------------------------------------


async def test_a_run_that_waits_for_money_is_told_with_the_command_that_lets_it_go_on(open_app):
    said = [("fine", 3000, 1000)] * 9
    budgets = {"co": BudgetSettings(limit=0.004, period="forever", wait_s=0)}
    async with open_app(*scripted(said), budgets=budgets) as o:
        starts = [Start(id=f"m{i}", task_id=f"{i}", input=f"{i}" * 3000, account="co", batch="m") for i in range(9)]
        runs = [run async for run in o.run_all(note, starts)]
        short = [run for run in runs if run.status == "waiting"]
        assert short
        report = report_runs(o.database, o.settings, batch="m", prices=PRICES)
        waiting = [one for one in report.waiting if one.kind == "money"]
        assert len(waiting) == len(short)
        assert waiting[0].command.startswith("orchestrion budget set co --limit ")
        assert "wait for money" in report.summary
        assert "Waiting for money" in render(report)
        found = spending(o.database, by=["kind"], prices=PRICES)
        assert (found.total.figures.cost, found.total.figures.held) == sums_of(o)
        assert found.answered == len(runs) - len(short)
