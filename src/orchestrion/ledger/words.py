"""What is said where a limit stands in the way of a call."""

from __future__ import annotations

from orchestrion.domain import NANOS_PER_DOLLAR, Money
from orchestrion.ledger.accounts import Unit, amount_text, limit_text
from orchestrion.ledger.protocol import Shortage

OPTIONS: dict[Unit, str] = {"money": "limit", "tokens": "tokens", "attention": "minutes"}
"""What a limit on a unit is called in the settings, and in the options of `budget set`."""


def missing(shortage: Shortage | None, *, asked: str, waited_s: float = 0.0, at_rest: bool = False) -> str:
    """Why calls cannot be made, and what would let them: with the command to type. ``at_rest``: what is held does not come
    back soon."""
    if shortage is None:
        return "money was short a moment ago, and is not any more: the same command goes on."
    now = waited_s > 0 or at_rest
    others = (one for one in shortage.others if now or one.needed > one.cap.amount)  # what other calls hold comes back
    limits = (shortage, *others)
    to_ask = f"Asking {asked}" if asked else "The next call"
    takes = dict.fromkeys(amount_text(one.cap.unit, one.asked) for one in limits)
    commands = [raise_command(one, one.needed_now if now else one.needed) for one in limits]
    return (
        f"{', and '.join(_state(one, waited_s) for one in limits)}. {to_ask} takes up to {' and '.join(takes)} more. "
        f"`{' && '.join(commands)}` lets it, then the same command goes on."
    )


def _state(shortage: Shortage, waited_s: float) -> str:
    """A limit, and what has been made of it."""
    unit = shortage.cap.unit
    window = f" ({shortage.span})" if shortage.span else ""
    held = f", {amount_text(unit, shortage.held)} held by other calls and open questions" if shortage.held else ""
    waited = f"; {waited_s:.0f} s were waited for that" if waited_s >= 1 and shortage.held else ""
    return (
        f"account '{shortage.account}' may spend {limit_text(shortage.cap)}: {amount_text(unit, shortage.settled)} spent{held}"
        f"{window}{waited}"
    )


def raise_command(shortage: Shortage, needed: int) -> str:
    """The command that raises a limit to what is needed."""
    value = _rounded(needed, shortage.cap.unit)
    shown = (
        _dollar_digits(value)
        if shortage.cap.unit == "money"
        else f"{value // 60 if shortage.cap.unit == 'attention' else value}"
    )
    return f"orchestrion budget set {shortage.account} --{OPTIONS[shortage.cap.unit]} {shown} --period {shortage.cap.period}"


def _rounded(value: int, unit: Unit) -> int:
    """Up to what is easy to read and type: three digits of a dollar amount or at least whole cents, two digits of tokens,
    whole minutes."""
    if unit == "attention":
        step = 60
    elif unit == "money" and value >= NANOS_PER_DOLLAR // 100:
        step = NANOS_PER_DOLLAR // 100
    else:
        step = 10 ** max(0, len(str(value)) - (2 if unit == "tokens" else 3))
    return -(-value // step) * step


def _dollar_digits(value: Money) -> str:
    """Dollars as a plain number, without an exponent: "1.04", "0.00064"."""
    whole, nanos = divmod(value, NANOS_PER_DOLLAR)
    digits = f"{nanos:09d}".rstrip("0")
    return f"{whole}.{digits.ljust(2, '0')}"
