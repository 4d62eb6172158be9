"""The tuner on records whose truth is known: what it finds runs, is honest, and depends on nothing that it must not."""

from __future__ import annotations

import asyncio
import math
import random
import re
import subprocess
import sys
from collections import Counter

import msgspec
import pytest
from msgspec.structs import replace

from orchestrion.domain import Price, nanos
from orchestrion.engine.execution import SavedPolicy
from orchestrion.engine.replay import replay
from orchestrion.engine.saved import read_policy, write_policy
from orchestrion.errors import RecordsError
from orchestrion.policy.combinators import Fixed, Mix
from orchestrion.tuning.certify import unfolded
from orchestrion.tuning.facts import Wish
from orchestrion.tuning.halves import split
from orchestrion.tuning.table import read_table
from orchestrion.tuning.tune import tune
from tests.synthetic import records

FRONTIER = Wish(frontier="frontier")


@pytest.fixture(scope="module")
def rows():
    return records(240, samples=2)


@pytest.fixture(scope="module")
def tuned(rows):
    return tune(rows, FRONTIER)


def replayed(outcomes, policy, **options):
    return asyncio.run(replay(outcomes, SavedPolicy(policy), frontier="frontier", **options))


def method(promise):
    return promise.certificate and promise.certificate.method


def reproduces(found, outcomes, tasks, **options):
    """That replay finds the realised figures of every promise, to the nano-dollar."""
    for promise in found.promises:
        again = replayed(outcomes, promise.policy, **options)
        assert (len(again.tasks), again.unrecorded) == (tasks, 0)
        assert again.cost == round(promise.realised[1] * 1e9 * tasks)
        assert again.quality == pytest.approx(promise.realised[0], abs=1e-12)


# What is found


def test_it_saves_and_keeps_what_it_promises(tuned):
    mean = tuned.promises[0]
    assert mean.certified
    assert mean.cost_ratio.value < 0.7
    assert mean.p_value <= 0.1
    assert mean.certificate.policy == SavedPolicy(mean.policy).digest
    fresh = records(3000, seed=77, samples=2, prefix="fresh")
    inner, share = unfolded(mean.policy, "frontier")
    kept = replayed(fresh, inner).quality * share + replayed(fresh, Fixed("frontier")).quality * (1 - share)
    assert kept >= 0.95 * replayed(fresh, Fixed("frontier")).quality


def test_replay_finds_the_same_to_the_nano_dollar(rows, tuned):
    reproduces(tuned, rows, 240)


def test_replay_finds_the_same_of_a_policy_of_chance():
    few = records(150, seed=3)
    found = tune(few, FRONTIER)
    assert any(isinstance(promise.policy, Mix) for promise in found.promises)
    reproduces(found, few, 150)


def test_replay_finds_the_same_of_ragged_records(rows):
    """Prompt and tags on one worker's rows, which is not among those tuned; prices by tokens; failures; refusals; second answers."""
    rng = random.Random(1)
    prices = {"cheap": Price(nanos(0.5), nanos(1.5))}
    ragged = []
    for i, row in enumerate(rows):
        changed = row if row.worker == "middle" else replace(row, prompt=None, tags={})
        if row.worker == "cheap":
            changed = replace(changed, input_tokens=rng.randrange(900), output_tokens=rng.randrange(300), cost_usd=None)
        if i % 17 == 0:
            changed = replace(
                changed, failure="timeout: no answer", score=None, answer=None, output=None, cost_usd=1e-5
            )
        elif i % 13 == 0:
            changed = replace(changed, verdicts={"form": {"passed": False, "score": 0.2, "cost_usd": 0.0001}})
        ragged += [changed] * (2 if i % 11 == 0 else 1)
    found = tune(ragged, Wish(frontier="frontier", workers=("cheap", "frontier")), prices=prices)
    assert any("second answer" in note for note in found.notes)
    reproduces(found, ragged, 240, prices=prices)
    scores = [name for promise in found.promises for name in signals_of(promise.policy)]
    assert any(name.startswith(("tag:", "prompt:", "text:")) for name in scores)


def signals_of(policy):
    """The names of all signals that a policy's scores look at."""
    from orchestrion.policy.protocol import dump_policy

    def names(part):
        if isinstance(part, dict):
            yield from part.get("score", {}) if isinstance(part.get("score"), dict) else ()
            for value in part.values():
                yield from names(value)
        elif isinstance(part, list):
            for value in part:
                yield from names(value)

    return list(names(dump_policy(policy)))


def test_prompts_of_which_a_digest_was_kept_are_no_prompts(rows):
    digests = [replace(row, prompt="blake2b:" + f"{i:032x}", tags={}) for i, row in enumerate(rows)]
    assert read_table(digests, prices={}).labelled[0].task.input is None
    found = tune(digests, FRONTIER)
    reproduces(found, digests, 240)
    names = {name for promise in found.promises for name in signals_of(promise.policy) if name.startswith("text:")}
    assert len(names) <= 1  # all tasks have the words of an empty one


# What it does not depend on


def test_the_same_seed_finds_the_same_whatever_the_order_of_the_rows(rows, tuned):
    def said(found):
        return msgspec.json.encode(
            [msgspec.structs.asdict(p) | {"policy": signals_of(p.policy)} for p in found.promises]
        )

    shuffled = random.Random(5).sample(rows, len(rows))
    again = tune(shuffled, FRONTIER)
    assert said(again) == said(tuned)
    assert replace(again, seconds=0.0, promises=()) == replace(tuned, seconds=0.0, promises=())
    assert said(tune(rows, Wish(frontier="frontier", seed=1))) != said(tuned)


def test_scores_and_references_change_no_decision_of_a_saved_policy(rows, tuned, tmp_path):
    rng = random.Random(0)
    scores = [row.score for row in rows]
    rng.shuffle(scores)
    other = [
        replace(row, score=score, reference=str(i), label_source="person")
        for i, (row, score) in enumerate(zip(rows, scores, strict=True))
    ]
    for promise in tuned.promises:
        write_policy(tmp_path / "tuned.json", SavedPolicy(promise.policy, certificate=promise.certificate))
        policy = read_policy(tmp_path / "tuned.json").policy
        before, after = replayed(rows, policy), replayed(other, policy)
        decided = [
            [(one.task_id, one.accepted and one.accepted.call, [a.call for a in one.attempts]) for one in done.tasks]
            for done in (before, after)
        ]
        assert decided[0] == decided[1]
        assert before.quality != after.quality


def test_the_certify_half_says_nothing_to_the_choice():
    few = records(150, seed=3)
    half = {case.task.id for case in split(read_table(few, prices={}), FRONTIER).certify}
    worse = [
        replace(row, score=0.0) if row.task_id in half and row.worker != "frontier" and row.score and i % 2 else row
        for i, row in enumerate(few)
    ]
    first, second = (tune(found, FRONTIER).promises[0] for found in (few, worse))
    assert second.quality_ratio.value < first.quality_ratio.value
    before, after = (unfolded(promise.policy, "frontier") for promise in (first, second))
    assert before.inner == after.inner
    assert after.share < before.share < 1


def test_what_cheap_answers_cost_on_the_certify_half_says_nothing_to_the_choice():
    """A worker that thinks longer where it is wrong would tell by its costs how it does there."""
    few = records(150, seed=3)
    half = {case.task.id for case in split(read_table(few, prices={}), FRONTIER).certify}
    dearer = [
        replace(row, cost_usd=4 * (row.cost_usd or 0)) if row.task_id in half and row.worker == "cheap" else row
        for row in few
    ]
    first, second = (tune(found, FRONTIER).promises[0] for found in (few, dearer))
    assert second.policy == first.policy


def test_a_saved_policy_decides_without_the_statistics(tuned, tmp_path):
    for i, promise in enumerate(tuned.promises):
        write_policy(tmp_path / f"{i}.json", SavedPolicy(promise.policy, certificate=promise.certificate))
    code = """
import sys
for name in ("numpy", "scipy", "sklearn"):
    sys.modules[name] = None
from pathlib import Path
from orchestrion.domain import UNLIMITED, Task
from orchestrion.engine.saved import read_policy
for i in range(3):
    print(type(read_policy(Path(f"{i}.json")).policy.next(Task("t", "A question", {"topic": "law"}), (), UNLIMITED)).__name__)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["Ask"] * 3, done.stderr


def test_tasks_of_one_user_stay_on_one_side(rows):
    wish = Wish(frontier="frontier", group_by="user")
    halves = split(read_table(rows, prices={}, group_by="user"), wish)
    assert halves.grouped
    assert not {case.group for case in halves.fit} & {case.group for case in halves.certify}
    found = tune(rows, wish)
    assert any("stay together" in note for note in found.notes)
    assert {method(one) for one in found.promises if one.certified} <= {"betting, by group"}
    assert found.promises[0].certificate is None or found.promises[0].certificate.group_by == "user"


# The promise holds


def test_a_promise_is_broken_as_rarely_as_it_says():
    """Signals are noise, and the cheap worker loses 15 % wherever it is asked: the true loss is .15 times its share of the tasks."""
    broken, n = 0, 60
    fresh = records(400, seed=10**6, harm={"cheap": 0.15}, quality={"frontier": 0.9})
    for seed in range(n):
        made = records(120, seed=seed, harm={"cheap": 0.15}, quality={"frontier": 0.9})
        mean = tune(made, Wish(frontier="frontier", confidence=0.8, seed=seed)).promises[0]
        inner, share = unfolded(mean.policy, "frontier")
        answered = Counter(one.accepted.call.worker for one in replayed(fresh, inner).tasks)
        loss = share * (0.15 - 0.1 * 0.1 / 0.9) * answered["cheap"] / 400
        broken += mean.certified and loss > 0.05
    assert broken <= 0.2 * n + 2 * math.sqrt(0.2 * 0.8 * n)


# What cannot be used


def test_rows_that_a_live_policy_asked_for_are_no_evidence(rows):
    live = [
        replace(row, run_id="r", selected_by="careful")
        for row in rows
        if row.worker != "frontier" or int(row.task_id[1:]) % 3 == 0
    ]
    with pytest.raises(RecordsError, match="'frontier' was asked for 80 of 240 tasks, chosen by policy 'careful'"):
        tune(live, FRONTIER)
    with pytest.raises(RecordsError, match="'frontier' was asked for 80 of 240 tasks"):
        tune(live, Wish(frontier="frontier", workers=("cheap", "middle")))
    everybody = [replace(row, run_id="r", selected_by="careful") for row in rows]
    assert tune(everybody, FRONTIER).labels == 240


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"score": math.nan}, "a score lies between 0 and 1, not nan"),
        ({"score": 1.5}, "a score lies between 0 and 1, not 1.5"),
        ({"cost_usd": math.nan}, "cost_usd is a number of dollars from 0, not nan"),
        ({"cost_usd": -0.5}, "cost_usd is a number of dollars from 0, not -0.5"),
        ({"probability": 0.0}, "probability is above 0 and at most 1, not 0.0"),
        ({"label_probability": 1.2}, "label_probability is above 0 and at most 1, not 1.2"),
    ],
)
def test_what_is_no_number_is_refused_with_its_place(rows, changed, said):
    bad = [*rows[:40], replace(rows[40], **changed), *rows[41:]]
    with pytest.raises(RecordsError, match=f"task '{rows[40].task_id}', worker '{rows[40].worker}': {said}"):
        tune(bad, FRONTIER)


def test_nothing_can_be_tuned_without_prices_scores_or_tasks(rows):
    with pytest.raises(RecordsError, match="no worker has a price"):
        tune([replace(row, cost_usd=None) for row in rows], Wish())
    with pytest.raises(RecordsError, match="nobody knows what 'frontier' cost"):
        tune([replace(row, cost_usd=None) if row.worker == "frontier" else row for row in rows], FRONTIER)
    with pytest.raises(RecordsError, match="no task of 240 has a score for every worker"):
        tune([replace(row, score=None) for row in rows], FRONTIER)
    with pytest.raises(RecordsError, match="one task of 1 has a score"):
        tune([row for row in rows if row.task_id == "t0"], FRONTIER)
    with pytest.raises(RecordsError, match="no outcomes"):
        tune([], Wish())
    with pytest.raises(RecordsError, match="got none of the 240 labelled tasks right"):
        tune([replace(row, score=0.0) for row in rows], FRONTIER)
    with pytest.raises(RecordsError, match=r"no task has the tag 'usr'.*Did you mean 'user'"):
        tune(rows, Wish(group_by="usr"))
    with pytest.raises(RecordsError, match="all labelled tasks are of one group"):
        tune([replace(row, tags={"user": "ana"}) for row in rows], Wish(frontier="frontier", group_by="user"))


def test_all_right_goes_to_the_cheapest(rows):
    promise = tune([replace(row, score=1.0) for row in rows], FRONTIER).promises[0]
    assert promise.certified
    assert promise.cost_ratio.value < 0.25


def test_forty_labels_are_said_to_be_too_few(rows):
    found = tune([row for row in rows if int(row.task_id[1:]) < 40], FRONTIER)
    promise = found.promises[0]
    assert not promise.certified
    assert promise.policy == Fixed("frontier")
    assert "too few" in str(promise.reason)
    assert (promise.labels_needed or 0) > 40
    assert found.n_min > 30


def test_tasks_and_workers_that_lack_something_are_counted(rows):
    found = tune([row for row in rows if not (row.worker == "middle" and row.task_id in ("t3", "t5"))], FRONTIER)
    assert found.labels == 238
    assert any("2 of 240 tasks lack an answer of some worker" in note for note in found.notes)
    found = tune([row for row in rows if row.worker != "middle" or int(row.task_id[1:]) < 100], FRONTIER)
    assert {one.name for one in found.workers} == {"cheap", "frontier"}
    assert any("recorded on few of the tasks: middle. --workers takes them" in note for note in found.notes)
    found = tune([replace(row, cost_usd=None) if row.worker == "middle" else row for row in rows], FRONTIER)
    assert any("nobody knows what they cost: middle" in note for note in found.notes)
    found = tune([replace(row, score=None) if row.worker == "middle" else row for row in rows], FRONTIER)
    assert any("none of their answers has a score: middle" in note for note in found.notes)
    assert found.labels == 240


def test_a_frontier_that_is_not_the_best_after_all_is_said_with_the_figures():
    def right(i, worker):
        return float(i % 10 != 0) if worker == "steady" else float(i % 11 != 0)

    alike = [
        replace(row, worker={"cheap": "weak", "middle": "steady"}.get(row.worker, row.worker)) for row in records(120)
    ]
    rows = [replace(row, score=right(int(row.task_id[1:]), row.worker)) for row in alike if row.worker != "weak"]
    told = set()
    for seed in range(8):
        found = tune(rows, Wish(seed=seed))
        best = max(found.workers, key=lambda worker: worker.quality)
        said = [note for note in found.notes if "makes that one the yardstick" in note]
        assert bool(said) == (found.frontier.quality < best.quality)
        if said:
            assert f"'{best.name}' {best.quality:.3f}" in said[0]
            assert f"{found.frontier.quality:.3f}" in said[0]
        told.add(bool(said))
        named = tune(rows, Wish(seed=seed, frontier=best.name))
        assert not any("yardstick." in note for note in named.notes)
    assert told == {True, False}


def test_more_labels_are_advised_beside_the_cost_that_is_shown(rows):
    cost = re.compile(r"bring the cost from (\d+)% to (\d+)%")
    seen = 0
    for seed in range(6):
        found = tune(rows, Wish(frontier="frontier", seed=seed))
        for before, after in (map(int, one.groups()) for text in found.advice if (one := cost.search(text))):
            assert f"{found.promises[0].cost_ratio.value:.0%}" == f"{before}%"
            assert after <= before
            seen += 1
    assert seen


def test_a_worker_at_exactly_the_cost_that_is_allowed_may_be_asked(rows):
    priced = [replace(row, cost_usd=0.001 if row.worker == "cheap" else 0.01) for row in rows if row.worker != "middle"]
    found = tune(priced, Wish(frontier="frontier", max_cost=0.1))
    assert found.promises[0].certified
    assert found.promises[0].cost_ratio.value == pytest.approx(0.1)


def test_mixed_workloads_and_steps(rows):
    mixed = [replace(row, workload="b") if int(row.task_id[1:]) % 2 else row for row in rows]
    found = tune(mixed, FRONTIER)
    assert any("several workloads are taken as one (b, made)" in note for note in found.notes)
    assert tune(mixed, Wish(frontier="frontier", workload="b")).labels == 120
    with pytest.raises(RecordsError, match=r"no workload 'mad'.*Did you mean 'made'"):
        tune(mixed, Wish(workload="mad"))
    with pytest.raises(RecordsError, match="several steps"):
        tune([replace(row, step="x") if int(row.task_id[1:]) % 2 else row for row in rows], FRONTIER)


def test_one_workload_of_several_is_replayed_where_it_is_named(rows):
    both = [*rows, *(replace(row, workload="other") for row in rows)]
    one = asyncio.run(replay(both, SavedPolicy(Fixed("frontier")), workload="other"))
    assert 2 * len(one.tasks) == len(asyncio.run(replay(both, SavedPolicy(Fixed("frontier")))).tasks)
    with pytest.raises(RecordsError, match=r"no workload 'othr'.*'other'"):
        asyncio.run(replay(both, SavedPolicy(Fixed("frontier")), workload="othr"))


def test_a_frontier_that_a_check_refuses_is_worth_nothing_there(rows):
    refused = [
        replace(row, verdicts={"form": {"passed": False}})
        if row.worker == "frontier" and row.task_id in ("t0", "t1")
        else row
        for row in rows
    ]
    table = read_table(refused, prices={})
    found = tune(refused, FRONTIER)
    right = sum(row.score or 0 for row in rows if row.worker == "frontier" and row.task_id not in ("t0", "t1"))
    assert found.frontier.quality == pytest.approx(right / len(table.labelled))


# Labels


def unlabelled(rows, keep):
    """The same rows, of which some tasks alone have scores."""
    return [row if keep(int(row.task_id[1:])) else replace(row, score=None) for row in rows]


def labelled_back(truth, found, rows):
    """What comes back from people: scores of all answers to the tasks, with the chance with which each was drawn."""
    chances = {one.task_id: one.probability for one in found}
    return [
        replace(row, score=right.score, label_source="person", label_probability=chances[row.task_id])
        if row.task_id in chances
        else row
        for row, right in zip(rows, truth, strict=True)
    ]


def test_labels_picked_where_answers_differ_are_evidence():
    truth = records(500, seed=4)
    known = unlabelled(truth, lambda i: i < 120)
    first = tune(known, Wish(frontier="frontier", label_next=60))
    assert first.unlabelled == 380
    assert len(first.label_next) == 60
    second = tune(labelled_back(truth, first.label_next, known), FRONTIER)
    assert (second.labels, second.unlabelled) == (120, 380)
    asked = second.promises[
        0
    ]  # the tasks were picked for its policy; those of the other promises may ask other workers
    assert asked.certificate
    assert asked.certificate.method == "exact, labels where answers differ"
    assert second.promises[0].cost_ratio.value <= first.promises[0].cost_ratio.value + 0.02
    fresh = records(3000, seed=78, prefix="fresh")
    inner, share = unfolded(second.promises[0].policy, "frontier")
    best = replayed(fresh, Fixed("frontier")).quality
    assert share * replayed(fresh, inner).quality + (1 - share) * best >= 0.95 * best


def test_labels_of_all_tasks_that_differ_are_picked_too():
    truth = records(300, seed=4)
    known = unlabelled(truth, lambda i: i < 120)
    everything = tune(known, Wish(frontier="frontier", label_next=300)).label_next
    back = labelled_back(truth, [replace(one, probability=1.0) for one in everything], known)
    table = read_table(back, prices={})
    assert len(table.labelled) == 120
    assert {case.picked for case in table.unlabelled} == {1.0, None}


def test_a_fair_draw_of_labels_is_no_pick():
    truth = records(300, seed=4)
    drawn = set(random.Random(2).sample(range(300), 120))
    fair = [
        replace(row, label_probability=0.4) if int(row.task_id[1:]) in drawn else replace(row, score=None)
        for row in truth
    ]
    assert len(read_table(fair, prices={}).labelled) == 120
    texts = [replace(row, answer=None, output=f"{row.worker} on {row.task_id}") for row in fair]  # never the same
    assert len(read_table(texts, prices={}).labelled) == 120
    alone = [row for row in texts if int(row.task_id[1:]) in drawn]
    assert len(read_table(alone, prices={}).labelled) == 120


def test_picked_labels_alone_are_refused_with_the_way_out():
    truth = records(400, seed=4, harm={"cheap": 0.2})
    answers = {(row.task_id, row.worker): row.answer for row in truth}
    differ = [f"t{i}" for i in range(400) if answers[f"t{i}", "cheap"] != answers[f"t{i}", "frontier"]][:60]
    only = [replace(row, label_probability=0.5) for row in truth if row.task_id in differ]
    with pytest.raises(RecordsError, match="The labels that are there were picked"):
        tune(only, FRONTIER)


def test_what_was_picked_for_one_worker_is_no_evidence_of_another():
    """Labels drawn where "cheap" differs from the frontier say nothing fair of "middle", which differs elsewhere, too."""
    from orchestrion.tuning.evidence import Evidence

    truth = records(600, seed=6, harm={"cheap": 0.15, "middle": 0.15})
    answers = {(row.task_id, row.worker): row.answer for row in truth}
    differ = {f"t{i}" for i in range(100, 600) if answers[f"t{i}", "cheap"] != answers[f"t{i}", "frontier"]}
    picked = set(random.Random(0).sample(sorted(differ), 50))
    back = [
        row
        if int(row.task_id[1:]) < 100
        else replace(row, label_probability=50 / len(differ))
        if row.task_id in picked
        else replace(row, score=None)
        for row in truth
    ]
    table = read_table(back, prices={})
    assert len(table.labelled) == 100
    evidence = Evidence(table.labelled, table.unlabelled, "frontier", grouped=False, seed=0)
    assert evidence.test(Fixed("cheap")).method == "exact, labels where answers differ"
    assert evidence.test(Fixed("middle")).method == "exact"


def test_labels_at_random_gain_nothing_from_answers_alone():
    found = tune(unlabelled(records(400, seed=4), lambda i: i < 150), FRONTIER)
    assert method(found.promises[0]) == "exact"


def test_tasks_labelled_in_part_by_their_answers_are_not_taken_for_a_sample():
    """Only the frontier's answers were scored: those to which all agree would be complete, and they are the easy ones."""
    truth = records(300, seed=4)
    partly = [
        replace(row, score=None) if row.worker != "frontier" and int(row.task_id[1:]) >= 150 else row for row in truth
    ]
    table = read_table(partly, prices={})
    assert len(table.labelled) == 150
    assert any("150 tasks have scores of some answers only" in note for note in table.notes)


def test_equal_answers_share_a_score_where_all_are_known_by_it():
    truth = records(300, seed=4)
    seen = set()
    once = []
    for row in truth:  # as a person labels who does not repeat themselves
        key = row.task_id, row.answer
        once.append(replace(row, score=None) if key in seen else row)
        seen.add(key)
    table = read_table(once, prices={}, workers=["cheap", "frontier"], samples={"cheap": 1, "frontier": 1})
    whole = read_table(truth, prices={}, workers=["cheap", "frontier"])
    assert [case.scores for case in table.labelled] == [case.scores for case in whole.labelled]


# Known probabilities


def shadowed(rows, chance, *, seed=0):
    """The frontier was asked with a known probability, and is not there elsewhere."""
    rng = random.Random(seed)
    asked = {f"{task}" for task in dict.fromkeys(row.task_id for row in rows) if rng.random() < chance(task)}
    return [
        replace(row, run_id="live", selected_by="shadow", probability=chance(row.task_id))
        if row.worker == "frontier"
        else row
        for row in rows
        if row.worker != "frontier" or row.task_id in asked
    ]


def test_equal_probabilities_are_a_fair_sample():
    table = read_table(shadowed(records(400), lambda task: 0.5), prices={}, frontier="frontier")
    assert {case.weight for case in table.labelled} == {1.0}


def test_tasks_recorded_with_known_probabilities_are_weighed():
    rows = records(1600, seed=8, harm={"cheap": 0.02})
    law = {row.task_id for row in rows if row.tags["topic"] == "law"}
    rows = [replace(row, score=0.0) if row.task_id in law and row.worker == "cheap" else row for row in rows]
    sampled = shadowed(rows, lambda task: 0.2 if task in law else 0.5)
    table = read_table(sampled, prices={})
    assert {case.weight for case in table.labelled} == {2.0, 5.0}
    from orchestrion.tuning.evidence import Evidence

    evidence = Evidence(table.labelled, table.unlabelled, "frontier", grouped=False, seed=0)
    measured = evidence.measure(Fixed("cheap"))
    truth = [sum(row.score or 0 for row in rows if row.worker == name) / 1600 for name in ("cheap", "frontier")]
    assert measured.quality.mean() == pytest.approx(truth[0], abs=0.05)
    assert measured.quality.mean() / measured.frontier.mean() == pytest.approx(truth[0] / truth[1], abs=0.03)
    assert evidence.test(Fixed("cheap")).method == "betting, weighted"
    found = tune(sampled, FRONTIER)
    assert found.promises[0].certified
    assert method(found.promises[0]) == "betting, weighted"
    assert any("known probabilities, from 0.2 to 0.5" in note for note in found.notes)
