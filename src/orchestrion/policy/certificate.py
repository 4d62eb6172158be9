"""The promise that was certified for a policy, with everything that is needed to check it again."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any, Literal

import msgspec


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """What is promised, with ``confidence``, of traffic like the labelled tasks.

    kind "mean": the mean quality is at least ``quality`` times the frontier's. kind "share": on at least ``share`` of the tasks the
    answer is worth at least ``quality`` times the frontier's. ``per_tag``: of the tasks of every value of this tag by themselves,
    all values together with this confidence. ``batch``: of a batch of so many tasks, and not of all traffic.
    """

    kind: Literal["mean", "share"] = "mean"
    quality: float = 0.95
    share: float | None = None
    confidence: float = 0.9
    per_tag: str | None = None
    batch: int | None = None

    @property
    def words(self) -> str:
        """The promise in one clause, for people."""
        where = f"for every {self.per_tag} by itself, " if self.per_tag else ""
        where += f"over a batch of {self.batch:,} tasks, " if self.batch else ""
        return f"{where}{self._kept}, with confidence {self.confidence:.3g}"

    @property
    def _kept(self) -> str:
        if self.kind == "share":
            return f"on at least {self.share or 0:.3g} of the tasks the answer is worth {self.quality:.3g} of the frontier's"
        return f"the mean quality is at least {self.quality:.3g} of the frontier's"


class Ground(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker was when it was measured; None where the records and the settings do not say.

    ``price`` is nano-dollars per million tokens: (input, output, cache read, cache write).
    """

    model: str | None = None
    price: tuple[int, int, int | None, int | None] | None = None


class Certificate(msgspec.Struct, frozen=True, kw_only=True):
    """A finite-sample promise about a policy. It is void where a worker's model or price, or the step's prompt, is another.

    ``fitted`` are digests of the ids of all tasks that the policy was chosen or certified on (see ``task_digest``); ``prompt`` digests the
    step's instructions and output schema. ``method`` names the test. ``expected``: the promise is about the policy's expectation over its own
    chance. ``group_by``: tasks with one value of this tag were taken as one unit. ``policy`` is the digest of the saved policy, checks included
    (``SavedPolicy.digest``).
    """

    target: Target
    frontier: str
    method: str
    p_value: float
    labels: int
    certified_on: int
    quality_ratio: float
    cost_ratio: float
    expected: bool
    workers: Mapping[str, Ground]
    fitted: tuple[str, ...]
    policy: str
    seed: int
    prompt: str | None = None
    group_by: str | None = None
    version: str = ""


def task_digest(task_id: str) -> str:
    """Twelve hex digits that tell whether a task was used before, and not what it is."""
    return hashlib.blake2b(task_id.encode(), digest_size=6).hexdigest()


def task_digests(task_ids: Iterable[str]) -> tuple[str, ...]:
    """Digests of many ids, each once, sorted."""
    return tuple(sorted({task_digest(task_id) for task_id in task_ids}))


def load_certificate(data: Any) -> Certificate:
    """From plain JSON values. Raises msgspec.ValidationError, which names the place."""
    return msgspec.convert(data, Certificate)
