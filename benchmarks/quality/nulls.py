"""Populations on which a cheap worker's true quality is the target's share of the frontier's, less one task: what may just not be certified.

2,000 tasks each, prompts of words that say nothing, frontier right on 80 % of them, target .95 unless said otherwise.

no gains       all of the loss is harm: the test has least noise
few gains      one gain to two harms
many gains     a fifth of the tasks are harms, nearly as many gains: most noise
half           twice the loss: the boundary is the mix with half of the tasks for the cheap worker
tags           few gains, and twenty tag values that say nothing: a router may fit noise
many workers   twenty such workers with independent errors: the best on the fit half is luck
agreement      three workers with five samples and a few possible wrong answers: thresholds of agreement, with something to find
graded         scores anywhere in [0, 1]
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from benchmarks.quality.judge import stream
from benchmarks.quality.workloads import Floats, Workload, workload_of
from orchestrion.domain import Outcome

TASKS, RIGHT = 2000, 1600


def null(name: str, target: float = 0.95, seed: int = 0) -> Workload:
    """The population of this name. Raises KeyError."""
    rng = stream("null", seed, name)
    frontier, cheap, tags, wrong = NULLS[name](rng, target)
    workers = [("frontier", 1.0, frontier[:, None])] + [(f"cheap-{n}", 0.05, scores) for n, scores in enumerate(cheap)]

    words = [f"word{n}" for n in range(300)]
    prompts = [" ".join(words[n] for n in drawn) for drawn in rng.integers(0, 300, (TASKS, 20)).tolist()]

    def row(task: int, worker: str, price: float, sample: int, score: float) -> Outcome:
        return Outcome(
            workload=name,
            task_id=f"{name}-{task}",
            tags={"kind": str(task % tags)},
            worker=worker,
            prompt=prompts[task],
            sample=sample,
            answer=None if not wrong else "right" if score == 1 else f"wrong {rng.integers(wrong)}",
            score=score,
            output_tokens=int(rng.integers(20, 400)),
            cost_usd=round(price * float(rng.uniform(0.5, 1.5)), 6),
        )

    rows = [
        row(task, worker, price, sample, score)
        for task in rng.permutation(TASKS).tolist()
        for worker, price, scores in workers
        for sample, score in enumerate(scores[task].tolist())
    ]
    return workload_of(name, rows, tuple(f"cheap-{n}" for n in range(len(cheap))), "frontier", "kind")


def _flipped(rng: np.random.Generator, frontier: Floats, harms: int, gains: int) -> Floats:
    """The frontier's scores with so many right ones made wrong and wrong ones right; one sample, shape (tasks, 1)."""
    scores = frontier.copy()
    scores[rng.choice(np.flatnonzero(frontier == 1), harms, replace=False)] = 0
    scores[rng.choice(np.flatnonzero(frontier == 0), gains, replace=False)] = 1
    return scores[:, None]


Population = tuple[Floats, list[Floats], int, int]
"""The frontier's scores, each cheap worker's (tasks, samples), how many tag values, how many wrong answers there are (0: not recorded)."""


def _binary(
    gains: float, *, loss: float = 1.0, workers: int = 1, tags: int = 1
) -> Callable[[np.random.Generator, float], Population]:
    """``gains`` is a share of the tasks; harms exceed them by ``loss`` times what the target allows, and one."""

    def population(rng: np.random.Generator, target: float) -> Population:
        frontier = np.zeros(TASKS)
        frontier[rng.choice(TASKS, RIGHT, replace=False)] = 1
        won = round(gains * TASKS)
        lost = won + round(loss * (1 - target) * RIGHT) + 1
        return frontier, [_flipped(rng, frontier, lost, won) for _ in range(workers)], tags, 0

    return population


def _agreement(rng: np.random.Generator, target: float) -> Population:
    hard = rng.beta(1.2, 0.6, TASKS)
    frontier = (rng.random(TASKS) < hard**0.5).astype(float)
    return frontier, [(rng.random((TASKS, 5)) < hard[:, None]).astype(float) for _ in range(3)], 5, 3


def _graded(rng: np.random.Generator, target: float) -> Population:
    frontier = rng.beta(4, 1, TASKS)
    cheap = np.clip(frontier + rng.normal(0, 0.15, TASKS), 0, 1)
    cheap *= target * frontier.mean() / cheap.mean() * (1 - 1e-6)
    return frontier, [cheap[:, None]], 1, 0


NULLS: Mapping[str, Callable[[np.random.Generator, float], Population]] = {
    "no gains": _binary(0.0),
    "few gains": _binary(0.04),
    "many gains": _binary(0.16),
    "half": _binary(0.04, loss=2),
    "tags": _binary(0.04, tags=20),
    "many workers": _binary(0.04, workers=20),
    "agreement": _agreement,
    "graded": _graded,
}
