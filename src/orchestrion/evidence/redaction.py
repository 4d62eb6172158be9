"""What is taken out of texts: patterns with a name, regular expressions, and functions of the user's."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeAlias

from orchestrion.domain import digest
from orchestrion.errors import SettingsError

Rule: TypeAlias = Callable[[str], str]

# They look for a form, not for a meaning: they miss some, and take some too many. Each begins where a word does, so that a
# megabyte without a blank takes no longer than one of prose.
PATTERNS = {
    "card": r"(?<![\w-])\d(?:[ -]?\d){12,18}(?![\w-])",
    "email": r"(?<![\w.+-])[\w.+-]+@[\w-]+(?:\.[\w-]+)+",
    "iban": r"(?<!\w)[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?(?!\w)",
    "phone": r"(?<![\w.+-])(?:\+\d{1,3}[ ./-]?)?(?:\(\d{1,5}\)[ ./-]?)?\d{2,12}(?:[ ./-]\d{2,8}){0,6}(?![\w-])",
    "ssn": r"(?<![\w-])\d{3}-\d{2}-\d{4}(?![\w-])",
}


class RedactionFailed(Exception):  # never reaches a user: whoever asks withholds the text and says so
    """A rule raised, or did not answer with a text."""


class Redaction:
    """All rules of the settings, one after the other. ``name`` tells them from other rules."""

    def __init__(self, entries: Iterable[str], *, folder: Path) -> None:
        """Raises SettingsError for a function that cannot be imported (from ``folder``, or where Python looks)."""
        self._entries = tuple(entries)
        self._rules = [(entry, _rule(entry, folder)) for entry in self._entries]
        self.name = digest("\n".join(self._entries).encode())[:8]

    def __call__(self, text: str) -> str:
        """The text without what the rules take out. Raises RedactionFailed."""
        for entry, rule in self._rules:
            try:
                redacted = rule(text)
            except Exception as error:  # its words may quote the text
                raise RedactionFailed(f"{entry} raised {type(error).__name__}") from None
            if not isinstance(redacted, str):
                raise RedactionFailed(f"{entry} returned {type(redacted).__name__}, not a text")
            text = redacted
        return text


def _rule(entry: str, folder: Path) -> Rule:
    if entry.startswith("python:"):
        return _function(entry, folder)
    pattern, sure = re.compile(PATTERNS.get(entry, entry)), SURE.get(entry, bool)
    mark = f"[{entry}]" if entry in PATTERNS else "[redacted]"
    return lambda text: pattern.sub(lambda match: mark if sure(match[0]) else match[0], text)


def _is_card(text: str) -> bool:
    """The check digit of card numbers (Luhn): most other long numbers fail it."""
    digits = [int(sign) for sign in text if sign.isdigit()]
    return sum(d if i % 2 == 0 else (2 * d - 9 if d > 4 else 2 * d) for i, d in enumerate(reversed(digits))) % 10 == 0


def _is_phone(text: str) -> bool:
    """Long enough, and written like one: most dates and amounts are not."""
    digits, parts = sum(sign.isdigit() for sign in text), len(re.findall(r"\d+", text))
    if re.fullmatch(r"(\d{4}-\d\d-\d\d|\d{1,2}\.\d{1,2}\.\d{4}) \d{1,2}", text):
        return False  # a day and an hour
    return 7 <= digits <= 15 and (text[0] in "+(" or (digits >= 10 and parts > 1))


SURE: dict[str, Callable[[str], bool]] = {"card": _is_card, "phone": _is_phone}
"""What a form alone does not tell."""


def _function(entry: str, folder: Path) -> Rule:
    module, _, name = entry.removeprefix("python:").rpartition(".")
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    try:
        function = getattr(importlib.import_module(module), name)
    except Exception as error:
        raise SettingsError(
            f"redact: {entry} cannot be imported: {type(error).__name__}: {error}. It is a function of a text, in a module beside the settings or installed."
        ) from None
    if not callable(function):
        raise SettingsError(f"redact: {entry} is no function but {type(function).__name__}.")
    rule: Rule = function
    return rule
