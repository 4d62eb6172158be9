"""A household while it is being drawn: its people and its papers."""

from dataclasses import dataclass, field
from decimal import Decimal

from orchestrion.demo.cases import Decoys
from orchestrion.demo.dice import Dice
from orchestrion.demo.facts import W2, Dependant, Facts, FilingStatus, Interest, Taxpayer
from orchestrion.demo.papers import InterestPaper, W2cPaper, W2Paper, box, printed


@dataclass(frozen=True, kw_only=True)
class Relative:
    """A dependant, and what the client says about him or her."""

    facts: Dependant
    relation: str


@dataclass(frozen=True, kw_only=True)
class SmallInterest:
    """Interest below $10: taxable, but the payer owes no form, only writes."""

    facts: Interest
    recipient: str

    @property
    def text(self) -> str:
        return (
            f"{self.facts.payer}\nDear {self.recipient},\nin 2024 we credited ${printed(self.facts.box1)} of interest "
            "to your savings account. Because this is less than $10.00 we issue no Form 1099-INT. The interest is "
            "taxable all the same."
        )


@dataclass(kw_only=True)
class Draft:
    dice: Dice
    status: FilingStatus
    taxpayers: list[Taxpayer]
    relatives: list[Relative]
    w2s: list[W2Paper] = field(default_factory=list)
    copies: list[W2Paper] = field(default_factory=list)
    corrections: list[W2cPaper] = field(default_factory=list)
    prior_year: W2Paper | None = None
    interest: list[InterestPaper] = field(default_factory=list)
    small_interest: SmallInterest | None = None
    letters: list[str] = field(default_factory=list)
    employers: list[str] = field(default_factory=list)  # as the client names them, whether or not a W-2 came
    spouse_in_passing: str = ""  # a spouse whom somebody "single" mentions
    prose: bool = False
    missing: list[str] = field(default_factory=list)

    @property
    def facts(self) -> Facts:
        """The truth about these papers."""
        interest = [paper.facts for paper in self.interest]
        if self.small_interest:
            interest.append(self.small_interest.facts)
        return Facts(
            filing_status=self.status,
            taxpayers=tuple(self.taxpayers),
            dependants=tuple(relative.facts for relative in self.relatives),
            w2s=tuple(map(self._legible, self.w2s)),
            interest=tuple(interest),
            missing=tuple(self.missing),
        )

    @property
    def decoys(self) -> Decoys:
        return Decoys(
            prior_year=self.prior_year.facts if self.prior_year else None,
            before_correction=self.corrections[0].before.facts if self.corrections else None,
            state_tax=tuple(paper.state_tax for paper in self.w2s),
            exempt_interest=(self.interest[0].exempt or None) if self.interest else None,
        )

    def _legible(self, paper: W2Paper) -> W2:
        for correction in self.corrections:
            if correction.before is paper:
                return correction.after
        read: dict[str, Decimal | None] = {
            f"box{number}": None if number in paper.smudged else box(paper.facts, number) for number in range(1, 7)
        }
        return paper.facts.model_copy(update=read)
