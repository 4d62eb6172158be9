"""Named queries: each .sql file holds statements, each after a line `-- name: …`."""

from __future__ import annotations

from functools import cache
from importlib import resources


@cache
def queries(file: str) -> dict[str, str]:
    """The statements of ``store/sql/FILE.sql`` by name."""
    text = resources.files("orchestrion.store").joinpath("sql", f"{file}.sql").read_text(encoding="utf-8")
    found = {}
    for block in text.split("-- name: ")[1:]:
        name, _, statement = block.partition("\n")
        found[name.strip()] = statement.strip().rstrip(";")
    return found


def migrations(folder: str = "migrations") -> list[tuple[int, str]]:
    """Number and text of every migration, in order: of the SQLite file, or of a ledger on Postgres ("shared")."""
    place = resources.files("orchestrion.store").joinpath(folder)
    files = sorted(file.name for file in place.iterdir() if file.name.endswith(".sql"))
    return [(int(name.split("_")[0]), place.joinpath(name).read_text(encoding="utf-8")) for name in files]
