"""What the shell may offer: runs and batches of the database, names of the settings, workflows of the files here.

Functions for click's ``shell_complete``. They only look: nothing is created, no file of the user's is executed, and where
something cannot be read there is nothing to offer.
"""

from __future__ import annotations

import ast
import os
from collections.abc import Callable, Iterable, Iterator
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.shell_completion import CompletionItem

from orchestrion.store.queries import queries

if TYPE_CHECKING:
    from orchestrion.settings import Settings

Completer = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]
MOST = 50


def _offered(values: Callable[[click.Context, str], Iterable[str]]) -> Completer:
    """Those of the values that begin as what was typed."""

    @wraps(values)
    def complete(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[CompletionItem]:
        try:
            return [CompletionItem(value) for value in values(ctx, incomplete) if value.startswith(incomplete)]
        except Exception:
            return []  # a person is typing: no place for an error

    return complete


def _settings(ctx: click.Context) -> Settings:
    from orchestrion.settings import read_settings  # 80 ms, and --help does without

    return read_settings(ctx.params.get("config"))


def _column(ctx: click.Context, query: str, incomplete: str) -> list[str]:
    """Texts from the database of the settings, if it is there."""
    import apsw

    path = _settings(ctx).database_path
    if path is None or not path.exists():
        return []
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)  # a WAL needs it, also to read
    try:
        statement = queries("journal")[query]
        return [str(row[0]) for row in connection.execute(statement, {"begin": incomplete, "most": MOST})]
    finally:
        connection.close()


@_offered
def run_ids(ctx: click.Context, incomplete: str) -> Iterable[str]:
    """Newest first."""
    return _column(ctx, "complete_run", incomplete)


@_offered
def batches(ctx: click.Context, incomplete: str) -> Iterable[str]:
    """Newest first."""
    return _column(ctx, "complete_batch", incomplete)


@_offered
def accounts(ctx: click.Context, incomplete: str) -> Iterable[str]:
    """Accounts of the books, else of the settings."""
    return _column(ctx, "complete_account", incomplete) or _settings(ctx).budgets


@_offered
def models(ctx: click.Context, incomplete: str) -> Iterable[str]:
    """Names of the settings' models."""
    return _settings(ctx).models


@_offered
def listed_models(ctx: click.Context, incomplete: str) -> Iterable[str]:
    """The next name of a list with commas."""
    before, comma, _ = incomplete.rpartition(",")
    return [f"{before}{comma}{name}" for name in _settings(ctx).models if name not in before.split(",")]


@_offered
def policies(ctx: click.Context, incomplete: str) -> Iterable[str]:
    """Names of the settings' policies; where the command has a workflow, for each step of its file: STEP=NAME."""
    names = list(_settings(ctx).policies)
    # An option that still lacks its value ends click's parsing: the arguments before it are left in ctx.args.
    target = ctx.params.get("target") or next((word for word in ctx.args if ".py" in word), None)
    steps = list(_steps(Path(target.rpartition(":")[0] or target))) if target else []
    return names if len(steps) < 2 else [f"{step}={name}" for step in steps for name in names]


def workflows(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """FILE.py:NAME for the files of the folder that is being typed; files, where none of them has a workflow."""
    typed = incomplete.partition(":")[0]
    folder, prefix = os.path.split(typed)
    files = sorted(Path(folder or ".").glob("*.py"))[:MOST]
    found = [
        CompletionItem(f"{os.path.join(folder, file.name)}:{name}")
        for file in files
        if file.name.startswith(prefix)
        for name in _workflows(file)
    ]
    return [one for one in found if one.value.startswith(incomplete)] or [CompletionItem(incomplete, type="file")]


def _workflows(file: Path) -> Iterator[str]:
    """Functions under @workflow."""
    for node in _body(file):
        if isinstance(node, ast.AsyncFunctionDef) and any(_named(one, "workflow") for one in node.decorator_list):
            yield node.name


def _steps(file: Path) -> Iterator[str]:
    """What the steps of a file are called: NAME = Step("this", …)."""
    for node in _body(file):
        call = node.value if isinstance(node, ast.Assign) else None
        if isinstance(call, ast.Call) and _named(call.func, "Step") and call.args:
            name = call.args[0]
            if isinstance(name, ast.Constant):
                yield str(name.value)


def _body(file: Path) -> list[ast.stmt]:
    try:
        return ast.parse(file.read_bytes()).body
    except (OSError, SyntaxError, ValueError):
        return []


def _named(node: ast.expr, name: str) -> bool:
    return (isinstance(node, ast.Name) and node.id == name) or (isinstance(node, ast.Attribute) and node.attr == name)
