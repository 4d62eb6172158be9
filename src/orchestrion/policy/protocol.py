"""What a policy is, and how it is written down.

A policy is a pure function: from the task, the attempts so far and the funds it says what to do next. It looks attempts
up by their Call, never by their order, so that it can be asked again after a crash with part of an Ask answered.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
from collections import Counter
from collections.abc import Mapping
from typing import Any, Protocol, TypeVar, runtime_checkable

from orchestrion.domain import Attempt, Decision, Funds, Task
from orchestrion.errors import PolicyError


@runtime_checkable
class Policy(Protocol):
    """Decides who is asked next, and when an answer is good enough."""

    def next(self, task: Task, history: tuple[Attempt, ...], funds: Funds) -> Decision:
        """What to do now. Pure: the same arguments give the same decision; no clock, no I/O, no chance but a hash."""
        ...

    def calls(self) -> Counter[str]:
        """The workers that it may ask, and how often at most: what a bound on its cost adds up."""
        ...


_KINDS: dict[str, type[Any]] = {}
_NAMES: dict[type[Any], str] = {}
P = TypeVar("P")


def kind(name: str) -> Any:
    """Register a policy's dataclass under the name that its JSON carries."""

    def register(cls: type[P]) -> type[P]:
        _KINDS[name] = cls
        _NAMES[cls] = name
        setattr(cls, "_repr_html_", _shown)  # noqa: B010  # a class with slots, made before this decorator
        return cls

    return register


def _shown(policy: object) -> str:
    """A policy in a notebook: its JSON, or its repr where a part of it has none."""
    from orchestrion.markup import card  # notebooks only

    try:
        text = json.dumps(dump_policy(policy), indent=2, ensure_ascii=False)
    except PolicyError:
        text = repr(policy)
    return card(f"policy {_NAMES.get(type(policy), type(policy).__name__)}", text=text)


def dump_policy(policy: object) -> Any:
    """A policy as plain JSON values. Raises PolicyError for one whose class is not registered with ``kind``."""
    if isinstance(policy, str | int | float | None):  # most of what there is: not to be held against a protocol
        return policy
    if isinstance(policy, tuple | list):
        return [dump_policy(item) for item in policy]
    if isinstance(policy, Mapping):
        return {key: dump_policy(item) for key, item in policy.items()}
    if not isinstance(policy, Policy):
        return policy
    name = _NAMES.get(type(policy))
    if name is None:
        raise PolicyError(
            f"a policy of class {type(policy).__name__} has no JSON form: make it a dataclass under @kind('name')"
        )
    fields = {
        field.name: dump_policy(getattr(policy, field.name)) for field in dataclasses.fields(_KINDS[name]) if field.init
    }
    return {"policy": name, **fields}


def load_policy(data: Any, *, where: str = "policy") -> Policy:
    """A policy from plain JSON values; a bare string is the worker to ask. Raises PolicyError, naming the place."""
    if isinstance(data, str):
        data = {"policy": "fixed", "worker": data}
    if not isinstance(data, Mapping) or "policy" not in data:
        raise PolicyError(f'{where}: expected a worker\'s name or an object with "policy", got {str(data)[:80]!r}')
    fields = dict(data)
    name = fields.pop("policy")
    if not isinstance(name, str) or name not in _KINDS:
        near = difflib.get_close_matches(str(name), _KINDS, n=1)
        hint = f" (did you mean '{near[0]}'?)" if near else f"; known: {', '.join(sorted(_KINDS))}"
        raise PolicyError(f"{where}: no policy is called {name!r}{hint}")
    try:
        policy: Policy = _KINDS[name](
            **{key: _load_value(item, where=f"{where}.{key}") for key, item in fields.items()}
        )
    except (TypeError, ValueError, AttributeError) as error:  # the last for a list where a mapping belongs
        raise PolicyError(f"{where}: {name}: {str(error).rpartition('__init__() ')[2]}") from None
    return policy


def _load_value(item: Any, *, where: str) -> Any:
    if isinstance(item, list):
        return tuple(_load_value(one, where=f"{where}[{i}]") for i, one in enumerate(item))
    if isinstance(item, Mapping):
        if isinstance(item.get("policy"), str):  # a worker, tag or signal may be called "policy", too
            return load_policy(item, where=where)
        return {key: _load_value(one, where=f"{where}.{key}") for key, one in item.items()}
    return item
