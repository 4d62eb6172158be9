"""The whole tree of errors.

    OrchestrionError
    ├── UsageError                  wrong usage or input: exit status 2
    │   ├── SettingsError           orchestrion.yaml, or what it names
    │   ├── TasksError              a line of a tasks file
    │   ├── RecordsError            a line of an outcomes file
    │   ├── PolicyError             a saved policy that cannot be read, or names what is not there
    │   ├── WorkflowError           no such workflow, or an input that does not fit its type
    │   ├── ReviewError             a decision that cannot be taken: stale, used, not the answer's type
    │   └── StoreError              the database: newer version, full disk, read-only folder, locked
    ├── RunError                    a run that did not end well: exit status 1
    │   ├── StepFailed              a policy stopped without an accepted answer
    │   ├── FundsExhausted          a limit does not let a step be paid: the run waits for money
    │   ├── WorkflowFailed          the workflow's own code raised
    │   ├── JournalMismatch         the workflow no longer fits what its journal remembers
    │   ├── RunBusy                 another process is performing this run
    │   ├── RunCancelled            somebody cancelled the run
    │   └── RunWaiting              the result was asked for while the run waits for a signal or a person
    └── WorkerFailed                a worker could not answer; becomes a Failure in the history

An error says what was wrong, with which value, where, and the way out. It carries the object that it is about.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from orchestrion.domain import Attempt, Money
    from orchestrion.ledger.protocol import Shortage


class OrchestrionError(Exception):
    """Something went wrong in Orchestrion."""

    exit_status = 1

    def __init__(self, message: str = "") -> None:
        super().__init__(message or self.__doc__)


class UsageError(OrchestrionError):
    """The command or its input is wrong."""

    exit_status = 2


class SettingsError(UsageError):
    """The settings cannot be used."""


class TasksError(UsageError):
    """A tasks file cannot be used."""


class RecordsError(UsageError):
    """An outcomes file cannot be used."""


class PolicyError(UsageError):
    """A policy cannot be used."""


class WorkflowError(UsageError):
    """A workflow cannot be found, or does not take this input."""


class ReviewError(UsageError):
    """A decision cannot be taken."""


class StoreError(UsageError):
    """The database cannot be used."""


class RunError(OrchestrionError):
    """A run did not end well."""


class StepFailed(RunError):
    """A policy stopped without an accepted answer."""

    def __init__(self, *, step: str, reason: str, history: tuple[Attempt, ...], cost: Money) -> None:
        super().__init__(f"step '{step}' has no accepted answer: {reason}")
        self.step = step
        self.reason = reason
        self.history = history
        self.cost = cost


class FundsExhausted(RunError):
    """A step's next call does not fit under a limit. Where a workflow lets it pass, the run waits for money.

    No StepFailed: code that goes on from a step without an answer must not go on in silence from one without money.
    ``shortage`` is the limit that stands in the way; None where what stood in the way has gone meanwhile.
    """

    def __init__(
        self, *, step: str, reason: str, history: tuple[Attempt, ...], cost: Money, shortage: Shortage | None
    ) -> None:
        super().__init__(f"step '{step}' cannot go on: {reason}")
        self.step = step
        self.reason = reason
        self.history = history
        self.cost = cost
        self.shortage = shortage


class WorkflowFailed(RunError):
    """The workflow's own code raised."""


class JournalMismatch(RunError):
    """The workflow no longer fits what its journal remembers."""


class RunBusy(RunError):
    """Another process is performing this run."""


class RunCancelled(RunError):
    """The run was cancelled."""


class RunWaiting(RunError):
    """The run waits for a signal and has no result yet."""


class WorkerFailed(OrchestrionError):
    """A worker could not answer.

    ``billed`` says whether the provider may charge for the call: "no" only where that is certain, else "unknown"
    (the hold is then booked in full). ``cost`` is what it cost, in nano-dollars, where that is known.
    """

    def __init__(self, kind: str, message: str, *, billed: str = "unknown", cost: Money | None = None) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message
        self.billed = billed
        self.cost = cost
