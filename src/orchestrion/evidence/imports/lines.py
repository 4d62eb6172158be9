"""The lines of logs: JSON lines, a JSON document, or CSV; each with its place."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from pydantic_core import from_json

from orchestrion.errors import RecordsError
from orchestrion.evidence.records import opened
from orchestrion.evidence.spreadsheet import separator_of


class Line(NamedTuple):
    """One entry of a log with the line that it ends on."""

    file: Path
    no: int
    data: dict[str, Any]

    def bad(self, reason: str) -> RecordsError:
        """Why this line cannot be used."""
        return RecordsError(f"{self.file}:{self.no}: {reason}.")


def lines(paths: Iterable[Path]) -> Iterator[Line | RecordsError]:
    """Every entry of the files, and an error in place of each line that cannot be read.

    JSON lines and CSV are read as a stream; a document that is one JSON list (or {"data": [...]}) is read as a whole.
    Raises RecordsError where a file cannot be read at all.
    """
    for path in paths:
        name = path.name.removesuffix(".zst").lower()
        with opened(path) as file:
            if name.endswith(".pkl"):
                raise RecordsError(
                    f"{path}: a pickle can run any code when it is read. Write it as CSV: pandas.read_pickle(…).to_csv(…, index=False)."
                )
            if name.endswith((".csv", ".tsv")):
                yield from _csv(path, file)
            elif name.endswith(".json"):
                yield from _document(path, file.read())
            else:
                yield from _json_lines(path, file)


def _json_lines(path: Path, file: Iterable[str]) -> Iterator[Line | RecordsError]:
    texts = iter(file)
    for no, text in enumerate(texts, start=1):
        if not text.strip():
            continue
        if no == 1 and text.lstrip().startswith("["):  # a document under another name
            yield from _document(path, text + "".join(texts))
            return
        try:
            data = from_json(text)
        except ValueError as error:
            yield RecordsError(f"{path}:{no}: this line is not JSON: {error}.")
            continue
        yield _entry(path, no, data)


def _document(path: Path, text: str) -> Iterator[Line | RecordsError]:
    try:
        data = from_json(text)
    except ValueError as error:
        if "trailing characters" in str(error):  # JSON lines under the name of a document
            yield from _json_lines(path, text.splitlines())
            return
        raise RecordsError(f"{path}: this is not JSON: {error}.") from None
    if isinstance(data, dict) and isinstance(data.get("data"), list):
        data = data["data"]
    for no, entry in enumerate(data if isinstance(data, list) else [data], start=1):
        yield _entry(path, no, entry)


def _csv(path: Path, file: Iterable[str]) -> Iterator[Line | RecordsError]:
    csv.field_size_limit(2**31 - 1)
    texts = iter(file)
    head = next(texts, "")
    separator = separator_of(head)
    header = next(csv.reader([head], delimiter=separator), [])
    reader = csv.reader(texts, delimiter=separator, strict=True)
    while True:
        try:
            row = next(reader, None)
        except csv.Error as error:
            yield RecordsError(f"{path}:{reader.line_num + 1}: this is not CSV: {error}.")
            continue
        if row is None:
            return
        if not row:
            continue
        no = reader.line_num + 1
        if len(row) != len(header):
            yield RecordsError(f"{path}:{no}: this row has {len(row)} cells, and the header {len(header)}.")
            continue
        yield Line(path, no, dict(zip(header, row, strict=True)))


def _entry(path: Path, no: int, data: Any) -> Line | RecordsError:
    if not isinstance(data, dict):
        return RecordsError(f"{path}:{no}: this is not an object but {type(data).__name__}.")
    return Line(path, no, data)
