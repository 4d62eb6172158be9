"""orchestrion init DIR"""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import click

from orchestrion.cli.output import examples, note, output_options, result
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

NEXT = {
    "orchestrion run workflow.py:support tasks.jsonl --dry-run": "the most that it can cost; spends nothing",
    "orchestrion run workflow.py:support tasks.jsonl": "ten support tickets, by simulated models",
    "orchestrion runs show support:tasks/ticket-02": "who was asked, what the checks said, what it cost",
    "orchestrion budget show": "what may be spent, what was, and what is left",
    "orchestrion report": "one page about it, for a browser",
    "orchestrion outcomes export outcomes.jsonl": "every answer as evidence, for `orchestrion replay`",
}


@click.command(
    "init",
    epilog=examples("orchestrion init my-project && cd my-project", "orchestrion run workflow.py:support tasks.jsonl"),
)
@click.argument("folder", metavar="DIR", type=click.Path(file_okay=False, path_type=Path))
@output_options
def command(folder: Path, *, as_json: bool) -> None:
    """Write a small working project into DIR: settings, a workflow of two steps, ten tasks, simulated models.

    Nothing that is there already is overwritten.
    """
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
    result(
        [f"A project is in {folder}/. Its models are simulated: no key, no network, no bill."],
        lambda: {"folder": str(folder), "files": list(FILES.values())},
        as_json=as_json,
    )
    if not as_json:
        _say_next(folder)


def _say_next(folder: Path) -> None:
    note("Try:\n")
    if folder.resolve() != Path.cwd().resolve():
        note(f"  cd {folder}")
    for command_line, meaning in NEXT.items():
        note(f"  {command_line}\n      {meaning}")
    note("\nThen put real models into orchestrion.yaml: it says how, and where their key goes.")
