"""orchestrion completion bash|zsh|fish"""

from __future__ import annotations

import os
from pathlib import PurePath

import click
from click.shell_completion import (
    BashComplete,
    CompletionItem,
    add_completion_class,
    get_completion_class,
    split_arg_string,
)

from orchestrion.cli import VARIABLE
from orchestrion.cli.output import result
from orchestrion.errors import UsageError

SHELLS = ("bash", "zsh", "fish")


class Bash(BashComplete):
    """Bash ends a word at ":" and "=", of which run ids and FILE:WORKFLOW are full. click's own script gives up there;
    this one sends the line as it is, and gets back what stands behind the last of these signs."""

    source_template = """\
%(complete_func)s() {
    local line
    COMPREPLY=()
    while IFS= read -r line; do
        case "$line" in
            dir,*) compopt -o dirnames ;;
            file,*) compopt -o default ;;
            plain,*) COMPREPLY+=("${line#*,}") ;;
        esac
    done < <(COMP_LINE="${COMP_LINE:0:COMP_POINT}" COMP_WORDBREAKS="$COMP_WORDBREAKS" \\
        %(complete_var)s=bash_complete "$1" 2>/dev/null)
}
complete -o nosort -F %(complete_func)s %(prog_name)s
"""

    def get_completion_args(self) -> tuple[list[str], str]:
        line = os.environ["COMP_LINE"]
        words = split_arg_string(line)
        self._typed: str = "" if not words or line[-1:].isspace() else words.pop()
        return words[1:], self._typed

    def format_completion(self, item: CompletionItem[str]) -> str:
        breaks = [sign for sign in ":=" if sign in os.environ.get("COMP_WORDBREAKS", "")]
        behind = max((self._typed.rfind(sign) + 1 for sign in breaks), default=0)
        return f"{item.type},{item.value[behind:]}"


add_completion_class(Bash)


@click.command(
    "completion",
    epilog="""\b
Once, in the file that your shell reads at its start:
  ~/.bashrc                   eval "$(orchestrion completion bash)"
  ~/.zshrc (after compinit)   eval "$(orchestrion completion zsh)"
  ~/.config/fish/config.fish  orchestrion completion fish | source""",
)
@click.argument("shell", type=click.Choice(SHELLS), required=False)
@click.pass_context
def command(ctx: click.Context, shell: str | None) -> None:
    """Print the script by which a shell completes commands, options, run ids, batches and names of the settings.

    Without SHELL, the script is for the one that $SHELL names.
    """
    name = shell or PurePath(os.environ.get("SHELL", "")).name
    found = get_completion_class(name) if name in SHELLS else None
    if found is None:
        raise UsageError(f"there is no completion for the shell {name!r}. Name one of: {', '.join(SHELLS)}.")
    script = found(ctx.find_root().command, {}, "orchestrion", VARIABLE).source()
    result([script.rstrip()], lambda: None, as_json=False)
