"""What a tuning promises, in words for somebody who pays for it."""

from __future__ import annotations

import math
from collections.abc import Iterator

from orchestrion.domain import dollars, nanos
from orchestrion.policy.certificate import Target
from orchestrion.report.words import NBSP, counted, listed, percent
from orchestrion.tuning.facts import Interval, Promise, Tuned

NAME = 60
"""So much of a name stands in a sentence."""


def headline(tuned: Tuned) -> str:
    """The page in one line."""
    promise, frontier = tuned.promises[0], named(tuned.frontier.name)
    if promise.certified:
        return f"Certified: {_kept(promise.target, frontier)} at {share(promise.cost_ratio.value)} of its cost"
    return f"Not certified: nothing cheaper than {frontier}"


def summary(tuned: Tuned) -> str:
    """The certificate, or why there is none: one paragraph, without the head's word."""
    promise = tuned.promises[0]
    return " ".join(_certified(promise, tuned) if promise.certified else _refused(promise, tuned))


def _certified(promise: Promise, tuned: Tuned) -> Iterator[str]:
    frontier = named(tuned.frontier.name)
    yield _price(promise, frontier)
    yield f"What is promised: {clause(promise.target, frontier)}{', on average over its tosses of a coin' if promise.expected else ''}."
    certificate = promise.certificate
    tested = certificate.certified_on if certificate else tuned.certify
    yield (
        f"This was tested on {counted(tested, 'task', 'tasks')} with labels that had no part in choosing the policy. There, its mean quality was "
        f"{ratio(promise.quality_ratio, f'of {frontier}’s')}. {_odds(promise.target.confidence)}"
    )
    yield (
        f"What is not promised: that any single answer is right (alone, {frontier} has a mean score of {share(tuned.frontier.quality)} here), or "
        "anything about tasks unlike the labelled ones."
    )
    asked = [named(name) for name in certificate.workers] if certificate else []
    whose = listed(asked) if 0 < len(asked) <= 6 else "a worker that it asks"
    yield f"The promise is void as soon as the model or the price of {whose} changes, or the instructions of the step."


def _price(promise: Promise, frontier: str) -> str:
    kept, alone = promise.cost, frontier_cost(promise)
    if alone is None:
        return f"What this policy costs against {frontier} alone is not known."
    change = 1 - promise.cost_ratio.value
    less = f"{thousand(abs(alone - kept))}, or {share(abs(change))}, {'less' if change >= 0 else 'more'}"
    return (
        f"This policy costs {thousand(kept)} for 1,000 tasks, where {frontier} alone costs {thousand(alone)}: {less}."
    )


def _refused(promise: Promise, tuned: Tuned) -> Iterator[str]:
    frontier = named(tuned.frontier.name)
    yield f"No cheaper policy could be promised to be good enough. What was asked for: {clause(promise.target, frontier)}."
    if promise.reason:
        yield sentence(promise.reason)
    alone = tuned.frontier.cost if not math.isfinite(promise.cost) else promise.cost
    yield f"So the policy is to ask {frontier} for every task, at {thousand(alone)} for 1,000 tasks, and nothing is saved."
    yield needed(promise, tuned)
    others = [other for other in tuned.promises[1:] if other.certified]
    if others:
        least = min(others, key=lambda other: other.cost_ratio.value)
        yield f"Another promise is certified at {share(least.cost_ratio.value)} of {frontier}’s cost: {clause(least.target, frontier)}."
    yield "What looks both good and cheap below is no promise: it was not tested, or did not pass."


def needed(promise: Promise, tuned: Tuned) -> str:
    """What it would take to certify this."""
    if promise.labels_needed is None:
        return "More labels alone would not help: another worker is needed."
    return f"About {promise.labels_needed:,} labelled tasks would probably do; there are {tuned.labels:,}."


def clause(target: Target, frontier: str) -> str:
    """The promise in one clause."""
    batch = f"over a batch of {target.batch:,} tasks, " if target.batch else ""
    return batch + _worth(target, frontier)


def _worth(target: Target, frontier: str) -> str:
    if target.kind == "share":
        return f"on at least {whole(target.share or 0)} of the tasks, the answer is worth at least {whole(target.quality)} of {frontier}’s"
    if not target.quality:
        return "the best mean quality that can be promised at the cost that was named"
    return f"the mean quality is at least {whole(target.quality)} of {frontier}’s"


def _kept(target: Target, frontier: str) -> str:
    if target.kind == "share":
        return f"{whole(target.quality)} of {frontier}’s quality on {whole(target.share or 0)} of the tasks"
    return f"{whole(target.quality)} of {frontier}’s quality"


def label(target: Target) -> str:
    """The promise in a few signs, for a drawing."""
    return title(target).removesuffix(" of tasks")


def title(target: Target) -> str:
    """The promise in a few words, for a table."""
    each = f", each {target.per_tag}" if target.per_tag else ""
    if target.kind == "share":
        return f"≥{NBSP}{whole(target.quality)} on {whole(target.share or 0)} of tasks{each}"
    if not target.quality:
        return "best at this cost"
    return f"mean ≥{NBSP}{whole(target.quality)}{each}"


def _odds(confidence: float) -> str:
    """What a confidence means: how many such promises are broken."""
    risk = 1 - confidence
    many = round(1 / risk) if risk > 1e-9 else 0
    one_in = many and math.isclose(1 / risk, many, rel_tol=1e-6)
    broken = (
        f"of {many:,} such promises, at most one is broken on average"
        if one_in
        else f"at most {whole(risk)} of such promises are broken on average"
    )
    return f"How sure: {whole(confidence)}, that is, {broken}."


def feasibility(tuned: Tuned) -> str:
    """Whether the labels can be enough at all, and how they were used."""
    target = tuned.promises[0].target
    wanted = f"“{title(target)}”" if tuned.max_cost is None else "anything of use"
    said = [
        f"{counted(tuned.labels, 'task has a label', 'tasks have labels')}.",
        f"{tuned.n_min:,} to test with is the fewest that can certify {wanted} with a confidence of {whole(target.confidence)}; in practice "
        "it takes two to four times as many.",
    ]
    if tuned.fit or tuned.certify:
        said.append(f"{tuned.fit:,} of them chose the policies, the {tuned.certify:,} others tested them.")
    if tuned.unlabelled:
        said.append(
            f"Of {counted(tuned.unlabelled, 'more task', 'more tasks')} without a label, or picked to get one, {tuned.spared:,} needed none: the "
            "answers are the same."
        )
    return " ".join(said)


def ratio(one: Interval, of: str) -> str:
    """ "98.1 % of it (95 % interval: 95.3 % to 100.4 %)"."""
    said = f"{share(one.value)} {of}"
    return f"{said} (95{NBSP}% interval: {between(one)})" if between(one) else said


def between(one: Interval) -> str:
    """ "95.3 % to 100.4 %"; nothing where there is no interval."""
    known = math.isfinite(one.low) and math.isfinite(one.high) and one.low < one.high
    return f"{share(one.low)} to {share(one.high)}" if known else ""


def captured(promise: Promise) -> str:
    """The share of the oracle's saving; without a certificate there is no saving."""
    return share(promise.captured) if promise.certified else "–"


def whole(value: float) -> str:
    """A share that somebody chose, with as many decimals as it was given, up to two."""
    places = next((n for n in (0, 1) if math.isclose(round(value * 100, n), value * 100, rel_tol=1e-9)), 2)
    return f"{value * 100:.{places}f}{NBSP}%"


def share(value: float | None) -> str:
    """A share with one decimal; what is no number is not known."""
    if value is None or not math.isfinite(value):
        return "not known"
    if value == 1 or -0.0005 < value <= 0:
        return percent(abs(round(value)))
    return f"\N{MINUS SIGN}{percent(-value, 1)}" if value < 0 else percent(value, 1)


def thousand(cost: float) -> str:
    """Dollars for 1,000 tasks, where ``cost`` is dollars for one."""
    return money(cost * 1000)


def money(cost: float) -> str:
    """An amount in dollars; what is no number is not known."""
    return dollars(nanos(cost)) if math.isfinite(cost) else "not known"


def frontier_cost(promise: Promise) -> float | None:
    """What the frontier costs for a task where the policy was tested, in dollars; None where that is not known."""
    ratio = promise.cost_ratio.value
    return promise.cost / ratio if math.isfinite(ratio) and ratio > 0 and math.isfinite(promise.cost) else None


def named(name: str) -> str:
    """A worker's name within a sentence."""
    flat = " ".join(name.split())
    return flat if len(flat) <= NAME else f"{flat[: NAME - 1]}…"


def opening(clause: str) -> str:
    """A clause as the beginning of a sentence; names in it stay as they are."""
    return clause[:1].upper() + clause[1:]


def sentence(text: str) -> str:
    """A reason as a sentence of its own."""
    flat = opening(" ".join(text.split()))
    return flat if flat.endswith((".", "!", "?", "…")) else f"{flat}."
