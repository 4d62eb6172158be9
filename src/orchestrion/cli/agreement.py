"""A judge's test in words."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from orchestrion.checks.calibration import Calibration
from orchestrion.domain import Money
from orchestrion.evidence.agreement import FEW, Agreement, Estimate

GATE = 0.8
"""A gate that most work can live with: with confidence, it passes so much of the good and refuses so much of the bad."""


def lines(name: str, found: Agreement, left_out: Mapping[str, int], shown: Callable[[Money], str]) -> list[str]:
    """The figures, one a line, and what they mean."""
    pairs = found.kind == "pairwise"
    good, bad = ("at least as good", "worse") if pairs else ("good", "bad")
    said = [f"judge {name}, {found.kind}: {found.labels} labels on {found.questions} questions"]
    said += [f"  left out: {n} {why}" for why, n in left_out.items() if n]
    said += [
        _row("agreement with people" + (", both orders" if pairs else ""), found.agreement),
        *_row_of("agreement, one order", found.one_order),
        *_row_of("both orders name one winner", found.decided),
        *_row_of("right where they do", found.right_if_decided),
        _signed("above always saying " + repr(found.majority_says) + (", ties half" if pairs else ""), found.gain),
        *_row_of("Cohen's kappa", found.kappa),
        *_row_of(f"{good} answers that pass", found.sensitivity),
        *_row_of(f"{bad} answers refused", found.specificity),
        *_row_of("changes with the order", found.flips),
        *_row_of("prefers the first shown", found.first),
        *_row_of("ties", found.ties),
        *_row_of("prefers the longer" if pairs else "longer answers that pass", found.longer_favoured),
        *_row_of("the longer is right" if pairs else "longer answers that are good", found.longer_right),
        *([_signed("leans to the longer, at equal quality, by", found.length_bias)] if found.length_bias else []),
    ]
    if found.unanswered:
        said.append(f"  {'without a usable answer':<46} {found.unanswered}: they count as refused, and as not agreeing")
    if found.cost is not None:
        said.append(f"  {'cost of a judgement':<46} {shown(found.cost)}")
    return [*said, *(f"→ {sentence}" for sentence in meaning(found))]


def meaning(found: Agreement) -> list[str]:
    """What the figures say, in sentences."""
    if found.labels < FEW:
        return [f"{found.labels} labels are too few to conclude anything: label {FEW} at least, 100 for ± 0.10."]
    return [_gate(found), *_biases(found), *_saving(found)]


def _gate(found: Agreement) -> str:
    sensitivity, specificity = found.sensitivity, found.specificity
    if sensitivity is None or specificity is None:
        return "People say the same of all answers: label some of the other kind, too."
    bad = "worse" if found.kind == "pairwise" else "bad"
    through = f"it lets through {1 - specificity.value:.0%} of what is {bad} and refuses {1 - sensitivity.value:.0%} of what is not"
    if not found.better:
        return f"It is not shown to be better than always saying '{found.majority_says}': do not let it decide. As a gate, {through}."
    if sensitivity.low >= GATE and specificity.low >= GATE:
        return f"Good enough as a gate for most work: {through}."
    return f"Better than a guess, and no gate to rely on alone: {through}."


def _biases(found: Agreement) -> list[str]:
    said = []
    if found.first and found.first.beside(0.5):
        place = "first" if found.first.beside(0.5) > 0 else "last"
        said.append(f"It prefers what is shown {place}: always ask in both orders.")
    if found.length_bias and found.length_bias.beside(0):
        which = "longer" if found.length_bias.beside(0) > 0 else "shorter"
        said.append(
            f"It favours {which} answers beyond what they are worth. Say in the rubric that length is no merit, and test again."
        )
    return said


def _saving(found: Agreement) -> list[str]:
    if found.saving is None:
        return []
    if found.saving < 1.1:
        return ["Beside people's labels it saves next to none of them."]
    return [f"Beside people's labels, an estimate needs at most {found.saving:.1f} times fewer of them."]


def calibration_lines(calibration: Calibration, errors: tuple[float, float]) -> list[str]:
    """The curve, and the squared error before and after."""
    points = "  ".join(f"{s:.2f} → {c:.2f}" for s, c in zip(calibration.scores, calibration.chances, strict=True))
    raw, calibrated = errors
    return [
        f"calibration, score → chance that people accept: {points}",
        f"  squared error (Brier) {raw:.3f} of the scores, {calibrated:.3f} calibrated, on questions that it was not fitted on",
    ]


def _row_of(label: str, estimate: Estimate | None) -> list[str]:
    return [] if estimate is None else [_row(label, estimate)]


def _row(label: str, estimate: Estimate) -> str:
    return f"  {label:<46} {estimate.value:5.2f}   ({estimate.low:.2f} to {estimate.high:.2f})"


def _signed(label: str, estimate: Estimate) -> str:
    return f"  {label:<46} {estimate.value:+5.2f}   ({estimate.low:+.2f} to {estimate.high:+.2f})"
