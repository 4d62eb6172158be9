"""Writes docs/reference/api.md from the public names' signatures and docstrings: `python docs/reference/make_api.py`.

With the standard library's `inspect` and `ast`. griffe's strength is docstrings in sections (Args:, Returns:); ours are
sentences, and say what a signature does not.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orchestrion
from orchestrion import errors, testing

WIDTH = 100
HEAD = """\
# Python

This page is made from signatures and docstrings by [make_api.py](make_api.py). Do not edit it by hand.

`from orchestrion import …` gives what stands under the first headings; [fakes for tests](#orchestriontesting) have a module of
their own. What a noun means: [glossary](../glossary.md). Settings as a file: [settings](../how-to/settings.md); in Python they
are `orchestrion.settings.Settings`, with the same keys.
"""
PARTS = {
    "App": ["Orchestrion", "Run"],
    "Steps and workflows": ["Step", "step", "workflow", "gather", "map", "wait_for"],
    "Policies": [
        "fixed",
        "cascade",
        "agreement",
        "router",
        "fallback",
        "corrected",
        "retried",
        "best_effort",
        "Policy",
    ],
    "Checks": ["matches", "length", "judge"],
    "Facts": ["Task", "Attempt", "Verdict"],
    "Errors": ["OrchestrionError", "StepFailed"],
}


def text() -> str:
    """The whole page."""
    lines = [HEAD]
    for part, names in PARTS.items():
        lines.append(f"## {part}\n")
        for name in names:
            lines += entry(name, getattr(orchestrion, name), level=3)
    tree = inspect.cleandoc(errors.__doc__ or "").split("\n\n")[1]
    lines.append(f"The tree of `orchestrion.errors`:\n\n```text\n{textwrap.dedent(tree)}\n```\n")
    lines.append("## orchestrion.testing\n")
    for name in testing.__all__:
        lines += entry(name, getattr(testing, name), level=3)
    return "\n".join(lines)


def entry(name: str, thing: Any, *, level: int) -> Iterator[str]:
    """A name: its heading, signature and docstring; of a class, its fields and public methods, too."""
    yield f"{'#' * level} `{name}`\n"
    yield f"```text\n{signature(name, thing)}\n```\n"
    yield f"{documentation(thing)}\n"
    if not inspect.isclass(thing):
        return
    for member, own in vars(thing).items():
        value = own.__func__ if isinstance(own, classmethod | staticmethod) else own
        if member.startswith("_") or not documentation(value):
            continue
        if isinstance(value, property) and value.fget:
            returns = ast.unparse(definition(value.fget).returns or ast.Constant(None))
            yield f"`.{member}: {returns}`: {documentation(value)}\n"
        elif inspect.isfunction(value):
            yield f"{'#' * (level + 1)} `{name}.{member}`\n"
            yield f"```text\n{signature(member, value)}\n```\n"
            yield f"{documentation(value)}\n"


def signature(name: str, thing: Any) -> str:
    """As it stands in the source; of a Struct, its fields; of another class, what it is made with."""
    if hasattr(thing, "__struct_fields__"):
        return _call(name, fields(thing), "")
    if inspect.isclass(thing):
        made = vars(thing).get("__init__")
        if not inspect.isfunction(made) or getattr(thing, "_is_protocol", False):
            return f"class {name}"
        return _call(name, parameters(definition(made)), "")
    node = definition(thing)
    returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    return _call(f"await {name}" if isinstance(node, ast.AsyncFunctionDef) else name, parameters(node), returns)


def fields(struct: Any) -> list[str]:
    """NAME: TYPE and default of each field, in their order."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(struct))).body[0]
    assert isinstance(tree, ast.ClassDef)  # noqa: S101  # it is the source of a class
    return [ast.unparse(node) for node in tree.body if isinstance(node, ast.AnnAssign)]


def definition(function: Any) -> ast.FunctionDef | ast.AsyncFunctionDef:
    """The syntax of a function, from its source."""
    node = ast.parse(textwrap.dedent(inspect.getsource(inspect.unwrap(function)))).body[0]
    assert isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)  # noqa: S101  # it is the source of a function
    return node


def parameters(node: ast.FunctionDef | ast.AsyncFunctionDef) -> list[str]:
    """Each as it is written, without self and cls."""
    args = node.args
    plain = [*args.posonlyargs, *args.args]
    defaults: list[ast.expr | None] = [None] * (len(plain) - len(args.defaults)) + list(args.defaults)
    found = [_one(arg, default) for arg, default in zip(plain, defaults, strict=True) if arg.arg not in ("self", "cls")]
    if args.vararg:
        found.append("*" + _one(args.vararg, None))
    elif args.kwonlyargs:
        found.append("*")
    found += [_one(arg, default) for arg, default in zip(args.kwonlyargs, args.kw_defaults, strict=True)]
    return found + (["**" + _one(args.kwarg, None)] if args.kwarg else [])


def _one(arg: ast.arg, default: ast.expr | None) -> str:
    annotated = f"{arg.arg}: {ast.unparse(arg.annotation)}" if arg.annotation else arg.arg
    return annotated if default is None else f"{annotated} = {ast.unparse(default)}"


def _call(name: str, items: list[str], returns: str) -> str:
    line = f"{name}({', '.join(items)}){returns}"
    if len(line) <= WIDTH:
        return line
    return f"{name}(\n" + "".join(f"    {item},\n" for item in items) + f"){returns}"


def documentation(thing: Any) -> str:
    """Its own docstring; of a class, with what its making says."""
    own = inspect.cleandoc(thing.__doc__) if getattr(thing, "__doc__", None) else ""
    made = vars(thing).get("__init__") if inspect.isclass(thing) else None
    more = inspect.cleandoc(made.__doc__) if inspect.isfunction(made) and made.__doc__ else ""
    return "\n\n".join(filter(None, (own, more)))


if __name__ == "__main__":
    Path(__file__).with_name("api.md").write_text(text(), encoding="utf-8")
