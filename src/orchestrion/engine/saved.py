"""Policies in files: {"format": "orchestrion/policy/1", "policy": …, "checks": [rules], "certificate": …}."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
from pydantic_core import from_json, to_json

from orchestrion.checks.protocol import refuse_namesakes
from orchestrion.checks.rules import dump_rule, load_rule
from orchestrion.engine.execution import SavedPolicy
from orchestrion.errors import PolicyError
from orchestrion.policy.certificate import Certificate, load_certificate
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
    unknown = set(data) - {"format", "policy", "checks", "about", "certificate"}
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
    certificate = _certificate(data["certificate"], path) if data.get("certificate") is not None else None
    return SavedPolicy(policy, checks, name or path.stem, certificate)


def _certificate(data: Any, path: Path) -> Certificate:
    try:
        return load_certificate(data)
    except msgspec.ValidationError as error:
        raise PolicyError(
            f"policy file {path}: certificate: {str(error).replace('`', chr(39))}. Only `orchestrion tune` and `orchestrion certify` "
            "write one; take it out, and the policy is one without a promise."
        ) from None


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
    """Save a policy, its rules and its certificate. Raises PolicyError for what has no JSON form."""
    data: dict[str, Any] = {
        "format": FORMAT,
        "policy": dump_policy(saved.policy),
        "checks": [dump_rule(rule) for rule in saved.checks],
    }
    if about:
        data["about"] = about
    if saved.certificate:
        data["certificate"] = msgspec.to_builtins(saved.certificate)
    path.write_bytes(to_json(data, indent=2) + b"\n")
