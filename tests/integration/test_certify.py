"""`certify`: a policy that exists, tested on fresh records, by what a replay would do."""

from __future__ import annotations

import asyncio
import math
import random

import pytest
from msgspec.structs import replace

from orchestrion.checks.judge import judge
from orchestrion.checks.rules import length, matches
from orchestrion.engine.execution import SavedPolicy
from orchestrion.engine.replay import replay
from orchestrion.errors import RecordsError
from orchestrion.policy.certificate import Target, task_digest
from orchestrion.policy.combinators import (
    Mix,
    agreement,
    best_effort,
    cascade,
    corrected,
    fallback,
    fixed,
    mix,
    retried,
    router,
)
from orchestrion.policy.learned import deferral
from orchestrion.tuning.certify import Split, certify, samples_of, unfolded
from orchestrion.tuning.drive import drive
from orchestrion.tuning.facts import Wish
from orchestrion.tuning.table import read_table
from orchestrion.tuning.tune import tune
from tests.synthetic import records

MEAN = Target(quality=0.95, confidence=0.9)


@pytest.fixture(scope="module")
def rows():
    return records(400, seed=2, samples=2)


def tried(policy, outcomes, target=MEAN, *, checks=(), frontier="frontier", certificate=None, **options):
    return certify(SavedPolicy(policy, checks, certificate=certificate), outcomes, target, frontier=frontier, **options)


# What is tested


def test_a_policy_written_by_hand_is_certified_as_it_is(rows):
    policy = router("topic", {"law": "frontier"}, otherwise=cascade(agreement("cheap", "middle", accept=1), "frontier"))
    promise = tried(policy, rows)
    assert promise.certified
    assert promise.policy is policy
    certificate = promise.certificate
    assert (certificate.certified_on, certificate.frontier, certificate.method) == (400, "frontier", "exact")
    assert certificate.policy == SavedPolicy(policy).digest
    assert certificate.p_value == promise.p_value <= 0.1
    assert set(certificate.fitted) == {task_digest(f"t{i}") for i in range(400)}
    assert promise.cost_ratio.value < 0.8


@pytest.mark.parametrize(
    "policy",
    [
        cascade("cheap", "frontier"),
        best_effort(agreement("cheap", "middle", samples=2, accept=0.9)),
        fallback("cheap", "middle", "frontier"),
        deferral({"cheap": 2, "middle": 1}, {"share": 1.0}, least=0.9, otherwise="frontier"),
        mix({"cheap": 0.3, "middle": 0.3, "frontier": 0.4}, salt="x"),
        retried("middle"),
    ],
)
@pytest.mark.parametrize(
    "checks", [(), (matches("[A-H]$", name="letter"),), (length(most=10), judge("boss", "polite", name="words"))]
)
def test_it_does_what_a_replay_does(rows, policy, checks):
    """Rules are asked anew in the place of recorded verdicts; a judge's recorded word stands."""
    rng = random.Random(3)
    said = [
        replace(
            row,
            verdicts={
                "words": {"passed": True, "score": rng.random(), "cost_usd": 0.0001},
                "letter": {"passed": rng.random() < 0.7, "score": 0.0},
                "other": {"passed": True},
            },
        )
        for row in rows
    ]
    promise = tried(policy, said, checks=checks)
    again = asyncio.run(replay(said, SavedPolicy(policy, checks), frontier="frontier"))
    assert again.unrecorded == 0
    assert again.cost == round(promise.realised[1] * 1e9 * 400)
    assert again.quality == pytest.approx(promise.realised[0], abs=1e-12)


def test_attempts_and_verdicts_are_those_of_a_replay(rows):
    checks = (matches("[A-H]$", name="letter"),)
    policy = cascade("cheap", "middle", "frontier")
    done = asyncio.run(replay(rows, SavedPolicy(policy, checks)))
    table = read_table(rows, prices={})
    driven = {case.task.id: drive(policy, case, checks) for case in table.labelled}
    for one in done.tasks:
        ours = driven[one.task_id].accepted
        assert (ours is None) == (one.accepted is None)
        if ours and one.accepted:
            assert (ours.call, ours.verdicts) == (one.accepted.call, one.accepted.verdicts)
        assert driven[one.task_id].spent == sum(attempt.spent for attempt in one.attempts)


def test_a_coin_is_unfolded_so_that_the_expectation_is_tested(rows):
    bad = fixed("cheap")
    assert not tried(bad, rows).certified
    for policy in (mix({"cheap": 0.2, "frontier": 0.8}, salt="s"), mix({"frontier": 0.8, "cheap": 0.2}, salt="s")):
        diluted = tried(policy, rows)
        assert (diluted.certified, diluted.expected) == (True, True)
        assert diluted.certificate.expected
        inner, share = unfolded(policy, "frontier")
        assert inner == bad
        assert share == pytest.approx(0.2)
        alone = tried(bad, rows)
        assert 1 - diluted.quality_ratio.value == pytest.approx(0.2 * (1 - alone.quality_ratio.value))
    other = mix({"cheap": 0.2, "middle": 0.8})
    assert unfolded(other, "frontier") == Split(other, 1.0)


def test_the_share_of_tasks_can_be_promised_instead(rows):
    share = Target(kind="share", quality=0.95, share=0.8, confidence=0.9)
    promise = tried(fixed("cheap"), rows, share)
    assert (promise.certified, promise.certificate.method) == (True, "binomial")
    strict = tried(fixed("cheap"), rows, replace(share, share=0.95))
    assert not strict.certified
    assert "of the tasks, and 95.0% were asked for" in strict.reason


def test_samples_that_a_policy_may_ask_for():
    policy = cascade(
        agreement("a", "b", samples=3),
        router("t", {"x": "c"}, otherwise=deferral({"a": 5}, {"one": 1.0}, least=0.0, otherwise="d")),
    )
    assert samples_of(retried(corrected(policy), times=2)) == {"a": 5, "b": 3, "c": 1, "d": 1}


def test_tasks_of_one_user_are_one_unit(rows):
    promise = tried(fixed("middle"), rows, Target(quality=0.8, confidence=0.9), group_by="user")
    assert promise.certified
    assert promise.certificate.method == "betting, by group"
    assert promise.certificate.group_by == "user"


# Fresh tasks


def test_what_tune_found_is_certified_again_on_fresh_tasks():
    made, fresh = records(240, seed=1, samples=2), records(400, seed=5, samples=2, prefix="fresh")
    for first in tune(made, Wish(frontier="frontier")).promises:
        again = tried(first.policy, [*made, *fresh], first.target, certificate=first.certificate)
        assert again.policy == first.policy
        if again.certificate:
            assert again.certificate.certified_on == 400
            assert len(again.certificate.fitted) == 640
        again = tried(first.policy, fresh, first.target, certificate=first.certificate)
        assert again.certificate is None or again.certificate.certified_on == 400
        with pytest.raises(RecordsError, match="chosen or certified on all of these 240 tasks"):
            tried(first.policy, made, first.target, certificate=first.certificate)


def test_the_best_worker_is_the_yardstick_where_none_is_named(rows):
    promise = tried(fixed("cheap"), rows, Target(quality=0.7, confidence=0.9), frontier=None)
    assert promise.certificate.frontier == "frontier"
    few = [*rows, replace(rows[0], worker="lucky", score=1.0)]
    assert tried(fixed("cheap"), few, Target(quality=0.7), frontier=None).certificate.frontier == "frontier"


# What is not certified, and why


def test_too_few_or_too_bad_is_said_with_the_labels_that_would_do(rows):
    few = tried(fixed("middle"), [row for row in rows if int(row.task_id[1:]) < 30])
    assert few.reason.startswith("30 fresh labelled tasks are too few")
    assert few.labels_needed >= 60
    assert few.certificate is None
    close = tried(fixed("middle"), rows, Target(quality=0.98))
    assert not close.certified
    assert "can be promised, and 98.0% was asked for" in close.reason
    assert tried(fixed("cheap"), rows).labels_needed is None  # it is too bad for any number of labels
    with pytest.raises(RecordsError, match="got none of the 400 labelled tasks right"):
        tried(fixed("cheap"), [replace(row, score=0.0) for row in rows])
    with pytest.raises(RecordsError, match="no task of 400 has a score"):
        tried(fixed("cheap"), [replace(row, score=None) for row in rows])
    with pytest.raises(RecordsError, match="no answer in these records has a score"):
        tried(fixed("cheap"), [replace(row, score=None) for row in rows], frontier=None)
    with pytest.raises(RecordsError, match="no outcomes"):
        tried(fixed("cheap"), [])
    with pytest.raises(RecordsError, match=r"no worker 'chap'.*Did you mean 'cheap'"):
        tried(fixed("chap"), rows)


def test_one_workload_of_several_whose_tasks_were_all_used_is_said_to_be_used(rows):
    """And not that the records have no such workload."""
    mine = [replace(row, workload="mine") for row in rows]
    other = [replace(row, workload="other", task_id=f"o{row.task_id}") for row in rows]
    policy = cascade("cheap", "frontier")
    certificate = tried(fixed("frontier"), mine, workload="mine").certificate
    with pytest.raises(RecordsError, match="all of these 400 tasks"):
        tried(policy, [*mine, *other], certificate=certificate, workload="mine")
    with pytest.raises(RecordsError, match="no workload 'their'"):
        tried(policy, [*mine, *other], certificate=certificate, workload="their")


def test_what_the_policy_asks_for_must_have_been_recorded(rows):
    """Samples that some tasks lack leave those out; what is asked for by the answers, and is not there, is refused."""
    partly = [row for row in rows if not (row.sample == 1 and int(row.task_id[1:]) < 100)]
    promise = tried(cascade(agreement("cheap", samples=2, accept=1), "frontier"), partly, Target(quality=0.8))
    assert promise.certificate.certified_on == 300
    assert "100 of 400 tasks lack an answer" in promise.words
    refusing = (matches("[A-D]$"),)
    with pytest.raises(RecordsError, match="'cheap' is shown its refused answer, and asked again"):
        tried(cascade(corrected("cheap"), "frontier"), rows, checks=refusing)
    failing = [
        replace(row, failure="timeout: no", score=None) if row.task_id == "t7" and row.worker == "cheap" else row
        for row in rows
    ]
    with pytest.raises(RecordsError, match="'cheap' is asked again, where it failed"):
        tried(retried("cheap"), failing)
    with pytest.raises(RecordsError, match="no task was recorded with all"):
        tried(agreement("cheap", samples=5), rows)


def test_a_judge_that_was_not_asked_leaves_tasks_out(rows):
    polite = judge("boss", "polite", name="words")
    said = [
        replace(row, verdicts={"words": {"passed": True, "score": 1.0}}) if int(row.task_id[1:]) >= 50 else row
        for row in rows
    ]
    promise = tried(cascade("cheap", "frontier"), said, Target(quality=0.7), checks=(polite,))
    assert promise.certificate.certified_on == 350
    assert "50 tasks lack the word of 'words'" in promise.words
    with pytest.raises(RecordsError, match="no labelled task has its word"):
        tried(cascade("cheap", "frontier"), rows, checks=(polite,))


def test_rows_that_a_live_policy_asked_for_are_refused(rows):
    live = [
        replace(row, run_id="r", selected_by="careful")
        for row in rows
        if row.worker != "frontier" or row.task_id < "t2"
    ]
    with pytest.raises(RecordsError, match="'frontier' was asked for") as refused:
        tried(fixed("cheap"), live)
    assert "--workers" not in str(refused.value)  # certify has no such option


def test_a_worker_that_never_met_the_frontier_is_refused_with_a_way_out_that_there_is(rows):
    apart = [row for row in rows if (row.worker == "cheap") == (row.task_id < "t2")]
    with pytest.raises(RecordsError, match=r"no task was recorded with all .* Record all of them on the same tasks"):
        tried(fixed("cheap"), apart)


def test_the_frontier_is_not_held_to_the_rules_that_the_policy_brings_along(rows):
    """Else a rule that refuses its right answers would lower the yardstick."""
    said = [replace(row, verdicts={"matches": {"passed": False}}) for row in rows]
    for records_of in (rows, said):
        promise = tried(fixed("cheap"), records_of, Target(quality=0.5), checks=(matches("[A-E]$"),))
        assert promise.quality_ratio.value < 0.6


# The promise holds


@pytest.mark.parametrize("share", [1.0, 0.5])
def test_at_the_boundary_it_certifies_as_rarely_as_it_says(share):
    """A worker that loses 5 % of the frontier's quality, or with half the tasks 10 %."""
    broken, n = 0, 300
    policy = Mix((fixed("cheap"), fixed("frontier")), (share, 1 - share)) if share < 1 else fixed("cheap")
    gain = 0.1 * 0.15 / 0.85  # where the frontier is wrong, it is right at times
    lost = {"cheap": 0.05 / share + gain}
    for seed in range(n):
        made = records(80, seed=seed, harm=lost)
        broken += tried(policy, made, seed=seed).certified
    assert broken <= 0.1 * n + 2.5 * math.sqrt(0.1 * 0.9 * n)
    assert broken > 0.02 * n  # it is a test, and no wall


def test_with_known_probabilities_at_the_boundary(monkeypatch):
    """Tasks are recorded with probability .9 or .3, and the hard ones are rare among those recorded."""
    broken, n = 0, 200
    for seed in range(n):
        rng = random.Random(seed)
        rows = []
        for i in range(200):
            hard = rng.random() < 0.25
            lost = hard and rng.random() < 0.2
            if rng.random() < (0.3 if hard else 0.9):
                one = records(1, seed=seed * 1000 + i, harm={"cheap": 0.0}, quality={"frontier": 1.0}, prefix=f"t{i}_")
                rows += [
                    replace(
                        row,
                        probability=(0.3 if hard else 0.9) if row.worker == "frontier" else None,
                        score=0.0 if lost and row.worker == "cheap" else 1.0,
                    )
                    for row in one
                ]
        broken += tried(fixed("cheap"), rows, seed=seed).certified
    assert broken <= 0.1 * n + 2.5 * math.sqrt(0.1 * 0.9 * n)
