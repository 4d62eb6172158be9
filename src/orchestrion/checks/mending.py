"""Near-JSON: what a model writes where it was asked for JSON."""

from __future__ import annotations


def mend_json(text: str) -> str | None:
    """The JSON in a text that is nearly JSON: in a fence or within prose, with trailing commas, single quotes, comments …

    None where there is none, or where its brackets do not close: what was cut off is not made up.
    """
    starts = [at for at in (text.find("{"), text.find("[")) if at >= 0]
    if not starts:
        return None
    inner = text[min(starts) : text.rfind("}" if text[min(starts)] == "{" else "]") + 1]
    if not _closes(inner):
        return None
    import json_repair  # 40 ms, and only an answer that is not JSON needs it

    return json_repair.repair_json(inner, ensure_ascii=False) or None


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
