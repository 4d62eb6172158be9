"""Small cards for notebooks: what ``_repr_html_`` of runs, policies and outcomes shows. Escaped, light and dark.

Without a template engine, so that the facts that use it stay as light as they are.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

SHOWN = 2_000
"""A longer text is cut."""

STYLE = (
    "<style>.orchestrion{font:13px/1.5 system-ui,sans-serif;color:#1c2125;background:#fdfcfa;border:1px solid #dedbd3;border-radius:4px;"
    "padding:.6em .9em;max-width:60em;overflow:auto;overflow-wrap:anywhere}"
    ".orchestrion b{font-weight:600}.orchestrion i{font-style:normal;color:#586168}"
    ".orchestrion table{border-collapse:collapse;margin-top:.4em}"
    ".orchestrion td,.orchestrion th{text-align:left;vertical-align:top;padding:.15em 1.2em .15em 0;background:none}"
    ".orchestrion th{font-weight:400;color:#586168}"
    ".orchestrion pre{margin:.4em 0 0;white-space:pre-wrap;background:none;color:inherit;font-size:12px}"
    "@media(prefers-color-scheme:dark){.orchestrion{color:#e7e5df;background:#14171a;border-color:#343b41}"
    ".orchestrion i,.orchestrion th{color:#a4adb3}}</style>"
)


def card(title: str, *facts: str, text: str | None = None, table: str = "") -> str:
    """A titled box: facts beside the title, a table, a text below."""
    beside = "".join(f" <i>·</i> {_said(fact)}" for fact in facts if fact)
    below = f"<pre dir=auto>{escape(_cut(text))}</pre>" if text else ""
    return f"{STYLE}<div class=orchestrion><b>{_said(title)}</b>{beside}{table}{below}</div>"


def rows(heads: Sequence[str], lines: Iterable[Sequence[object]]) -> str:
    """A table; None is shown as a dash."""
    head = "".join(f"<th>{escape(name)}</th>" for name in heads)
    body = "".join(
        "<tr>" + "".join(f"<td>{'–' if cell is None else _said(str(cell))}</td>" for cell in line) + "</tr>"
        for line in lines
    )
    return f"<table><tr>{head}</tr>{body}</table>"


def _said(text: str) -> str:
    return f"<bdi dir=auto>{escape(_cut(text))}</bdi>"


def _cut(text: str) -> str:
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"
