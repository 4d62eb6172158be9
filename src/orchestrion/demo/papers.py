"""One paper at a time, as the text that a scanner would make of it."""

from dataclasses import dataclass
from decimal import Decimal

from orchestrion.demo.facts import W2, Interest

BOXES = {
    1: "Wages, tips, other compensation",
    2: "Federal income tax withheld",
    3: "Social security wages",
    4: "Social security tax withheld",
    5: "Medicare wages and tips",
    6: "Medicare tax withheld",
}
BOX_COLUMN = 44


@dataclass(frozen=True, kw_only=True)
class W2Paper:
    """A W-2 and what stands on it besides the facts."""

    facts: W2
    ssn: str
    ein: str
    control: str
    state: str
    state_tax: Decimal
    deferral: Decimal = Decimal(0)  # box 12, code D: why box 1 is less than boxes 3 and 5
    year: int = 2024
    copy: str = "B"
    columns: bool = False
    scanned: bool = False  # badly: letters stand where digits should
    smudged: frozenset[int] = frozenset()  # boxes that nobody can read

    @property
    def text(self) -> str:
        employer, employee = self.facts.employer, self.facts.employee
        head = [
            f"Form W-2 Wage and Tax Statement {self.year}    Copy {self.copy}",
            f"a Employee's social security number: {self.ssn}    b Employer identification number: {self.ein}",
            f"c Employer: {employer}    d Control number: {self.control}",
            f"e Employee: {employee}",
        ]
        boxes = [f"{number} {label}".ljust(BOX_COLUMN) + self._box(number) for number, label in BOXES.items()]
        if self.columns:
            boxes = [f"| {left:<60} | {right:<60} |" for left, right in zip(boxes[::2], boxes[1::2], strict=True)]
        if self.deferral:
            boxes.append("12a Code D (elective deferrals)".ljust(BOX_COLUMN) + printed(self.deferral))
        tail = [
            f"15 State {self.state}    16 State wages, tips, etc.".ljust(BOX_COLUMN) + self._box(1),
            "17 State income tax".ljust(BOX_COLUMN) + printed(self.state_tax),
        ]
        return "\n".join([*head, *boxes, *tail])

    def _box(self, number: int) -> str:
        amount = box(self.facts, number)
        if amount is None:
            raise ValueError(f"a paper needs its box {number}; smudge it to make it unreadable")
        text = printed(amount)
        if number in self.smudged:
            return smudge(text)
        return misread(text) if self.scanned else text


@dataclass(frozen=True, kw_only=True)
class W2cPaper:
    """A correction of an earlier W-2: the boxes that changed, before and after."""

    before: W2Paper
    after: W2

    @property
    def text(self) -> str:
        lines = [
            "Form W-2c Corrected Wage and Tax Statement    c Tax year/Form corrected: 2024 / W-2",
            f"a Employer: {self.after.employer}    b Employer identification number: {self.before.ein}",
            f"d Employee's correct social security number: {self.before.ssn}    h Employee: {self.after.employee}",
            " " * BOX_COLUMN + f"{'Previously reported':<22}Correct information",
        ]
        for number, label in BOXES.items():
            was, now = box(self.before.facts, number), box(self.after, number)
            if was is not None and now is not None and was != now:
                lines.append(f"{number} {label}".ljust(BOX_COLUMN) + f"{printed(was):<22}{printed(now)}")
        return "\n".join(lines)


@dataclass(frozen=True, kw_only=True)
class InterestPaper:
    """A Form 1099-INT."""

    facts: Interest
    recipient: str
    ssn: str
    exempt: Decimal = Decimal(0)  # box 8: not taxable, and a trap for a careless reader

    @property
    def text(self) -> str:
        amounts = [
            ("1 Interest income", self.facts.box1),
            ("4 Federal income tax withheld", self.facts.box4),
            ("8 Tax-exempt interest", self.exempt),
        ]
        return "\n".join(
            [
                "Form 1099-INT Interest Income    For calendar year 2024",
                f"PAYER: {self.facts.payer}",
                f"RECIPIENT: {self.recipient}    RECIPIENT'S TIN: {self.ssn}",
                *(label.ljust(BOX_COLUMN) + printed(amount) for label, amount in amounts if amount),
            ]
        )


def box(w2: W2, number: int) -> Decimal | None:
    return (w2.box1, w2.box2, w2.box3, w2.box4, w2.box5, w2.box6)[number - 1]


def printed(amount: Decimal) -> str:
    return f"{amount:,.2f}"


def misread(text: str) -> str:
    """What a bad scan makes of an amount: 12,400.00 → l2,4O0.00. The digits can still be told."""
    return text.replace("1", "l", 1).replace("0", "O", 1).replace("5", "S", 1)


def smudge(text: str) -> str:
    """What water makes of an amount: 52,310.45 → 5#,#1#.##. The digits cannot be told."""
    return "".join("#" if place % 3 and mark.isdigit() else mark for place, mark in enumerate(text))


def folder(papers: list[tuple[str, str]]) -> str:
    """Papers as (title, text), bound in this order with a heading for each page."""
    return "\n\n".join(
        f"=== page {page} of {len(papers)}: {title} ===\n{text}" for page, (title, text) in enumerate(papers, start=1)
    )
