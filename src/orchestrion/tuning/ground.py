"""What a certificate rests on: the workers as they were measured, the prompt, and the tasks that were used."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import version

from orchestrion.checks.protocol import Check
from orchestrion.domain import Price
from orchestrion.engine.execution import SavedPolicy
from orchestrion.policy.certificate import Certificate, Ground, Target, task_digests
from orchestrion.policy.protocol import Policy
from orchestrion.tuning.table import Table


class Grounds:
    """The grounds of all promises that are made from one table. ``prices`` and ``models`` by worker, as the settings have them; ``before``
    are digests of tasks that the policy was chosen or certified on earlier, ``checks`` the rules that it brings along."""

    def __init__(
        self,
        table: Table,
        prices: Mapping[str, Price],
        models: Mapping[str, str],
        *,
        seed: int,
        group_by: str | None,
        before: Sequence[str] = (),
        checks: Sequence[Check] = (),
    ) -> None:
        self.seed = seed
        self._table = table
        self._prices = prices
        self._models = models
        self._group_by = group_by
        self._checks = tuple(checks)
        own = task_digests(case.task.id for case in (*table.labelled, *table.unlabelled))
        self._fitted = tuple(sorted({*own, *before}))

    def certificate(
        self,
        policy: Policy,
        target: Target,
        *,
        frontier: str,
        method: str,
        p_value: float,
        certified_on: int,
        quality_ratio: float,
        cost_ratio: float,
        expected: bool,
    ) -> Certificate:
        """The certificate of a policy."""
        return Certificate(
            target=target,
            frontier=frontier,
            method=method,
            p_value=p_value,
            labels=len(self._table.labelled),
            certified_on=certified_on,
            quality_ratio=quality_ratio,
            cost_ratio=cost_ratio,
            expected=expected,
            workers={worker: self._ground(worker) for worker in sorted({*policy.calls(), frontier})},
            fitted=self._fitted,
            policy=SavedPolicy(policy, self._checks).digest,
            seed=self.seed,
            prompt=next(iter(self._table.prompts)) if len(self._table.prompts) == 1 else None,
            group_by=self._group_by,
            version=version("orchestrion"),
        )

    def _ground(self, worker: str) -> Ground:
        """A worker's model as its records name it, else as the settings do; None where its records name several."""
        recorded = self._table.models.get(worker, frozenset())
        price = self._prices.get(worker)
        return Ground(
            model=next(iter(recorded)) if len(recorded) == 1 else None if recorded else self._models.get(worker),
            price=(price.input, price.output, price.cache_read, price.cache_write) if price else None,
        )
