"""The phrases of a policy in words: whom it asks, what it goes by, and how much of the tasks that is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from orchestrion.domain import Attempt, Task
from orchestrion.policy.signals import form_of, signals
from orchestrion.tuning.learn import Floats

AGREE = "whether the answers agree"
SAID = {
    "prompt:length": "the task's length",
    "prompt:numbers": "the task's numbers",
    "prompt:lines": "the task's lines",
    "text": "the task's words",
    "share": AGREE,
    "agree": AGREE,
    "distinct": AGREE,
    "answer": "which answer it is",
    "length": "the answer's length",
    "tokens": "the answer's length",
    "cost": "the answer's cost",
    "latency": "the answer's time",
    "verdict": "its checks",
    "empty": "whether there is an answer",
    "asked": "whether there is an answer",
}

MATTERS = 1 / 3
"""A signal is named that moves the score by so much of what the first one does."""

MOST_NAMED = 3
MOST_LOOKED_AT = 400
MOST_VALUES = 5

Seen = tuple[Task, Sequence[Attempt], Sequence[Attempt]]
"""A task, the answers of a stage, and those of the stages before."""


def judged(score: Mapping[str, float], seen: Sequence[Seen]) -> str:
    """What moves a score most over these tasks, the most first; empty where nothing does.

    Signals of one name (all buckets of words, all values of a tag) count as one: how much it moves the score is the standard deviation of
    what they add to it.
    """
    forms = {form_of(name) for name in score}
    looked_at = seen[:: -(-len(seen) // MOST_LOOKED_AT)] if seen else ()
    parts: dict[str, Floats] = {}
    for i, (task, attempts, earlier) in enumerate(looked_at):
        for name, value in signals(task, attempts, earlier, forms=forms).items():
            if score.get(name) and name != "one":
                parts.setdefault(_named(name, len(attempts)), np.zeros(len(looked_at)))[i] += score[name] * value
    moved = {phrase: float(values.std()) for phrase, values in parts.items()}
    most = max(moved.values(), default=0.0)
    ranked = sorted((one for one in moved if moved[one] >= MATTERS * most > 1e-12), key=lambda one: -moved[one])
    return _of_owners(ranked[:MOST_NAMED])


def _of_owners(phrases: Sequence[str]) -> str:
    """ "the task's length and the task's words" as "the task's length and words"."""
    owned: dict[str, list[str]] = {}
    for phrase in phrases:
        owner, apostrophe, rest = phrase.partition("'s ")
        owned.setdefault(owner if apostrophe else phrase, []).append(rest)
    return listed([f"{owner}'s {listed(what)}" if what[0] else owner for owner, what in owned.items()])


def _named(signal: str, calls: int) -> str:
    form = form_of(signal)
    if form == "tag":
        return f"the task's {signal[4:].partition('=')[0]}"
    if calls == 1 and form in ("share", "distinct"):
        return "whether there is an answer"
    return SAID.get(form, "its kind")


def who(workers: Mapping[str, int], asked: Mapping[str, int]) -> str:
    """Whom a stage asks that was not asked before, and how often."""
    new = {worker: n - asked.get(worker, 0) for worker, n in workers.items() if n > asked.get(worker, 0)}
    return listed([_often(worker, n, again=worker in asked) for worker, n in (new or workers).items()])


def agreeing(accept: float, calls: int) -> str:
    """Which answer is kept where this share of the answers must agree."""
    wanted = int(np.ceil(accept * calls - 1e-9))
    if wanted <= 1:
        return "keep the answer" if calls == 1 else "keep the most frequent answer"
    if wanted >= calls:
        return f"keep the answer where {'both' if calls == 2 else f'all {calls}'} agree"
    return f"keep the answer on which at least {wanted} of {calls} agree"


def values(shares: Mapping[str, float]) -> str:
    """The values of a tag with their shares, the largest first."""
    ranked = sorted((value for value in shares if shares[value] > 0), key=lambda value: -shares[value])
    return several([f"{value} {percent(min(shares[value], 1))}" for value in ranked])


def several(words: Sequence[str], last: str = "and") -> str:
    """The first of many words, and how many more there are."""
    more = [f"{len(words) - MOST_VALUES} more"] if len(words) > MOST_VALUES else []
    return listed([*words[:MOST_VALUES], *more], last)


def _often(worker: str, n: int, *, again: bool) -> str:
    if again:
        return f"{worker} {'once more' if n == 1 else f'{n} more times'}"
    return worker if n == 1 else f"{worker} {'twice' if n == 2 else f'{n} times'}"


def times(most: int) -> str:
    """How often something is done again."""
    return ", once" if most == 1 else f", at most {most} times"


def listed(words: Sequence[str], last: str = "and") -> str:
    """Words with commas, and ``last`` before the last one."""
    return f"{', '.join(words[:-1])} {last} {words[-1]}" if len(words) > 1 else "".join(words)


def percent(share: float) -> str:
    """A share in few digits that never says all or nothing where it is not."""
    if 0 < share < 0.001:
        return "<0.1%"
    whole = round(share, 6) in (0, 1) or 0.0095 <= share < 0.995
    return f"{share:.0%}" if whole else f"{min(share, 0.999):.1%}"
