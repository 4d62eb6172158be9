"""orchestrion budget spent"""

from __future__ import annotations

import click

from orchestrion.cli.spent import spent


@click.group("budget")
def command() -> None:
    """Money: who spent what."""


command.add_command(spent)
