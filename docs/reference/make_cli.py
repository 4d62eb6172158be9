"""Writes docs/reference/cli.md from the commands' own --help: `python docs/reference/make_cli.py`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click

from orchestrion.cli import cli

WIDTH = 80
HEAD = """\
# Command line

This page is made from the commands' own `--help` by [make_cli.py](make_cli.py). Do not edit it by hand.

Exit status: 0 done, 1 the work failed, 2 wrong usage or input. `--json` prints one JSON object on stdout and nothing
else there; progress and notes go to stderr.
"""


def pages(command: click.Command, path: tuple[str, ...], parent: click.Context | None) -> Iterator[str]:
    """The help of a command and of everything below it."""
    settings = {**command.context_settings, "terminal_width": WIDTH, "max_content_width": WIDTH}
    context = click.Context(command, parent=parent, info_name=path[-1], **settings)
    yield f"## {' '.join(path)}\n\n```text\n{command.get_help(context).rstrip()}\n```\n"
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            if below and not below.hidden:
                yield from pages(below, (*path, name), context)


def text() -> str:
    """The whole page."""
    return "\n".join([HEAD, *pages(cli, ("orchestrion",), None)])


if __name__ == "__main__":
    Path(__file__).with_name("cli.md").write_text(text(), encoding="utf-8")
