"""Draws families and their papers from a seed: the same seed, the same families, on every machine.

About 60 % are easy, 25 % medium and 15 % hard to read, and 12 % lack something or contradict themselves. The first n
households are the same however many are drawn.

What `tax` leaves out is kept from arising: wages alone exceed the end of the earned income credit, and of the saver's
credit where somebody saves for retirement; pay stays below the Additional Medicare Tax and, with interest, below the
net investment income tax; nobody with two jobs passes the social security wage base; the note says that there is no
other income. The names are made up, and no SSN or EIN was ever issued.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal

from orchestrion.demo import names
from orchestrion.demo.cases import Answer, Case, Difficulty, Household, Problem
from orchestrion.demo.dice import Dice
from orchestrion.demo.draft import Draft, Relative, SmallInterest
from orchestrion.demo.facts import CENT, W2, Dependant, Interest, Taxpayer
from orchestrion.demo.notes import intake_note
from orchestrion.demo.papers import InterestPaper, W2cPaper, W2Paper, folder, printed
from orchestrion.demo.problems import spoil
from orchestrion.demo.tax import HEAD, JOINT, SINGLE, compute, income_tax, standard_deduction

SEED = 2024
DIFFICULTIES: tuple[Difficulty, ...] = ("easy",) * 12 + ("medium",) * 5 + ("hard",) * 3
PROBLEMS_IN_25 = 3

# Rev. Proc. 2023-34, section 3.06: where the earned income credit has ended, by number of children.
EARNED_INCOME_CREDIT_ENDS = {
    SINGLE: (18_591, 49_084, 55_768, 59_899),
    HEAD: (18_591, 49_084, 55_768, 59_899),
    JOINT: (25_511, 56_004, 62_688, 66_819),
}
# Notice 2023-75: where the saver's credit has ended.
SAVERS_CREDIT_ENDS = {SINGLE: 38_250, HEAD: 57_375, JOINT: 76_500}
# So that pay and interest stay below $200,000 ($250,000), even with 8 % saved for retirement on top.
MOST_WAGES = {SINGLE: 182_000, HEAD: 182_000, JOINT: 228_000}
MOST_WAGES_WITH_TWO_JOBS = 150_000
SOCIAL_SECURITY_WAGE_BASE = Decimal(168_600)

MEDIUM_TRAITS = (("prose", 3.0), ("columns", 2.0), ("deferral", 2.0), ("bank", 2.0), ("backup", 1.0), ("copy", 1.0),
                 ("exempt", 1.0))  # fmt: skip
HARD_TRAITS = (("prior year", 2.0), ("correction", 2.0), ("two jobs", 2.0), ("scanned", 2.0), ("small interest", 1.0),
               ("exempt", 1.0), ("copy", 1.0), ("deferral", 1.0), ("backup", 1.0))  # fmt: skip


def households(n: int = 120, seed: int = SEED) -> list[Case]:
    """The first `n` cases of `seed`, h-001 onwards."""
    return [_case(index, seed) for index in range(n)]


def _case(index: int, seed: int) -> Case:
    block, place = divmod(index, len(DIFFICULTIES))
    difficulty = Dice(seed, "difficulties", block).shuffled(DIFFICULTIES)[place]
    problem = _problem(index, seed)

    dice = Dice(seed, "household", index)
    traits = _traits(dice, difficulty, problem)
    draft = _people(dice, problem)
    draft.prose = "prose" in traits
    _add_w2s(draft, traits)
    _add_interest(draft, traits)
    _add_distractions(draft, traits)
    if problem:
        spoil(draft, problem)

    facts = draft.facts
    return Case(
        household=Household(id=f"h-{index + 1:03}", papers=_folder(draft, shuffled=difficulty == "hard")),
        difficulty=difficulty,
        problem=problem,
        facts=facts,
        answer=Answer(reasons=facts.missing) if problem else Answer(tax_return=compute(facts)),
        decoys=draft.decoys,
    )


def _problem(index: int, seed: int) -> Problem | None:
    """Every kind in turn, at drawn places: 3 in each 25 households."""
    block, place = divmod(index, 25)
    kinds = list(Problem)
    slots: list[Problem | None] = [
        kinds[(block * PROBLEMS_IN_25 + slot) % len(kinds)] for slot in range(PROBLEMS_IN_25)
    ]
    return Dice(seed, "problems", block).shuffled(slots + [None] * (25 - PROBLEMS_IN_25))[place]


def _traits(dice: Dice, difficulty: Difficulty, problem: Problem | None) -> set[str]:
    if difficulty == "easy":
        traits = {"deferral"} if dice.chance(0.2) else set[str]()
    elif difficulty == "medium":
        traits = set(dice.weighted(MEDIUM_TRAITS)[:2])
    else:
        traits = set(dice.weighted(HARD_TRAITS)[:3]) | ({"prose"} if dice.chance(0.8) else set())
    if problem:  # one thing to find out at a time
        traits -= {"correction", "copy"}
    if problem is Problem.MISSING_W2:
        traits.add("two jobs")
    if problem is Problem.ILLEGIBLE_BOX:
        traits.discard("deferral")  # boxes 12a and 3 together would tell what box 1 was
    return traits


# People


def _people(dice: Dice, problem: Problem | None) -> Draft:
    statuses = [(SINGLE, 4.0), (JOINT, 3.5), (HEAD, 2.5)]
    if problem is Problem.NO_BIRTH_DATE:
        statuses = [(JOINT, 1.0), (HEAD, 1.0)]
    elif problem is Problem.STATUS_CONTRADICTED:
        statuses = [(SINGLE, 2.0), (HEAD, 1.0)]
    status = dice.weighted(statuses)[0]

    family = names.family_name(dice)
    first, second, *others = dice.shuffled(names.GIVEN)
    least = 1 if status is HEAD or problem is Problem.NO_BIRTH_DATE else 0
    count = 0 if status is SINGLE else dice.between(least, 3)
    children = [_child(dice, f"{name} {family}") for name in others[:count]]
    eldest = min((child.facts.birth_date.year for child in children if child.facts.birth_date), default=None)

    taxpayers = [Taxpayer(name=f"{first} {family}", birth_date=_adult(dice, eldest), blind=dice.chance(0.03))]
    if status is JOINT:
        theirs = family if dice.chance(0.7) else names.family_name(dice)
        taxpayers.append(Taxpayer(name=f"{second} {theirs}", birth_date=_adult(dice, eldest), blind=dice.chance(0.03)))
    if children and dice.chance(0.08):
        born = _day(dice, taxpayers[0].birth_date.year - dice.between(21, 34))
        parent = Dependant(name=f"{others[count]} {family}", birth_date=born)
        children[-1] = Relative(facts=parent, relation="parent, no income")
    return Draft(dice=dice, status=status, taxpayers=taxpayers, relatives=children)


def _child(dice: Dice, name: str) -> Relative:
    kind, relation = dice.share(), "child"
    if kind < 0.08:  # around the edge: 17 on New Year's Eve, or a few days too young for that
        born = date(2007, 12, 28) + timedelta(days=dice.between(0, 8))
    elif kind < 0.75:
        born = _day(dice, dice.between(2008, 2023))
    elif kind < 0.9:
        born = _day(dice, dice.between(2006, 2007))
    else:
        born, relation = _day(dice, dice.between(2001, 2005)), "child, full-time student"
    return Relative(facts=Dependant(name=name, birth_date=born), relation=relation)


def _adult(dice: Dice, eldest: int | None) -> date:
    if eldest is None and dice.chance(0.12):
        return dice.pick((_day(dice, dice.between(1952, 1959)), date(1960, 1, 1), date(1960, 1, 2)))
    return _day(dice, dice.between(max(1961, eldest - 38), eldest - 20) if eldest else dice.between(1962, 1998))


def _day(dice: Dice, year: int) -> date:
    return date(year, 1, 1) + timedelta(days=dice.between(0, 364))


# Papers


def _add_w2s(draft: Draft, traits: set[str]) -> None:
    dice, status = draft.dice, draft.status
    workers = list(draft.taxpayers[: 1 if dice.chance(0.45) else 2])
    if "two jobs" in traits:
        workers.append(workers[0])

    least = EARNED_INCOME_CREDIT_ENDS[status][min(len(draft.relatives), 3)]
    if "deferral" in traits:
        least = max(least, SAVERS_CREDIT_ENDS[status])
    most = MOST_WAGES_WITH_TWO_JOBS if "two jobs" in traits else MOST_WAGES[status]
    total = dice.between(least + 2_000, min(least + 80_000, most))
    if dice.chance(0.12):
        total = dice.between(100_000, most)
    elif len(draft.relatives) > 1 and dice.chance(0.4):
        total = least + dice.between(1_000, 6_000)  # where the child tax credit exceeds the tax

    expected_tax = income_tax(max(0, total - standard_deduction(status, draft.taxpayers)), status)
    draft.employers = names.organisations(dice, names.TRADES, len(workers))
    numbers = {worker.name: names.ssn(dice) for worker in draft.taxpayers}
    for worker, employer, part in zip(workers, draft.employers, _parts(dice, len(workers)), strict=True):
        wages = _cents(dice, total * part)
        rate = max(0.02, expected_tax / total) * (0.8 + 0.45 * dice.share())
        deferral = Decimal(int(float(wages) * (0.02 + 0.06 * dice.share()))) if "deferral" in traits else Decimal(0)
        draft.w2s.append(
            W2Paper(
                facts=_w2(employer, worker.name, wages, withheld=_cents(dice, float(wages) * rate), deferral=deferral),
                ssn=numbers[worker.name],
                ein=names.ein(dice),
                control=str(dice.between(10_000, 99_999)),
                state=dice.pick(names.STATES),
                state_tax=_cents(dice, float(wages) * (0.03 + 0.02 * dice.share())),
                deferral=deferral,
                columns="columns" in traits or ("prose" in traits and dice.chance(0.4)),
                scanned="scanned" in traits,
            )
        )


def _w2(employer: str, employee: str, wages: Decimal, *, withheld: Decimal, deferral: Decimal) -> W2:
    medicare = wages + deferral
    social_security = min(medicare, SOCIAL_SECURITY_WAGE_BASE)
    return W2(
        employer=employer,
        employee=employee,
        box1=wages,
        box2=withheld,
        box3=social_security,
        box4=social_security * Decimal("0.062"),
        box5=medicare,
        box6=medicare * Decimal("0.0145"),
    )


def _add_interest(draft: Draft, traits: set[str]) -> None:
    dice = draft.dice
    count = (1 if dice.chance(0.5) else 0) + ("bank" in traits)
    if traits & {"exempt", "backup"}:
        count = max(count, 1)
    banks = names.organisations(dice, names.BANKS, count + 1)
    recipient = draft.taxpayers[0].name
    for place, bank in enumerate(banks[:count]):
        earned = _cents(dice, dice.between(12, 1_400) * (4 if dice.chance(0.1) else 1))
        withheld = earned * Decimal("0.24") if "backup" in traits and place == 0 else Decimal(0)
        draft.interest.append(
            InterestPaper(
                facts=Interest(payer=bank, box1=earned, box4=withheld),
                recipient=recipient,
                ssn=_ssn_of(draft, recipient),
                exempt=_cents(dice, dice.between(60, 900)) if "exempt" in traits and place == 0 else Decimal(0),
            )
        )
    if "small interest" in traits:
        facts = Interest(payer=banks[count], box1=Decimal(dice.between(2_00, 9_98)) * CENT)
        draft.small_interest = SmallInterest(facts=facts, recipient=recipient)


def _add_distractions(draft: Draft, traits: set[str]) -> None:
    dice = draft.dice
    first = draft.w2s[0]
    if "prior year" in traits:
        draft.prior_year = replace(first, facts=_scaled(first.facts, 0.9 + 0.08 * dice.share()), year=2023)
    if "copy" in traits:
        draft.copies.append(replace(first, copy="C"))
    if "correction" in traits:
        after = first.facts
        draft.w2s[0] = replace(first, facts=_scaled(after, 0.88 + 0.09 * dice.share()))
        draft.copies = [replace(draft.w2s[0], copy=paper.copy) for paper in draft.copies]
        draft.corrections.append(W2cPaper(before=draft.w2s[0], after=after))
    if dice.chance(0.15):
        raised = printed(Decimal(int(float(first.facts.box1 or 0) * (1.02 + 0.06 * dice.share()))))
        draft.letters.append(
            f"{first.facts.employer}\nDear {first.facts.employee},\nfrom January 1, 2025 your yearly salary is "
            f"${raised}. We thank you for your work."
        )


def _scaled(w2: W2, factor: float) -> W2:
    """A W-2 of the same job with all its pay smaller, each box still consistent with the others."""
    wages, medicare, withheld = ((amount or Decimal(0)) * Decimal(factor) for amount in (w2.box1, w2.box5, w2.box2))
    wages, medicare = wages.quantize(CENT), medicare.quantize(CENT)
    return _w2(w2.employer, w2.employee, wages, withheld=withheld, deferral=medicare - wages)


def _folder(draft: Draft, *, shuffled: bool) -> str:
    papers: list[W2Paper | W2cPaper | InterestPaper] = [*draft.w2s, *draft.copies, *draft.corrections, *draft.interest]
    if draft.prior_year:
        papers.append(draft.prior_year)
    scans = [("scan of a form", paper.text) for paper in papers]
    scans += [("letter", text) for text in draft.letters]
    if draft.small_interest:
        scans.append(("letter", draft.small_interest.text))
    return folder([("intake note", intake_note(draft)), *(draft.dice.shuffled(scans) if shuffled else scans)])


def _ssn_of(draft: Draft, name: str) -> str:
    return next(paper.ssn for paper in draft.w2s if paper.facts.employee == name)


def _parts(dice: Dice, count: int) -> Sequence[float]:
    """Uneven shares that make 1."""
    weights = [0.4 + dice.share() for _ in range(count)]
    return [weight / sum(weights) for weight in weights]


def _cents(dice: Dice, dollars: float) -> Decimal:
    """About `dollars`: three times in ten a round amount, as salaried people have."""
    whole = Decimal(int(dollars))
    return whole if dice.chance(0.3) else whole + Decimal(dice.between(1, 99)) * CENT
