"""CSV as spreadsheets write it, and as they read it without harm."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from orchestrion.errors import RecordsError

LONGEST_CELL = 32_000
"""Excel cuts a cell at 32,767 characters, and what is behind that runs over into others."""

FORMULA = ("=", "+", "-", "@", "\t", "\r")
NEGATIVE = re.compile(r"-\d+(\.\d+)?")
"""A plain number, which is no formula."""

SEPARATORS = ",;\t|"
BEYOND = "(behind the last)"
"""Stands for the column of cells that no column is there for: something in the row has slipped."""


class Table(NamedTuple):
    """A CSV file: its column names in lower case, its rows with their numbers in the spreadsheet, and how it was read."""

    columns: list[str]
    rows: list[tuple[int, dict[str, str]]]
    read_as: str


def cell(text: str) -> str:
    """A text as a cell that no spreadsheet takes for a formula, cut where it is too long for one."""
    text = re.sub(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]", "\ufffd", text)
    if len(text) > LONGEST_CELL:
        text = f"{text[:LONGEST_CELL]}… (cut here: {len(text) - LONGEST_CELL} characters more)"
    return f"'{text}" if text.startswith(FORMULA) and not NEGATIVE.fullmatch(text) else text


def uncell(text: str) -> str:
    """What ``cell`` was given."""
    return text[1:] if text.startswith("'") and text[1:].startswith(FORMULA) else text


def write_table(columns: Iterable[str], rows: Iterable[Iterable[str]], *, marked: bool = True) -> bytes:
    """UTF-8, commas, and lines that end as RFC 4180 has them. A file is ``marked``, so that Excel knows it for UTF-8; what
    goes to stdout is not: the next program would take the mark for a part of the first name."""
    file = io.StringIO(newline="")
    writer = csv.writer(file, lineterminator="\r\n")
    writer.writerow(columns)
    writer.writerows([cell(value) for value in row] for row in rows)
    return file.getvalue().encode("utf-8-sig" if marked else "utf-8", "replace")


def read_table(path: Path) -> Table:
    """A CSV file as a spreadsheet saved it, whatever its encoding and separator. Raises RecordsError."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise RecordsError(f"{path} cannot be read: {error.strerror or error}.") from None
    if data.startswith((b"PK\x03\x04", b"\xd0\xcf\x11\xe0")):
        raise RecordsError(f"{path} is a spreadsheet's own file, not CSV. Save it as CSV (UTF-8).")
    text, encoding = decoded(data)
    own = re.match(r"(?i)sep=(.)\r?\n?", text)  # a first line of Excel's
    text = text[own.end() :] if own else text
    separator = own[1] if own else separator_of(text)
    rows = numbered(path, text, separator)
    _, header = next(rows, (0, []))
    columns = [name.strip().lower() for name in header]
    twice = next((name for name in columns if name and columns.count(name) > 1), None)
    if twice:
        raise RecordsError(f"{path}: two columns are called '{twice}'. Remove one.")
    found = [(no, _cells(columns, row)) for no, row in rows if any(map(str.strip, row))]
    shown = {"\t": "a tab"}.get(separator, f"'{separator}'")
    return Table(columns, found, f"{encoding}, separated by {shown}")


def _cells(columns: list[str], row: list[str]) -> dict[str, str]:
    cells = dict(zip(columns, row, strict=False))
    return cells | {BEYOND: " ".join(row[len(columns) :])} if len(row) > len(columns) else cells


def decoded(data: bytes) -> tuple[str, str]:
    """The text, and the encoding that was guessed: by its mark, else UTF-8 where it is, else Windows'."""
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return data.decode("utf-16", "replace"), "UTF-16"
    if data[1:2] == b"\0" or data[:1] == b"\0":
        little = data[1:2] == b"\0"
        return data.decode("utf-16-le" if little else "utf-16-be", "replace"), "UTF-16 (guessed)"
    try:
        return data.decode("utf-8-sig"), "UTF-8"
    except UnicodeDecodeError:
        pass
    try:
        return data.decode("cp1252"), "Windows-1252 (guessed: it is not UTF-8)"
    except UnicodeDecodeError:
        return data.decode("latin-1"), "Latin-1 (guessed: it is not UTF-8)"


def separator_of(text: str) -> str:
    """What separates the names in the first line."""
    first = re.sub(r'"[^"]*"', "", re.split(r"[\r\n]", text, maxsplit=1)[0])
    return max(SEPARATORS, key=first.count)


def numbered(path: Path, text: str, separator: str) -> Iterator[tuple[int, list[str]]]:
    """The rows with the numbers that a spreadsheet shows them under. Raises RecordsError."""
    csv.field_size_limit(2**31 - 1)
    no = 0
    try:
        for no, row in enumerate(csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True), start=1):
            yield no, row
    except csv.Error as error:
        raise RecordsError(f"{path}: row {no + 1}: this is not CSV: {error}.") from None
