"""The content policy: what may stay of a text once its run has ended, and what of it may leave the database."""

from __future__ import annotations

import logging
from typing import Any, Literal

from msgspec.structs import replace
from pydantic_core import from_json, to_json

from orchestrion.domain import Outcome, digest
from orchestrion.evidence.redaction import Redaction, RedactionFailed
from orchestrion.settings import Settings

MARK = "blake2b:"
"""Before the digest that stands in a text's place."""

_log = logging.getLogger("orchestrion")


def digested(text: str) -> str:
    """The digest in a text's place; of one that is a digest already, itself."""
    return text if is_digest(text) else f"{MARK}{digest(text.strip().encode())}"


def is_digest(text: str) -> bool:
    """Whether this stands in the place of a text."""
    return text.startswith(MARK) and len(text) == len(MARK) + 32


class Content:
    """``record`` and ``redact`` of the settings. ``key`` names the policy; None where texts stay as they are."""

    def __init__(
        self, record: Literal["full", "digest", "none", "gone"] = "full", redaction: Redaction | None = None
    ) -> None:
        self.record = record
        self._redaction = redaction
        self._said = False
        self.key = record if record != "full" else f"redacted {redaction.name}" if redaction else None

    @classmethod
    def of(cls, settings: Settings) -> Content:
        """What the settings say. Raises SettingsError for a function that cannot be imported."""
        redaction = Redaction(settings.redact, folder=settings.folder) if settings.redact else None
        return cls(settings.record, redaction)

    def keep(self, text: str | None) -> str | None:
        """What may stay of a text. Raises RedactionFailed."""
        if text is None or self.key is None:
            return text
        if self.record == "full":
            return self._redaction(text) if self._redaction else text
        return digested(text) if self.record == "digest" else None

    def keep_json(self, text: str | None) -> str | None:
        """The same of a JSON text: within a string, what is redacted leaves JSON behind. Raises RedactionFailed."""
        if text is None or self.record != "full" or not text.startswith('"'):
            return self.keep(text)
        return to_json(self.keep(from_json(text))).decode()

    def leaves(self, text: str | None) -> str | None:
        """What of a text may be exported: nothing where a rule failed, which is said once."""
        try:
            return self.keep(text)
        except RedactionFailed as failed:
            self.complain(failed)
            return None

    def outcome(self, outcome: Outcome) -> Outcome:
        """An outcome as it may leave: its texts under the policy, its numbers as they are."""
        if self.key is None:
            return outcome
        kind, colon, message = (outcome.failure or "").partition(": ")
        said = self.leaves(message) if colon and self.record == "full" else None
        return replace(
            outcome,
            prompt=self.leaves(outcome.prompt),
            output=self.leaves(outcome.output),
            answer=self.leaves(outcome.answer),
            reference=self.reference(outcome.reference),
            failure=outcome.failure and (f"{kind}: {said}" if said else kind),
            verdicts=outcome.verdicts
            and {
                name: {**verdict, "reason": self.leaves(verdict.get("reason")) if self.record == "full" else None}
                for name, verdict in outcome.verdicts.items()
            },
        )

    def reference(self, reference: Any) -> Any:
        """What may leave of a right answer, which is a text or any other JSON value."""
        if reference is None or self.key is None:
            return reference
        text = reference if isinstance(reference, str) else to_json(reference).decode()
        left = self.leaves(text)
        return reference if left == text else left

    def complain(self, failed: RedactionFailed) -> None:
        """Say, once, that texts are withheld."""
        if not self._said:
            _log.warning(
                "redact: %s. Texts that it was to redact are withheld from what leaves, and stay in the database until it is mended.",
                failed,
            )
        self._said = True


OPEN = Content()
GONE = Content("gone")
"""What ``keep_days`` leaves."""
