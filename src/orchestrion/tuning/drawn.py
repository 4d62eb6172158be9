"""How labels were drawn: by chance over all tasks, or picked among those on which answers differ.

Rows say with which probability their task was drawn to be labelled, and not from what: `outcomes label --sample` draws from all tasks,
`tune --label-next` from those on which some workers of a policy and the frontier disagree. Answers tell: of picked tasks, workers agree on
fewer. Scores are never looked at. To take a fair draw for picked costs labels; the other way round would make a certificate false.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from itertools import combinations
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy import special

from orchestrion.domain import Outcome

Floats = NDArray[np.float64]

UNLIKELY = 0.002
"""A draw is called picked where workers agree as rarely as this probability would have it in a fair one."""

Key = TypeVar("Key", bound=Hashable)


def picked(whole: Iterable[Key], rows: Mapping[Key, Sequence[Outcome]]) -> dict[Key, float]:
    """The probability with which tasks were drawn that were picked by their answers; other tasks are not in it.

    ``whole`` are the tasks asked about, ``rows`` the plain answers of all tasks and workers. Tasks with one probability are one draw.
    """
    drawn: dict[float, list[Key]] = defaultdict(list)
    chances = {key: _chance(found) for key, found in rows.items()}
    for key, chance in chances.items():
        if chance is not None:
            drawn[chance].append(key)
    if not drawn:
        return {}
    answers = {key: _answers(found) for key, found in rows.items()}
    agree = _agreements(answers)
    comparable = _comparable(answers.values())
    unfair = {
        chance
        for chance, keys in drawn.items()
        if not _fair([agree[key] for key in keys], list(agree.values()), comparable=comparable)
    }
    return {key: chance for key in whole if (chance := chances[key]) in unfair and chance is not None}


def _chance(rows: Iterable[Outcome]) -> float | None:
    return next((row.label_probability for row in rows if row.label_probability is not None), None)


def _answer(row: Outcome) -> str | None:
    """What answers are compared by; None for a failure, or an empty answer."""
    if row.failure:
        return None
    return ((row.output or "").strip() if row.answer is None else row.answer) or None


def _answers(rows: Iterable[Outcome]) -> dict[str, set[str | None]]:
    """What each worker answered, in all its samples."""
    found: dict[str, set[str | None]] = defaultdict(set)
    for row in rows:
        found[row.worker].add(_answer(row))
    return found


def _agreements(answers: Mapping[Key, Mapping[str, set[str | None]]]) -> dict[Key, tuple[bool, ...]]:
    """For each task whether all samples of each pair of workers gave one answer, and whether all of everybody did."""
    workers = sorted({worker for found in answers.values() for worker in found})
    pairs = list(combinations(workers, 2))
    agree = {}
    for key, found in answers.items():
        said = [found.get(a, {None}) | found.get(b, {None}) for a, b in pairs]
        same = [len(one) == 1 and None not in one for one in said]
        agree[key] = (*same, all(same))
    return agree


def _comparable(answers: Iterable[Mapping[str, set[str | None]]]) -> bool:
    """Whether an answer ever comes again, for another task or from another worker; free texts do not."""
    seen: set[str] = set()
    for found in answers:
        for answer in (one for said in found.values() for one in said if one is not None):
            if answer in seen:
                return True
            seen.add(answer)
    return False


def _fair(draw: Sequence[tuple[bool, ...]], everything: Sequence[tuple[bool, ...]], *, comparable: bool) -> bool:
    """Whether workers agree about as often in a draw as in all tasks. Where the draw is all there is, all of them must agree at times,
    if answers can be the same at all."""
    seen, all_of_it = np.sum(draw, axis=0, dtype=float), np.sum(everything, axis=0, dtype=float)
    if len(draw) == len(everything):
        return bool(seen[-1]) or not comparable
    few = [_at_most(a, len(draw), b, len(everything)) for a, b in zip(seen, all_of_it, strict=True)]
    return min(few) * len(few) >= UNLIKELY


def _at_most(seen: float, n: int, marked: float, total: int) -> float:
    """The probability that of n tasks drawn from a total at most so many are among the marked ones (hypergeometric)."""
    k = np.arange(max(0.0, n - (total - marked)), seen + 1)

    def ways(of: float, some: Floats) -> Floats:
        logs: Floats = special.gammaln(of + 1) - special.gammaln(some + 1) - special.gammaln(of - some + 1)
        return logs

    return float(np.exp(ways(marked, k) + ways(total - marked, n - k) - ways(total, np.array(float(n)))).sum())
