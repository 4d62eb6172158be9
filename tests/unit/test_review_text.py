"""What a person reads before they decide: everything that is there, and the whole form of an answer."""

from __future__ import annotations

from typing import Literal

import pytest
from pydantic import BaseModel, TypeAdapter

from orchestrion.cli.review_text import request_lines
from orchestrion.review.requests import Decision, ReviewRequest, Shown

BOLD, PLAIN = "\x1b[1m", "\x1b[0m"  # what the command itself sends


class Item(BaseModel):
    sku: str
    count: int = 1


class Order(BaseModel):
    kind: Literal["order"]
    items: list[Item]


def lines(task: str = "text", output: type = str, **more) -> list[str]:
    schema = None if output is str else TypeAdapter(output).json_schema()
    shown = Shown(step="s", instructions="", task=task, answers=(), proposal=None, schema=schema)
    request = ReviewRequest(
        hold=1 << 32 | 1,
        run_id="r",
        task_id="t",
        workflow="w",
        run_status="waiting",
        key="s#0",
        worker="team",
        wage=0,
        minutes=1,
        digest=shown.digest,
        shown=shown,
        asked=0.0,
        deadline=None,
        state="open",
        **more,
    )
    return [line.replace(BOLD, "").replace(PLAIN, "") for line in request_lines(request)]


@pytest.mark.parametrize("hidden", ["\x1b", "\u202e", "\u200b", "\xad", "\u061c", "\u3164", "\U000e0041"])
def test_nothing_hides_from_the_reader(hidden):
    decision = Decision(kind="reject", by=f"ana{hidden}", at=0.0, minutes=1, cost=0, text=f"no{hidden}")
    said = "\n".join(lines(f"pay{hidden}ment", decision=decision, information=f"so{hidden}", informant="owner"))
    assert hidden not in said
    assert said.count(f"\\u{ord(hidden):04x}") == 4


def test_what_has_to_be_read_stays_readable():
    assert "  می‌خواهم 👩‍👧 naïve" in lines("می‌خواهم 👩‍👧 naïve")


def test_the_form_of_an_answer_shows_the_types_within_it():
    said = lines(output=Order)
    at = said.index("an answer has this form")
    assert said[at + 1 : at + 6] == [
        "  kind: order",
        "  items: list of Item",
        "  Item:",
        "    sku: string",
        "    count: integer (may be left out)",
    ]
