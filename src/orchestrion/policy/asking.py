"""What policies are made of: calls and their answers in a history, answers that are the same, and stops."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from orchestrion.domain import Accept, Ask, Attempt, Call, Decision, Failure, Funds, Stop, StopKind


def calls_of(samples: Mapping[str, int]) -> tuple[Call, ...]:
    """Every worker's first sample, then every worker's second …: the workers in the mapping's order."""
    most = max(samples.values())
    return tuple(Call(worker, n) for n in range(most) for worker, times in samples.items() if n < times)


def refuse_names(workers: tuple[str, ...]) -> None:
    """Names that no worker can have, and a name twice: its calls would be the same call."""
    for i, worker in enumerate(workers):
        if not isinstance(worker, str) or not worker:
            raise ValueError(f"a worker's name is a text, not {worker!r}")
        if worker in workers[:i]:
            raise ValueError(f"{worker!r} is named twice: ask for more samples instead")


def last(history: tuple[Attempt, ...], call: Call) -> Attempt | None:
    """The last attempt at a call; None where it was not asked."""
    for attempt in reversed(history):
        if attempt.call == call:
            return attempt
    return None


def answered(calls: tuple[Call, ...], history: tuple[Attempt, ...], funds: Funds) -> tuple[Attempt, ...] | Ask | Stop:
    """The attempts at all of these calls, in their order; where some are missing, the decision to ask for those."""
    found = [last(history, call) for call in calls]
    missing = tuple(call for call, attempt in zip(calls, found, strict=True) if attempt is None)
    if missing:
        return Ask(missing) if funds.pay(missing) else too_dear(missing)
    return tuple(attempt for attempt in found if attempt is not None)


def same_answers(attempts: Iterable[Attempt]) -> list[tuple[Attempt, ...]]:
    """The passed attempts in groups of one canonical text, groups and members in the order of the attempts."""
    groups: dict[str | None, list[Attempt]] = {}
    for attempt in attempts:
        if attempt.passed:
            groups.setdefault(attempt.answer, []).append(attempt)
    return [tuple(group) for group in groups.values()]


def majority(attempts: Iterable[Attempt]) -> tuple[Attempt, ...]:
    """The largest group of passed attempts with the same answer, of equals the first; empty where none passed."""
    return max(same_answers(attempts), key=len, default=())


def too_dear(calls: tuple[Call, ...], attempts: tuple[Attempt, ...] = ()) -> Stop:
    """The stop of calls that the funds do not cover."""
    asked = ", ".join(sorted({call.worker for call in calls}))
    return Stop(f"the funds do not cover asking {asked}", "funds", attempts)


def refused(tried: tuple[Attempt, ...], attempts: tuple[Attempt, ...] | None = None) -> Stop:
    """Why none of those tried last was accepted: their failures where all failed, else what the checks said."""
    looked_at = tried if attempts is None else attempts
    if all(attempt.failure for attempt in tried):
        kind: StopKind = "rejected" if any(attempt.rejected for attempt in tried) else "failed"
        return Stop("; ".join(_failed(a.call.worker, a.failure) for a in tried if a.failure), kind, looked_at)
    said = [f"{v.check}: {v.reason or 'not passed'}" for a in tried for v in a.verdicts if not v.passed]
    return Stop("; ".join(dict.fromkeys(said)), "checks", looked_at)


def gravest(stops: Sequence[Stop]) -> Stop:
    """Of several stops the one to report: short funds first, since money can be added; then the last one's reason."""
    worst = next((stop for stop in stops if stop.kind == "funds"), stops[-1])
    return Stop(worst.reason, worst.kind, tuple(attempt for stop in stops for attempt in stop.attempts))


def after(stops: Sequence[Stop], decision: Decision) -> Decision:
    """A decision that follows on stops: an answer is constrained where one of them was for want of money."""
    if isinstance(decision, Accept) and any(stop.kind == "funds" for stop in stops):
        return Accept(decision.attempt, decision.confidence, constrained=True)
    return decision


def _failed(worker: str, failure: Failure) -> str:
    return failure.message if failure.message.startswith(worker) else f"{worker}: {failure.message}"
