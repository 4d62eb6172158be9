"""The demo's accounts: what was held is what was posted, lost, returned and voided; what runs dry goes on after a top-up."""

import time

import pytest

from orchestrion.app import Orchestrion
from orchestrion.demo.figures import Books, figures
from orchestrion.demo.households import households
from orchestrion.demo.money import DOWNTOWN, FIRM, HARBOR, WALK_INS, limits, payers, statement, top_up
from orchestrion.demo.run import starts
from orchestrion.demo.simulate import simulated_models
from orchestrion.demo.workflow import tax_return
from orchestrion.domain import nanos
from orchestrion.ledger import budgets
from orchestrion.ledger.standing import standings
from orchestrion.settings import Settings

SEASON = 120


def opened(cases, seed, folder):
    settings = Settings(database=f"sqlite:///{folder}/demo.db", budgets=limits(len(cases)))
    return Orchestrion.open(settings, workers=simulated_models(cases.values(), seed=seed))


async def season(cases, seed, folder):
    """Perform what can be paid: (figures, statement, stories)."""
    async with opened(cases, seed, folder) as o:
        async for _ in o.run_all(tax_return, starts(cases, accounts=payers(cases)), concurrency=6):
            pass
        stories = Books(o.database, "demo").stories()
        with o.database.reading() as session:
            return figures(stories, cases), statement(session), stories


@pytest.mark.parametrize("seed", [2024, 2])
async def test_the_walk_ins_run_dry_wind_down_and_go_on_after_a_top_up(tmp_path, seed):
    cases = {case.id: case for case in households(SEASON, seed)}
    pays = payers(cases)
    dry, accounts, stories = await season(cases, seed, tmp_path)
    assert dry.waiting > 0
    assert dry.constrained > 0
    assert dry.ended == SEASON - dry.waiting
    assert {pays[story.id] for story in stories if story.waiting or story.constrained} == {WALK_INS}
    assert all(f"`orchestrion budget set {WALK_INS}" in (story.error or "") for story in stories if story.waiting)
    answered = {story.id: len(story.answered) for story in stories}

    async with opened(cases, seed, tmp_path) as o:
        with o.database.transaction() as session:
            more = top_up(session, dry.waiting)
    assert more.after - more.before == more.amount

    done, after, stories = await season(cases, seed, tmp_path)
    assert (done.ended, done.waiting, done.failed, done.paid_twice) == (SEASON, 0, 0, 0)
    assert all(len(story.answered) >= answered[story.id] for story in stories)
    assert done.constrained == dry.constrained  # what was accepted stands
    for before, now in zip(accounts, after, strict=True):
        assert before.flow.spent <= now.flow.spent <= now.limit
        assert before.over <= 0 >= now.over
    assert after[0].flow.spent == done.cost == sum(story.cost for story in stories)


async def test_the_statement_adds_up_and_is_what_the_ledger_says(tmp_path):
    cases = {case.id: case for case in households(40)}
    await season(cases, 2024, tmp_path)
    async with opened(cases, 2024, tmp_path) as o:
        with o.database.reading() as session:
            accounts = {one.name: one for one in statement(session)}
            standing = {
                one.account.name: one for one in standings(session, budgets.read_tree(session), now=time.time())
            }
            balances = session.execute("select account, settled, held from balance")
    assert list(accounts) == [FIRM, DOWNTOWN, HARBOR, WALK_INS]
    for name, one in accounts.items():
        flow = one.flow
        assert flow.held == flow.posted + flow.unknown + flow.returned + flow.voided + flow.open
        assert (flow.spent, flow.open) == (standing[name].spent.money, standing[name].held.money)
        assert one.limit == standing[name].limits[0].cap.amount
        assert flow.spent <= one.most <= one.limit
    assert sorted(balances) == sorted((name, one.flow.spent, one.flow.open) for name, one in accounts.items())
    firm, downtown, harbor = (accounts[name].flow for name in (FIRM, DOWNTOWN, HARBOR))
    assert [a + b for a, b in zip(downtown, harbor, strict=True)] == list(firm)


async def test_what_is_over_a_limit_is_found(tmp_path):
    cases = {case.id: case for case in households(8)}
    await season(cases, 2024, tmp_path)
    async with opened(cases, 2024, tmp_path) as o:
        with o.database.transaction() as session:
            [row] = session.execute("select account, max(hold) from hold where account = $1", (DOWNTOWN,))
            session.execute("update hold set amount = amount + $1 where hold = $2", (nanos(10), row[1]))
        with o.database.reading() as session:
            over = {one.name: one.over > 0 for one in statement(session)}
    assert over == {FIRM: True, DOWNTOWN: True, HARBOR: False, WALK_INS: False}


@pytest.mark.parametrize("n", [5, 16, 120, 999])
def test_every_household_has_a_payer_with_a_limit(n):
    pays, caps = payers(map(str, range(n))), limits(n)
    assert len(pays) == n
    assert set(pays.values()) <= set(caps)
    late = [place for place, payer in enumerate(pays.values()) if payer == WALK_INS]
    assert late
    assert min(late) >= 0.6 * n  # whatever is killed halfway is not theirs
    assert caps[FIRM].limit == pytest.approx((caps[DOWNTOWN].limit or 0) + (caps[HARBOR].limit or 0))
