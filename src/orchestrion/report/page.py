"""The page: one file, readable without a network. Its policy allows no script and nothing from elsewhere."""

from __future__ import annotations

import base64
import hashlib
import re
import shlex
import time
from collections.abc import Sequence
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any, TypeVar

from orchestrion.domain import dollars, storable
from orchestrion.report.facts import Report

if TYPE_CHECKING:
    from jinja2 import Environment

LISTED = 10
"""So many tasks, runs or rows are listed; the page says how many more there are, and which command lists all."""

REASON = 280
CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
"""Control characters, and those that turn the direction of the text around them."""

T = TypeVar("T")


def render(report: Report) -> str:
    """The report as HTML."""
    return fill("page.html.j2", report=report)


def fill(template: str, **facts: Any) -> str:
    """A page of these facts. Texts of models and users are escaped, whatever is in them."""
    css = resources.files("orchestrion.report").joinpath("templates", "page.css").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(css.encode()).digest()).decode()
    return _templates().get_template(template).render(**facts, css=css, style_digest=digest)


@cache
def _templates() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined  # 40 ms, and only this page needs it

    from orchestrion.report import plots, scatter, words

    environment = Environment(
        loader=PackageLoader("orchestrion.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_clean,
    )
    environment.globals |= {"plots": plots, "scatter": scatter, "words": words, "LISTED": LISTED}
    environment.filters |= {
        "dollars": dollars,
        "percent": words.percent,
        "day": _day,
        "span": _span,
        "cut": _cut,
        "some": _some,
        "shell": shlex.quote,
        "short": words.short,
    }
    return environment


def _clean(value: Any) -> Any:
    """Texts and drawings without what could change the page around them."""
    return type(value)(CONTROLS.sub("", storable(value))) if isinstance(value, str) else value


def _cut(text: str, most: int = REASON) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= most else f"{flat[: most - 1]}…"


def _some(many: Sequence[T]) -> Sequence[T]:
    return many[:LISTED]


def _span(began: float, until: float) -> str:
    first, last = _day(began), _day(until)
    day, _, hour = last.rpartition(", ")
    if first == last:
        return first
    return f"{first.removesuffix(' UTC')} to {hour if first.startswith(day) else last}"


def _day(at: float) -> str:
    return time.strftime("%-d %B %Y, %H:%M UTC", time.gmtime(at))
