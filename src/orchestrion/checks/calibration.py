"""From what a judge says to how often people agree: a monotone curve, fitted on people's labels in plain Python."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple, TypeAlias

from pydantic_core import from_json

from orchestrion.errors import PolicyError

FORMAT = "orchestrion/calibration/1"
PRIOR = 2.0
"""So many labels does the overall share count for, at each score: few labels never give a chance of 0 or 1."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """The chance that people accept, at rising raw scores; between two of them a straight line, beyond them level.

    ``labels`` is how many it was fitted on; ``of`` the digest of the judge that gave the scores (None: not known).
    """

    scores: tuple[float, ...]
    chances: tuple[float, ...]
    labels: int = 0
    of: str | None = None

    def __post_init__(self) -> None:
        if not (isinstance(self.scores, Iterable) and isinstance(self.chances, Iterable)):
            raise ValueError("a calibration's scores and chances are lists of numbers")
        object.__setattr__(self, "scores", tuple(self.scores))
        object.__setattr__(self, "chances", tuple(self.chances))
        if not self.scores or len(self.scores) != len(self.chances):
            raise ValueError(
                f"a calibration has as many chances as scores, not {len(self.chances)} and {len(self.scores)}"
            )
        for values in (self.scores, self.chances):
            if not all(isinstance(v, int | float) and 0 <= v <= 1 for v in values) or list(values) != sorted(values):
                raise ValueError(f"a calibration's scores and chances rise from 0 to 1, not {list(values)}")

    def chance(self, score: float) -> float:
        """The chance that people accept what has this raw score."""
        right = bisect_left(self.scores, score)
        if right == 0:
            return self.chances[0]
        if right == len(self.scores):
            return self.chances[-1]
        low, high = self.scores[right - 1], self.scores[right]
        share = (score - low) / (high - low)
        return self.chances[right - 1] + share * (self.chances[right] - self.chances[right - 1])


class _Block(NamedTuple):
    """Neighbouring scores that share one chance: from, to, how many labels, and how many of them accept."""

    low: float
    high: float
    n: float
    accepted: float

    @property
    def share(self) -> float:
        return self.accepted / self.n


def fit(labelled: Iterable[tuple[float, bool]], *, of: str | None = None) -> Calibration:
    """A calibration from (raw score, whether people accepted) pairs. Raises ValueError without any.

    Isotonic regression by pool-adjacent-violators (Ayer et al. 1955; for classifiers Zadrozny and Elkan 2002). Each block
    is then shrunk towards the overall share by ``PRIOR`` labels (the m-estimate, Cestnik 1990), which few labels feel
    and many do not, and pooled once more, since shrinking may undo the order.
    """
    by_score: dict[float, list[bool]] = defaultdict(list)
    for score, accepted in labelled:
        by_score[score].append(accepted)
    if not by_score:
        raise ValueError("a calibration needs labels")
    raw = [_Block(score, score, len(said), sum(said)) for score, said in sorted(by_score.items())]
    labels = sum(len(said) for said in by_score.values())
    overall = (sum(block.accepted for block in raw) + 1) / (labels + 2)  # Laplace: all or none is never certain
    shrunk = [_Block(b.low, b.high, b.n + PRIOR, b.accepted + PRIOR * overall) for b in _pooled(raw)]
    scores: list[float] = []
    chances: list[float] = []
    for block in _pooled(shrunk):
        for edge in dict.fromkeys((block.low, block.high)):
            scores.append(edge)
            chances.append(round(block.share, 6))
    return Calibration(tuple(scores), tuple(chances), labels, of)


def brier(labelled: Sequence[tuple[str, float, bool]], *, folds: int = 5) -> tuple[float, float]:
    """The mean squared error of raw scores and of calibrated ones, over (question, raw score, accepted).

    What is calibrated was fitted on the other folds' questions. Lower is better; always saying the share of accepted answers
    gives share·(1 − share).
    """
    fold_of = {question: i % folds for i, question in enumerate(dict.fromkeys(q for q, _, _ in labelled))}
    raw = fmean((score - accepted) ** 2 for _, score, accepted in labelled)
    errors: list[float] = []
    for fold in range(folds):
        others = [(score, accepted) for q, score, accepted in labelled if fold_of[q] != fold]
        held_out = [(score, accepted) for q, score, accepted in labelled if fold_of[q] == fold]
        curve = fit(others) if others else None
        errors += [((curve.chance(score) if curve else 0.5) - accepted) ** 2 for score, accepted in held_out]
    return raw, fmean(errors)


def _pooled(blocks: Iterable[_Block]) -> list[_Block]:
    """Neighbours merged until their shares rise."""
    found: list[_Block] = []
    for block in blocks:
        new = block
        while found and found[-1].share >= new.share:
            before = found.pop()
            new = _Block(before.low, new.high, before.n + new.n, before.accepted + new.accepted)
        found.append(new)
    return found


CalibrationLike: TypeAlias = "Calibration | Mapping[str, Any] | str | Path"


def as_calibration(given: CalibrationLike) -> Calibration:
    """A calibration from itself, from its JSON object, or from the file that `orchestrion judge test --out` wrote.

    Raises PolicyError naming the file, ValueError for values that are none.
    """
    if isinstance(given, Calibration):
        return given
    if not isinstance(given, str | Path):
        return _from_json(given)
    try:
        data = from_json(Path(given).read_bytes())
    except OSError as error:
        raise PolicyError(f"calibration file {given} cannot be read: {error.strerror or error}.") from None
    except ValueError as error:
        raise PolicyError(f"calibration file {given} is not JSON: {error}.") from None
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise PolicyError(
            f'calibration file {given}: expected an object with "format": "{FORMAT}", as `orchestrion judge test … --out` writes it.'
        )
    if data.get("calibration") is None:
        raise PolicyError(f"calibration file {given} has no calibration in it: too few labels, or none of one kind.")
    try:
        return _from_json(data["calibration"])
    except ValueError as error:
        raise PolicyError(f"calibration file {given}: {error}.") from None


def _from_json(data: Any) -> Calibration:
    known = ("scores", "chances", "labels", "of")
    if not isinstance(data, Mapping) or not set(data) <= set(known) or not {"scores", "chances"} <= set(data):
        raise ValueError(f"a calibration is an object with {', '.join(known)}, not {str(data)[:80]!r}")
    return Calibration(**data)
