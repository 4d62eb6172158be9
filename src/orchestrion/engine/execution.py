"""One run being performed in this process."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from pydantic_core import to_json

from orchestrion.checks.protocol import Check
from orchestrion.checks.rules import dump_rule
from orchestrion.domain import Task, digest
from orchestrion.engine.certified import Certificates
from orchestrion.engine.perform import Site, perform
from orchestrion.engine.scope import Interrupted, Scope
from orchestrion.engine.step import Step
from orchestrion.errors import PolicyError, RunCancelled, UsageError
from orchestrion.journal.protocol import RunLog
from orchestrion.ledger.accounts import DEFAULT, Amounts, Unit
from orchestrion.ledger.overruns import Overruns
from orchestrion.ledger.protocol import Ledger, Posting
from orchestrion.policy.certificate import Certificate
from orchestrion.policy.protocol import Policy, dump_policy
from orchestrion.review.reviews import Reviews
from orchestrion.settings import nearest
from orchestrion.telemetry import Tracing
from orchestrion.workers.protocol import Worker

UNCOUNTED: frozenset[Unit] = frozenset()


@dataclass(frozen=True)
class SavedPolicy:
    """A policy read from a file, with the rules that it brings along, and what was certified of it. ``name`` is how it was
    named: by the settings, or a path."""

    policy: Policy
    checks: tuple[Check, ...] = ()
    name: str = ""
    certificate: Certificate | None = field(default=None, repr=False)

    @cached_property
    def digest(self) -> str:
        """Tells it from another policy of the same name, and from what it was when it was certified: the digest of the JSON
        of policy and checks; "" where it is code and has no JSON form."""
        try:
            return digest(to_json([dump_policy(self.policy), [dump_rule(check) for check in self.checks]]))
        except PolicyError:
            return ""

    def beside(self, own: tuple[Check, ...]) -> tuple[Check, ...]:
        """A step's own checks, and its rules beside them: of two with one name, the step's."""
        names = {check.name for check in own}
        return (*own, *(check for check in self.checks if check.name not in names))


@dataclass(slots=True)
class House:
    """What all executions of one app share. ``stopping``: no new call starts; what is under way ends.

    ``pays`` is the account of whoever names none (None: there is no such rule).
    """

    workers: Mapping[str, Worker]
    ledger: Ledger
    tracing: Tracing
    reviews: Reviews | None = None
    overruns: Overruns | None = None
    pays: str | None = None
    certificates: Certificates | None = None
    stopping: bool = False
    cancelled: set[int] = field(default_factory=set)
    waiting: dict[asyncio.Future[Any], int | None] = field(default_factory=dict)
    """Who waits for money, and for which run."""

    def stop(self) -> None:
        """Start no new call; nobody waits for money any more."""
        self.stopping = True
        self._wake(self.waiting)

    def cancel(self, runs: set[int]) -> None:
        """These runs were cancelled: none of them starts a new call, nor waits for money."""
        self.cancelled = runs
        self._wake(waiter for waiter, run in self.waiting.items() if run in runs)

    @staticmethod
    def _wake(waiters: Iterable[asyncio.Future[Any]]) -> None:
        for waiter in list(waiters):
            waiter.cancel()

    def account(self, named: str | None) -> str:
        """The account that pays: the one that is named, else the one by rule; "default" where no accounts are kept.

        Raises UsageError for one that is not there, and where accounts are kept and none is named.
        """
        tree = self.ledger.tree
        name = named or self.pays or (None if tree else DEFAULT)
        if name is None:
            raise UsageError(
                f"say which account pays: --account NAME, account=…, or `account: NAME` in the settings.{nearest('', tree.accounts)}"
            )
        if tree and name not in tree:
            raise UsageError(f"there is no account '{name}'.{nearest(name, tree.accounts)}")
        return name


class Execution:
    """The state of one run while it is in memory."""

    __slots__ = (
        "_house",
        "_policies",
        "_tags",
        "_task_id",
        "account",
        "id",
        "ledger",
        "log",
        "no",
        "overruns",
        "reference",
        "reviewed",
        "short",
    )

    def __init__(
        self,
        house: House,
        log: RunLog,
        *,
        no: int | None,
        run_id: str,
        task_id: str,
        tags: Mapping[str, str],
        account: str,
        policies: Mapping[str, SavedPolicy],
        reference: Any = None,
    ) -> None:
        self._house = house
        self.no = no
        self.reviewed = False
        self.short: list[tuple[str, Site]] = []  # by the branches in which they were awaited
        self._policies = policies
        self._tags = tags
        self._task_id = task_id
        self.account = account
        self.id = run_id
        self.ledger = house.ledger
        self.overruns = house.overruns
        self.log = log
        self.reference = reference

    def perform(self, step: Step[Any], value: Any, scope: Scope) -> Coroutine[Any, Any, Any]:
        """Perform a step on a value under the next key of a branch; awaited, the accepted value."""
        key = scope.key(step.name)
        # The first call of a step in a run is known by the task's own id; recorded outcomes are found by it again.
        task_id = self._task_id if not key.scope and not key.n else f"{self._task_id}#{key.scope}{key.n}"
        site = Site(self, step, Task(task_id, value, self._tags, None, step.name, step.instructions), key, scope)
        return self._traced(site) if self._house.tracing.on else perform(site)

    async def _traced(self, site: Site) -> Any:
        with self._house.tracing.step(site.step.name, str(site.key)):
            return await perform(site)

    def proceed(self) -> None:
        """Raise where no new call may start: the app is stopping, or somebody cancelled the run."""
        if self._house.stopping:
            raise Interrupted
        if self._house.cancelled and self.no in self._house.cancelled:
            raise RunCancelled(f"run '{self.id}' was cancelled; what was answered before is kept.")

    def worker(self, name: str, step: Step[Any]) -> Worker:
        """A worker by name. Raises PolicyError, with the nearest name, where nobody is called so."""
        worker = step.workers.get(name) or self._house.workers.get(name)
        if worker is None:
            raise PolicyError(
                f"step '{step.name}' asks '{name}', but no model or person is called so.{nearest(name, [*step.workers, *self._house.workers])}"
            )
        return worker

    @property
    def reviews(self) -> Reviews:
        """The questions to people. Raises PolicyError where there is no database to keep them."""
        if self._house.reviews is None:
            raise PolicyError("a person can be asked only where there is a database: through Orchestrion.open.")
        self.reviewed = True
        return self._house.reviews

    def withdraw(self) -> None:
        """Nobody needs to decide for this run any more."""
        if self._house.reviews and self.no is not None:
            self._house.reviews.withdraw(self.no)

    @property
    def units(self) -> frozenset[Unit]:
        """What the limits above the run's account count; nothing where there are none."""
        tree = self.ledger.tree
        return tree.units(self.account) if tree.limited else UNCOUNTED

    def post(self, hold: int, took: Amounts, kind: Posting) -> None:
        """Move what a call took."""
        self.log.cost += took.money
        self.ledger.post(hold, took, kind=kind)

    async def wait(self, demands: Sequence[Amounts]) -> list[int] | None:
        """Wait for money, as long as calls may start: a stop, or the run's cancellation, ends it at once. The holds' ids;
        None where waiting does not help."""
        self.proceed()
        task = asyncio.ensure_future(self.ledger.wait(self.account, demands, run=self.no))
        self._house.waiting[task] = self.no
        try:
            return await task
        except asyncio.CancelledError:
            if task.done() and not task.cancelled() and not task.exception():
                for hold in task.result() or ():  # served and cancelled at one moment: nobody calls
                    self.post(hold, Amounts(0), "void")
            current = asyncio.current_task()
            if not (current and current.cancelling()):
                self.proceed()  # says why
            raise
        finally:
            del self._house.waiting[task]

    def went_on(self, branch: str = "") -> None:
        """The code goes on in a branch, after steps in it, above or below, that could not be paid: somebody caught the
        error, and made do. What runs beside it in another branch goes on in any case, and says nothing.

        That is noted, and stands when the run is resumed: with money, it would else go another way than its journal.
        """
        past = [one for one in self.short if one[0].startswith(branch) or branch.startswith(one[0])]
        for one in past:
            self.short.remove(one)
            site = one[1]
            self.log.ask(site.key, site.turn, site.digest, site.input if site.turn == 0 else None, [])

    def check_certificate(self, step: Step[Any]) -> None:
        """Warn of a saved policy whose certificate is void for this step, or raise PolicyError, as set."""
        saved = self._policies.get(step.name) if self._policies else None
        if saved and saved.certificate and self._house.certificates:
            self._house.certificates.check(saved, step)

    def policy(self, step: Step[Any]) -> tuple[Policy, tuple[Check, ...]]:
        """A step's policy and checks, or those of the saved policy in its place. Raises PolicyError."""
        saved = self._policies.get(step.name) if self._policies else None
        if saved:
            return saved.policy, saved.beside(step.checks)
        if step.policy is None:
            raise PolicyError(
                f"step '{step.name}' has no policy. Give it one (policy=\"cheap\"), or name a saved one (--policy {step.name}=NAME)."
            )
        return step.policy, step.checks
