"""Signals: named numbers computed from a task, and from the answers of a stage; never from a score or a reference.

The names are data: they stand in saved policies, each with its coefficient. W is a worker's name.

of the task
    one                     1
    tag:KEY=VALUE           1 if the task has this tag
    prompt:length           log(1 + characters); likewise prompt:numbers (runs of digits) and prompt:lines
    text:B                  B in 0 … 4095: of the words in the prompt's first and last 1,000 characters, lower-cased and hashed
                            into buckets, the square root of the share that falls into this one (all squares add up to 1)
    chance:SALT             a number in [0, 1) drawn by a hash of SALT, the task's id and its step: the draw of a mix with this salt
of the answers of a stage
    share                   the majority's share of all answers asked for; failed and refused ones count against it
    distinct                different answers that passed, by all answers asked for
    answer:TEXT             1 if the majority's answer is TEXT, of at most 12 characters
of one worker, asked in this stage or an earlier one
    asked:W                 1
    share:W                 the share of W's samples that give the majority's answer
    agree:W                 1 if the majority of W's own samples gives it
    empty:W                 1 if W's answer is missing or empty
    length:W tokens:W cost:W latency:W    log(1 + characters, output tokens, nano-dollars, seconds) of W's answer
    verdict:W:CHECK         what CHECK scored W's answer

W's answer is the first of the majority of W's samples, or W's first attempt where none passed. A signal without a value is 0.
"""

from __future__ import annotations

import difflib
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from functools import lru_cache
from typing import Any, TypeAlias
from zlib import crc32

from pydantic_core import to_json

from orchestrion.domain import Attempt, Task
from orchestrion.policy.asking import majority, same_answers
from orchestrion.policy.combinators import chance

BUCKETS = 4096
"""How many buckets words are hashed into."""

READ = 1000
"""How many characters at the beginning of a prompt, and at its end, are read for words: what a decision takes is bounded."""

SHORT = 12
"""The longest answer, in characters, that is a signal of its own: yes, no, the letter of a choice."""

# Translating bytes is several times as fast as a regular expression. Beyond ASCII, everything counts as a letter.
_WORDS = bytes(byte if byte >= 128 or chr(byte).isalnum() or chr(byte) == "_" else 32 for byte in range(256))
_NUMBERS = bytes(byte if chr(byte) in "0123456789" else 32 for byte in range(256))

_OF_PROMPT: dict[str, Callable[[str], float]] = {
    "prompt:length": lambda text: math.log1p(len(text)),
    "prompt:numbers": lambda text: math.log1p(len(_utf8(text).translate(_NUMBERS).split())),
    "prompt:lines": lambda text: math.log1p(text.count("\n") + 1),
}
_OF_ANSWER: dict[str, Callable[[Attempt], float]] = {
    "empty": lambda attempt: float(not (attempt.passed and attempt.answer)),
    "length": lambda attempt: math.log1p(len(attempt.output or "")),
    "tokens": lambda attempt: math.log1p(max(attempt.usage.output_tokens, 0)),
    "cost": lambda attempt: math.log1p(max(attempt.cost, 0)),
    "latency": lambda attempt: math.log1p(max(attempt.latency_s, 0.0)),
}
_OF_WORKER = frozenset({"asked", "share", "agree", "verdict", *_OF_ANSWER})
_BEFORE = frozenset({"one", "tag", "text", "chance", *_OF_PROMPT})
_EXACT = ("one", "share", "distinct", *_OF_PROMPT)
_WITH_REST = ("tag", "text", "chance", "answer", *sorted(_OF_WORKER))

FORMS = _BEFORE | _OF_WORKER | {"distinct", "answer"}
"""What a signal's name is, or what stands before its first colon."""

Values: TypeAlias = Iterator[tuple[str, float]]


def signals(
    task: Task, attempts: Sequence[Attempt] = (), earlier: Sequence[Attempt] = (), *, forms: Set[str] = FORMS
) -> dict[str, float]:
    """All signals of these forms, by name; one that is not in it is 0. Draws by chance are not among them: there is one for every salt.

    ``attempts`` are those of the stage in the order of its calls, ``earlier`` those of other workers before it (see ``others``).
    """
    found = dict(_of_task(task, forms))
    if "text" in forms:
        found |= {f"text:{bucket}": value for bucket, value in _of_text(_prompt(task))}
    return found | dict(_of_stage(attempts, earlier, forms))


def others(history: Sequence[Attempt], workers: Set[str]) -> tuple[Attempt, ...]:
    """The attempts of all workers but these at the plain task: the last of every sample, by worker and sample."""
    found = {
        (attempt.call.worker, attempt.call.sample): attempt
        for attempt in history
        if attempt.call.worker not in workers and not attempt.call.added
    }
    return tuple(found[key] for key in sorted(found))


class Score:
    """A sum of signals, each times its coefficient; only the forms that are wanted are computed.

    The sum is rounded once (``math.fsum``): the order of the coefficients does not change a bit of it. Raises ValueError for
    a name that no signal has, and for a coefficient that is not a finite number.
    """

    __slots__ = ("_after", "_before", "_buckets", "_salts", "coefficients")

    def __init__(self, coefficients: Mapping[str, float]) -> None:
        if not isinstance(coefficients, Mapping):
            raise ValueError(f"score must be names of signals with their coefficients, not {coefficients!r}")
        self.coefficients = {name: _coefficient(name, value) for name, value in coefficients.items()}
        forms = {form_of(name) for name in self.coefficients}
        self._before = frozenset(forms & _BEFORE)
        self._after = frozenset(forms - _BEFORE)
        self._buckets = {int(name[5:]): value for name, value in self.coefficients.items() if name.startswith("text:")}
        self._salts = {name[7:]: value for name, value in self.coefficients.items() if name.startswith("chance:")}

    def __call__(self, task: Task, attempts: Sequence[Attempt] = (), earlier: Sequence[Attempt] = ()) -> float:
        values = dict(_of_task(task, self._before))
        if self._after:
            values.update(_of_stage(attempts, earlier, self._after))
        terms = _terms(values, self.coefficients)
        if self._buckets:
            wanted = self._buckets
            terms += [wanted[bucket] * value for bucket, value in _of_text(_prompt(task)) if bucket in wanted]
        terms += [value * chance(salt, task.id, task.step) for salt, value in self._salts.items()]
        return math.fsum(terms)

    @property
    def of_answers(self) -> tuple[str, ...]:
        """The signals that exist only after an answer."""
        return tuple(name for name in self.coefficients if form_of(name) not in _BEFORE)

    def of_worker(self, worker: str, known: Iterable[str] = ()) -> str | None:
        """A signal of this worker's answers that is looked at, if there is one.

        A verdict's name may begin with several workers' names, as "verdict:gpt:short:schema" does with "gpt" and "gpt:short": it is
        the longest one's, of this worker and those that are ``known``.
        """
        longer = tuple(f"{other}:" for other in known if other.startswith(f"{worker}:"))
        for name in self.of_answers:
            form, _, rest = name.partition(":")
            verdict = form == "verdict" and rest.startswith(f"{worker}:") and not rest.startswith(longer)
            if form in _OF_WORKER and (rest == worker or verdict):
                return name
        return None


def weighed(values: Mapping[str, float], coefficients: Mapping[str, float]) -> float:
    """The score of signals computed before: to the last bit what ``Score`` of these coefficients gives."""
    return math.fsum(_terms(values, coefficients))


def form_of(name: str) -> str:
    """A signal's name without the tag, bucket, answer or worker that it is of."""
    return name if name in _EXACT else name.partition(":")[0]


def _terms(values: Mapping[str, float], coefficients: Mapping[str, float]) -> list[float]:
    return [coefficients[name] * value for name, value in values.items() if name in coefficients]


def _coefficient(name: str, value: Any) -> float:
    form, _, rest = name.partition(":")
    if name not in _EXACT and not (form in _WITH_REST and _is_rest(form, rest)):
        raise ValueError(f"no signal is called {name!r}{_near(name)}")
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e100:  # sums stay finite
        raise ValueError(f"the coefficient of {name!r} must be a finite number, not {value!r}")
    return float(value)


def _is_rest(form: str, rest: str) -> bool:
    if form == "text":
        return bool(re.fullmatch("0|[1-9][0-9]{0,3}", rest)) and int(rest) < BUCKETS
    if form == "tag":
        return "=" in rest
    if form == "answer":
        return len(rest) <= SHORT
    return bool(rest) and (form != "verdict" or ":" in rest)


def _near(name: str) -> str:
    form, _, rest = name.partition(":")
    hints = {
        "text": f": a bucket is a number from 0 to {BUCKETS - 1}",
        "tag": ": a tag is named with its value, tag:KEY=VALUE",
        "answer": f": answers are told apart up to {SHORT} characters",
        "verdict": ": a verdict is named with worker and check, verdict:W:CHECK",
        "chance": " (did you mean 'chance:SALT'?)",
    }
    if form in hints:
        return hints[form]
    known = [*_EXACT, *(f"{with_rest}:{rest or 'W'}" for with_rest in _WITH_REST)]
    [near] = difflib.get_close_matches(name, known, n=1, cutoff=0)
    return f" (did you mean {near!r}?)"


def _of_task(task: Task, forms: Set[str]) -> Values:
    if "one" in forms:
        yield "one", 1.0
    if "tag" in forms:
        for key, value in task.tags.items():
            yield f"tag:{key}={value}", 1.0
    for name, value_of in _OF_PROMPT.items():
        if name in forms:
            yield name, value_of(_prompt(task))


@lru_cache(maxsize=512)  # a step asks its policy several times, and parts of a policy look at the same prompt
def _of_text(text: str) -> tuple[tuple[int, float], ...]:
    """The buckets into which words of the text fall, with their values."""
    read = text if len(text) <= 2 * READ else f"{text[:READ]} {text[-READ:]}"
    words = _utf8(read.lower()).translate(_WORDS).split()
    counts = Counter([crc32(word) % BUCKETS for word in words])
    return tuple([(bucket, math.sqrt(count / len(words))) for bucket, count in counts.items()])


def _prompt(task: Task) -> str:
    return task.input if isinstance(task.input, str) else to_json(task.input).decode()


def _utf8(text: str) -> bytes:
    return text.encode("utf-8", "replace")  # broken JSON may have left half of a character


def _of_stage(attempts: Sequence[Attempt], earlier: Sequence[Attempt], forms: Set[str]) -> Values:
    agreed = majority(attempts)
    if attempts:
        if "share" in forms:
            yield "share", len(agreed) / len(attempts)
        if "distinct" in forms:
            yield "distinct", len(same_answers(attempts)) / len(attempts)
    if "answer" in forms and agreed and agreed[0].answer is not None and len(agreed[0].answer) <= SHORT:
        yield f"answer:{agreed[0].answer}", 1.0
    of_worker = forms & _OF_WORKER
    if of_worker:
        by_worker: dict[str, list[Attempt]] = {}
        for attempt in (*attempts, *earlier):
            by_worker.setdefault(attempt.call.worker, []).append(attempt)
        for worker, samples in by_worker.items():
            yield from _of_one(worker, samples, agreed, of_worker)


def _of_one(worker: str, samples: Sequence[Attempt], agreed: tuple[Attempt, ...], forms: Set[str]) -> Values:
    own = majority(samples)
    answer = own[0] if own else samples[0]
    if "asked" in forms:
        yield f"asked:{worker}", 1.0
    if agreed and "share" in forms:
        same = sum(attempt.passed and attempt.answer == agreed[0].answer for attempt in samples)
        yield f"share:{worker}", same / len(samples)
    if agreed and "agree" in forms:
        yield f"agree:{worker}", float(bool(own) and own[0].answer == agreed[0].answer)
    for form, value in _OF_ANSWER.items():
        if form in forms:
            yield f"{form}:{worker}", value(answer)
    if "verdict" in forms:
        for verdict in answer.verdicts:
            yield f"verdict:{worker}:{verdict.check}", verdict.score
