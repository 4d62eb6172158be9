"""What a command prints: its result on stdout, once; everything else on stderr; both in the manner of the terminal.

`--json` decides what the result is, so a command is told of it. `--quiet` only silences notes, so a command is not: it says
a note where there is one to say, and whether anybody hears it is decided here.
"""

from __future__ import annotations

import codecs
import contextlib
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TextIO, TypeVar

import click

from orchestrion.errors import UsageError

C = TypeVar("C", bound=Callable[..., Any])

QUIET = "orchestrion.quiet"
ASCII = str.maketrans(
    {"✓": "+", "✗": "x", "→": ">", "…": "...", "·": "|", "×": "x", "≤": "<=", "├": "|", "│": "|", "└": "`", "─": "-"}
    | {"━": "=", "—": "-", "–": "-", "’": "'", "“": '"', "”": '"', "¢": "ct"}
)
"""What stands for our own signs where a terminal has ASCII only."""


def output_options(command: C) -> C:
    """`--json` (the command's ``as_json``) and `--quiet`: for every command that has a result."""
    as_json = click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout, and nothing else there.")
    quiet = click.option(
        "--quiet", "-q", is_flag=True, expose_value=False, callback=_hush, help="Only errors and the result."
    )
    return quiet(as_json(command))


def examples(*lines: str) -> str:
    """The end of a `--help`: lines to copy, as they are."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)


def _hush(ctx: click.Context, _: click.Parameter, value: bool) -> None:  # click's signature
    ctx.meta[QUIET] = value


def quiet() -> bool:
    """Whether the command that runs was called with `--quiet`."""
    ctx = click.get_current_context(silent=True)
    return bool(ctx and ctx.meta.get(QUIET))


def note(text: str) -> None:
    """A line on stderr that can be missed: not under `--quiet`."""
    if not quiet():
        complain(text)


def typed(text: str, placeholder: str) -> str:
    """What somebody typed. Raises UsageError where they pasted a suggested command with its placeholder still in it."""
    if text == placeholder:
        raise UsageError(f"put what you want to say in the place of {placeholder}. Nothing was done.")
    return text


def complain(text: str) -> None:
    """A line on stderr that matters. Nobody reading stderr is no reason to leave the work."""
    with contextlib.suppress(BrokenPipeError):
        click.echo(text, file=sys.stderr)  # named: click takes an ASCII stream for a mistake, and replaces it


def result(lines: Iterable[str], data: Callable[[], Any], *, as_json: bool) -> None:
    """What the command was called for: lines for people, or one JSON object.

    A reader who left early (`| head -1`) is not an error: the exit status still says how the work went.
    """
    if as_json:
        from pydantic_core import to_json  # loaded by whoever has data to show

        write_bytes(to_json(data()) + b"\n")  # in UTF-8, whatever the terminal speaks: JSON is
        return
    with _reader():
        for line in lines:
            click.echo(line, file=sys.stdout)


def write_bytes(data: bytes) -> None:
    """Bytes to stdout, as they are. Raises UsageError where they cannot be written, and nothing where nobody reads them."""
    with _reader():
        sys.stdout.flush()  # what was said as text comes first
        sys.stdout.buffer.write(data)


@contextlib.contextmanager
def _reader() -> Iterator[None]:
    """Somebody reads stdout, or has left."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        leave_pipe()
    except OSError as error:
        leave_pipe()
        raise UsageError(f"the result cannot be written to stdout: {error.strerror or error}.") from None


def leave_pipe() -> None:
    """Nobody reads stdout any more: what is said from here on goes nowhere, without a word from the interpreter's end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def suit_terminal() -> bool | None:
    """Make the streams write whatever we say, and tell click about colours: none, all, or by what stdout is (None).

    NO_COLOR: https://no-color.org. CLICOLOR=0 and TERM=dumb are the same wish; rich and child processes read NO_COLOR only.
    """
    nowhere = open(os.devnull, "w")  # noqa: SIM115  # open to the end: in place of a stream that the caller closed (`>&-`)
    sys.stdout, sys.stderr = sys.stdout or nowhere, sys.stderr or nowhere
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            encoding = "ascii" if stream.isatty() and _plain_locale() else stream.encoding
            stream.reconfigure(encoding=encoding, errors="orchestrion.ascii")
    if os.environ.get("CLICOLOR") == "0" or os.environ.get("TERM") == "dumb":
        os.environ.setdefault("NO_COLOR", "1")
    if os.environ.get("NO_COLOR"):
        return False
    forced = os.environ.get("CLICOLOR_FORCE", os.environ.get("FORCE_COLOR", ""))
    return True if forced not in ("", "0") else None


def _plain_locale() -> bool:
    """Whether the user says that the terminal has no Unicode: LC_ALL=C or LANG=C. No word is no such word."""
    named = [os.environ.get(name, "") for name in ("LC_ALL", "LC_CTYPE", "LANG")]
    if named[:2] == ["", "C.UTF-8"]:
        named[1] = ""  # Python's own doing where LANG=C (PEP 538)
    return next(filter(None, named), "") in ("C", "POSIX")


def moves(stream: TextIO) -> bool:
    """Whether a line on this stream can be written over."""
    return stream.isatty() and os.environ.get("TERM", "dumb") != "dumb"


def _plainly(error: UnicodeError) -> tuple[str | bytes, int]:
    """The codec error handler "orchestrion.ascii": our signs by their like, anything else by its escape; nothing is lost."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end]
    return text.translate(ASCII).encode("ascii", "backslashreplace").decode("ascii"), error.end


codecs.register_error("orchestrion.ascii", _plainly)
