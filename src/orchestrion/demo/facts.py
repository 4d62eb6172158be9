"""What a household's papers say, once somebody has read them."""

from datetime import date
from decimal import ROUND_HALF_UP, Decimal
from enum import StrEnum
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

CENT = Decimal("0.01")


def _as_printed(value: Any) -> Any:
    """Models copy amounts as they stand on paper: `$52,310.45`."""
    return value.replace(",", "").replace("$", "").strip() if isinstance(value, str) else value


def _two_places(value: Decimal) -> Decimal:
    return value.quantize(CENT, ROUND_HALF_UP)


Amount = Annotated[
    Decimal,
    BeforeValidator(_as_printed),
    Field(ge=0, lt=10_000_000),
    AfterValidator(_two_places),
    # A string in JSON, so that no float ever stands between the paper and the return.
    WithJsonSchema({"type": "string", "pattern": r"^\d+\.\d{2}$", "description": "dollars and cents: 52310.45"}),
]


class FilingStatus(StrEnum):
    SINGLE = "single"
    JOINT = "married_filing_jointly"
    HEAD_OF_HOUSEHOLD = "head_of_household"

    @property
    def words(self) -> str:
        """As a person writes it: `head of household`."""
        return self.value.replace("_", " ")


class Fact(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Taxpayer(Fact):
    name: str
    birth_date: date
    blind: bool = False


class Dependant(Fact):
    name: str
    birth_date: date | None = Field(description="null if no paper gives it")


class W2(Fact):
    """One Form W-2 for 2024, after any W-2c. A box that cannot be read is null."""

    employer: str
    employee: str
    box1: Amount | None = Field(description="wages, tips, other compensation")
    box2: Amount | None = Field(description="federal income tax withheld")
    box3: Amount | None = Field(description="social security wages")
    box4: Amount | None = Field(description="social security tax withheld")
    box5: Amount | None = Field(description="Medicare wages and tips")
    box6: Amount | None = Field(description="Medicare tax withheld")


class Interest(Fact):
    """Taxable interest from one payer: a Form 1099-INT, or a letter where the payer owes no form."""

    payer: str
    box1: Amount = Field(description="interest income")
    box4: Amount = Field(default=Decimal("0.00"), description="federal income tax withheld")


class Facts(Fact):
    """What the papers say about tax year 2024, and what they fail to say (`missing`)."""

    filing_status: FilingStatus
    taxpayers: tuple[Taxpayer, ...] = Field(min_length=1, max_length=2)
    dependants: tuple[Dependant, ...] = ()
    w2s: tuple[W2, ...] = ()
    interest: tuple[Interest, ...] = ()
    missing: tuple[str, ...] = Field(
        default=(), description="one sentence for each paper that is missing or unreadable, or that contradicts another"
    )
