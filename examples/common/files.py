"""What `ascend_fixes.files` reads and writes, with the errors of the examples."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any, Callable

from ascend_fixes import files
from examples.common.errors import CheckpointError, DataError, ExampleError

__all__ = ["load_record", "read_lines", "read_text", "reading", "save_record", "write_atomically"]

_EARLIER = "; what an earlier version wrote without a checksum has to be trained again"


@contextlib.contextmanager
def reading(error: type[ExampleError], hint: str = "") -> Iterator[None]:
    """Raise ``error`` for a file that cannot be read, or that is damaged; ``hint`` ends its message."""
    try:
        yield
    except files.FileError as wrong:
        raise error(f"{wrong}{hint}") from None


def read_text(path: Path, error: type[ExampleError] = DataError, hint: str = "convert it first") -> str:
    """A file's text, UTF-8; gzipped where the name ends in .gz.

    Args:
        path: the file.
        error: what is raised where it cannot be read, is damaged or is not UTF-8.
        hint: what to do about text that is not UTF-8.
    """
    with reading(error):
        return files.read_text(path, hint)


def read_lines(path: Path) -> list[str]:
    """The lines of a file, without their ends. Raises as `read_text`."""
    lines = read_text(path).replace("\r\n", "\n").split("\n")
    return lines[:-1] if lines[-1] == "" else lines


def write_atomically(path: Path, write: Callable[[IO[bytes]], Any]) -> None:
    """Create or replace ``path`` with what ``write`` puts into the open file it is given, all or nothing.

    Raises:
        FileError: it cannot be written; what it held is unchanged.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with files.replacing(path) as file:
        write(file)


def save_record(path: Path, kind: str, content: Mapping[str, Any]) -> None:
    """Create or replace a JSON file that carries its checksum. Raises as `write_atomically`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    files.write_record(path, f"ascend_fixes.examples {kind} 1", content)


def load_record(path: Path, kind: str) -> dict[str, Any]:
    """What `save_record` wrote under the same ``kind``.

    Raises:
        CheckpointError: there is none, it is damaged, or it is of another kind.
    """
    with reading(CheckpointError, _EARLIER if path.exists() else ""):
        return files.read_record(path, f"ascend_fixes.examples {kind} 1")
