"""What commands read: workflows from Python files, and tasks from JSONL."""

from __future__ import annotations

import importlib.util
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import msgspec

from orchestrion.app import Orchestrion, as_workflow
from orchestrion.checks.judge import Judge
from orchestrion.checks.rules import read_judge
from orchestrion.domain import Money, dollars
from orchestrion.engine.step import Step
from orchestrion.engine.workflow import Workflow
from orchestrion.errors import RecordsError, StoreError, TasksError, WorkflowError
from orchestrion.evidence.records import opened
from orchestrion.settings import Settings, nearest, read_settings

config_option = click.option(
    "--config",
    type=click.Path(dir_okay=False),
    help="Settings file (default: $ORCHESTRION_CONFIG, else orchestrion.yaml here).",
)

account_option = click.option(
    "--account",
    metavar="NAME",
    help="The account that pays (default: `account` in the settings; where no accounts are kept, none is needed).",
)


def money(settings: Settings) -> Callable[[Money], str]:
    """How dollars are shown: those of simulated models say so."""
    mark = " (simulated)" if settings.simulated else ""
    return lambda amount: dollars(amount) + mark


def open_existing(config: str | None) -> Orchestrion:
    """The app on a database that is there: to look at runs makes no new one. Raises StoreError."""
    settings = read_settings(config)
    path = settings.database_path
    if path is not None and not path.exists():
        raise StoreError(
            f"there is no database {path} yet: `orchestrion run FILE:WORKFLOW TASKS.jsonl` makes it. (--config names other settings.)"
        )
    return Orchestrion.open(settings)


def load_workflow(target: str) -> Workflow[Any]:
    """The workflow, or step, that FILE:NAME names. Raises WorkflowError."""
    file_name, _, name = target.rpartition(":") if ":" in target else (target, "", "")
    path = Path(file_name)
    if not path.is_file():
        raise WorkflowError(f"there is no file {file_name}. Name the workflow as FILE.py:NAME.")
    found = {key: value for key, value in vars(_import(path)).items() if isinstance(value, Workflow | Step)}
    workflows = [key for key, value in found.items() if isinstance(value, Workflow)]
    if not name and len(workflows) == 1:
        name = workflows[0]
    if name not in found:
        if not found:
            raise WorkflowError(f"{path} has no workflow in it: an async function under @workflow.")
        asked = f"no workflow or step '{name}'" if name else "several workflows"
        raise WorkflowError(
            f"{path} has {asked}.{nearest(name, workflows or found) if name else f' Name one of them, {path}:NAME: ' + ', '.join(workflows or found) + '.'}"
        )
    flow = as_workflow(found[name])
    flow.ref = f"{path}:{name}"
    return flow


def load_judge(target: str) -> tuple[Judge, str]:
    """The judge in FILE.json or FILE.py:NAME, and the instructions of the step that it is a check of ("" for a judge
    alone). Raises PolicyError and WorkflowError."""
    if target.endswith(".json"):
        return read_judge(Path(target)), ""
    file_name, _, name = target.rpartition(":") if ":" in target else (target, "", "")
    path = Path(file_name)
    if not path.is_file():
        raise WorkflowError(f"there is no file {file_name}. Name the judge as FILE.py:NAME.")
    found = {key: _judges(value) for key, value in vars(_import(path)).items() if isinstance(value, Judge | Step)}
    known = [key for key, judges in found.items() if judges]
    if not name and len(known) == 1:
        name = known[0]
    if name not in known:
        there = f" It has {', '.join(known)}." if known else ""
        raise WorkflowError(
            f"{path} has no judge{f' {name!r}' if name else ' that is named alone'}: judge(…), or a step with one in its checks.{there}"
        )
    if len(found[name]) > 1:
        raise WorkflowError(f"step '{name}' in {path} has several judges: give the one to test a name of its own.")
    value = getattr(sys.modules[path.stem], name)
    return found[name][0], value.instructions if isinstance(value, Step) else ""


def _judges(value: Judge | Step[Any]) -> list[Judge]:
    return [value] if isinstance(value, Judge) else [check for check in value.checks if isinstance(check, Judge)]


def _import(path: Path) -> Any:
    """The module in a file; its folder can be imported from, as if it were run."""
    path = path.resolve()
    sys.path.insert(0, str(path.parent))
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise WorkflowError(f"{path} is not a Python file.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    try:
        spec.loader.exec_module(module)
    except SyntaxError as error:
        raise WorkflowError(f"{error.filename}:{error.lineno}: {error.msg}.") from None
    except Exception as error:
        frames = [
            frame for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename).parent == path.parent
        ]
        at = f"{frames[-1].filename}:{frames[-1].lineno}" if frames else str(path)
        raise WorkflowError(f"{at}: {type(error).__name__}: {error}") from error
    return module


class TaskLine(msgspec.Struct, forbid_unknown_fields=True):
    """One line of a tasks file."""

    input: Any
    id: str | int | None = None
    tags: dict[str, str] = {}
    reference: Any = None


class NamedTask(msgspec.Struct):
    """A task with the line it stands on."""

    line: int
    id: str
    input: Any
    tags: dict[str, str]
    reference: Any


def read_tasks(path: Path, *, workflow: Workflow[Any] | None = None) -> Iterator[NamedTask | TasksError]:
    """The tasks of a file, and an error in place of each line that cannot be used.

    Ids default to "line-N"; a second task of an id, and an input that does not fit the workflow, are errors, too.
    """
    decoder = msgspec.json.Decoder(TaskLine)
    seen: dict[str, int] = {}
    line_no = 0
    try:
        with opened(path) as file:
            for line_no, line in enumerate(file, start=1):  # named in the error below
                if not line.strip():
                    continue
                at = f"{path}:{line_no}"
                try:
                    task = decoder.decode(line)
                except msgspec.ValidationError as error:
                    yield TasksError(
                        f'{at}: a task is {{"id", "input", "tags", "reference"}}: {str(error).replace("`", chr(39))}.'
                    )
                    continue
                except msgspec.DecodeError as error:
                    yield TasksError(f"{at}: this line is not JSON: {error}.")
                    continue
                name = str(task.id) if task.id is not None else f"line-{line_no}"
                if name in seen:
                    yield TasksError(
                        f"{at}: task '{name}' stands on line {seen[name]} already. Give each task its own id."
                    )
                    continue
                seen[name] = line_no
                try:
                    if workflow:
                        workflow.read_input(task.input)
                except WorkflowError as error:
                    yield TasksError(f"{at}: task '{name}': {error}")
                    continue
                yield NamedTask(line_no, name, task.input, task.tags, task.reference)
    except RecordsError as error:
        raise TasksError(str(error)) from None
