"""Policies in files: {"format": "orchestrion/policy/1", "policy": …, "checks": [rules]}."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic_core import from_json, to_json

from orchestrion.checks.protocol import refuse_namesakes
from orchestrion.checks.rules import dump_rule, load_rule
from orchestrion.engine.execution import SavedPolicy
from orchestrion.errors import PolicyError
from orchestrion.policy.protocol import dump_policy, load_policy
from orchestrion.settings import Settings, nearest

FORMAT = "orchestrion/policy/1"


def read_policy(path: Path, *, name: str | None = None) -> SavedPolicy:
    """A saved policy. Raises PolicyError, naming the file and the place in it."""
    try:
        data = from_json(path.read_bytes())
    except OSError as error:
        raise PolicyError(f"policy file {path} cannot be read: {error.strerror or error}.") from None
    except ValueError as error:
        raise PolicyError(f"policy file {path} is not JSON: {error}.") from None
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        said = data.get("format") if isinstance(data, dict) else None
        raise PolicyError(f'policy file {path}: expected an object with "format": "{FORMAT}", got {said!r}.')
    unknown = set(data) - {"format", "policy", "checks", "about"}
    if unknown:
        raise PolicyError(f"policy file {path}: unknown field '{sorted(unknown)[0]}'.")
    policy = load_policy(data.get("policy"), where=f"{path}: policy")
    rules = data.get("checks", [])
    if not isinstance(rules, list):
        raise PolicyError(f"policy file {path}: checks: expected a list of rules, got {str(rules)[:80]!r}.")
    checks = tuple(load_rule(rule, where=f"{path}: checks[{i}]") for i, rule in enumerate(rules))
    try:
        refuse_namesakes(checks)
    except ValueError as error:
        raise PolicyError(f"{path}: {error}.") from None
    return SavedPolicy(policy, checks, name or path.stem)


def find_policy(name: str, settings: Settings) -> SavedPolicy:
    """A saved policy: a name from the settings, or a path. Raises PolicyError."""
    if name in settings.policies:
        return read_policy(settings.path(settings.policies[name]), name=name)
    if name.endswith(".json"):
        return read_policy(Path(name), name=name)
    raise PolicyError(
        f"no policy is called '{name}' in the settings, and it is no .json file.{nearest(name, settings.policies)}"
    )


def write_policy(path: Path, saved: SavedPolicy, *, about: str | None = None) -> None:
    """Save a policy and its rules. Raises PolicyError for what has no JSON form."""
    data: dict[str, Any] = {
        "format": FORMAT,
        "policy": dump_policy(saved.policy),
        "checks": [dump_rule(rule) for rule in saved.checks],
    }
    if about:
        data["about"] = about
    path.write_bytes(to_json(data, indent=2) + b"\n")
