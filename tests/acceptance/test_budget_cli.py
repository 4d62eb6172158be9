"""`orchestrion budget` as its user meets it: text, JSON, CSV, mistakes, and what another process sees."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import subprocess
import sys

import pytest
from click.testing import CliRunner

from orchestrion.cli import cli
from orchestrion.errors import OrchestrionError

SETTINGS = """
database: sqlite:///books.db
account: company/support
budgets:
  company: {limit: 10, period: month, time_zone: Europe/Berlin}
  company/support: {limit: 2.5, period: day, limits: [{tokens: 100000}], class: critical}
  company/tax: {limit: 4, period: month}
  company/legal:
"""
SPEND = """
import asyncio, os, sys
from orchestrion import Orchestrion
from orchestrion.ledger.accounts import Amounts

async def main():
    async with Orchestrion.open() as o:
        ledger = o._house.ledger
        held = ledger.hold("company/support", [Amounts(300_000_001, 700), Amounts(250_000_000, 500)], run=None)
        ledger.post(held[0], Amounts(200_000_001, 600), kind="post")
        await o.database.writer.durable()
        if sys.argv[1:] == ["die"]:
            os._exit(1)
        ledger.post(held[1], Amounts(0), kind="void")

asyncio.run(main())
"""


@pytest.fixture
def project(tmp_path):
    (tmp_path / "orchestrion.yaml").write_text(SETTINGS, encoding="utf-8")
    (tmp_path / "spend.py").write_text(SPEND, encoding="utf-8")
    return tmp_path


def run(folder, *command, status=0):
    environment = {key: value for key, value in os.environ.items() if not key.startswith("ORCHESTRION_")}
    done = subprocess.run(
        [sys.executable, *command],
        cwd=folder,
        env=environment | {"NO_COLOR": "1", "PYTHONIOENCODING": "utf-8"},
        capture_output=True,
        encoding="utf-8",
        timeout=60,
        check=False,
    )
    assert done.returncode == status, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done


def budget(folder, *arguments, status=0):
    return run(folder, "-m", "orchestrion.cli", "budget", *arguments, status=status)


def said(folder, *arguments, status=0):
    done = budget(folder, *arguments, status=status)
    return done.stdout + done.stderr


def limits(folder, account):
    accounts = json.loads(budget(folder, "show", "--json").stdout)["accounts"]
    [one] = [one for one in accounts if one["account"] == account]
    return {(limit["unit"], limit["period"]): limit["limit"] for limit in one["limits"]}


def test_looking_leaves_nothing_behind(project):
    before = sorted(path.name for path in project.iterdir())
    text = budget(project, "show").stdout
    assert [
        line.split("  ")[0] for line in text.splitlines() if not line.startswith("    ") and line.startswith("com")
    ] == ["company"]
    assert re.search(r"^  company/support  \$0 in all  critical$", text, re.MULTILINE)
    assert re.search(r"^  \$10\.00 a month +─+ +0%  \$0 spent, \$10\.00 left$", text, re.MULTILINE)
    assert re.search(r"^    100,000 tokens for good ", text, re.MULTILINE)
    assert re.search(r"it begins anew on \d{4}-\d\d-01 00:00 Europe/Berlin", text)
    assert said(project, "history") == "nothing was changed yet.\n"
    assert "no call of unknown cost" in said(project, "reconcile")
    assert "company: made; limit per month $10.00; time zone Europe/Berlin" in said(project, "apply", "--dry-run")
    assert sorted(path.name for path in project.iterdir()) == before


def test_what_was_spent_in_text_json_and_csv(project):
    run(project, "spend.py")
    text = budget(project, "show").stdout
    assert re.search(r"^company  \$0\.200, 600 tokens in all$", text, re.MULTILINE)
    assert re.search(r"^    \$2\.50 a day +━─+ +8%  \$0\.200 spent, \$2\.30 left$", text, re.MULTILINE)

    told = json.loads(budget(project, "show", "--json").stdout)
    assert told["total"]["spent"] == {"nanos": 200_000_001, "usd": 0.200000001, "tokens": 600, "attention_s": 0}
    company, legal, support, tax = told["accounts"]
    assert [one["account"] for one in (company, legal, support, tax)] == [
        "company",
        "company/legal",
        "company/support",
        "company/tax",
    ]
    assert company["spent"] == support["spent"] == told["total"]["spent"]
    assert (legal["limits"], legal["spent"]["nanos"], tax["spent"]["nanos"]) == ([], 0, 0)
    money, tokens = support["limits"]
    assert (money["limit"], money["spent"], money["held"], money["left"]) == (
        2_500_000_000,
        200_000_001,
        0,
        2_299_999_999,
    )
    assert (tokens["spent"], tokens["window"], tokens["begins_anew"]) == (600, None, None)
    assert support["class"] == "critical"
    assert company["time_zone"] == support["time_zone"] == "Europe/Berlin"

    rows = list(csv.DictReader(io.StringIO(budget(project, "show", "--csv").stdout)))
    ever = {row["account"]: row["spent"] for row in rows if (row["unit"], row["period"]) == ("dollars", "ever")}
    assert ever == {
        "company": "0.200000001",
        "company/legal": "0.000000000",
        "company/support": "0.200000001",
        "company/tax": "0.000000000",
    }
    [day] = [row for row in rows if row["period"] == "day"]
    assert (day["limit"], day["spent"], day["left"]) == ("2.500000000", "0.200000001", "2.299999999")

    some = json.loads(budget(project, "show", "company/tax", "company/legal", "--json").stdout)
    assert [one["account"] for one in some["accounts"]] == ["company/legal", "company/tax"]
    assert some["total"]["spent"]["nanos"] == 0


def test_a_change_is_durable_and_the_settings_do_not_undo_it(project):
    assert (
        said(project, "set", "company", "--limit", "12.5", "--by", "ana")
        == "company: limit per month $10.00 → $12.50\n"
    )
    assert limits(project, "company") == {("money", "month"): 12_500_000_000}
    shown = budget(project, "show").stderr
    assert "orchestrion.yaml and the books differ, and the books hold. `orchestrion budget apply`" in shown
    assert "  company: limit per month $12.50 → $10.00" in shown
    assert budget(project, "show", "--quiet").stderr == ""
    assert said(project, "set", "company", "--limit", "12.5") == "nothing changed: the books say so already.\n"

    dry = budget(project, "apply", "--dry-run")
    assert dry.stdout == "company: limit per month $12.50 → $10.00\n"
    assert "nothing was changed yet" in dry.stderr
    assert limits(project, "company") == {("money", "month"): 12_500_000_000}
    assert budget(project, "apply").stdout == dry.stdout
    assert limits(project, "company") == {("money", "month"): 10_000_000_000}
    assert "nothing to change" in budget(project, "apply").stdout

    told = json.loads(budget(project, "history", "company", "--json").stdout)["changes"]
    assert [(one["kind"], one["who"]) for one in told][:2] == [("seed", "orchestrion.yaml"), ("set", "ana")]
    assert told[1]["body"] == [
        {
            "account": "company",
            "what": "limit",
            "unit": "money",
            "period": "month",
            "before": 10_000_000_000,
            "after": 12_500_000_000,
        }
    ]
    assert re.search(
        r"  ana +set +company: limit per month \$10\.00 → \$12\.50$", said(project, "history"), re.MULTILINE
    )


def test_two_folders_with_different_settings_for_one_account(project):
    stricter = project / "stricter.yaml"
    stricter.write_text(SETTINGS.replace("limit: 10,", "limit: 8,"), encoding="utf-8")
    budget(project, "set", "company/legal", "--class", "background")  # the books are there, as the first file has them
    lowered = budget(project, "show", "--config", "stricter.yaml").stderr
    assert "company: limit per month $10.00 → $8.00, since stricter.yaml is stricter." in lowered
    first = budget(project, "show").stderr
    assert "  company: limit per month $8.00 → $10.00" in first
    assert "  company/legal: class background → as above it" in first
    assert limits(project, "company") == {("money", "month"): 8_000_000_000}


def test_the_period_of_the_limit_that_is_there_is_meant(project):
    budget(project, "set", "company", "--limit", "1", "--period", "day")
    assert "'company' has limits on money per day and per month: say which with --period" in said(
        project, "set", "company", "--limit", "3", status=2
    )
    budget(project, "set", "company", "--limit", "none", "--period", "day")
    budget(project, "set", "company", "--limit", "3", "--tokens", "9")
    assert limits(project, "company") == {("money", "month"): 3_000_000_000, ("tokens", "forever"): 9}


def test_an_account_is_made_under_one_that_is_there(project):
    told = said(project, "set", "company/new", "--create", "--minutes", "90", "--period", "week", "--warn", "0.9,0.5")
    assert told == "company/new: made; limit per week 90 minutes; warn 0.5, 0.9\n"
    assert "not in the settings, and kept: company/new (--prune" in budget(project, "apply").stderr
    assert budget(project, "apply", "--prune").stdout == "company/new: taken out\n"
    assert "there is no account 'company/new'" in said(project, "show", "company/new", status=2)


def test_a_limit_below_what_is_spent_is_allowed_and_said(project):
    run(project, "spend.py")
    done = budget(project, "set", "company/support", "--limit", "0.1")
    assert done.stdout == "company/support: limit per day $2.50 → $0.10\n"
    assert "company/support, $0.10 a day: used up: new calls stop until it begins anew on" in done.stderr
    assert re.search(r"━{20} +200%  \$0\.200 spent, \$0\.100 over", budget(project, "show").stdout)


def test_a_limit_above_its_parents_is_said(project):
    told = budget(project, "set", "company/tax", "--limit", "11").stderr
    assert (
        "note: company/tax's limit of $11.00 a month is above company's of $10.00 a month: the stricter one holds."
        in told
    )


def test_moving(project):
    budget(project, "set", "company/legal", "--limit", "0", "--period", "month")
    assert said(project, "move", "company/tax", "company/legal", "1.5") == (
        "company/tax: limit per month $4.00 → $2.50\ncompany/legal: limit per month $0.00 → $1.50\n"
    )
    assert "'company/tax' has a limit of $2.50 a month: $3.00 cannot be taken from it. Nothing was moved." in said(
        project, "move", "company/tax", "company/legal", "3", status=2
    )
    assert limits(project, "company/tax") == {("money", "month"): 2_500_000_000}
    assert limits(project, "company/legal") == {("money", "month"): 1_500_000_000}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["set", "company/suport", "--limit", "1"], "no account 'company/suport'. Did you mean 'company/support'?"),
        (["set", "other/x", "--create"], "'other/x' cannot stand below 'other', which is not there."),
        (["set", "a//b", "--create"], "'a//b' is not the name of an account"),
        (["set", "company"], "say what to change"),
        (["set", "company", "--period", "day"], "--period day of what?"),
        (["set", "company", "--limit", "-1"], "'-1' is not an amount that can be spent"),
        (["set", "company", "--limit", "nan"], "'nan' is not an amount that can be spent"),
        (["set", "company", "--limit", "inf"], "'inf' is not an amount that can be spent"),
        (["set", "company", "--limit", "10 EUR"], "'10 EUR' is not an amount in US dollars"),
        (["set", "company", "--limit", "10,5"], "'10,5' is not an amount in US dollars"),
        (["set", "company", "--tokens", "1.5"], "'1.5' is not a number of tokens"),
        (["set", "company", "--minutes", "-3"], "'-3' is not a number of minutes"),
        (["set", "company", "--warn", "0.5,2"], "write fractions of the limit above 0 and up to 1"),
        (["set", "company", "--wait", "nan"], "write a number of seconds"),
        (["set", "company", "--time-zone", "Europe/Berln"], "Did you mean 'Europe/Berlin'?"),
        (["move", "company", "company", "1"], "nothing would move"),
        (
            ["move", "company/tax", "company/legal", "1"],
            "'company/tax' has a limit per month, 'company/legal' has none",
        ),
        (["show", "compny"], "there is no account 'compny'. Did you mean 'company'?"),
        (["show", "--csv", "--json"], "both want stdout"),
        (["history", "compny"], "Did you mean 'company'?"),
        (["reconcile", "1-1"], "say either --cost DOLLARS or --not-billed"),
        (["reconcile", "one", "--cost", "1"], "'one' is no call"),
        (["reconcile", "7-1", "--cost", "1"], "there is no call 7-1 that was booked"),
        (["reconcile", "--cost", "1"], "say which call"),
        (["reconcile", "--all", "--cost", "1"], "--all goes with --not-billed only"),
        (["reconcile", "1-1", "--all", "--not-billed"], "one of them"),
        (["reconcile", "--from", "none.csv"], "none.csv cannot be read"),
    ],
)
def test_mistakes_are_explained_and_change_nothing(project, monkeypatch, arguments, message):
    monkeypatch.chdir(project)
    monkeypatch.delenv("ORCHESTRION_CONFIG", raising=False)
    CliRunner().invoke(cli, ["budget", "set", "company", "--create"])  # the settings' accounts are in the books
    done = CliRunner().invoke(cli, ["budget", *arguments])
    status = done.exception.exit_status if isinstance(done.exception, OrchestrionError) else done.exit_code
    assert (status, message in " ".join(f"{done.output}{done.exception}".split())) == (2, True), done
    history = json.loads(CliRunner().invoke(cli, ["budget", "history", "--json"]).stdout)["changes"]
    assert {one["kind"] for one in history} == {"seed"}


def test_calls_of_unknown_cost_are_listed_and_booked_anew(project):
    for _ in range(3):
        run(project, "spend.py", "die", status=1)
    shown = budget(project, "show", "company/support")
    assert "3 call(s) of unknown cost are booked in full" in shown.stderr
    listed = json.loads(budget(project, "reconcile", "--json").stdout)
    assert (listed["booked_nanos"], [one["account"] for one in listed["calls"]]) == (
        750_000_000,
        ["company/support"] * 3,
    )
    first, second, third = (one["call"] for one in listed["calls"])
    assert f"call {first}  company/support  $0.250 → $0.0120" in said(project, "reconcile", first, "--cost", "$0.012")
    assert f"the cost of call {first} is known" in said(project, "reconcile", first, "--cost", "1", status=2)

    table = budget(project, "reconcile", "--csv").stdout
    rows = list(csv.DictReader(io.StringIO(table)))
    assert [(row["call"], row["booked"], row["cost"]) for row in rows] == [
        (second, "0.250000000", ""),
        (third, "0.250000000", ""),
    ]
    bill = project / "bill.csv"
    bill.write_text(f"call,cost\n{second},0.1\n{third},ten\n", encoding="utf-8")
    assert "bill.csv: row 3: 'ten' is not an amount in US dollars" in said(
        project, "reconcile", "--from", "bill.csv", status=2
    )
    bill.write_text(f"call,cost\n{second},0.1\n{first},0.1\n", encoding="utf-8")
    assert f"the cost of call {first} is known" in said(project, "reconcile", "--from", "bill.csv", status=2)
    bill.write_text(f"call,cost\n{second},0.1\n{second},0.2\n", encoding="utf-8")
    assert "stands in row 2 already" in said(project, "reconcile", "--from", "bill.csv", status=2)
    assert len(json.loads(budget(project, "reconcile", "--json").stdout)["calls"]) == 2  # all rows or none

    bill.write_text(f"call;cost\n{second};0.1\n{third};\n", encoding="utf-8")
    assert "1 call(s): booked $0.250, cost $0.100." in said(project, "reconcile", "--from", "bill.csv")
    assert "1 call(s): booked $0.250, cost $0." in said(project, "reconcile", "--all", "--not-billed")
    assert "no call of unknown cost" in said(project, "reconcile")

    support = json.loads(budget(project, "show", "company/support", "--json").stdout)["accounts"][0]
    assert support["spent"]["nanos"] == 3 * 200_000_001 + 12_000_000 + 100_000_000
    assert support["limits"][0]["spent"] == support["spent"]["nanos"]
    assert "reconcile" in said(project, "history", "company/support")


def test_an_overrun_stands_until_the_bound_is_raised(project):
    run(project, "spend.py")
    script = (
        "import apsw; c = apsw.Connection('books.db'); [hold] = c.execute('select min(hold) from hold').fetchone();"
        "c.execute('insert into overrun values (?, ?, 100, 150, 1.5, 1.0, ?)', (hold, 'cheap', 'money'))"
    )
    run(project, "-c", script)
    told = budget(project, "show").stdout
    assert "of 'cheap' (company/support) was billed $0.00000015, and its bound was $0.0000001." in told
    assert "`models.cheap.bound: 1.6` in the settings" in told
    assert len(json.loads(budget(project, "show", "--json").stdout)["overruns"]) == 1
    with (project / "orchestrion.yaml").open("a", encoding="utf-8") as file:
        file.write("models: {cheap: {model: simulated, bound: 1.6, price: {input: 1, output: 1}}}\n")
    assert "overrun" not in budget(project, "show").stdout


SHORT = """
models:
  model: {model: simulated, price: {input: 1, output: 1}, max_output: 50, latency_s: 0.3}
account: a/b
budgets:
"""


def run_out_of_money(folder, budgets, *inputs):
    """What is said at the end of a batch that runs dry on these accounts; its command line, to be typed again."""
    (folder / "orchestrion.yaml").write_text(SHORT + budgets, encoding="utf-8")
    (folder / "short.py").write_text(
        'from orchestrion import Step\n\necho = Step("echo", policy="model")\n', encoding="utf-8"
    )
    tasks = [json.dumps({"id": f"t{i}", "input": text}) for i, text in enumerate(inputs)]
    (folder / "tasks.jsonl").write_text("\n".join(tasks), encoding="utf-8")
    command = ("-m", "orchestrion.cli", "run", "short.py:echo", "tasks.jsonl")
    return run(folder, *command, status=1).stderr, command


def type_suggested(folder, text):
    """Type the commands that stand in a message as they are."""
    suggested = re.findall(r"`(orchestrion budget set [^`]*)`", text)
    for line in " && ".join(suggested).split(" && "):
        run(folder, "-m", "orchestrion.cli", *line.split()[1:])
    return suggested


def test_where_several_limits_are_short_one_line_raises_them_all(tmp_path):
    budgets = (
        "  a: {tokens: 10, period: month}\n  a/b: {limit: 0.000001, period: day, limits: [{tokens: 20, period: run}]}\n"
    )
    text, command = run_out_of_money(tmp_path, budgets, "hello")
    for part in ("account 'a' may spend 10 tokens a month", "$0.00000100 a day", "20 tokens a run"):
        assert part in text
    assert "--dry-run" not in text
    assert len(type_suggested(tmp_path, text)) == 1
    assert "1 done of 1 tasks" in run(tmp_path, *command).stdout


def test_the_suggested_limit_counts_what_was_spent_after_a_run_gave_up(tmp_path):
    """The second run's call never fits, and it stops while the first one's is under way."""
    text, command = run_out_of_money(tmp_path, "  a: {tokens: 200}\n  a/b:\n", "hi", 200 * "long ")
    assert "may spend 200 tokens for good: 0 tokens spent" not in text
    type_suggested(tmp_path, text)
    assert "2 done of 2 tasks" in run(tmp_path, *command).stdout


def test_the_suggested_limits_are_enough_for_the_dearest_of_those_that_wait(tmp_path):
    text, command = run_out_of_money(tmp_path, "  a: {limit: 0, period: run}\n  a/b:\n", "hi", 5000 * "long ", "ho")
    type_suggested(tmp_path, text)
    assert "3 done of 3 tasks" in run(tmp_path, *command).stdout


def test_what_waits_for_money_is_no_business_of_reviewers(tmp_path):
    run_out_of_money(tmp_path, "  a: {limit: 0}\n  a/b:\n", "hi")
    told = run(tmp_path, "-m", "orchestrion.cli", "review", "list")
    assert ("nothing waits for a person" in told.stdout, "can go on" in told.stderr) == (True, False)


def test_ready_says_what_it_does_not_go_on_with(tmp_path):
    """A killed process leaves runs that wait for nothing."""
    (tmp_path / "orchestrion.yaml").write_text(SHORT + "  a: {limit: 1}\n  a/b:\n", encoding="utf-8")
    (tmp_path / "short.py").write_text(
        "import os\n\nfrom orchestrion import Step, workflow\n\necho = Step('echo', policy='model')\n\n\n"
        "@workflow\nasync def dies(text: str) -> str:\n    await echo(text)\n    os._exit(9)\n",
        encoding="utf-8",
    )
    (tmp_path / "tasks.jsonl").write_text('{"id": "t", "input": "x"}', encoding="utf-8")
    run(tmp_path, "-m", "orchestrion.cli", "run", "short.py:dies", "tasks.jsonl", status=9)
    told = run(tmp_path, "-m", "orchestrion.cli", "runs", "resume", "--ready")
    assert "no run can go on" in told.stdout
    assert "1 run(s) were interrupted" in told.stderr


def test_a_bill_without_costs_says_that_nothing_was_booked(project):
    run(project, "spend.py", "die", status=1)
    (project / "bill.csv").write_bytes(
        run(project, "-m", "orchestrion.cli", "budget", "reconcile", "--csv").stdout.encode()
    )
    assert (
        "nothing to book: no row has a cost"
        in run(project, "-m", "orchestrion.cli", "budget", "reconcile", "--from", "bill.csv").stderr
    )
