"""The paragraph at the top of a report, in plain words; and the words that the page shares with it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from msgspec.structs import replace

from orchestrion.report.facts import Advice, Asked, Estimate, Quality, Report, Way

NBSP = "\N{NO-BREAK SPACE}"

SOURCES = {
    "reference": "reference answers",
    "person": "people",
    "judge": "a judge",
    "unknown": "labels of unknown source",
}


def with_words(report: Report, *, summary: str, advice: tuple[Advice, ...]) -> Report:
    """The report with its paragraph and its suggestions, which are made of its facts."""
    return replace(report, summary=summary, advice=advice)


def summarise(report: Report) -> str:
    """What was done, what it cost and would have cost, how sure: one paragraph."""
    sentences = _replayed(report) if report.kind == "replay" else _performed(report)
    return " ".join(sentence for sentence in sentences if sentence)


def _performed(report: Report) -> Iterable[str]:
    through = f" by the workflow {listed(report.workflows)}" if len(report.workflows) == 1 else ""
    if report.kind == "run":
        ends = _ends(report).removeprefix("1 ")
        yield f"One task was worked on{through}: it {'was ' if ends == 'answered' else ''}{ends}."
    else:
        yield f"{counted(report.tasks, 'task was', 'tasks were')} worked on{through}: {_ends(report)}."
    yield _spent(report)
    yield _asked(report.people, report)
    yield _alone(report)
    yield sure(report.quality)


def _ends(report: Report) -> str:
    ended = report.ended
    waits = Counter({one.run: one.kind for one in report.waiting}.values())
    told = waits.total() == ended.waiting  # else a question of an interrupted run is among them
    said = [
        (ended.answered, "answered", "answered"),
        (ended.informed, "needs information from its owner", "need information from their owner"),
        (ended.personal, "is left to a person", "are left to a person"),
        (ended.flagged, "is flagged: it could not be answered", "are flagged: they could not be answered"),
        (ended.broke, "broke off for a technical reason", "broke off for a technical reason"),
        (0 if told else ended.waiting, "waits for somebody's word", "wait for somebody's word"),
        (told and waits["review"], "waits for a person's decision", "wait for a person's decision"),
        (
            told and waits["information"],
            "waits for information from its owner",
            "wait for information from their owner",
        ),
        (told and waits["money"], "waits for money", "wait for money"),
        (told and waits["signal"], "waits for a signal", "wait for a signal"),
        (ended.unfinished, "is not finished", "are not finished"),
        (ended.cancelled, "was cancelled", "were cancelled"),
    ]
    return listed(f"{n:,} {one if n == 1 else many}" for n, one, many in said if n) or "nothing was done"


def _spent(report: Report) -> str:
    figures = report.figures
    unknown = (
        f", of which {report.money(figures.unknown)} is booked for calls that broke off and may not have been charged"
        if figures.unknown
        else ""
    )
    held = f"; {report.money(figures.held)} more is set aside for open calls and questions" if figures.held else ""
    return f"It cost {report.money(figures.cost)}{unknown}{held}."


def _asked(people: tuple[Asked, ...], report: Report) -> str:
    """What people were asked, and what of the cost is theirs."""
    if not people:
        return ""
    minutes = sum(one.minutes for one in people)
    done = sum(one.approved + one.modified + one.rejected + one.returned for one in people)
    asked = f"People were asked {counted(sum(one.questions for one in people), 'question', 'questions')}"
    if not done:
        return f"{asked}; nobody has answered yet."
    return f"{asked} and answered {done:,}; that took {duration(minutes)}, and {report.money(report.wages)} of the cost is their wages."


def decided(one: Asked) -> list[str]:
    """How somebody decided: "2 approved", "1 changed", "1 rejected"."""
    kinds = [(one.approved, "approved"), (one.modified, "changed"), (one.rejected, "rejected")]
    return [f"{n:,} {kind}" for n, kind in kinds if n]


def duration(minutes: float) -> str:
    """Time as people count it."""
    return f"{minutes:,.3g} minutes" if minutes < 90 else f"{minutes / 60:,.1f} hours"


def _alone(report: Report) -> str:
    alone = report.alone
    if alone.cost is None:
        return f"What it would have cost otherwise is not known: {alone.how}."
    least = "at least " if alone.left_out else "about " if alone.estimated else ""
    mark = ", an estimate" if alone.estimated else ""
    return f"With {alone.worker} alone, the same steps would have cost {least}{report.money(alone.cost)}{mark}{saved(report)}."


def saved(report: Report) -> str:
    """How much less than the frontier alone, as " (54 % less)"; nothing where only a part of that is known.

    The frontier alone asks nobody: like is compared with like, without people's wages.
    """
    alone, cost = report.alone, report.figures.cost - report.wages
    if not alone.cost or alone.left_out:
        return ""
    part = 1 - cost / alone.cost
    way = "the policy is" if report.kind == "replay" else "this way it was"
    way = f"without people's wages, {way}" if report.wages else way
    return f"; {way} {percent(abs(part))} {'cheaper' if part >= 0 else 'dearer'}"


def sure(quality: Quality) -> str:
    """How sure, and by whose word; what is not known is said to be not known."""
    if quality.right is None:
        if not quality.accepted:
            return ""
        return "How many of the answers are right is not known: none was compared with a label. What the checks let pass is not the same as right."
    by = listed(SOURCES.get(name, name) for name in quality.sources)
    silent = (
        f" No label is about the {listed(f'{n:,} accepted from {name}' for name, n in quality.unlabelled.items())}: the share says nothing about them."
        if quality.unlabelled
        else ""
    )
    return f"Compared with labels ({by}), {right(quality.right)} of the answers are right.{silent}"


def right(estimate: Estimate) -> str:
    """A share with its interval and how many labels it rests on."""
    return (
        f"{percent(estimate.mean, places(estimate))} of {estimate.n:,} labelled (95 % interval: {interval(estimate)})"
    )


def _replayed(report: Report) -> Iterable[str]:
    policy = report.ways[0]
    yield (
        f"The policy {short(policy.name)} was put over {counted(policy.tasks, 'recorded task', 'recorded tasks')}: nobody was asked, and nothing was spent."
    )
    yield f"It would have cost {report.money(policy.cost)}, and answered {_quality(policy)}."
    frontier = next((way for way in report.ways[1:] if way.name == report.alone.worker), None)
    if frontier is None:
        yield f"There is nothing to compare with: {report.alone.how}."
        return
    yield f"{frontier.name} alone would have cost {report.money(frontier.cost)}, and answered {_quality(frontier)}{saved(report)}."
    if policy.against:
        yield f"On the same tasks the policy's score is {against(policy.against)}."


def _quality(way: Way) -> str:
    if way.quality is None:
        return "nobody knows how well: the records have no scores"
    of = f" of the {way.quality.n:,} labelled" if way.quality.n < way.tasks else ""
    return f"{percent(way.quality.mean, places(way.quality))} right{of} (95 % interval: {interval(way.quality)})"


def against(difference: Estimate) -> str:
    """How far from the frontier, in points of a hundred, and whether these tasks can tell."""
    low, high = sorted((difference.low, difference.high))
    side = "above" if difference.mean > 0 else "below"
    said = f"{abs(difference.mean) * 100:.1f} points {side} the frontier's (95 % interval: {points(low)} to {points(high)})"
    return f"{said}: these tasks cannot tell the two apart" if low <= 0 <= high else said


def points(value: float) -> str:
    """A difference of shares in points, with its sign."""
    return f"{value * 100:+.1f}".replace("-", "\N{MINUS SIGN}")


def percent(value: float, places: int = 0) -> str:
    """A share for people: 93 %, 7.4 %, never 100 % where something is missing, never 0 % where something is there."""
    digits = places if value >= 0.1 else max(places, 1)
    if 0 < value < 0.0005:
        return f"under 0.1{NBSP}%"
    if value < 1 and round(value * 100, digits) == 100:
        return f"over {100 - 10**-digits:.{digits}f}{NBSP}%"
    shown = f"{value * 100:.{digits}f}"
    return f"{shown if places else shown.removesuffix('.0')}{NBSP}%"


def places(estimate: Estimate) -> int:
    """Decimals that so many labels bear."""
    return 1 if estimate.n >= 1000 else 0


def interval(estimate: Estimate) -> str:
    """ "88 % to 95 %"."""
    return f"{percent(estimate.low, places(estimate))} to {percent(estimate.high, places(estimate))}"


def counted(n: int, one: str, many: str) -> str:
    """ "1 task", "1,200 tasks"."""
    return f"{n:,} {one if n == 1 else many}"


def listed(parts: Iterable[str]) -> str:
    """ "a, b and c"."""
    *most, last = [*parts] or [""]
    return f"{', '.join(most)} and {last}" if most else last


def short(name: str) -> str:
    """A policy's name without folder and ending."""
    return Path(name).name.removesuffix(".json") if name.endswith(".json") else name
