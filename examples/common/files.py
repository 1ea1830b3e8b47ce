"""Writing files so that a reader, or a run killed half-way, never meets half a file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, BinaryIO, Callable

__all__ = ["write_atomically"]


def write_atomically(path: Path, write: Callable[[BinaryIO], Any]) -> None:
    """Create or replace ``path`` with what ``write`` puts into the open file it is given, all or nothing.

    The bytes go to a temporary file beside ``path``, are flushed to the disk, and take the name in one step.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with open(temporary, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
