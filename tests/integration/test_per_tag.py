"""What a tuning finds: each value of a tag promised for itself, the points of the plot, and what is said where little can be promised."""

from __future__ import annotations

import json
import random
from itertools import pairwise

import pytest

from orchestrion.domain import UNLIMITED, Ask, Outcome, Task
from orchestrion.engine.execution import SavedPolicy
from orchestrion.engine.replay import replay
from orchestrion.errors import RecordsError, UsageError
from orchestrion.policy.certificate import Target
from orchestrion.policy.combinators import Mix
from orchestrion.policy.protocol import dump_policy, load_policy
from orchestrion.tuning.facts import Wish
from orchestrion.tuning.needed import fewest
from orchestrion.tuning.per_tag import routed, values_to_try
from orchestrion.tuning.points import named
from orchestrion.tuning.promise import part
from orchestrion.tuning.tune import targets, tune

COSTS = {"cheap": 0.001, "mid": 0.004, "frontier": 0.02}
RIGHT = {"cheap": 0.8, "mid": 0.85, "frontier": 0.92}


def records(n, *, seed=0, right=None, topics=("easy", "hard"), workers=COSTS, labelled=None, first=0):
    """Tasks of several topics; on hard ones cheap workers guess. Unlabelled from task ``labelled`` on."""
    rng = random.Random(seed)
    rows = []
    for i in range(first, first + n):
        topic = topics[i % len(topics)]
        for worker in workers:
            chance = 0.3 if topic == "hard" and worker != "frontier" else {**RIGHT, **(right or {})}[worker]
            true = "ABCD"[i * 7 % 4]
            answer = true if rng.random() < chance else rng.choice([letter for letter in "ABCD" if letter != true])
            rows.append(
                Outcome(
                    task_id=f"t{i}",
                    tags={"topic": topic},
                    worker=worker,
                    prompt=f"question {i}",
                    output=answer,
                    answer=answer,
                    score=float(answer == true) if labelled is None or i < labelled else None,
                    cost_usd=COSTS[worker],
                )
            )
    return rows


def find(rows, **wish):
    return tune(rows, Wish(**{"frontier": "frontier", **wish}))


# Each value of a tag


@pytest.fixture(scope="module")
def each():
    rows = records(900, topics=("easy", "easy", "easy", "hard", "hard", "rare"), right={"cheap": 0.92})
    return rows, find(
        [row for row in rows if row.tags["topic"] != "rare" or int(row.task_id[1:]) < 60], per_tag="topic"
    )


def test_every_value_is_promised_for_itself(each):
    _, tuned = each
    promise = tuned.promises[0]
    assert promise.target == Target(per_tag="topic")
    assert promise.certified
    shares = [value for name, value in dump_policy(promise.policy)["score"].items() if name.startswith("tag:")]
    assert promise.expected == any(share < 1 for share in shares)
    assert promise.target.words.startswith("for every topic by itself, the mean quality is at least 0.95")
    assert promise.certificate.method.endswith("family-wise over 2 values of topic")
    assert promise.p_value <= 0.1
    assert list(promise.by_tag) == ["easy", "hard", "rare"]
    easy, hard, rare = promise.by_tag.values()
    assert easy.certified
    assert hard.certified
    assert easy.cost_ratio < hard.cost_ratio <= 1
    assert not rare.certified
    assert rare.cost_ratio == 1
    assert "too few to test" in rare.words
    assert tuned.promises[1].target == Target()
    assert any("rare" in sentence for sentence in tuned.advice)


def test_a_value_without_a_promise_and_a_task_without_the_tag_go_to_the_frontier(each):
    _, tuned = each
    policy = load_policy(json.loads(json.dumps(dump_policy(tuned.promises[0].policy))))

    def asks_others(**tags):
        tasks = [Task(f"new{i}", f"question {i}", tags) for i in range(400)]
        first = [policy.next(task, (), UNLIMITED) for task in tasks]
        return sum(isinstance(one, Ask) and {c.worker for c in one.calls} != {"frontier"} for one in first) / 400

    assert asks_others(topic="easy") > 0.3
    assert (
        asks_others(topic="rare") == asks_others(topic="unheard of") == asks_others() == asks_others(other="easy") == 0
    )


def test_the_policy_holds_the_inner_one_once(each):
    _, tuned = each
    dumped = dump_policy(tuned.promises[0].policy)
    assert dumped["policy"] == "scored_router"
    assert dumped["below"] == {"policy": "fixed", "worker": "frontier"}
    assert {name.partition(":")[0] for name in dumped["score"]} == {"tag", "chance"}


async def test_replay_finds_what_the_tuner_says_it_realised(each):
    rows, tuned = each
    rows = [row for row in rows if row.tags["topic"] != "rare" or int(row.task_id[1:]) < 60]
    promise = tuned.promises[0]
    done = await replay(rows, SavedPolicy(promise.policy))
    assert len(done.tasks) == tuned.labels
    spent = sum(attempt.cost for task in done.tasks for attempt in task.attempts)
    assert promise.realised[1] == pytest.approx(spent / 1e9 / tuned.labels, rel=1e-12)


def test_values_are_tried_by_their_counts_alone():
    target = Target()
    least = [fewest(target, 0.1 / n, 0.9) for n in (1, 2, 3)]
    assert least == sorted(least)
    counts = {"a": 500, "b": least[1], "c": least[1] - 1}
    assert values_to_try(counts, target, 0.1, 0.9) == ["a", "b"]
    assert values_to_try({"a": 500, "b": least[2], "c": least[2]}, target, 0.1, 0.9) == ["a", "b", "c"]
    assert values_to_try({"a": least[0] - 1}, target, 0.1, 0.9) == []


def test_too_few_of_every_value_is_the_frontier_alone():
    tuned = find(records(80), per_tag="topic")
    promise = tuned.promises[0]
    assert not promise.certified
    assert "no value of 'topic' has enough labelled tasks" in promise.reason
    assert promise.labels_needed > tuned.labels
    assert promise.cost_ratio.value == 1


def test_a_tag_that_no_task_has_is_refused_with_the_one_that_is_meant():
    with pytest.raises(RecordsError, match="has a tag 'topics'"):
        find(records(100), per_tag="topics")


def test_a_price_and_each_value_at_once_are_refused():
    with pytest.raises(UsageError, match="Give one"):
        find(records(100), per_tag="topic", max_cost=0.1)


def test_a_share_of_nothing_is_no_score_at_all():
    policy = routed(load_policy("cheap"), "frontier", "topic", {"easy": 0.5, "hard": 0.0}, 3)
    assert dump_policy(policy)["score"] == {"tag:topic=easy": 0.5, "chance:tune-3": -1.0}


# Points


@pytest.fixture(scope="module")
def tuned():
    return find(records(400))


def test_points_are_of_the_same_tasks_and_the_hull_lies_above_all(tuned):
    hull = sorted((one for one in tuned.points if one.hull), key=lambda one: one.cost)
    assert len(tuned.points) <= 2000
    assert tuned.tried >= sum(one.kind == "policy" for one in tuned.points)
    assert [one.quality for one in hull] == sorted(one.quality for one in hull)
    slopes = [(b.quality - a.quality) / (b.cost - a.cost) for a, b in pairwise(hull)]
    assert slopes == sorted(slopes, reverse=True)
    for one in tuned.points:
        if one.kind == "oracle":
            assert not one.hull
            continue
        above = [a.quality + s * (one.cost - a.cost) for a, s in zip(hull, slopes, strict=False)]
        assert one.cost >= hull[0].cost
        assert one.quality <= min([*above, hull[-1].quality]) + 1e-9
    [frontier] = [one for one in tuned.points if one.kind == "frontier"]
    [oracle] = [one for one in tuned.points if one.kind == "oracle"]
    assert frontier.cost == pytest.approx(0.02)
    assert oracle.quality >= frontier.quality
    assert {one.name for one in tuned.points if one.kind == "worker"} == {"cheap", "mid"}
    assert tuned.promises[0].words in {one.name for one in tuned.points if one.kind == "chosen"}


def test_a_policy_has_a_name_for_a_plot():
    assert named(((("cheap", 2),),), "frontier") == "cheap ×2 → frontier"
    assert named(((("cheap", 1),), (("cheap", 1), ("mid", 1))), "frontier") == "cheap → mid → frontier"
    assert named(((("cheap", 1),), (("cheap", 4),)), "frontier") == "cheap → cheap ×4 → frontier"
    assert named(((("cheap", 1), ("mid", 1)),), "frontier") == "cheap + mid → frontier"


# What is promised, and what is said


def test_three_promises_side_by_side_and_none_of_them_twice():
    share = Target(kind="share", quality=0.95, share=0.9)
    assert targets(Wish()) == [Target(), Target(quality=0.9), share]
    assert targets(Wish(target=0.9)) == [Target(quality=0.9), share]
    assert targets(Wish(target=0.8, share=0.7))[0] == Target(kind="share", quality=0.8, share=0.7)
    assert targets(Wish(max_cost=0.1)) == [Target(quality=0.0), Target(), Target(quality=0.9), share]


def test_a_promise_about_a_batch_says_so_and_costs_more():
    rows = records(400)
    one, of_all = find(rows, batch=300).promises[0], find(rows).promises[0]
    assert one.target.words.startswith("over a batch of 300 tasks, ")
    assert one.certificate.target.batch == 300
    assert one.p_value < 0.1
    assert one.cost_ratio.value >= of_all.cost_ratio.value
    with pytest.raises(UsageError, match="a confidence above"):
        find(rows, batch=300, confidence=0.4)


def test_a_share_is_rounded_down():
    assert part(0.05, 0.07) == 0.714285
    assert part(0.05, 1.0) == 0.05
    assert part(0.05, 0.05) == part(0.05, 0.0) == 1.0
    for loss in (0.0501, 0.3, 0.77, 1.0):
        assert part(0.05, loss) * loss <= 0.05 + 1e-12


def test_the_best_at_a_cost_is_promised_or_the_way_out_is_said():
    found = find(records(400), max_cost=0.3).promises[0]
    assert found.certified
    assert 0 < found.target.quality < 1
    assert found.p_value <= 0.1
    assert found.cost_ratio.value <= 0.32
    refused = find(records(400), max_cost=0.001).promises[0]
    assert not refused.certified
    assert str(refused.target.quality) == "0.0"
    assert "the cheapest costs 5" in refused.reason
    assert "--max-cost" in refused.reason
    assert find(records(100), max_cost=1.0).promises[0].reason.startswith("at its own cost")


def test_too_few_labels_say_how_many_and_it_is_more_than_there_are():
    for n in (12, 40, 60):
        tuned = find(records(n, topics=("easy",), right={"cheap": 0.92}))
        promise = tuned.promises[0]
        assert not promise.certified
        assert "too few" in promise.reason
        assert str(tuned.n_min) in promise.reason
        assert promise.labels_needed > n


def test_hopeless_workers_are_said_to_be_so():
    rows = records(60, topics=("easy",), right={"cheap": 0.02, "mid": 0.02}) + records(
        60, topics=("easy",), right={"cheap": 0.02, "mid": 0.02}, first=60
    )
    tuned = find(rows, confidence=0.999)
    promise = tuned.promises[0]
    assert not promise.certified
    assert promise.labels_needed is None
    assert "Record another worker, better than the cheap ones and cheaper than 'frontier'" in promise.reason


def test_what_is_given_away_without_evidence_is_said():
    tuned = find(records(150, topics=("easy",), right={"cheap": 0.0, "mid": 0.0}))
    promise = tuned.promises[0]
    assert promise.certified
    assert isinstance(promise.policy, Mix)
    assert promise.policy.shares[0] == 0.05
    assert any("5% of the tasks may be given away without evidence" in note for note in tuned.notes)


def test_all_of_the_quality_cannot_be_promised_of_another():
    rows = records(1200, workers=("cheap", "frontier"), topics=("easy",), right={"cheap": 0.7})
    promise = find(rows, target=1.0, confidence=0.2).promises[0]
    assert not promise.certified
    assert "all of the frontier's quality" in promise.reason


def test_nobody_is_cheaper_than_a_frontier_that_is_the_cheapest():
    tuned = find(records(200), frontier="cheap")
    assert not tuned.promises[0].certified
    assert tuned.promises[0].labels_needed is None
    assert tuned.promises[0].captured is None or tuned.promises[0].captured == 0
    assert any("'cheap', the yardstick, is also the cheapest" in note for note in tuned.notes)
    assert any("'cheap' is not the best worker" in note for note in tuned.notes)
    assert any("cheaper than 'cheap'" in sentence for sentence in tuned.advice)


def test_there_is_no_saving_to_have_a_part_of():
    rows = records(200, right={"cheap": 0.0, "mid": 0.0, "frontier": 1.0}, topics=("easy",))
    assert find(rows).promises[0].captured is None


def test_a_better_worker_that_was_left_out_is_said():
    tuned = find(records(200), frontier=None, workers=("cheap", "mid"))
    assert any("--workers leaves out 'frontier'" in note for note in tuned.notes)
    assert not any("leaves out" in note for note in find(records(200), workers=("cheap", "frontier")).notes)


# Labels


def test_tasks_to_label_are_those_on_which_answers_differ_and_all_have_one_chance():
    rows = records(300, labelled=200)
    tuned = find(rows, label_next=10)
    workers = {*tuned.promises[0].policy.calls()} - {"frontier"}
    answers = {(row.task_id, row.worker): row.answer for row in rows}
    waiting = [f"t{i}" for i in range(200, 300)]
    differ = {t for t in waiting if any(answers[t, w] != answers[t, "frontier"] for w in workers)}
    assert len(tuned.label_next) == 10
    assert {one.task_id for one in tuned.label_next} <= differ
    assert {one.probability for one in tuned.label_next} == {10 / len(differ)}
    everyone = find(rows, label_next=1000).label_next
    assert {one.task_id for one in everyone} == differ
    assert {one.probability for one in everyone} == {0.999999}
    assert find(rows, label_next=10).label_next == tuned.label_next


def test_answers_that_cannot_be_compared_are_drawn_from_alike():
    rows = records(200) + [
        Outcome(task_id=f"u{i}", worker=worker, prompt="?", cost_usd=cost, tags={"topic": "easy"})
        for i in range(30)
        for worker, cost in COSTS.items()
    ]
    tuned = find(rows, label_next=6)
    assert len(tuned.label_next) == 6
    assert {one.probability for one in tuned.label_next} == {0.2}
    assert any("cannot be compared" in note for note in tuned.notes)


def test_where_nothing_waits_for_a_label_that_is_said():
    tuned = find(records(200), label_next=5)
    assert tuned.label_next == ()
    assert any("no task without labels" in note for note in tuned.notes)
