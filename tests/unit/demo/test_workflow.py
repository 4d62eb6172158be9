"""The workflow over simulated models: who is asked what, how it ends, and what it is worth beside one model alone."""

import io
from collections import Counter

import pytest

from orchestrion.app import Orchestrion
from orchestrion.demo.cases import Status, grade
from orchestrion.demo.figures import Books, Figures, figures
from orchestrion.demo.households import households
from orchestrion.demo.run import Plan, Report, means, most_telling, starts
from orchestrion.demo.show import Board
from orchestrion.demo.simulate import simulated_models
from orchestrion.demo.workflow import alone, one_model, tax_return
from orchestrion.errors import StepFailed, WorkerFailed
from orchestrion.settings import Settings
from orchestrion.testing import ScriptedWorker

CASES = {case.id: case for case in households(60)}


async def performed(flow, *, seed=2024, policies=None, workers=None):
    """(figures, stories, runs) of a batch in memory."""
    models = workers or simulated_models(CASES.values(), seed=seed)
    async with Orchestrion.open(Settings(database=":memory:"), workers=models) as o:
        runs = {run.id: run async for run in o.run_all(flow, starts(CASES, policies=policies, name="alone"))}
        stories = Books(o.database, "demo").stories()
        return figures(stories, CASES), stories, runs


async def test_figures_add_up_and_the_machinery_is_worth_its_money():
    machinery, stories, runs = await performed(tax_return)
    cheap, _, _ = await performed(one_model, policies=alone("cheap"))
    frontier, _, _ = await performed(one_model, policies=alone("frontier"))
    for one in (machinery, cheap, frontier):
        assert one.right + one.wrong + one.flagged == one.ended == len(CASES)
        assert one.paid_twice == one.lost == one.in_flight == one.failed == 0
    assert machinery.cost == sum(run.cost for run in runs.values()) == sum(story.cost for story in stories)
    assert machinery.right == sum(grade(CASES[run.id], run.result) == "right" for run in runs.values())
    assert machinery.right > cheap.right
    assert machinery.cost < 0.6 * frontier.cost
    assert (cheap.calls, cheap.audits, cheap.corrected) == (len(CASES), 0, 0)
    assert machinery.refused >= machinery.corrected > 0
    assert machinery.audits > 0
    assert most_telling(stories) in CASES


async def test_an_objection_makes_the_frontier_read_again_and_be_audited_again():
    found = []
    for seed in range(1, 6):
        _, stories, _ = await performed(tax_return, seed=seed)
        found += [
            [one.step for one in story.calls] for story in stories if any(one.step == "reread" for one in story.calls)
        ]
    assert found
    assert all(steps[-1] in ("audit", "reread") and steps.count("audit") <= 2 for steps in found)
    assert any(steps[-1] == "audit" for steps in found)


async def test_answers_never_cost_more_than_was_held_for_them():
    for seed in range(1, 6):
        models = simulated_models(CASES.values(), seed=seed)
        async with Orchestrion.open(Settings(database=":memory:"), workers=models) as o:
            async for _ in o.run_all(tax_return, starts(CASES)):
                pass
            dearer = "select count(*) from entry h join entry p using (hold) where h.kind = 'hold' and p.kind = 'post' and p.amount > h.amount"
            assert o.database.read(dearer) == [(0,)]


async def test_nonsense_is_left_to_a_person_and_silence_fails_the_run():
    nonsense = [ScriptedWorker(name, lambda request: "no JSON") for name in ("cheap", "frontier")]
    _, _, runs = await performed(tax_return, workers=nonsense)
    assert Counter(run.result.status for run in runs.values()) == {Status.NEEDS_PERSON: len(CASES)}
    assert [worker.asked for worker in nonsense] == [2 * len(CASES)] * 2

    silence = [
        ScriptedWorker(name, lambda request: WorkerFailed("http_500", "down", billed="no"))
        for name in ("cheap", "frontier")
    ]
    counted, _, runs = await performed(tax_return, workers=silence)
    assert {run.status for run in runs.values()} == {"failed"}
    assert (counted.failed, counted.flagged) == (len(CASES), len(CASES))
    with pytest.raises(StepFailed):
        _ = runs["h-001"].result


async def test_a_simulated_model_knows_only_its_own_cases():
    models = simulated_models([])
    async with Orchestrion.open(Settings(database=":memory:"), workers=models) as o:
        run = await o.run(tax_return, CASES["h-001"].household, id="x")
    assert "knows no household 'x'" in str(run.error)


async def test_means_cover_all_three_ways():
    found = await means(Plan(n=4, seed=2024))
    assert found["of"] == 20
    for mean in found["means"].values():
        assert mean["right"] + mean["wrong"] + mean["flagged"] == pytest.approx(4)


@pytest.mark.parametrize("simulated", [True, False])
def test_whose_dollars_they_are_stands_in_every_line(simulated):
    said = io.StringIO()
    board = Board(said, simulated=simulated)
    some = Figures(households=4, ended=4, right=4, cost=123_456_789, lost=1, lost_cost=1_000_000, seconds=1.0)
    board.intro(Plan(n=4, seed=1), live=not simulated)
    board.final(Report(plan=Plan(n=4, seed=1), orchestrion=some, cheap=some, frontier=some))
    lines = [line for line in said.getvalue().splitlines() if "$" in line or "¢" in line]
    assert lines
    assert {"simulated" in line for line in lines} == {simulated}
