"""Chance that falls the same way on every machine and every Python."""

import hashlib
import random
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


class Dice:
    """Throws that depend on `key` alone: the same key throws the same series.

    Only `random()` of random.Random is used: the one method whose series Python promises to keep between versions.
    """

    def __init__(self, *key: str | int) -> None:
        digest = hashlib.blake2b("/".join(map(str, key)).encode(), digest_size=8).digest()
        self._random = random.Random(int.from_bytes(digest, "big"))  # noqa: S311 - a demo, not a secret

    def share(self) -> float:
        """From [0, 1)."""
        return self._random.random()

    def chance(self, probability: float) -> bool:
        return self.share() < probability

    def between(self, low: int, high: int) -> int:
        """A whole number from `low` to `high`, both included."""
        return low + int(self.share() * (high - low + 1))

    def pick(self, options: Sequence[T]) -> T:
        return options[self.between(0, len(options) - 1)]

    def shuffled(self, options: Sequence[T]) -> list[T]:
        """A new list in a drawn order."""
        rest = list(options)
        return [rest.pop(self.between(0, len(rest) - 1)) for _ in options]

    def weighted(self, options: Sequence[tuple[T, float]]) -> list[T]:
        """All options in a drawn order, heavy ones more often early (Efraimidis and Spirakis, 2006)."""
        return [option for option, _ in sorted(options, key=lambda item: -(self.share() ** (1 / item[1])))]
