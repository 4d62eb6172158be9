"""What `budget show` says is the sum of the entries, whatever they are."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import count
from types import SimpleNamespace

import apsw
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrion.cli.budget_text import show_json, show_rows
from orchestrion.domain import NANOS_PER_DOLLAR
from orchestrion.errors import UsageError
from orchestrion.ledger import budgets
from orchestrion.ledger.accounts import UNITS, Amounts, span
from orchestrion.ledger.books import Books
from orchestrion.ledger.budgets import accounts_of, amend, history, read_tree, seed
from orchestrion.ledger.reconcile import reconcile, unknown
from orchestrion.ledger.standing import standings
from orchestrion.settings import Settings
from orchestrion.store.queries import migrations
from orchestrion.store.session import SqliteConnection

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC).timestamp()
DAY = 86_400.0
NAMES = ("a", "a/b", "a/b/c", "a/d", "e", "stranger", "stranger/x")
LIMITS = {
    "a": {"limit": 1, "period": "month", "time_zone": "Europe/Berlin"},
    "a/b": {"limits": [{"limit": 0.5, "period": "day"}, {"tokens": 1000, "period": "week"}]},
    "a/b/c": {"limits": [{"limit": 0.5}, {"minutes": 1, "period": "day"}, {"limit": 0.1, "period": "run"}]},
    "a/d": {},
    "e": {"limit": 0.01, "period": "week", "time_zone": "Pacific/Auckland"},
}


@pytest.fixture(autouse=True, scope="module")
def _noon():
    """It is NOW for whoever changes an account: in whatever year this test runs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(budgets, "time", SimpleNamespace(time=lambda: NOW))
        yield


def books(limits=LIMITS):
    connection = apsw.Connection(":memory:")
    for _, text in migrations():
        connection.execute(text)
    session = SqliteConnection(connection)
    seed(session, accounts_of(Settings.model_validate({"budgets": limits})))
    return session


def put(session, hold, account, held, spent, at, kind="post"):
    session.execute(
        "insert into hold (hold, account, amount, run, at, tokens, attention) values (?, ?, ?, null, ?, ?, ?)",
        (hold, account, held[0], at, *held[1:]),
    )
    if spent is not None:
        session.execute(
            "insert into post (hold, kind, amount, at, tokens, attention) values (?, ?, ?, ?, ?, ?)",
            (hold, kind, spent[0], at, *spent[1:]),
        )


AMOUNTS = st.tuples(st.integers(0, 10**17), st.integers(0, 10**12), st.integers(0, 10**9)).map(
    lambda one: Amounts(*one)
)
ENTRIES = st.lists(
    st.tuples(st.sampled_from(NAMES), AMOUNTS, st.none() | AMOUNTS, st.floats(NOW - 70 * DAY, NOW)), max_size=30
)


def under(name, account):
    return account == name or account.startswith(f"{name}/")


@given(ENTRIES)
def test_every_figure_is_a_sum_of_entries(entries):
    session = books()
    for hold, (account, held, spent, at) in zip(count(1), entries, strict=False):
        put(session, hold, account, held, spent, at)
    tree = read_tree(session)
    found = standings(session, tree, now=NOW)
    Books().changed(session, tree.accounts, NOW)  # the balances that limits are checked against, made anew

    for one in found:
        name = one.account.name
        mine = [entry for entry in entries if under(name, entry[0])]
        for unit in range(len(UNITS)):
            assert one.spent[unit] == sum(spent[unit] for _, _, spent, _ in mine if spent)
            assert one.held[unit] == sum(held[unit] for _, held, spent, _ in mine if spent is None)
        for limit in one.limits:
            if limit.window is None:
                continue
            unit, window = UNITS.index(limit.cap.unit), span(limit.cap.period, NOW, one.zone)
            inside = [entry for entry in mine if window.start <= entry[3] < window.end]
            assert limit.spent == sum(spent[unit] for _, _, spent, _ in inside if spent)
            assert limit.held == sum(held[unit] for _, held, spent, _ in inside if spent is None)
            assert limit.left == limit.cap.amount - limit.spent - limit.held
            key = (name, limit.cap.unit, limit.cap.period, window.name)
            assert Books().balance(session, key) == (limit.spent, limit.held)

    told = show_json(found, [], unknown(session), simulated=False)
    [(total,)] = session.execute("select coalesce(sum(amount), 0) from post")
    assert told["total"]["spent"]["nanos"] == total
    assert told["total"]["held"]["nanos"] == sum(held.money for _, held, spent, _ in entries if spent is None)
    roots = [row for row in show_rows(found) if "/" not in row[0] and row[2:4] == ("dollars", "ever")]
    assert sum(int(row[6].replace(".", "")) for row in roots) == total  # nine decimals


def test_accounts_that_only_entries_name_are_shown_with_their_parents():
    session = books({})
    put(session, 1, "x/y", Amounts(5), Amounts(3), NOW)
    assert [
        (one.account.name, one.kept, one.spent.money) for one in standings(session, read_tree(session), now=NOW)
    ] == [
        ("x", False, 3),
        ("x/y", False, 3),
    ]


def limit_of(session, name="a", now=NOW):
    [one] = [one for one in standings(session, read_tree(session), now=now) if one.account.name == name]
    return one.limits[0]


def test_how_fast_it_burns_and_when_it_runs_out():
    session = books({"a": {"limit": 10, "period": "month"}})
    assert (limit_of(session).rate, limit_of(session).runs_out) == (0.0, None)
    for day in range(4):
        put(session, day + 1, "a", Amounts(NANOS_PER_DOLLAR), Amounts(NANOS_PER_DOLLAR), NOW - day * DAY - 1)
    limit = limit_of(session)
    assert limit.rate * 3 * DAY == pytest.approx(4 * NANOS_PER_DOLLAR, rel=1e-4)  # in the three days since the first
    assert limit.runs_out == pytest.approx(NOW + 6 / (4 / 3) * DAY, rel=1e-6)
    amend(session, "a", who="ana", caps={("money", "month"): 20 * NANOS_PER_DOLLAR})
    assert limit_of(session).runs_out is None  # the month ends before


def test_a_first_call_does_not_look_like_a_flood():
    session = books({"a": {"limit": 10, "period": "day"}})
    put(session, 1, "a", Amounts(1000), Amounts(1000), NOW - 1)
    assert limit_of(session).rate == pytest.approx(1000 / 3600)


def test_what_was_spent_before_a_limit_was_set_counts():
    session = books({"a": {}})
    put(session, 1, "a", Amounts(700), Amounts(700), NOW)
    amend(session, "a", who="ana", caps={("money", "forever"): 500})
    assert (limit_of(session).spent, limit_of(session).left) == (700, -200)
    assert Books().balance(session, ("a", "money", "forever", "")) == (700, 0)


def test_a_new_time_zone_moves_the_windows_of_those_below():
    session = books({"a": {}, "a/b": {"limit": 1, "period": "day"}})
    late = datetime(2026, 11, 20, 23, 30, tzinfo=UTC).timestamp()
    put(session, 1, "a/b", Amounts(700), Amounts(700), late)
    assert limit_of(session, "a/b").spent == 0
    amend(session, "a", who="ana", zone="Europe/Berlin")
    assert limit_of(session, "a/b").spent == 700


def test_a_call_of_unknown_cost_is_booked_anew():
    session = books({"a": {"limit": 1, "period": "month"}})
    for hold, kind in enumerate(("unknown", "unknown", "post", "unknown"), start=1):
        put(session, hold, "a", Amounts(1000, 50), Amounts(1000, 50), NOW, kind)
    Books().changed(session, ["a"], NOW)
    assert [one.hold for one in unknown(session)] == [1, 2, 4]
    reconcile(session, 1, 300, name="0-1", who="ana")
    reconcile(session, 2, None, name="0-2", who="ana")
    reconcile(session, 4, 2500, name="0-4", who="ana")  # dearer than what was held: booked as it is
    assert [one.hold for one in unknown(session)] == []
    assert limit_of(session).spent == 300 + 0 + 1000 + 2500
    assert Books().balance(session, ("a", "money", "month", "2026-11")) == (3800, 0)
    assert session.execute("select hold, kind, amount, tokens from post order by hold") == [
        (1, "post", 300, 50),
        (2, "void", 0, 0),
        (3, "post", 1000, 50),
        (4, "post", 2500, 50),
    ]
    assert next(one.body for one in history(session, "a") if one.kind == "reconcile") == {
        "call": "0-1",
        "before": 1000,
        "after": 300,
    }
    for hold, message in (
        (1, "is known: it cost"),
        (2, "was not billed"),
        (3, "is known"),
        (9, "there is no call 0-9"),
    ):
        with pytest.raises(UsageError, match=message):
            reconcile(session, hold, 1, name=f"0-{hold}", who="ana")
