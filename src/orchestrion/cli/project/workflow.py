"""Support tickets: read each one, then draft an answer."""

import re
from typing import Literal

from pydantic import BaseModel

from orchestrion import Step, Task, cascade, corrected, workflow


class Ticket(BaseModel):
    subject: str
    body: str


class Triage(BaseModel):
    topic: Literal["delivery", "refund", "damage", "question"]
    order: str
    urgent: bool


class Answer(BaseModel):
    triage: Triage
    draft: str


def order_stands_in_ticket(triage: Triage, task: Task) -> str | None:
    """A check sees the answer and the task, never the truth. What it returns is why the answer is refused."""
    ticket: Ticket = task.input
    if triage.order not in ticket.subject + ticket.body:
        return f"order {triage.order!r} does not stand in the ticket"
    return None


def draft_names_the_order(draft: str, task: Task) -> str | None:
    order = re.search(r"A-\d{4}", str(task.input))
    return (
        None
        if order and order[0] in draft and draft.endswith(".")
        else "the draft must name the order and end in a full stop"
    )


# A cheap worker first; told what a check found, it may try once more; then the frontier.
triage = Step(
    "triage",
    "Read the support ticket. Say its topic, the order it is about, and whether it is urgent.",
    output=Triage,
    checks=[order_stands_in_ticket],
    policy=cascade(corrected("cheap"), "frontier"),
)

draft = Step(
    "draft",
    "Draft a short, friendly answer to the ticket. Name the order.",
    checks=[draft_names_the_order],
    policy=cascade("cheap", "frontier"),
)


@workflow
async def support(ticket: Ticket) -> Answer:
    read = await triage(ticket)
    text = await draft({"ticket": ticket.model_dump(), "triage": read.model_dump()})
    return Answer(triage=read, draft=text)
