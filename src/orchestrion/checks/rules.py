"""Checks as data, which a saved policy can carry: rules on the text of an answer, and judges."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from pydantic_core import from_json

from orchestrion.checks.judge import Judge, judge_from
from orchestrion.checks.protocol import AskWorker, Check
from orchestrion.domain import Attempt, Task, Verdict
from orchestrion.errors import PolicyError


@dataclass(frozen=True, slots=True)
class Matches:
    """The answer's text holds the pattern (Python's re, searched, with MULTILINE)."""

    name: str
    pattern: str

    def __post_init__(self) -> None:
        try:
            _compiled(self.pattern)
        except re.error as error:
            raise ValueError(f"the pattern {self.pattern!r} is not a regular expression: {error}") from None

    def __call__(self, task: Task, attempts: tuple[Attempt, ...], ask: AskWorker) -> Verdict:
        found = _compiled(self.pattern).search(attempts[-1].output or "")
        return (
            Verdict(self.name, True, 1.0)
            if found
            else Verdict(self.name, False, 0.0, f"nothing in the answer matches {self.pattern}")
        )


@dataclass(frozen=True, slots=True)
class Length:
    """The answer's text has between ``least`` and ``most`` characters."""

    name: str
    least: int = 1
    most: int | None = None

    def __call__(self, task: Task, attempts: tuple[Attempt, ...], ask: AskWorker) -> Verdict:
        length = len((attempts[-1].output or "").strip())
        if length < self.least:
            return Verdict(
                self.name, False, 0.0, f"the answer has {length} characters, at least {self.least} are asked for"
            )
        if self.most is not None and length > self.most:
            return Verdict(
                self.name, False, 0.0, f"the answer has {length} characters, at most {self.most} are allowed"
            )
        return Verdict(self.name, True, 1.0)


_RULES: dict[str, type[Any]] = {"matches": Matches, "length": Length, "judge": Judge}


def matches(pattern: str, *, name: str = "matches") -> Check:
    """A check that the answer's text holds a pattern."""
    return Matches(name, pattern)


def length(*, least: int = 1, most: int | None = None, name: str = "length") -> Check:
    """A check of the answer's length in characters."""
    return Length(name, least, most)


def load_rule(data: Any, *, where: str) -> Check:
    """A rule from {"check": "matches", "name": …, "pattern": …}. Raises PolicyError, naming the place."""
    if not isinstance(data, Mapping) or data.get("check") not in _RULES:
        raise PolicyError(f'{where}: expected {{"check": one of {", ".join(_RULES)}, …}}, got {str(data)[:80]!r}')
    fields = {key: value for key, value in data.items() if key != "check"}
    fields.setdefault("name", data["check"])
    try:
        rule: Check = judge_from(fields) if data["check"] == "judge" else _RULES[data["check"]](**fields)
    except (TypeError, ValueError) as error:
        raise PolicyError(f"{where}: {str(error).split('__init__() ')[-1]}") from None
    return rule


def read_judge(path: Path) -> Judge:
    """The judge in a JSON file, written as among a policy's checks. Raises PolicyError."""
    try:
        data = from_json(path.read_bytes())
    except OSError as error:
        raise PolicyError(f"judge file {path} cannot be read: {error.strerror or error}.") from None
    except ValueError as error:
        raise PolicyError(f"judge file {path} is not JSON: {error}.") from None
    rule = load_rule(data, where=str(path))
    if not isinstance(rule, Judge):
        raise PolicyError(
            f'{path}: this is no judge but {rule.name!r}: write {{"check": "judge", "worker": …, "rubric": …}}.'
        )
    return rule


def dump_rule(rule: Any) -> dict[str, Any]:
    """A rule as plain JSON values. Raises PolicyError for a check that is code."""
    for name, cls in _RULES.items():
        if isinstance(rule, cls):
            return {"check": name, **dataclasses.asdict(rule)}
    raise PolicyError(f"check '{rule.name}' is code and cannot be saved with a policy: leave it at its step.")


@lru_cache(maxsize=256)
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.MULTILINE)
