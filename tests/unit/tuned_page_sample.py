"""Tunings as they are found, made by dice: what their page is tested with."""

from __future__ import annotations

import random
from typing import Any

from msgspec.structs import replace

from orchestrion.policy.certificate import Certificate, Ground, Target, task_digests
from orchestrion.policy.combinators import agreement, cascade, fixed, mix
from orchestrion.tuning.facts import Interval, Point, Promise, TagPromise, Tuned, WorkerFacts

FRONTIER = WorkerFacts(name="gpt-5.1", quality=0.912, cost=0.0133, tasks=400)
WORKERS = (
    WorkerFacts(name="llama-3.2-3b", quality=0.481, cost=0.0000052, tasks=400),
    WorkerFacts(name="qwen3-8b", quality=0.702, cost=0.000021, tasks=400),
    WorkerFacts(name="gpt-5-nano", quality=0.774, cost=0.00031, tasks=400),
    WorkerFacts(name="mistral-medium", quality=0.761, cost=0.0012, tasks=400),
    WorkerFacts(name="claude-haiku-4.5", quality=0.852, cost=0.0024, tasks=400),
    WorkerFacts(name="gemini-2.5-pro", quality=0.899, cost=0.0088, tasks=400),
    FRONTIER,
)
ORACLE = WorkerFacts(name="oracle", quality=0.968, cost=0.00071, tasks=400)
WORDS = (
    "Ask gpt-5-nano and qwen3-8b, twice each. Where three of the four answers agree and the question is not tagged contract, accept "
    "the answer; else ask gpt-5.1."
)
CERTIFICATE = Certificate(
    target=Target(),
    frontier="gpt-5.1",
    method="exact conditional test of a diluted policy",
    p_value=0.0412,
    labels=400,
    certified_on=300,
    quality_ratio=0.981,
    cost_ratio=0.262,
    expected=False,
    workers={
        "gpt-5-nano": Ground(model="gpt-5-nano-2025-08-07", price=(50_000_000, 400_000_000, 5_000_000, None)),
        "qwen3-8b": Ground(),
        "gpt-5.1": Ground(model="gpt-5.1-2025-11-13", price=(1_250_000_000, 10_000_000_000, None, None)),
    },
    fitted=task_digests(f"t{i}" for i in range(400)),
    policy="3f2a9c0d1b7e4455",
    seed=7,
)
TWICE = cascade(agreement("gpt-5-nano", samples=2, accept=1), "gpt-5.1")


def promise(**given: Any) -> Promise:
    """The one that was asked for, certified, with these changes."""
    fields: dict[str, Any] = {
        "target": Target(),
        "certified": True,
        "policy": TWICE,
        "words": WORDS,
        "reason": None,
        "quality_ratio": Interval(0.981, 0.953, 1.004),
        "cost_ratio": Interval(0.262, 0.221, 0.31),
        "cost": 0.00348,
        "captured": 0.779,
        "expected": False,
        "realised": (0.894, 0.00351),
        "p_value": 0.0412,
        "certificate": CERTIFICATE,
    }
    return Promise(**(fields | given))


CHEAPER = promise(
    target=Target(quality=0.9),
    policy=mix({"claude-haiku-4.5": 0.6, "gpt-5-nano": 0.4}),
    words="For 60 % of the tasks, by chance, ask claude-haiku-4.5; for the others gpt-5-nano.",
    quality_ratio=Interval(0.937, 0.901, 0.969),
    cost_ratio=Interval(0.118, 0.112, 0.125),
    cost=0.00157,
    captured=0.931,
    expected=True,
    realised=(0.842, 0.00156),
    certificate=replace(CERTIFICATE, target=Target(quality=0.9)),
)
REFUSED = promise(
    target=Target(kind="share", share=0.9),
    certified=False,
    policy=fixed("gpt-5.1"),
    words="Ask gpt-5.1 for every task.",
    reason="The best policy that was tried was worse on 31 of 300 tasks; at most 22 would have been few enough.",
    quality_ratio=Interval(1.0, 1.0, 1.0),
    cost_ratio=Interval(1.0, 1.0, 1.0),
    cost=0.0133,
    captured=0.0,
    realised=(0.912, 0.0133),
    p_value=0.31,
    labels_needed=650,
    certificate=None,
)


def points(many: int, *, seed: int = 0) -> tuple[Point, ...]:
    """Workers, oracle, the chosen, and so many policies below the hull."""
    dice = random.Random(seed)
    named = {one.name: one for one in WORKERS}
    corners = [
        *(named[name] for name in ("llama-3.2-3b", "qwen3-8b", "gpt-5-nano")),
        WorkerFacts(name="Ask qwen3-8b; if it is short, accept.", quality=0.805, cost=0.00045, tasks=400),
        WorkerFacts(name="Ask gpt-5-nano twice; where both agree, accept.", quality=0.871, cost=0.0016, tasks=400),
        WorkerFacts(name=WORDS, quality=0.894, cost=0.00351, tasks=400),
        FRONTIER,
    ]
    hull = [
        Point(
            name=one.name,
            kind="frontier"
            if one is FRONTIER
            else "worker"
            if one.name in named
            else "chosen"
            if one.name == WORDS
            else "policy",
            quality=one.quality,
            cost=one.cost,
            hull=True,
        )
        for one in corners
    ]
    others = [
        Point(name=one.name, kind="worker", quality=one.quality, cost=one.cost)
        for one in WORKERS
        if one.name not in {corner.name for corner in corners}
    ]
    tried = []
    for i in range(many):
        left = dice.randrange(len(corners) - 1)
        share = dice.random()
        quality = corners[left].quality * (1 - share) + corners[left + 1].quality * share
        cost = corners[left].cost * (1 - share) + corners[left + 1].cost * share
        below = Point(
            name=f"policy {i}",
            kind="policy",
            quality=quality * (1 - abs(dice.gauss(0, 0.04))),
            cost=cost * (1 + abs(dice.gauss(0, 0.7))),
        )
        tried.append(below)
    return (*hull, *others, *tried, Point(name="oracle", kind="oracle", quality=ORACLE.quality, cost=ORACLE.cost))


TUNED = Tuned(
    promises=(promise(), CHEAPER, REFUSED),
    frontier=FRONTIER,
    workers=WORKERS,
    oracle=ORACLE,
    points=points(600),
    labels=400,
    fit=100,
    certify=300,
    unlabelled=1_260,
    spared=911,
    n_min=50,
    seed=7,
    notes=(
        "3 tasks lack an answer of qwen3-8b and were left out.",
        "2 rows stood there twice and were used once.",
        "gpt-5.1 is the yardstick: on the tasks that chose the policy it has the best mean score, .912.",
    ),
    advice=(
        "Label 250 more tasks: the promise on 90 % of the tasks would then probably be certified, too.",
        "On tasks tagged contract every cheap worker is worse: a worker that is good at those would save about $2.10 of 1,000 tasks.",
    ),
    seconds=4.21,
)
NOT_CERTIFIED = replace(
    TUNED,
    promises=(
        replace(
            REFUSED,
            target=Target(),
            labels_needed=180,
            reason="40 labels are too few: on 30 test tasks even a policy without one fault could not be certified.",
        ),
        replace(REFUSED, target=Target(quality=0.9), labels_needed=90),
        replace(REFUSED, labels_needed=None),
    ),
    labels=40,
    fit=10,
    certify=30,
    unlabelled=0,
    spared=0,
    points=points(200, seed=3),
)
TAGGED = replace(
    TUNED,
    promises=(
        promise(
            by_tag={
                "invoice": TagPromise(
                    certified=True, tasks=120, quality_ratio=0.993, cost_ratio=0.081, words="Ask qwen3-8b."
                ),
                "contract": TagPromise(
                    certified=False, tasks=64, quality_ratio=1.0, cost_ratio=1.0, words="Ask gpt-5.1."
                ),
                "e-mail": TagPromise(certified=True, tasks=216, quality_ratio=0.978, cost_ratio=0.194, words=WORDS),
            }
        ),
    ),
)

HOSTILE = "<script>document.title='had'</script>\" onload='x' <img src=x onerror=alert(1)></svg>"
NASTY = HOSTILE + " \u202eevil שלום \x00 \ud83d 🎹🎹 " + "w" * 2_000


def hostile() -> Tuned:
    """Every text that a user or a model can have a hand in means harm."""
    names = {one.name: f"{one.name}{NASTY}" for one in WORKERS}
    tag = TagPromise(certified=False, tasks=3, quality_ratio=float("nan"), cost_ratio=1.0, words=NASTY)
    ground = {names[name]: Ground(model=NASTY, price=one.price) for name, one in CERTIFICATE.workers.items()}
    certificate = replace(CERTIFICATE, workers=ground, frontier=names["gpt-5.1"], method=NASTY, group_by=NASTY)
    return replace(
        TUNED,
        promises=(
            promise(words=NASTY, certificate=certificate, by_tag={f"{i} {NASTY}": tag for i in range(70)}),
            replace(REFUSED, reason=NASTY, words=NASTY),
        ),
        frontier=replace(FRONTIER, name=names["gpt-5.1"]),
        workers=tuple(replace(one, name=names[one.name]) for one in WORKERS),
        points=tuple(replace(one, name=names.get(one.name, NASTY)) for one in TUNED.points),
        notes=(NASTY,) * 3,
        advice=(NASTY,) * 3,
    )
