"""Outcome records: one JSON object a line, .jsonl or .jsonl.zst."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

import msgspec

from orchestrion.domain import Outcome
from orchestrion.errors import RecordsError
from orchestrion.store.zstd import zstd

_decoder = msgspec.json.Decoder(Outcome)
_NO_NUMBER = re.compile(r":\s*-?(NaN|Infinity)\b")
"""What Python and others write where JSON has nothing to write."""


@contextmanager
def opened(path: Path) -> Iterator[TextIO]:
    """A text file to read, decompressed where its name ends in .zst. Raises RecordsError."""
    try:
        file = path.open("rb")
    except OSError as error:
        raise RecordsError(f"{path} cannot be read: {error.strerror or error}.") from None
    try:
        with file:
            if path.suffix == ".zst":
                yield io.TextIOWrapper(zstd.ZstdFile(file), encoding="utf-8")
            else:
                yield io.TextIOWrapper(file, encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise RecordsError(f"{path}: this is not UTF-8 text. Save the file as UTF-8.") from None
    except (zstd.ZstdError, EOFError) as error:
        raise RecordsError(f"{path}: this is not a zstd file, or it is cut off: {error}.") from None


def read_outcomes(paths: Iterable[Path]) -> Iterator[Outcome]:
    """Every outcome of the files, in order. Raises RecordsError naming the file and the line."""
    for path in paths:
        line_no = 0
        try:
            with opened(path) as file:
                for line_no, line in enumerate(file, start=1):  # named in the errors below
                    if line.strip():
                        outcome = _decoder.decode(line)
                        if outcome.score is not None and not 0 <= outcome.score <= 1:
                            raise RecordsError(f"{path}:{line_no}: score lies between 0 and 1, not {outcome.score}.")
                        yield outcome
        except msgspec.ValidationError as error:
            raise RecordsError(
                f"{path}:{line_no}: this is not an outcome: {str(error).replace('`', chr(39))}. (docs/reference/outcomes.md lists the fields.)"
            ) from None
        except msgspec.DecodeError as error:
            nan = " JSON has no NaN and no Infinity: write null." if _NO_NUMBER.search(line) else ""
            raise RecordsError(f"{path}:{line_no}: this line is not JSON: {error}.{nan}") from None


class _Answer(msgspec.Struct):
    step: str
    task_id: str
    answer: str


def read_answers(path: Path) -> dict[tuple[str, str], str]:
    """(step, task id) → right answer, for simulated workers, from lines of {"step", "task_id", "answer"}."""
    answers: dict[tuple[str, str], str] = {}
    decoder = msgspec.json.Decoder(_Answer)
    with opened(path) as file:
        for line_no, line in enumerate(file, start=1):
            if line.strip():
                try:
                    one = decoder.decode(line)
                except msgspec.DecodeError as error:
                    raise RecordsError(
                        f'{path}:{line_no}: expected {{"step", "task_id", "answer"}}: {str(error).replace("`", chr(39))}.'
                    ) from None
                answers[one.step, one.task_id] = one.answer
    return answers


def write_outcomes(path: Path, outcomes: Iterable[Outcome]) -> None:
    """Write a records file, as a whole or not at all (.zst compresses). Raises RecordsError."""
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        try:
            with zstd.open(scratch, "wb") if path.suffix == ".zst" else scratch.open("wb") as file:
                for outcome in outcomes:
                    file.write(line_of(outcome))
            scratch.replace(path)
        finally:
            scratch.unlink(missing_ok=True)
    except OSError as error:
        raise RecordsError(f"{path} cannot be written: {error.strerror or error}.") from None


def line_of(outcome: Outcome) -> bytes:
    """An outcome as one line of JSON, with its newline."""
    return msgspec.json.encode(outcome) + b"\n"
