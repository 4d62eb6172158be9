"""Near-JSON: what a model writes where it was asked for JSON."""

from __future__ import annotations

from orchestrion.domain import storable

LONGEST = 2**18
"""Characters: a second or two of mending at worst."""


def mend_json(text: str) -> str | None:
    """The JSON in a text that is nearly JSON: in a fence or within prose, with trailing commas, single quotes, comments …

    None where there is none, where its brackets do not close (what was cut off is not made up), where they are nested beyond
    all sense, and where it is so long that mending it would hold everything else up.
    """
    if len(text) > LONGEST:
        return None
    starts = [at for at in (text.find("{"), text.find("[")) if at >= 0]
    if not starts:
        return None
    inner = text[min(starts) : text.rfind("}" if text[min(starts)] == "{" else "]") + 1]
    if not _closes(inner):
        return None
    import json_repair  # 40 ms, and only an answer that is not JSON needs it

    try:
        return storable(json_repair.repair_json(inner, ensure_ascii=False)) or None
    except (ValueError, RecursionError):
        return None


def _closes(text: str) -> bool:
    """Whether every bracket outside double-quoted strings closes, the first one at the very end."""
    open_brackets: list[str] = []
    quoted = escaped = False
    for at, sign in enumerate(text):
        if escaped:
            escaped = False
        elif quoted:
            escaped, quoted = sign == "\\", sign != '"'
        elif sign == '"':
            quoted = True
        elif sign in "{[":
            open_brackets.append("}" if sign == "{" else "]")
        elif sign in "}]":
            if not open_brackets or open_brackets.pop() != sign:
                return False
            if not open_brackets:
                return at == len(text) - 1
    return False
