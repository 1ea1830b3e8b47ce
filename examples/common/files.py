"""Reading text with one-line errors, and writing so that a reader, or a killed run, never meets half a file."""

from __future__ import annotations

import gzip
import os
import zlib
from pathlib import Path
from typing import Any, BinaryIO, Callable

from examples.common.errors import DataError, ExampleError

__all__ = ["read_lines", "read_text", "write_atomically"]


def read_text(path: Path, error: type[ExampleError] = DataError, hint: str = "; convert it first") -> str:
    """A file's text, UTF-8; gzipped where the name ends in .gz.

    Args:
        path: the file.
        error: what is raised where it cannot be read, is damaged or is not UTF-8.
        hint: what to do about text that is not UTF-8.
    """
    try:
        raw = path.read_bytes()
        return (gzip.decompress(raw) if path.suffix == ".gz" else raw).decode("utf-8")
    except UnicodeDecodeError as wrong:
        raise error(f"{path}: not UTF-8 (byte {wrong.start:,}){hint}") from None
    except (gzip.BadGzipFile, EOFError, zlib.error):
        raise error(f"{path}: damaged, or not compressed by gzip") from None
    except OSError as wrong:
        raise error(f"{path}: {wrong.strerror}") from None


def read_lines(path: Path) -> list[str]:
    """The lines of a file, without their ends. Raises as `read_text`."""
    lines = read_text(path).replace("\r\n", "\n").split("\n")
    return lines[:-1] if lines[-1] == "" else lines


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
