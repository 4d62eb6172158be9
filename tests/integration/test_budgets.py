"""Accounts as people keep them: seeded, changed, moved, applied; two processes that say different things."""

from __future__ import annotations

import apsw
import pytest

from orchestrion.errors import UsageError
from orchestrion.ledger import budgets
from orchestrion.ledger.accounts import Account, Cap
from orchestrion.ledger.budgets import (
    Seeded,
    accounts_of,
    amend,
    apply,
    differences,
    history,
    looser,
    move,
    read_tree,
    seed,
)
from orchestrion.settings import Settings
from orchestrion.store.queries import migrations
from orchestrion.store.session import SqliteConnection


@pytest.fixture
def session():
    """A transaction on an empty database."""
    connection = apsw.Connection(":memory:")
    for _, text in migrations():
        connection.execute(text)
    return SqliteConnection(connection)


def accounts(**budgets):
    return accounts_of(
        Settings.model_validate({"budgets": {name.replace("__", "/"): one for name, one in budgets.items()}})
    )


def caps(session, name):
    return {(cap.unit, cap.period): cap.amount for cap in read_tree(session).accounts[name].caps}


def test_settings_make_accounts_once(session):
    given = accounts(
        company={
            "limit": 10.5,
            "period": "month",
            "minutes": 0.5,
            "class": "critical",
            "warn": [0.9, 0.5],
            "wait_s": 3,
        },
        company__support={"limits": [{"tokens": 7, "period": "day"}, {"limit": 1}], "time_zone": "Europe/Berlin"},
    )
    assert seed(session, given).differing == ()
    tree = read_tree(session)
    assert tuple(tree.accounts.values()) == (
        Account(
            name="company",
            caps=(Cap("attention", "month", 30), Cap("money", "month", 10_500_000_000)),
            rank="critical",
            warn=(0.5, 0.9),
            wait_s=3.0,
        ),
        Account(
            name="company/support",
            caps=(Cap("money", "forever", 1_000_000_000), Cap("tokens", "day", 7)),
            zone="Europe/Berlin",
        ),
    )
    assert seed(session, given) == Seeded()
    assert read_tree(session).version == tree.version  # nothing was written a second time
    assert [(one.kind, one.who, one.account) for one in history(session)] == [
        ("seed", "orchestrion.yaml", "company"),
        ("seed", "orchestrion.yaml", "company/support"),
    ]


def test_between_settings_files_the_stricter_limit_holds_and_the_difference_is_said(session):
    seed(session, accounts(a={"limit": 10, "period": "day"}))
    lowered = seed(session, accounts(a={"limit": 5, "period": "day", "tokens": 9}))
    assert (len(lowered.changes), lowered.differing) == (2, ())
    assert caps(session, "a") == {("money", "day"): 5_000_000_000, ("tokens", "day"): 9}
    [money, tokens] = seed(session, accounts(a={"limit": 10, "period": "day"})).differing
    assert (money.before, money.after) == (5_000_000_000, 10_000_000_000)
    assert (tokens.before, tokens.after) == (9, None)
    assert caps(session, "a") == {("money", "day"): 5_000_000_000, ("tokens", "day"): 9}


def test_what_somebody_set_stands_whatever_the_settings_say(session):
    seed(session, accounts(a={"limit": 5}))
    amend(session, "a", who="ana", caps={("money", "forever"): 8_000_000_000})
    [change] = seed(session, accounts(a={"limit": 5})).differing
    assert (change.before, change.after) == (8_000_000_000, 5_000_000_000)
    assert caps(session, "a") == {("money", "forever"): 8_000_000_000}


def test_apply_makes_the_books_say_what_the_settings_say(session):
    seed(session, accounts(a={"limit": 5, "class": "background"}, a__b={}, gone={}))
    amend(session, "a/b", who="ana", caps={("tokens", "run"): 3})
    given = accounts(a={"limit": 7}, a__b={})
    done = apply(session, given, who="ben")
    assert [(one.account, one.what, one.before, one.after) for one in done.changes] == [
        ("a", "limit", 5_000_000_000, 7_000_000_000),
        ("a", "class", "background", None),
        ("a/b", "limit", 3, None),
    ]
    assert (done.kept, done.pruned) == (("gone",), ())
    assert differences(read_tree(session), given) == ()
    assert apply(session, given, who="ben").changes == ()
    assert {(one.who, one.account) for one in history(session) if one.kind == "apply"} == {("ben", "a"), ("ben", "a/b")}


def test_pruned_are_only_accounts_that_were_never_used(session):
    seed(session, accounts(a={}, b={}, b__used={"limit": 1}, c={}, c__d={"limit": 1}))
    session.execute("insert into hold (hold, account, amount, at) values (1, 'b/used', 5, 1.0)")
    done = apply(session, accounts(a={}), who="ana", prune=True)
    assert (done.kept, done.pruned) == (("b", "b/used"), ("c", "c/d"))
    assert set(read_tree(session).accounts) == {"a", "b", "b/used"}
    assert session.execute("select count(*) from cap where account = 'c/d'") == [(0,)]


def test_moved_limits_keep_their_sum(session):
    seed(session, accounts(a={"limit": 5, "period": "month"}, b={"limit": 1, "period": "month"}))
    move(session, "a", "b", 2_500_000_000, unit="money", period=None, who="ana")
    assert caps(session, "a") == {("money", "month"): 2_500_000_000}
    assert caps(session, "b") == {("money", "month"): 3_500_000_000}
    assert [(one.kind, one.account) for one in history(session)][-2:] == [("move", "a"), ("move", "b")]


@pytest.mark.parametrize(
    ("source", "target", "period", "message"),
    [
        ("a", "b", "month", r"'a' has a limit of \$5\.00 a month: \$6\.00 cannot be taken from it"),
        ("a", "c", None, "On money, 'a' has a limit per month, 'c' has none"),
        ("a", "b", "day", "On money per day, 'a' has a limit per month, 'b' has a limit per month"),
        ("c", "b", None, "'c' has none, 'b' has a limit per month"),
        ("a", "a", None, "both accounts"),
        ("a", "bb", None, "no account 'bb'. Did you mean 'b'"),
    ],
)
def test_a_move_that_cannot_be_changes_nothing(session, source, target, period, message):
    seed(session, accounts(a={"limit": 5, "period": "month"}, b={"limit": 1, "period": "month"}, c={"tokens": 1}))
    before = read_tree(session)
    with pytest.raises(UsageError, match=message):
        move(session, source, target, 6_000_000_000, unit="money", period=period, who="ana")
    after = read_tree(session)
    assert (after.version, after.accounts) == (before.version, before.accounts)


def test_a_limit_stays_countable(session):
    seed(session, accounts(a={"limit": 9e9}, b={"limit": 9e9}))
    with pytest.raises(UsageError, match="above all that can be counted"):
        move(session, "a", "b", 9 * 10**18, unit="money", period=None, who="ana")


def test_a_move_says_which_periods_there_are(session):
    both = {"limits": [{"limit": 5, "period": "month"}, {"limit": 1, "period": "day"}]}
    seed(session, accounts(a=both, b=both))
    with pytest.raises(UsageError, match=r"have limits per day and per month on money: say which with --period"):
        move(session, "a", "b", 1, unit="money", period=None, who="ana")


def test_accounts_are_made_under_those_that_are_there(session):
    with pytest.raises(UsageError, match="--create would make it"):
        amend(session, "a", who="ana")
    amend(session, "a", who="ana", create=True)
    amend(session, "a/b", who="ana", create=True, caps={("money", "run"): 1}, rank="critical")
    with pytest.raises(UsageError, match=r"below 'aa', which is not there\. Did you mean 'a'"):
        amend(session, "aa/b", who="ana", create=True)
    with pytest.raises(UsageError, match="is not the name of an account"):
        amend(session, "a//b", who="ana", create=True)
    with pytest.raises(UsageError, match=r"Did you mean 'a/b'\?"):
        amend(session, "a/c", who="ana")
    assert read_tree(session).accounts["a/b"] == Account(name="a/b", caps=(Cap("money", "run", 1),), rank="critical")


def test_a_limit_above_its_parents_is_named(session):
    seed(
        session, accounts(a={"limit": 5, "period": "day"}, a__b={}, a__b__c={"limit": 6, "period": "day", "tokens": 5})
    )
    assert looser(read_tree(session)) == (
        budgets.Looser("a/b/c", Cap("money", "day", 6_000_000_000), "a", Cap("money", "day", 5_000_000_000)),
    )


@pytest.mark.parametrize(
    ("unit", "amount", "text"),
    [
        ("money", 10_000_000_000, "$10.00"),
        ("money", 1_234_500_000_001, "$1,234.500000001"),
        ("money", 1, "$0.000000001"),
        ("money", -5_000_000, "-$0.005"),
        ("money", 0, "$0.00"),
        ("money", 9_000_000_000_000_000_000, "$9,000,000,000.00"),
        ("tokens", 12_000, "12,000 tokens"),
        ("attention", 5400, "90 minutes"),
        ("attention", 90, "1.5 minutes"),
    ],
)
def test_amounts_are_shown_exactly(unit, amount, text):
    assert budgets.said(unit, amount) == text
