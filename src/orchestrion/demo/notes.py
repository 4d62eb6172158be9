"""The client's intake note: a filled-in form, or a letter in the client's own words."""

from datetime import date

from orchestrion.demo.draft import Draft, Relative
from orchestrion.demo.facts import FilingStatus, Taxpayer

MONTHS = ("January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
          "December")  # fmt: skip


def intake_note(draft: Draft) -> str:
    return _prose(draft) if draft.prose else _form(draft)


def _form(draft: Draft) -> str:
    first, *spouse = draft.taxpayers
    blind = [person.name for person in draft.taxpayers if person.blind]
    lines = [
        "CLIENT INTAKE FORM, tax year 2024",
        f"Filing status: {draft.status.words}",
        f"Taxpayer: {first.name}, born {first.birth_date.isoformat()}",
        *(f"Spouse: {person.name}, born {person.birth_date.isoformat()}" for person in spouse),
        *([f"Spouse: {draft.spouse_in_passing}, lives with me"] if draft.spouse_in_passing else []),
        f"Legally blind: {', '.join(blind) or 'nobody'}",
        f"Worked in 2024 for: {'; '.join(draft.employers)}",
        f"Interest from: {'; '.join(_payers(draft)) or 'nobody'}",
        "Dependants:",
        *([_form_line(relative) for relative in draft.relatives] or ["- nobody"]),
        "Other income, benefits, sales of shares: none",
    ]
    return "\n".join(lines)


def _form_line(relative: Relative) -> str:
    born = relative.facts.birth_date
    return f"- {relative.facts.name} ({relative.relation}), born {born.isoformat() if born else '(left empty)'}"


def _prose(draft: Draft) -> str:
    first, *spouse = draft.taxpayers
    sentences = [f"Hello, here are our papers for 2024. I am {first.name}, born {_long(first.birth_date)}."]
    sentences += [_marriage(draft, spouse), *map(_relative, draft.relatives)]
    sentences += [f"{person.name} is legally blind." for person in draft.taxpayers if person.blind]
    sentences.append(f"The year's pay came from {' and '.join(draft.employers)}.")
    if payers := _payers(draft):
        sentences.append(f"There was some interest from {' and '.join(payers)}.")
    sentences.append("There was no other income, and no benefits. Thank you!")
    return "\n".join(sentences)


def _marriage(draft: Draft, spouse: list[Taxpayer]) -> str:
    if spouse:
        return f"My spouse {spouse[0].name}, born {_long(spouse[0].birth_date)}, and I file together, as every year."
    if draft.spouse_in_passing:
        return (
            f"I would like to file as {draft.status.words}. My spouse {draft.spouse_in_passing} and I moved to a "
            "bigger flat in March."
        )
    if draft.status is FilingStatus.HEAD_OF_HOUSEHOLD:
        return "I am not married, and I pay for our home on my own."
    return "I am not married, and nobody depends on me."


def _relative(relative: Relative) -> str:
    person = relative.facts
    if person.birth_date is None:
        return f"{person.name} is my {relative.relation} and lived with me all year."
    return f"{person.name}, my {relative.relation}, born {_long(person.birth_date)}, lived with me all year."


def _payers(draft: Draft) -> list[str]:
    papers = [paper.facts.payer for paper in draft.interest]
    return [*papers, draft.small_interest.facts.payer] if draft.small_interest else papers


def _long(day: date) -> str:
    # Not strftime: its month names follow the locale of the machine.
    return f"{MONTHS[day.month - 1]} {day.day}, {day.year}"
