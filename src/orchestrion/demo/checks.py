"""Checks of facts and returns against the papers' own text. They never see the truth, nor what drew the papers.

Each takes the facts and the household, and returns a sentence that a model can act on, or None if all is well. They
look for what does not fit together; they do not read the papers a second time. So they miss things: an amount that
stands in the papers but in another box, an old amount that a W-2c corrects, interest known from a letter only. `risky`
says which returns an auditor should therefore see; a few errors slip through both.
"""

import re
from collections.abc import Callable, Iterator
from datetime import date
from decimal import Decimal

from orchestrion.demo.cases import Household
from orchestrion.demo.facts import Dependant, Facts, FilingStatus, Taxpayer
from orchestrion.demo.tax import TaxReturn

Check = Callable[[Facts, Household], str | None]

DOLLAR = Decimal(1)
SOCIAL_SECURITY_RATE, SOCIAL_SECURITY_WAGE_BASE = Decimal("0.062"), Decimal(168_600)
MEDICARE_RATE = Decimal("0.0145")

PAGE_HEADING = re.compile(r"^=== page \d+ of \d+: .* ===$", re.MULTILINE)
W2_HEADING = re.compile(r"^Form W-2 .*\b(20\d\d)\b", re.MULTILINE)
W2C_HEADING = re.compile(r"^Form W-2c\b", re.MULTILINE)
INTEREST_HEADING = re.compile(r"^Form 1099-INT\b.*\b2024\b", re.MULTILINE)
W2_NUMBERS = re.compile(r"security number: ([\d-]+).*identification number: ([\d-]+).*Control number: (\d+)", re.DOTALL)
W2_WAGES = re.compile(r"\b1 Wages, tips, other comp\S*\s+(\S+)")
UNREADABLE = re.compile(r"\b([12]) (?:Wages|Federal)[^|\n]*?\s(\S*#\S*)")
# Digits, and the letters that a bad scan makes of them.
AMOUNT = re.compile(r"(?<![\w.])[\dlIOoS][\dlIOoS,]*\.[\dlIOoS]{2}(?!\w)")
SCANNED_DIGITS = str.maketrans({"l": "1", "I": "1", "O": "0", "o": "0", "S": "5", ",": None})
ISO_DATE = re.compile(r"\b(\d{4})-(\d\d)-(\d\d)\b")
LONG_DATE = re.compile(r"\b([A-Z][a-z]+) (\d{1,2}), (\d{4})\b")
MONTHS = {name: number for number, name in enumerate(
    ("January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
     "December"), start=1)}  # fmt: skip
FORM_STATUS = re.compile(r"^Filing status: (.+)$|file as ([a-z ]+)\.", re.MULTILINE)
FORM_DEPENDANT = re.compile(r"^- (.+?) \(.*\), born (.*)$", re.MULTILINE)
FORM_EMPLOYERS = re.compile(r"^Worked in 2024 for: (.+)$", re.MULTILINE)
SPOUSE = re.compile(r"^Spouse: |\b[Mm]y (?:spouse|husband|wife)\b", re.MULTILINE)
NOT_MARRIED = re.compile(r"\bnot married\b")


def amounts_stand_in_papers(facts: Facts, household: Household) -> str | None:
    printed = set(_amounts(household.papers))
    for place, amount in _stated_amounts(facts):
        if amount and amount not in printed:
            return f"{place} is given as {amount:,.2f}, and no such amount stands anywhere in the papers."
    return None


def boxes_tie_out(facts: Facts, household: Household) -> str | None:
    """Within a dollar: box 4 is 6.2 % of box 3, box 6 is 1.45 % of box 5, box 3 stops at the wage base."""
    if facts.missing:
        return None  # a contradiction may have been found, and said
    for w2 in facts.w2s:
        if None in (w2.box1, w2.box2, w2.box3, w2.box4, w2.box5, w2.box6):
            return f"A box of the W-2 from {w2.employer} is null, but `missing` does not say why."
        for tax, wages, rate, names in (
            (w2.box4, w2.box3, SOCIAL_SECURITY_RATE, "box 4 is not 6.2% of box 3"),
            (w2.box6, w2.box5, MEDICARE_RATE, "box 6 is not 1.45% of box 5"),
        ):
            if tax is not None and wages is not None and abs(tax - wages * rate) > DOLLAR:
                return (
                    f"On the W-2 from {w2.employer}, {names}: {tax:,.2f} and {wages:,.2f}. Either a box was misread, "
                    "or the paper contradicts itself: then say so in `missing`."
                )
        if w2.box3 is not None and w2.box3 > SOCIAL_SECURITY_WAGE_BASE:
            return f"On the W-2 from {w2.employer}, box 3 exceeds the wage base of 168,600.00."
    return None


def w2s_counted(facts: Facts, household: Household) -> str | None:
    """As many W-2s as there are different ones for 2024 in the folder, each from an employer whom the papers name."""
    found = len({numbers for year, numbers, _ in _w2_pages(household.papers) if year == 2024})
    if found != len(facts.w2s):
        return f"The folder holds {found} different W-2 forms for 2024; the facts list {len(facts.w2s)}."
    for w2 in facts.w2s:
        for name in (w2.employer, w2.employee):
            if not _stands(name, household.papers):
                return f"The name {name!r} on a W-2 stands nowhere in the papers."
    return None


def interest_counted(facts: Facts, household: Household) -> str | None:
    """At least as many payers as forms: letters may add to them."""
    found = sum(bool(INTEREST_HEADING.search(page)) for page in _pages(household.papers))
    if found > len(facts.interest):
        return f"The folder holds {found} Forms 1099-INT for 2024; the facts list {len(facts.interest)} payers."
    for form in facts.interest:
        if not _stands(form.payer, household.papers):
            return f"The payer {form.payer!r} stands nowhere in the papers."
    return None


def people_stand_in_papers(facts: Facts, household: Household) -> str | None:
    """Every name and birth date comes from the papers, and everybody in the intake note is among the people."""
    dates = set(_dates(household.papers))
    people: list[Taxpayer | Dependant] = [*facts.taxpayers, *facts.dependants]
    for person in people:
        if not _stands(person.name, household.papers):
            return f"The name {person.name!r} stands nowhere in the papers."
        if person.birth_date is None:
            if not facts.missing:
                return f"The birth date of {person.name} is null, but `missing` does not say why."
        elif person.birth_date not in dates:
            return f"The birth date of {person.name} is given as {person.birth_date}, a date that no paper shows."
    listed = FORM_DEPENDANT.findall(household.papers)
    if listed and len(listed) != len(facts.dependants):
        return f"The intake form lists {len(listed)} dependants; the facts list {len(facts.dependants)}."
    born = {person.birth_date for person in people}
    if forgotten := [day for day in _dates(_pages(household.papers)[0]) if day not in born]:
        return f"The intake note shows the date {forgotten[0]}, which the facts give to nobody as a birth date."
    return None


def filing_status_fits(facts: Facts, household: Household) -> str | None:
    status, note = facts.filing_status, _pages(household.papers)[0]
    joint = status is FilingStatus.JOINT
    if stated := FORM_STATUS.search(note):
        words = (stated[1] or stated[2]).strip()
        if words != status.words:
            return f"The intake note says {words!r}; the facts say {status.words!r}."
    if joint != (len(facts.taxpayers) == 2):
        return f"The filing status is {status.words}, with {len(facts.taxpayers)} taxpayer(s)."
    if joint and NOT_MARRIED.search(note):
        return "The intake note says that the client is not married, so the return cannot be joint."
    if SPOUSE.search(note) and not joint and not facts.missing:
        return (
            f"The intake note speaks of a spouse, but the filing status is {status.words}. If the note contradicts "
            "itself, say so in `missing`."
        )
    if status is FilingStatus.HEAD_OF_HOUSEHOLD and not facts.dependants:
        return "A head of household needs a dependant, and the facts list none."
    return None


def gaps_are_named(facts: Facts, household: Household) -> str | None:
    """What a plain look at the folder shows to be missing or contradictory must be in `missing`."""
    if facts.missing:
        return None
    wages: dict[tuple[str, ...], str] = {}
    for year, numbers, page in _w2_pages(household.papers):
        if year != 2024:
            continue
        if unreadable := UNREADABLE.search(page):
            return f"Box {unreadable[1]} of a W-2 cannot be read ({unreadable[2]}): say so in `missing`."
        printed = W2_WAGES.search(page)
        if printed and wages.setdefault(numbers, printed[1]) != printed[1]:
            return f"Two copies of one W-2 differ in box 1, {wages[numbers]} and {printed[1]}: say so in `missing`."
    if listed := FORM_EMPLOYERS.search(household.papers):
        forms = "\n".join(page for _, _, page in _w2_pages(household.papers))
        for employer in listed[1].split("; "):
            if not _stands(employer, forms):
                return f"The intake form names {employer!r}, from whom there is no W-2: say so in `missing`."
    for name, born in FORM_DEPENDANT.findall(household.papers):
        if not ISO_DATE.search(born):
            return f"The intake form gives no birth date for {name}: say so in `missing`."
    return None


EXTRACT_CHECKS: tuple[Check, ...] = (
    amounts_stand_in_papers,
    boxes_tie_out,
    w2s_counted,
    interest_counted,
    people_stand_in_papers,
    filing_status_fits,
    gaps_are_named,
)


def first_problem(facts: Facts, household: Household) -> str | None:
    """What the first failing check says, or None if all pass."""
    return next((problem for check in EXTRACT_CHECKS if (problem := check(facts, household))), None)


def return_adds_up(facts: Facts, tax_return: TaxReturn) -> str | None:
    """Sums that hold on every return, whoever computed it."""
    line = tax_return
    wages = sum((w2.box1 or Decimal(0) for w2 in facts.w2s), Decimal(0))
    balance = line.withholding + line.additional_child_tax_credit - line.total_tax
    sums = {
        "the wages are not the sum of box 1 of the W-2s": abs(line.wages - wages) < DOLLAR,
        "the adjusted gross income is not wages and interest": line.agi == line.wages + line.taxable_interest,
        "the taxable income is not the income less the deduction": line.taxable_income
        == max(0, line.agi - line.standard_deduction),
        "the tax is outside 10% to 37% of the taxable income": line.taxable_income * 0.1 - 5
        <= line.tax
        <= line.taxable_income * 0.37 + 5,
        "the credits exceed the tax": 0 <= line.dependant_credits <= line.tax,
        "the total tax is not the tax less the credits": line.total_tax == line.tax - line.dependant_credits,
        "the refund or the amount owed does not follow": (line.refund, line.owed)
        == (max(0, balance), max(0, -balance)),
    }
    return next((f"On the return, {wrong}." for wrong, holds in sums.items() if not holds), None)


def risky(household: Household, facts: Facts, tax_return: TaxReturn | None) -> str | None:
    """Why this one deserves the dear auditor, or None. `tax_return` is None where the client is to be asked."""
    if facts.missing or tax_return is None:
        return "the client is to be asked something"
    employees = [w2.employee for w2 in facts.w2s]
    withheld_normally = 0.7 * tax_return.tax <= tax_return.withholding <= 1.4 * tax_return.tax
    reasons = {
        "a corrected form is in the folder": W2C_HEADING.search(household.papers),
        "forms of another year are in the folder": any(year != 2024 for year, _, _ in _w2_pages(household.papers)),
        "one person has several W-2s": len(set(employees)) < len(employees),
        "the income is high": tax_return.agi >= 170_000,
        "somebody single has dependants": facts.filing_status is FilingStatus.SINGLE and facts.dependants,
        "withholding is out of proportion to the tax": not withheld_normally,
    }
    return next((reason for reason, holds in reasons.items() if holds), None)


# Reading the text


def _pages(papers: str) -> list[str]:
    return [page.strip() for page in PAGE_HEADING.split(papers)[1:]] or [papers]


def _w2_pages(papers: str) -> list[tuple[int, tuple[str, ...], str]]:
    """(year, numbers that identify the form, text) of each page that is a W-2."""
    found = []
    for page in _pages(papers):
        if heading := W2_HEADING.search(page):
            numbers = W2_NUMBERS.search(page)
            found.append((int(heading[1]), numbers.groups() if numbers else (page,), page))
    return found


def _amounts(text: str) -> Iterator[Decimal]:
    for match in AMOUNT.finditer(text):
        yield Decimal(match[0].translate(SCANNED_DIGITS))


def _dates(text: str) -> Iterator[date]:
    for year, month, day in ISO_DATE.findall(text):
        yield date(int(year), int(month), int(day))
    for month, day, year in LONG_DATE.findall(text):
        if month in MONTHS:
            yield date(int(year), MONTHS[month], int(day))


def _stated_amounts(facts: Facts) -> Iterator[tuple[str, Decimal | None]]:
    for w2 in facts.w2s:
        for number, amount in enumerate((w2.box1, w2.box2, w2.box3, w2.box4, w2.box5, w2.box6), start=1):
            yield f"Box {number} of the W-2 from {w2.employer}", amount
    for form in facts.interest:
        yield f"Box 1 of the 1099-INT from {form.payer}", form.box1
        yield f"Box 4 of the 1099-INT from {form.payer}", form.box4


def _stands(name: str, text: str) -> bool:
    """Whatever the case and the spacing."""
    return " ".join(name.lower().split()) in " ".join(text.lower().split())
