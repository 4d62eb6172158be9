"""What a tuning found: plain, frozen facts, without the statistics stack. Dollars are a task's mean; shares lie in [0, 1]."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, TypeAlias

import msgspec

from orchestrion.policy.certificate import Certificate, Target
from orchestrion.policy.protocol import Policy

PointKind: TypeAlias = Literal["worker", "policy", "frontier", "chosen", "oracle"]


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked of a tuning.

    ``target`` is a share of the frontier's mean quality, kept with ``confidence``; both in (0, 1]. ``share``: instead, on
    this share of the tasks the answer is to be worth ``target`` of the frontier's. ``per_tag``: each value of this tag is
    promised for itself, family-wise. ``max_cost``: instead, the best quality that can be certified at this share of the frontier's cost.

    ``frontier`` and ``workers`` are names in the records (None and (): the tuner chooses among all that are there).
    ``group_by``: tasks with one value of this tag are one unit. ``step`` and ``workload`` choose records where there are
    several. ``batch``: promise it of a batch of so many tasks, and not of all traffic like the labelled tasks. ``label_next``:
    so many tasks to name that are worth labelling next.
    """

    target: float = 0.95
    confidence: float = 0.9
    frontier: str | None = None
    workers: tuple[str, ...] = ()
    seed: int = 0
    share: float | None = None
    per_tag: str | None = None
    max_cost: float | None = None
    group_by: str | None = None
    step: str | None = None
    workload: str | None = None
    batch: int | None = None
    label_next: int = 0


class Interval(msgspec.Struct, frozen=True):
    """A figure and its 95 % interval (bootstrap over tasks, or over users where tasks are grouped)."""

    value: float
    low: float
    high: float


class Point(msgspec.Struct, frozen=True, kw_only=True):
    """One policy that was tried, a worker or the oracle, with its mean score and dollars a task. ``hull``: no mix of two others is as good
    and cheaper; the oracle is left out of this.

    All points of a tuning are of the same tasks, those of the fit half, so that they can be compared with each other. What a policy did on
    a task is what it does when it is learned from other tasks (five folds); of one that mixes by chance it is the expectation. The
    figures of a promise are of other tasks, those of the certify half.
    """

    name: str
    kind: PointKind
    quality: float
    cost: float
    hull: bool = False


class WorkerFacts(msgspec.Struct, frozen=True, kw_only=True):
    """A worker alone, on all labelled tasks."""

    name: str
    quality: float
    cost: float
    tasks: int


class Promise(msgspec.Struct, frozen=True, kw_only=True):
    """One target, and the cheapest policy that was certified for it.

    Where nothing is certified, ``policy`` is the frontier alone, ``reason`` says why, and ``labels_needed`` how many labels
    would probably do (None: no number of labels, another worker is needed). ``quality_ratio`` and ``cost_ratio`` are against the frontier, on the
    certify half; ``captured`` is the share of the hindsight oracle's saving: (frontier - policy)/(frontier - oracle).
    ``expected``: the policy mixes by chance, so what is certified is its expectation. ``realised`` is what replay finds on all
    labelled tasks: (mean score, dollars a task). ``p_value`` is the certificate's test of this policy (None: nothing to test). ``by_tag`` has, with
    --per-tag, each tag value's own quality and cost ratio, and whether its promise is certified, family-wise.
    """

    target: Target
    certified: bool
    policy: Policy
    words: str
    reason: str | None
    quality_ratio: Interval
    cost_ratio: Interval
    cost: float
    captured: float | None
    expected: bool
    realised: tuple[float, float]
    p_value: float | None = None
    labels_needed: int | None = None
    certificate: Certificate | None = None
    by_tag: Mapping[str, TagPromise] = {}


class TagPromise(msgspec.Struct, frozen=True, kw_only=True):
    """The promise for the tasks of one tag value."""

    certified: bool
    tasks: int
    quality_ratio: float
    cost_ratio: float
    words: str


class TaskToLabel(msgspec.Struct, frozen=True, kw_only=True):
    """A task whose label would help most. ``probability`` is the chance with which it was drawn, to be kept with its label."""

    workload: str | None
    task_id: str
    probability: float
    why: str


class Tuned(msgspec.Struct, frozen=True, kw_only=True):
    """A whole tuning. ``promises``: the one asked for first, then others for comparison; each holds by itself.

    ``labels`` counts labelled tasks, ``fit`` and ``certify`` how they were split; ``unlabelled`` tasks with answers and no
    score, ``spared`` those of them that needed no label, because the answers are the same. ``n_min`` is the fewest labelled tasks that could
    certify the first promise; ``notes`` are findings about the records (duplicates, tasks left out, workers left out, a frontier
    that is not the best …), ``advice`` what would make the result better, each one sentence. ``label_next`` are the tasks that
    ``Wish.label_next`` asked for. ``tried`` counts all policies that were tried, where ``points`` has only some of them. ``max_cost`` is
    that of the wish: the first promise's quality is then what was found, and ``n_min`` is the fewest for any promise of use.
    """

    promises: tuple[Promise, ...]
    frontier: WorkerFacts
    workers: tuple[WorkerFacts, ...]
    oracle: WorkerFacts
    points: tuple[Point, ...]
    labels: int
    fit: int
    certify: int
    unlabelled: int
    spared: int
    n_min: int
    seed: int
    notes: tuple[str, ...]
    advice: tuple[str, ...]
    seconds: float
    label_next: tuple[TaskToLabel, ...] = ()
    tried: int = 0
    max_cost: float | None = None
