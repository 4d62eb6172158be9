"""Records of workers whose true quality is known, made in a moment: what the tuner is tested with."""

from __future__ import annotations

import random
from collections.abc import Mapping

from orchestrion.domain import Outcome

COSTS = {"cheap": 0.001, "middle": 0.003, "frontier": 0.01}
LETTERS = "ABCDEFGHIJ"
TOPICS = ("tax", "law", "news", "maths")


def records(
    tasks: int,
    *,
    seed: int = 0,
    quality: Mapping[str, float] | None = None,
    harm: Mapping[str, float] | None = None,
    samples: int = 1,
    prefix: str = "t",
) -> list[Outcome]:
    """Every worker's answers to so many tasks: a letter; which one is right says nothing, nor does the length.

    The frontier is right with probability ``quality["frontier"]``; another worker, where the frontier is right, is wrong with
    probability ``harm`` (of its own, and three times that on "law"), and elsewhere right with probability .1.
    """
    rng = random.Random(seed)
    best = {"frontier": 0.85, **(quality or {})}["frontier"]
    harms = {"cheap": 0.08, "middle": 0.03} if harm is None else harm
    rows = []
    for i in range(tasks):
        topic = TOPICS[i % len(TOPICS)]
        right, truth = rng.random() < best, rng.choice(LETTERS)
        for worker in (*harms, "frontier"):
            for sample in range(1 if worker == "frontier" else samples):
                good = right
                if worker != "frontier":
                    likely = 1 - harms[worker] * (3 if topic == "law" and harm is None else 1) if right else 0.1
                    good = rng.random() < likely
                answer = truth if good else rng.choice([letter for letter in LETTERS if letter != truth])
                rows.append(
                    Outcome(
                        workload="made",
                        task_id=f"{prefix}{i}",
                        tags={"topic": topic, "user": f"u{i // 3}"},
                        worker=worker,
                        sample=sample,
                        prompt=f"A question on {topic}, number {i}",
                        output=f"I think: {answer}",
                        answer=answer,
                        score=float(good),
                        cost_usd=COSTS[worker] * (0.5 + rng.random()),
                        latency_s=rng.random(),
                    )
                )
    return rows
