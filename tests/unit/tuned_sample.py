"""A tuning as it is found, made by hand: what its page and its command are tested with."""

from __future__ import annotations

from msgspec.structs import replace

from orchestrion.policy.certificate import Certificate, Ground, Target, task_digests
from orchestrion.policy.combinators import agreement, cascade, fixed, mix
from orchestrion.tuning.facts import Interval, Point, Promise, TagPromise, TaskToLabel, Tuned, WorkerFacts

CHEAP = WorkerFacts(name="cheap", quality=0.85, cost=0.000008, tasks=120)
FRONTIER = WorkerFacts(name="frontier", quality=0.95, cost=0.000133, tasks=120)
ORACLE = WorkerFacts(name="oracle", quality=0.99, cost=0.000021, tasks=120)
TWICE = cascade(agreement("cheap", samples=2, accept=1), "frontier")
WORDS = "Ask cheap twice. Where both answers agree, accept them; else ask frontier."

MEAN = Target(quality=0.95, confidence=0.9)

CERTIFICATE = Certificate(
    target=MEAN,
    frontier="frontier",
    method="exact conditional test",
    p_value=0.041,
    labels=120,
    certified_on=90,
    quality_ratio=0.981,
    cost_ratio=0.362,
    expected=False,
    workers={"cheap": Ground(model="simulated"), "frontier": Ground(price=(2_500_000_000, 10_000_000_000, None, None))},
    fitted=task_digests(f"t{i}" for i in range(120)),
    policy="0123456789abcdef",
    seed=0,
)

CERTIFIED = Promise(
    target=MEAN,
    certified=True,
    policy=TWICE,
    words=WORDS,
    reason=None,
    quality_ratio=Interval(0.981, 0.953, 1.004),
    cost_ratio=Interval(0.362, 0.311, 0.42),
    cost=0.0000481,
    captured=0.758,
    expected=False,
    realised=(0.94, 0.0000483),
    p_value=0.041,
    certificate=CERTIFICATE,
)

MIXED = Promise(
    target=Target(quality=0.9, confidence=0.9),
    certified=True,
    policy=mix({"cheap": 0.6, "frontier": 0.4}),
    words="For 60 % of the tasks, by chance, ask cheap; for the others frontier.",
    reason=None,
    quality_ratio=Interval(0.937, 0.901, 0.969),
    cost_ratio=Interval(0.436, 0.42, 0.45),
    cost=0.000058,
    captured=0.67,
    expected=True,
    realised=(0.89, 0.0000577),
    p_value=0.083,
    certificate=replace(CERTIFICATE, target=Target(quality=0.9, confidence=0.9), p_value=0.083, expected=True),
)

REFUSED = Promise(
    target=Target(kind="share", quality=0.95, share=0.9, confidence=0.9),
    certified=False,
    policy=fixed("frontier"),
    words="Ask frontier for every task.",
    reason="The best policy that was tried was worse on 14 of 90 tasks; at most 5 would have been few enough.",
    quality_ratio=Interval(1.0, 1.0, 1.0),
    cost_ratio=Interval(1.0, 1.0, 1.0),
    cost=0.000133,
    captured=0.0,
    expected=False,
    realised=(0.95, 0.000133),
    p_value=0.31,
    labels_needed=260,
)

BY_TAG = {
    "refund": TagPromise(certified=True, tasks=70, quality_ratio=0.99, cost_ratio=0.21, words="Ask cheap."),
    "delivery": TagPromise(certified=False, tasks=50, quality_ratio=1.0, cost_ratio=1.0, words="Ask frontier."),
}

POINTS = (
    Point(name="cheap", kind="worker", quality=0.85, cost=0.000008, hull=True),
    Point(name="frontier", kind="frontier", quality=0.95, cost=0.000133, hull=True),
    Point(name=WORDS, kind="chosen", quality=0.94, cost=0.0000481, hull=True),
    Point(name="Ask cheap; if the answer is long, ask frontier.", kind="policy", quality=0.9, cost=0.00006),
    Point(name="oracle", kind="oracle", quality=0.99, cost=0.000021),
)

TO_LABEL = (
    TaskToLabel(workload="demo", task_id="t121", probability=0.25, why="cheap and frontier answer differently"),
    TaskToLabel(workload="demo", task_id="t125", probability=1.0, why="nobody knows how hard tasks like it are"),
)

TUNED = Tuned(
    promises=(CERTIFIED, MIXED, REFUSED),
    frontier=FRONTIER,
    workers=(CHEAP, FRONTIER),
    oracle=ORACLE,
    points=POINTS,
    labels=120,
    fit=30,
    certify=90,
    unlabelled=40,
    spared=29,
    n_min=50,
    seed=0,
    notes=("3 tasks lack an answer of cheap and were left out.", "2 rows stood there twice and were used once."),
    advice=("Label 140 more tasks: the same policy would then probably be certified for single tasks, too.",),
    seconds=1.4,
)
