"""What an error of SQLite means for a person, and the way out."""

from __future__ import annotations

import os
from pathlib import Path

import apsw

from orchestrion.errors import StoreError

KEPT = "Everything that was committed before is kept; the same command goes on from there."


def _read_only(cause: apsw.Error, file: str) -> bool:
    """Whether a file that cannot be opened is there, in a folder that cannot be written."""
    path = Path(file)
    return (
        isinstance(cause, apsw.CantOpenError)
        and path.exists()
        and not (os.access(path, os.W_OK) and os.access(path.parent, os.W_OK))
    )


def store_error(cause: apsw.Error, file: str) -> StoreError:
    """What an SQLite error means for a person, and the way out."""
    kept = KEPT
    if isinstance(cause, apsw.FullError):
        return StoreError(f"the disk that holds {file} is full. Make room and start again. {kept}")
    if isinstance(cause, apsw.ReadOnlyError | apsw.PermissionsError | apsw.AuthError) or _read_only(cause, file):
        return StoreError(
            f"{file} cannot be written: the file or its folder is read-only. Change its permissions, or name another database in the settings. {kept}"
        )
    if isinstance(cause, apsw.CantOpenError):
        return StoreError(
            f"{file} cannot be opened: its folder is missing or not writable. Create the folder, or name another database in the settings."
        )
    if isinstance(cause, apsw.BusyError | apsw.LockedError):
        return StoreError(
            f"{file} is being written by another process and stayed locked for 30 s. End that process, or wait for it. {kept}"
        )
    if isinstance(cause, apsw.NotADBError | apsw.CorruptError):
        return StoreError(
            f"{file} is not a database of Orchestrion, or is damaged ({cause}). Name another database in the settings, or restore a copy."
        )
    return StoreError(f"writing {file} failed: {cause}. {kept}")
