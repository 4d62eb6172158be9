"""The command line: one file for each noun, loaded only when it is called."""

from __future__ import annotations

import difflib
import gc
import importlib
import os
import sys
import tempfile
import traceback
from typing import TYPE_CHECKING, Any

import click

from orchestrion.cli.output import complain, leave_pipe, suit_terminal
from orchestrion.errors import OrchestrionError

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

# Name → module, and the line that --help shows: listing the commands imports none of them.
COMMANDS = {
    "demo": ("orchestrion.cli.demo", "The main job, offline, in a minute: tax returns by simulated models."),
    "init": ("orchestrion.cli.init", "Write a small working project into a folder."),
    "run": ("orchestrion.cli.run", "Run the tasks of a file through a workflow; go on where it stopped."),
    "runs": ("orchestrion.cli.runs", "List, show, resume, cancel and signal runs."),
    "review": ("orchestrion.cli.review", "Questions to people: list, show, decide, inform."),
    "budget": ("orchestrion.cli.budget", "Accounts and limits: who may spend what, and who spent it."),
    "models": ("orchestrion.cli.models", "Who can be asked: price, key, reachable; --check asks each of them."),
    "outcomes": ("orchestrion.cli.outcomes", "Export recorded outcomes, label them, import others' logs."),
    "judge": ("orchestrion.cli.judge", "Test a judge against people's labels before you trust it."),
    "replay": ("orchestrion.cli.replay", "A policy over recorded outcomes, at no cost."),
    "tune": ("orchestrion.cli.tune", "The cheapest policy that keeps a promised quality, from recorded outcomes."),
    "certify": ("orchestrion.cli.certify", "A policy tested on fresh records: does it keep its promise?"),
    "report": ("orchestrion.cli.report", "One page for people who do not speak tokens: of a batch, a run or a replay."),
    "completion": ("orchestrion.cli.completion", "Tab completion for bash, zsh and fish."),
}


VARIABLE = "_ORCHESTRION_COMPLETE"
"""Set by the shells' scripts: what is asked of us is to complete a line (see completion.py)."""


class _Lazy(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        command = importlib.import_module(COMMANDS[name][0]).command
        assert isinstance(command, click.Command)  # noqa: S101  # each module exports one
        return command

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        if incomplete.startswith("-"):
            return click.Command.shell_complete(self, ctx, incomplete)  # the group's own loads every command
        from click.shell_completion import CompletionItem  # only while somebody presses Tab

        return [CompletionItem(name, help=text) for name, (_, text) in COMMANDS.items() if name.startswith(incomplete)]

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] not in COMMANDS:
            near = difflib.get_close_matches(args[0], COMMANDS, n=1)
            raise click.UsageError(
                f"no command is called '{args[0]}'." + (f" Did you mean '{near[0]}'?" if near else ""), ctx
            )
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.group(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="orchestrion")
def cli() -> None:
    """Direct models, tools and people at a business's work: checked answers at a known cost.

    Exit status: 0 done, 1 the work failed, 2 wrong usage or input.
    """


def main() -> None:
    """Run the command line. What goes wrong is said in a paragraph, never with a traceback."""
    if VARIABLE in os.environ:
        importlib.import_module(COMMANDS["completion"][0])  # tells click of our Bash
    gc.set_threshold(50_000, 20, 50)  # thousands of runs in memory at once, and next to no cycles among them
    try:
        status: Any = cli.main(
            prog_name="orchestrion", complete_var=VARIABLE, standalone_mode=False, color=suit_terminal()
        )
        sys.stdout.flush()
    except click.ClickException as error:
        error.show(file=sys.stderr)
        status = error.exit_code
    except (click.Abort, KeyboardInterrupt):
        complain("stopped.")
        status = 1
    except OrchestrionError as error:
        complain(f"orchestrion: {error}")
        status = error.exit_status
    except BrokenPipeError:
        leave_pipe()
        status = 0
    except Exception as error:
        with tempfile.NamedTemporaryFile("w", prefix="orchestrion-error-", suffix=".txt", delete=False) as file:
            traceback.print_exc(file=file)
        complain(
            f"orchestrion: a bug, sorry: {type(error).__name__}: {error}. The details are in {file.name}; what was committed is kept."
        )
        status = 1
    sys.exit(status if isinstance(status, int) else 0)
