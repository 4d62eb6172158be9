"""Before anything is spent: which steps a workflow reaches, whom they may ask, and what that can cost at most."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from types import CodeType, FunctionType, ModuleType
from typing import Any, NamedTuple

from orchestrion.checks.protocol import AskingCheck
from orchestrion.domain import FREE, UNLIMITED, Ask, Attempt, Call, Failure, Money, Request, Task
from orchestrion.engine.execution import SavedPolicy
from orchestrion.engine.step import Step
from orchestrion.engine.workflow import Workflow
from orchestrion.errors import PolicyError
from orchestrion.ledger.overruns import OVERRUN
from orchestrion.policy.protocol import Policy
from orchestrion.settings import nearest
from orchestrion.workers.protocol import Worker, input_bound

REASONS_TOKENS = 512
"""Room for the reasons that a correction quotes."""


class StepBound(NamedTuple):
    """What one call of a step can cost at most: calls by worker, and nano-dollars for one task."""

    step: str
    calls: Mapping[str, int]
    bound: Money


def steps_of(workflow: Workflow[Any]) -> list[Step[Any]]:
    """The steps that a workflow's code names, helpers and other workflows that it calls included, in order."""
    found: dict[str, Step[Any]] = {}
    seen: set[int] = set()

    def walk(value: Any, depth: int) -> None:
        if id(value) in seen or depth > 20:
            return
        seen.add(id(value))
        if isinstance(value, Step):
            found.setdefault(value.name, value)
        elif isinstance(value, Workflow):
            walk(value.function, depth + 1)
        elif isinstance(value, FunctionType) and value.__module__ != "orchestrion.engine.scope":
            for inner in _reached(value):
                walk(inner, depth + 1)
        elif isinstance(value, list | tuple | dict) and len(value) < 1000:
            for inner in value.values() if isinstance(value, dict) else value:
                walk(inner, depth + 1)

    walk(workflow.function, 0)
    return list(found.values())


def _reached(function: Callable[..., Any]) -> Iterator[Any]:
    """Values that a function's code can name: globals, attributes of modules, closures; nested code included."""
    assert isinstance(function, FunctionType)  # noqa: S101  # for the type checker
    yield from (cell.cell_contents for cell in function.__closure__ or () if _filled(cell))
    codes: list[CodeType] = [function.__code__]
    while codes:
        code = codes.pop()
        codes += [const for const in code.co_consts if isinstance(const, CodeType)]
        for name in code.co_names:
            value = function.__globals__.get(name)
            if isinstance(value, ModuleType):
                yield from (
                    getattr(value, attribute)
                    for attribute in code.co_names
                    if isinstance(getattr(value, attribute, None), Step | Workflow)
                )
            elif value is not None:
                yield value


def _filled(cell: Any) -> bool:
    try:
        return cell.cell_contents is not None
    except ValueError:
        return False


def policy_of(step: Step[Any], policies: Mapping[str, SavedPolicy]) -> Policy:
    """The policy that a step would be performed with. Raises PolicyError where it has none."""
    saved = policies.get(step.name)
    policy = saved.policy if saved else step.policy
    if policy is None:
        raise PolicyError(
            f"step '{step.name}' has no policy. Give it one (policy=\"cheap\"), or name a saved one (--policy {step.name}=NAME)."
        )
    return policy


def check_workers(
    steps: list[Step[Any]], policies: Mapping[str, SavedPolicy], workers: Mapping[str, Worker]
) -> set[str]:
    """The names of all workers that may be asked. Raises PolicyError for unknown workers and for policies of no step,
    and SettingsError for a model that cannot be used."""
    names = {step.name for step in steps}
    for name in policies:
        if steps and name not in names:
            raise PolicyError(f"--policy {name}=…: the workflow has no step '{name}'.{nearest(name, names)}")
    asked: set[str] = set()
    for step in steps:
        for name in policy_of(step, policies).calls():
            if name not in step.workers and workers.get(name) is None:  # models are built when they are first asked for
                known = [*step.workers, *workers]
                hint = (
                    nearest(name, known)
                    or " There are no models: `orchestrion init DIR` writes an orchestrion.yaml to start from."
                )
                raise PolicyError(
                    f"step '{step.name}' asks '{name}', but no model or person is called so in the settings.{hint}"
                )
            asked.add(name)
        for check in _asking(step, policies):
            for name in check.calls():
                if name not in step.workers and name not in workers:
                    raise PolicyError(
                        f"check '{check.name}' of step '{step.name}' asks '{name}', but no model or person is called so in the "
                        f"settings.{nearest(name, [*step.workers, *workers])}"
                    )
                asked.add(name)
    return asked


def _asking(step: Step[Any], policies: Mapping[str, SavedPolicy]) -> list[AskingCheck]:
    """The checks of a step, and of the saved policy in its place, that say whom they ask."""
    saved = policies.get(step.name)
    checks = saved.beside(step.checks) if saved else step.checks
    return [check for check in checks if isinstance(check, AskingCheck)]


def answerable(policy: Policy, task: Task, refused: Collection[str]) -> bool:
    """Whether a policy asks somebody else where these workers fail: it is asked itself, with their failures for a history."""
    history: tuple[Attempt, ...] = ()
    while True:
        decision = policy.next(task, history, UNLIMITED)
        if not isinstance(decision, Ask):
            return False
        if any(call.worker not in refused for call in decision.calls):
            return True
        history += tuple(Attempt(call, failure=Failure(OVERRUN, "refused")) for call in decision.calls)


def bounds(
    steps: list[Step[Any]],
    policies: Mapping[str, SavedPolicy],
    workers: Mapping[str, Worker],
    value: Any,
    reference: Any = None,
) -> list[StepBound]:
    """The most that each step can cost for one task, if it is called once, and given the task and earlier answers.

    Every call that the policy may make is counted at its bound. An answer that goes into a later prompt counts with its
    output limit, a correction with the answer's limit and room for the reasons. What judges ask is counted for each of
    these answers, as if it had to be asked twice.
    """
    found = []
    earlier = 0
    for step in steps:
        calls = policy_of(step, policies).calls()
        asked = Counter(calls)
        total: Money = 0
        longest: int = 0
        task = Task("bound", value, {}, reference, step.name, step.instructions)
        for name, n in calls.items():
            worker = step.workers.get(name) or workers[name]
            request = step.request(task, Call(name))
            answer = _longest(worker, request)
            more = earlier + (answer + REASONS_TOKENS) * (n - 1)
            total += n * (worker.bound(request) + (worker.price or FREE).bound(more, 0))
            longest = max(longest, answer)
        for check in _asking(step, policies):
            for name, n in check.calls().items():
                worker = step.workers.get(name) or workers[name]
                asked[name] += n * calls.total()
                total += n * calls.total() * judging_bound(check, worker, task, more=earlier + 2 * longest)
        earlier += longest
        found.append(StepBound(step.name, dict(asked), total))
    return found


def judging_bound(check: AskingCheck, worker: Worker, task: Task, *answers: str, more: int = 0) -> Money:
    """The most that one call of a check can cost: what is asked about the answers, ``more`` tokens of input that are not
    known yet, and its own answer quoted where it was nonsense."""
    request = Request(messages=check.question(task, *answers), task_id=task.id, step=f"{task.step}~")
    quoted = more + _longest(worker, request) + REASONS_TOKENS
    return worker.bound(request) + (worker.price or FREE).bound(quoted, 0)


def _longest(worker: Worker, request: Request) -> int:
    """The longest answer to a request, in tokens."""
    price = worker.price or FREE
    read = price.bound(input_bound(request), 0)
    return (worker.bound(request) - read) * 1_000_000 // price.output if price.output else 0
