"""A step: one named piece of work. Calling it within a workflow performs it."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import cached_property
from typing import Any, Generic, TypeVar, cast, get_type_hints, overload

from pydantic import TypeAdapter, ValidationError
from pydantic_core import to_json

from orchestrion.checks.mending import mend_json
from orchestrion.checks.protocol import Check, as_check, refuse_namesakes
from orchestrion.domain import COMPLETE, SCHEMA, WITHHELD, Call, Message, Request, Task, Verdict, digest
from orchestrion.engine.scope import here
from orchestrion.policy.combinators import PolicyLike, as_policy
from orchestrion.policy.protocol import Policy
from orchestrion.workers.function import FunctionWorker
from orchestrion.workers.protocol import Worker

T = TypeVar("T")
AnswerOf = Callable[[Any], str]


class Step(Generic[T]):
    """Instructions, output type, checks and a policy under a name.

    ``checks`` are Checks or plain functions of the output (see checks.protocol). ``answer`` turns an output's value into
    the text by which answers are compared (default: the text without surrounding blanks; JSON for other types).
    ``max_output`` limits an answer, in tokens. ``extra`` holds raw fields for the provider. ``workers`` are known to this
    step alone. Raises WorkflowError when called outside a workflow.
    """

    @overload
    def __init__(
        self: Step[str],
        name: str,
        instructions: str = ...,
        *,
        policy: PolicyLike | None = ...,
        checks: Iterable[Check | Callable[..., Any]] = ...,
        answer: AnswerOf | None = ...,
        max_output: int | None = ...,
        extra: Mapping[str, Any] | None = ...,
        workers: Iterable[Worker] = ...,
    ) -> None: ...

    @overload
    def __init__(
        self,
        name: str,
        instructions: str = ...,
        *,
        output: type[T],
        policy: PolicyLike | None = ...,
        checks: Iterable[Check | Callable[..., Any]] = ...,
        answer: AnswerOf | None = ...,
        max_output: int | None = ...,
        extra: Mapping[str, Any] | None = ...,
        workers: Iterable[Worker] = ...,
    ) -> None: ...

    def __init__(
        self,
        name: str,
        instructions: str = "",
        *,
        output: Any = str,
        policy: PolicyLike | None = None,
        checks: Iterable[Check | Callable[..., Any]] = (),
        answer: AnswerOf | None = None,
        max_output: int | None = None,
        extra: Mapping[str, Any] | None = None,
        workers: Iterable[Worker] = (),
    ) -> None:
        if not name or any(sign in name for sign in "/#~ \n"):
            raise ValueError(f"a step's name has no blanks, '/', '#' or '~' in it: {name!r}")
        self.name = name
        self.instructions = instructions
        self.output = output
        self.policy: Policy | None = as_policy(policy) if policy is not None else None
        self.checks: tuple[Check, ...] = tuple(as_check(check, nameless=f"check{i}") for i, check in enumerate(checks))
        refuse_namesakes(self.checks)
        self.workers: Mapping[str, Worker] = {worker.name: worker for worker in workers}
        self.max_output = max_output
        self.extra: Mapping[str, Any] = extra or {}
        self._answer = answer
        self._adapter: TypeAdapter[Any] | None = None if output is str else TypeAdapter(output)
        self.schema: Mapping[str, Any] | None = (
            None if self._adapter is None or workers else self._adapter.json_schema()
        )
        self._head: tuple[Message, ...] = ({"role": "system", "content": instructions},) if instructions else ()

    @cached_property
    def output_schema(self) -> Mapping[str, Any] | None:
        """The JSON schema of the output; None for a text."""
        return self._adapter.json_schema() if self._adapter else None

    @cached_property
    def prompt_digest(self) -> str:
        """Tells the prompt that surrounds its tasks from another: instructions, and the schema that a worker is given."""
        return digest(to_json([self.instructions, self.schema]))

    def __call__(self, value: Any) -> Awaitable[T]:
        """Perform the step on a value: any JSON value, pydantic model or dataclass. The key is allotted now."""
        scope = here()
        return cast("Awaitable[T]", scope.execution.perform(self, value, scope))

    def __repr__(self) -> str:
        return f"Step({self.name!r})"

    def request(self, task: Task, call: Call, text: str | None = None) -> Request:
        """What a call asks its worker. ``text`` is the input as JSON, where the caller has it already."""
        value = task.input
        if isinstance(value, str):
            text = value
        elif text is None:
            text = to_json(value).decode()
        return Request(
            messages=(*self._head, {"role": "user", "content": text}, *call.added),
            task_id=task.id,
            step=task.step,
            sample=call.sample,
            context=call.context,
            value=value,
            schema=self.schema,
            max_output=self.max_output,
            extra=self.extra,
        )

    def parse(self, output: str) -> tuple[Any, str | None]:
        """The value of an output's text, or None and why it has not the step's type."""
        if self._adapter is None:
            return output, None
        try:
            try:
                return self._adapter.validate_json(output), None
            except ValidationError:
                mended = mend_json(output)
                if mended is None:
                    raise
                return self._adapter.validate_json(mended), None
        except ValidationError as error:
            said = [
                f"{'.'.join(map(str, e['loc'])) or 'the answer'}: {e['msg']}"
                for e in error.errors(include_url=False)[:3]
            ]
            return None, "; ".join(said)
        except Exception as error:  # a validator of the user's: the answer is paid for and must not be lost
            return None, f"its type raised {type(error).__name__}: {error}"

    def read(
        self, output: str, answer: str | None, finish_reason: str | None
    ) -> tuple[Any, str | None, tuple[Verdict, ...]]:
        """Value, canonical answer (the one given, or its own) and, for a wrong form, the verdict on an output's text."""
        value, problem = self.parse(output)
        if finish_reason == "length":
            return value, answer, (Verdict(COMPLETE, False, 0.0, "the answer was cut at its output limit"),)
        if finish_reason == WITHHELD:
            withheld = "the model refused, or the provider's filter withheld the answer or cut it"
            return value, answer, (Verdict(COMPLETE, False, 0.0, withheld),)
        if problem:
            return None, answer, (Verdict(SCHEMA, False, 0.0, problem),)
        try:
            return value, self.answer(value) if answer is None else answer, ()
        except Exception as error:
            reason = f"the step's answer function raised {type(error).__name__}: {error}"
            return value, output, (Verdict(SCHEMA, False, 0.0, reason, broken=True),)

    def answer(self, value: Any) -> str:
        """The text by which a value is compared with others."""
        if self._answer:
            return self._answer(value)
        return value.strip() if isinstance(value, str) else to_json(value).decode()


def step(function: Callable[[Any], T] | Callable[[Any], Awaitable[T]]) -> Step[T]:
    """Make a plain or async function of one argument a step: performed once, journaled, at no cost.

    Use it for what must not happen twice, or not come out differently when a run is resumed: clocks, chance, side effects.
    """
    name = function.__name__
    parameters = list(inspect.signature(function).parameters.values())
    if len(parameters) != 1:
        raise TypeError(f"a step takes one argument; {name} takes {len(parameters)}")
    output = get_type_hints(function).get("return", Any)
    return Step(name, output=output, policy=name, workers=(FunctionWorker(name, function, text=output is str),))
