"""What a tuning found, in words and as JSON."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import click
import msgspec

from orchestrion.domain import Money, dollars, nanos
from orchestrion.policy.certificate import Target
from orchestrion.policy.protocol import dump_policy
from orchestrion.tuning.facts import Interval, Promise, TagPromise, TaskToLabel, Tuned

MOST = 40
"""So many tasks are named."""

Shown = Callable[[Money], str]
"""How dollars are shown."""


# Text -------------------------------------------------------------------------------------------------------------


def tuned_lines(tuned: Tuned, *, wide: int, shown: Shown) -> Iterator[str]:
    """The whole result, paragraphs folded to ``wide`` columns (0: not at all)."""
    asked = tuned.promises[0]
    yield from _folded(feasibility(tuned), wide)
    yield ""
    yield from promise_lines(asked, frontier=tuned.frontier.name, wide=wide, shown=shown)
    if len(tuned.promises) > 1:
        yield ""
        yield click.style("Promises side by side, in shares of the frontier's; each holds by itself", bold=True)
        yield from _table(_PROMISES, [_promise_row(one) for one in tuned.promises])
    for title, sentences in (("What would make it better", tuned.advice), ("About the records", tuned.notes)):
        if sentences:
            yield ""
            yield from _list(title, sentences, wide)
    if tuned.label_next:
        yield ""
        yield from label_lines(tuned.label_next)


def feasibility(tuned: Tuned) -> str:
    """Whether the labels can be enough at all, and how they were used."""
    target = tuned.promises[0].target
    wanted = (
        f"{target.quality:.4g} with confidence"
        if target.quality > 0 and tuned.max_cost is None
        else "a promise with confidence"
    )
    said = (
        f"{_tasks(tuned.labels, 'labelled ')}; at least {tuned.n_min:,} are needed for {wanted} "
        f"{target.confidence:.4g}, in practice two to four times that."
    )
    if tuned.fit or tuned.certify:
        said += f" {tuned.fit:,} of them chose the policy, {tuned.certify:,} others tested it."
    if tuned.unlabelled:
        said += (
            f" Of {_tasks(tuned.unlabelled, 'more ')}, without a label or picked to get one, {tuned.spared:,} needed none: "
            "the answers are the same."
        )
    return said


def promise_lines(promise: Promise, *, frontier: str, wide: int, shown: Shown) -> Iterator[str]:
    """One promise: whether it is certified, the policy in words, and the figures behind it."""
    yield from (click.style(line, bold=True) for line in _folded(_head(promise), wide))
    if promise.reason:
        enough = f" About {promise.labels_needed:,} labelled tasks would probably do." if promise.labels_needed else ""
        yield from _folded(f"Why: {promise.reason.rstrip('.')}.{enough}", wide)
    yield from _folded(f"The policy: {promise.words}", wide)
    for name, text in _figures(promise, frontier, shown):
        yield from _folded(f"  {name:<8} {text}", wide, indent=" " * 11)
    if promise.by_tag:
        yield ""
        yield from _table(_TAGS, [_tag_row(value, one) for value, one in promise.by_tag.items()])


def _head(promise: Promise) -> str:
    if promise.target.quality <= 0:  # --max-cost asks for the best there is, and there is nothing
        return "Not certified: no quality can be promised at this cost."
    return f"{'Certified' if promise.certified else 'Not certified'}: {promise.target.words}."


def _figures(promise: Promise, frontier: str, shown: Shown) -> Iterator[tuple[str, str]]:
    yield "quality", _beside(promise.quality_ratio, frontier)
    a_task = f"; {shown(nanos(promise.cost))} a task" if math.isfinite(promise.cost) else ""
    yield "cost", _beside(promise.cost_ratio, frontier) + a_task
    if promise.captured is not None and math.isfinite(promise.captured):
        yield "saving", f"{promise.captured:.0%} of what could be saved by knowing each task's best worker beforehand"
    if promise.expected:
        yield "chance", "the policy tosses a coin for each task: what is promised is the mean over all tosses"


def _beside(one: Interval, frontier: str) -> str:
    """A share of the frontier's, and how far it may be off."""
    if not math.isfinite(one.value):
        return f"an unknown share of {frontier}'s"
    said = f"{one.value:.1%} of {frontier}'s"
    known = math.isfinite(one.low) and math.isfinite(one.high) and one.low < one.high
    return f"{said} (95% interval: {one.low:.1%} to {one.high:.1%})" if known else said


def _target(target: Target) -> str:
    """The promise in a few signs, for a table."""
    each = f", each {target.per_tag}" if target.per_tag else ""
    if target.kind == "share":
        return f"{target.quality:.4g} on {target.share or 0:.4g} of tasks{each}"
    return f"mean quality {target.quality:.4g}{each}" if target.quality > 0 else "best at this cost"


_PROMISES = ("promise", "certified", "quality", "cost", "a task", "saving")
_TAGS = ("tag", "certified", "tasks", "quality", "cost")


def _promise_row(one: Promise) -> tuple[str, ...]:
    certified = "yes" if one.certified else f"no: {one.labels_needed:,} labels" if one.labels_needed else "no"
    return (
        _target(one.target),
        certified,
        _share(one.quality_ratio.value),
        _share(one.cost_ratio.value),
        dollars(nanos(one.cost)) if math.isfinite(one.cost) else "–",
        "–" if one.captured is None else _share(one.captured, places=0),
    )


def _tag_row(value: str, one: TagPromise) -> tuple[str, ...]:
    certified = "yes" if one.certified else "no"
    return value, certified, f"{one.tasks:,}", _share(one.quality_ratio), _share(one.cost_ratio)


def _share(value: float, *, places: int = 1) -> str:
    return f"{value:.{places}%}" if math.isfinite(value) else "–"


def _table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """The first two columns to the left, figures to the right."""
    widths = [max(len(row[i]) for row in (titles, *rows)) for i in range(len(titles))]
    for i, row in enumerate((titles, *rows)):
        cells = (
            text.ljust(width) if j < 2 else text.rjust(width)
            for j, (text, width) in enumerate(zip(row, widths, strict=True))
        )
        line = f"  {'  '.join(cells)}".rstrip()
        yield line if i else click.style(line, bold=True)


def label_lines(tasks: Sequence[TaskToLabel]) -> Iterator[str]:
    """Tasks worth labelling next, and why."""
    yield click.style("Worth labelling next, drawn with this chance", bold=True)
    rows = [(one.task_id, one.why, f"{one.probability:.3g}") for one in tasks[:MOST]]
    yield from _table(("task", "why", "chance"), rows)
    if len(tasks) > MOST:
        yield f"  … and {len(tasks) - MOST:,} more (--json and --labels-out have them)"


def _list(title: str, sentences: Sequence[str], wide: int) -> Iterator[str]:
    yield click.style(title, bold=True)
    for sentence in sentences:
        yield from _folded(f"  - {sentence}", wide, indent="    ")


def _folded(text: str, wide: int, *, indent: str = "") -> list[str]:
    if not wide:
        return [text]
    return textwrap.wrap(text, wide, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def _tasks(count: int, which: str = "") -> str:
    return f"{count:,} {which}{'task' if count == 1 else 'tasks'}"


def certified_lines(
    promise: Promise, name: str, frontier: str | None, *, left_out: int, wide: int, shown: Shown
) -> Iterator[str]:
    """The test of a policy that was there."""
    labels = promise.certificate.certified_on if promise.certificate else None
    if labels is not None:
        yield from _folded(f"{name}: tested on {_tasks(labels, 'labelled ')}.", wide)
    if left_out:
        yield from _folded(f"{_tasks(left_out)} left out: the policy was chosen or certified on them.", wide)
    named = promise.certificate.frontier if promise.certificate else frontier or "the frontier"
    yield from promise_lines(promise, frontier=named, wide=wide, shown=shown)


# Data -------------------------------------------------------------------------------------------------------------


def tuned_json(tuned: Tuned) -> dict[str, Any]:
    """The promise that was asked for, with all others below; shares and dollars a task as floats."""
    asked = tuned.promises[0]
    plain: Mapping[str, Any] = _finite(msgspec.to_builtins({name: getattr(tuned, name) for name in _PLAIN}))
    return {
        **promise_json(asked),
        "labels": tuned.labels,
        "n_min": tuned.n_min,
        "fit": tuned.fit,
        "certify": tuned.certify,
        "unlabelled": tuned.unlabelled,
        "spared": tuned.spared,
        "frontier": tuned.frontier.name,
        "workers": [one.name for one in tuned.workers],
        "figures": {one["name"]: one for one in plain["workers"]},
        "oracle": plain["oracle"],
        "promises": [promise_json(one) for one in tuned.promises],
        "notes": plain["notes"],
        "advice": plain["advice"],
        "label_next": plain["label_next"],
        "seed": tuned.seed,
        "seconds": plain["seconds"],
    }


_PLAIN = ("workers", "oracle", "notes", "advice", "label_next", "seconds")


def certified_json(promise: Promise, frontier: str | None, *, left_out: int) -> dict[str, Any]:
    """The test of a policy that was there."""
    certificate = promise.certificate
    return {
        **promise_json(promise),
        "labels": certificate.certified_on if certificate else None,
        "frontier": certificate.frontier if certificate else frontier,
        "left_out": left_out,
    }


def promise_json(one: Promise) -> dict[str, Any]:
    """One promise. What is not known, or no finite number, is null."""
    found = {
        "certified": one.certified,
        "kind": one.target.kind,
        "target": one.target.quality,
        "share": one.target.share,
        "confidence": one.target.confidence,
        "promise": one.target.words,
        "quality_ratio": one.quality_ratio.value,
        "quality_interval": [one.quality_ratio.low, one.quality_ratio.high],
        "cost_ratio": one.cost_ratio.value,
        "cost_interval": [one.cost_ratio.low, one.cost_ratio.high],
        "cost_usd_per_task": one.cost,
        "captured": one.captured,
        "expected": one.expected,
        "realised": {"quality": one.realised[0], "cost_usd_per_task": one.realised[1]},
        "p_value": one.p_value,
        "labels_needed": one.labels_needed,
        "words": one.words,
        "reason": one.reason,
        "policy": dump_policy(one.policy),
        "certificate": None if one.certificate is None else msgspec.to_builtins(one.certificate),
        "by_tag": {value: msgspec.to_builtins(tag) for value, tag in one.by_tag.items()},
    }
    return {name: _finite(value) for name, value in found.items()}


def _finite(value: Any) -> Any:
    """JSON has no NaN: what is no finite number is not known."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    return value
