"""orchestrion init DIR"""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import click

from orchestrion.errors import UsageError

# File of the package → its place in the new project.
FILES = {
    "orchestrion.yaml": "orchestrion.yaml",
    "workflow.py": "workflow.py",
    "tasks.jsonl": "tasks.jsonl",
    "answers.jsonl": "answers.jsonl",
    "careful.json": "policies/careful.json",
    "gitignore": ".gitignore",
}


@click.command("init")
@click.argument("folder", metavar="DIR", type=click.Path(file_okay=False, path_type=Path))
def command(folder: Path) -> None:
    """Write a small working project into DIR: settings, a workflow of two steps, ten tasks, simulated models."""
    there = [name for name in FILES.values() if (folder / name).exists()]
    if there:
        raise UsageError(f"{folder} has {', '.join(there)} already, and nothing is overwritten. Name another folder.")
    source = resources.files("orchestrion.cli").joinpath("project")
    try:
        for file, place in FILES.items():
            target = folder / place
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(source.joinpath(file).read_bytes())
    except OSError as error:
        raise UsageError(f"{folder} cannot be written: {error.strerror or error}.") from None
    click.echo(f"A project is in {folder}/. Its models are simulated: no key, no network, no bill. Try:\n")
    for line in (
        *([f"cd {folder}"] if folder.resolve() != Path.cwd().resolve() else []),
        "orchestrion run workflow.py:support tasks.jsonl --dry-run",
        "orchestrion run workflow.py:support tasks.jsonl",
        "orchestrion runs show support:tasks/ticket-01",
        "orchestrion outcomes export outcomes.jsonl",
    ):
        click.echo(f"  {line}")
    click.echo("\nThen put real models into orchestrion.yaml: it says how.")
