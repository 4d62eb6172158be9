"""How often the simulated models err, what they cost, and how long they take.

These numbers are assumptions of the demo, not measurements of any model.
"""

from dataclasses import dataclass

from orchestrion.demo.cases import Difficulty


@dataclass(frozen=True)
class ErrorRate:
    first: float  # share of answers that lead to a wrong end
    corrected: float  # the same, once a check has told the model what is wrong


@dataclass(frozen=True)
class AuditRate:
    catches: float  # share of wrong facts that the auditor objects to
    false_alarm: float  # share of right facts that it objects to


ERROR_RATES: dict[str, dict[Difficulty, ErrorRate]] = {
    "cheap": {
        "easy": ErrorRate(first=0.06, corrected=0.02),
        "medium": ErrorRate(first=0.25, corrected=0.10),
        "hard": ErrorRate(first=0.55, corrected=0.30),
    },
    "frontier": {
        "easy": ErrorRate(first=0.01, corrected=0.003),
        "medium": ErrorRate(first=0.04, corrected=0.015),
        "hard": ErrorRate(first=0.12, corrected=0.05),
    },
}

AUDIT_RATES: dict[str, dict[Difficulty, AuditRate]] = {
    "cheap": {
        "easy": AuditRate(catches=0.70, false_alarm=0.03),
        "medium": AuditRate(catches=0.55, false_alarm=0.06),
        "hard": AuditRate(catches=0.35, false_alarm=0.12),
    },
    "frontier": {
        "easy": AuditRate(catches=0.97, false_alarm=0.004),
        "medium": AuditRate(catches=0.93, false_alarm=0.01),
        "hard": AuditRate(catches=0.85, false_alarm=0.03),
    },
}

# How errors divide among the kinds in errors.py, where a household's papers allow them.
ERROR_KINDS: dict[str, float] = {
    "transposed_digits": 3.0,
    "dropped_digit": 1.5,
    "box_3_for_box_1": 2.0,
    "state_tax_for_federal": 1.0,
    "missed_w2": 3.0,
    "prior_year_w2_used": 3.0,
    "correction_ignored": 3.0,
    "missed_dependant": 2.0,
    "wrong_birth_year": 1.5,
    "siblings_mixed_up": 1.0,
    "wrong_filing_status": 1.5,
    "missed_interest": 1.0,
    "exempt_interest_taken": 1.5,
    "missed_interest_withholding": 1.5,
    "gap_filled": 4.0,
    "gap_invented": 0.5,
    "broken_json": 0.7,
}

# Dollars per million tokens, (input, output). Assumed: what OpenAI lists for gpt-5.4-nano and gpt-5.4 (up to 272,000
# tokens of input) in genai-prices' table of 2026. Nothing is charged: the demo's dollars are as simulated as its models.
PRICES: dict[str, tuple[float, float]] = {
    "cheap": (0.20, 1.25),
    "frontier": (2.50, 15.00),
}

# Seconds an answer takes, from and to: short, so that nobody waits for a rehearsal.
SECONDS: dict[str, tuple[float, float]] = {
    "cheap": (0.20, 0.50),
    "frontier": (0.50, 0.90),
}
