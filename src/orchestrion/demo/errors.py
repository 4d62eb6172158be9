"""How a simulated model goes wrong: each kind makes wrong facts of a case, or None where its papers do not allow it.

Only the stage hands are here: these functions know the truth, and share nothing with `checks`.
"""

from collections.abc import Callable
from datetime import date
from decimal import Decimal

from orchestrion.demo.cases import Case
from orchestrion.demo.dice import Dice
from orchestrion.demo.facts import W2, Facts, FilingStatus

Kind = Callable[[Case, Dice], Facts | None]


def transposed_digits(case: Case, dice: Dice) -> Facts | None:
    def swap(digits: str) -> str:
        places = [place for place in range(len(digits) - 1) if digits[place] != digits[place + 1]]
        if not places:
            return digits
        at = dice.pick(places)
        return digits[:at] + digits[at + 1] + digits[at] + digits[at + 2 :]

    return _misread_amount(case, dice, swap)


def dropped_digit(case: Case, dice: Dice) -> Facts | None:
    def drop(digits: str) -> str:
        at = dice.between(1, len(digits) - 1) if len(digits) > 1 else 0
        return digits[:at] + digits[at + 1 :] or "0"

    return _misread_amount(case, dice, drop)


def box_3_for_box_1(case: Case, dice: Dice) -> Facts | None:
    places = [place for place, w2 in enumerate(case.facts.w2s) if w2.box1 and w2.box3 and w2.box1 != w2.box3]
    if not places:
        return None
    at = dice.pick(places)
    return _with_w2(case.facts, at, box1=case.facts.w2s[at].box3)


def state_tax_for_federal(case: Case, dice: Dice) -> Facts | None:
    if not case.facts.w2s:
        return None
    at = dice.between(0, len(case.facts.w2s) - 1)
    return _with_w2(case.facts, at, box2=case.decoys.state_tax[at])


def missed_w2(case: Case, dice: Dice) -> Facts | None:
    if len(case.facts.w2s) < 2:
        return None
    at = dice.between(0, len(case.facts.w2s) - 1)
    return _with(case.facts, w2s=_without(case.facts.w2s, at))


def prior_year_w2_used(case: Case, dice: Dice) -> Facts | None:
    """Beside this year's W-2, or in its place."""
    prior = case.decoys.prior_year
    if prior is None:
        return None
    kept = case.facts.w2s if dice.chance(0.7) else case.facts.w2s[1:]
    return _with(case.facts, w2s=(prior, *kept))


def correction_ignored(case: Case, dice: Dice) -> Facts | None:
    before = case.decoys.before_correction
    if before is None:
        return None
    return _with(case.facts, w2s=(before, *case.facts.w2s[1:]))


def missed_dependant(case: Case, dice: Dice) -> Facts | None:
    if not case.facts.dependants:
        return None
    at = dice.between(0, len(case.facts.dependants) - 1)
    return _with(case.facts, dependants=_without(case.facts.dependants, at))


def wrong_birth_year(case: Case, dice: Dice) -> Facts | None:
    """A child made a grown-up, or the other way round."""
    for person in dice.shuffled(case.facts.dependants):
        if person.birth_date:
            year = person.birth_date.year + (-10 if person.birth_date.year > 2007 else 10)
            return _with_birth_dates(case.facts, {person.name: date(year, person.birth_date.month, 15)})
    return None


def siblings_mixed_up(case: Case, dice: Dice) -> Facts | None:
    """One sibling's birth date written beside another's name, too."""
    if len(case.facts.dependants) < 2:
        return None
    one, other, *_ = dice.shuffled(case.facts.dependants)
    return _with_birth_dates(case.facts, {one.name: other.birth_date})


def wrong_filing_status(case: Case, dice: Dice) -> Facts | None:
    first = case.facts.taxpayers[:1]
    if case.facts.filing_status is FilingStatus.SINGLE:
        return _with(case.facts, filing_status=FilingStatus.HEAD_OF_HOUSEHOLD)
    return _with(case.facts, filing_status=FilingStatus.SINGLE, taxpayers=first)


def missed_interest(case: Case, dice: Dice) -> Facts | None:
    if not case.facts.interest:
        return None
    at = dice.between(0, len(case.facts.interest) - 1)
    return _with(case.facts, interest=_without(case.facts.interest, at))


def exempt_interest_taken(case: Case, dice: Dice) -> Facts | None:
    """Box 8 of the 1099-INT read for its box 1."""
    if case.decoys.exempt_interest is None:
        return None
    first, *others = case.facts.interest
    return _with(case.facts, interest=(first.model_copy(update={"box1": case.decoys.exempt_interest}), *others))


def missed_interest_withholding(case: Case, dice: Dice) -> Facts | None:
    if not any(form.box4 for form in case.facts.interest):
        return None
    bare = tuple(form.model_copy(update={"box4": Decimal("0.00")}) for form in case.facts.interest)
    return _with(case.facts, interest=bare)


def gap_filled(case: Case, dice: Dice) -> Facts | None:
    """Something plausible is written where the papers say nothing, and nobody is told."""
    if not case.facts.missing:
        return None
    facts = _with(case.facts, missing=())
    for at, w2 in enumerate(facts.w2s):
        wages = w2.box5 or Decimal(0)
        facts = _with_w2(facts, at, box1=w2.box1 or wages, box2=w2.box2 or (wages * 12 / 100).quantize(Decimal("0.01")))
    unknown = [person.name for person in facts.dependants if person.birth_date is None]
    return _with_birth_dates(facts, {name: date(dice.between(2009, 2018), dice.between(1, 12), 1) for name in unknown})


def gap_invented(case: Case, dice: Dice) -> Facts | None:
    if case.facts.missing or not case.facts.w2s:
        return None
    employer = dice.pick(case.facts.w2s).employer
    return _with(case.facts, missing=(f"The W-2 from {employer} seems to be incomplete.",))


KINDS: dict[str, Kind] = {
    kind.__name__: kind
    for kind in (
        transposed_digits,
        dropped_digit,
        box_3_for_box_1,
        state_tax_for_federal,
        missed_w2,
        prior_year_w2_used,
        correction_ignored,
        missed_dependant,
        wrong_birth_year,
        siblings_mixed_up,
        wrong_filing_status,
        missed_interest,
        exempt_interest_taken,
        missed_interest_withholding,
        gap_filled,
        gap_invented,
    )
}


def _misread_amount(case: Case, dice: Dice, misread: Callable[[str], str]) -> Facts | None:
    """The whole dollars of box 1 or box 2 of some W-2, as misread."""
    if not case.facts.w2s:
        return None
    at = dice.between(0, len(case.facts.w2s) - 1)
    w2 = case.facts.w2s[at]
    number = dice.pick(("box1", "box2"))
    amount = w2.box1 if number == "box1" else w2.box2
    if amount is None:
        return None
    dollars, cents = f"{amount:.2f}".split(".")
    return _with_w2(case.facts, at, **{number: Decimal(f"{misread(dollars)}.{cents}")})


def _with(facts: Facts, **changes: object) -> Facts:
    return facts.model_copy(update=changes)


def _with_w2(facts: Facts, at: int, **boxes: Decimal | None) -> Facts:
    changed: W2 = facts.w2s[at].model_copy(update=dict(boxes))
    return _with(facts, w2s=(*facts.w2s[:at], changed, *facts.w2s[at + 1 :]))


def _with_birth_dates(facts: Facts, dates: dict[str, date | None]) -> Facts:
    people = [
        person.model_copy(update={"birth_date": dates.get(person.name, person.birth_date)})
        for person in facts.dependants
    ]
    return _with(facts, dependants=tuple(people))


def _without(items: tuple[object, ...], at: int) -> tuple[object, ...]:
    return items[:at] + items[at + 1 :]
