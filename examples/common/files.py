"""Files through `ascend_fixes.files`, and the errors about what an example was given: one line, and exit status 2."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ascend_fixes import files
from ascend_fixes.errors import AscendFixesError


class ExampleError(AscendFixesError, ValueError):
    """Base of the errors about what an example was given."""


class DataError(ExampleError):
    """A data folder or file that is missing or malformed; names the file, the line and what was expected."""


class CheckpointError(ExampleError):
    """A checkpoint that is damaged or belongs to another run."""


class UsageError(ExampleError):
    """Options that do not exist or do not go together."""


def expect(condition: Any, message: str, error: type[ExampleError] = DataError) -> None:
    """Raise ``error`` with the message unless the condition holds."""
    if not condition:
        raise error(message)


def fits(condition: Any, message: str) -> None:
    """Raise `CheckpointError` with the message unless the condition holds."""
    expect(condition, message, CheckpointError)


@contextlib.contextmanager
def reading(error: type[ExampleError], hint: str = "") -> Iterator[None]:
    """Raise ``error`` for a file that cannot be read, or that is damaged; ``hint`` ends its message."""
    try:
        yield
    except files.FileError as wrong:
        raise error(f"{wrong}{hint}") from None


def read_text(path: Path, error: type[ExampleError] = DataError, hint: str = "convert it first") -> str:
    """A file's text, UTF-8; gzipped where the name ends in .gz. ``hint`` says what to do about other text."""
    with reading(error):
        return files.read_text(path, hint)


def read_lines(path: Path, error: type[ExampleError] = DataError) -> list[str]:
    """The lines of a file, without their ends and without a byte order mark."""
    lines = read_text(path, error).removeprefix("\ufeff").replace("\r\n", "\n").split("\n")
    return lines[:-1] if lines[-1] == "" else lines


def existing(folder: Path) -> Path:
    """A corpus folder; `DataError` where there is none."""
    expect(folder.is_dir(), f"--data {folder}: no such folder")
    return folder


def write_text(path: Path, text: str) -> None:
    """Create or replace a file, all or nothing; `FileError` where it cannot be written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with files.replacing(path) as file:
        file.write(text.encode("utf-8", "replace"))


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as JSON, all or nothing; JSON has no NaN and no infinity: they become null."""

    def finite(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: finite(item) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [finite(item) for item in value]
        return None if isinstance(value, float) and not math.isfinite(value) else value

    write_text(path, json.dumps(finite(value), indent=1) + "\n")


def read_answer(path: Path) -> dict[str, Any]:
    """The object in a JSON file that another process wrote; empty where it did not."""
    try:
        value = files.read_json(path)
    except files.FileError:
        return {}
    return value if isinstance(value, dict) else {}


def save_record(path: Path, kind: str, content: Mapping[str, Any]) -> None:
    """Create or replace a JSON file that carries its checksum."""
    path.parent.mkdir(parents=True, exist_ok=True)
    files.write_record(path, f"ascend_fixes.examples {kind} 1", content)


def load_record(path: Path, kind: str) -> dict[str, Any]:
    """What `save_record` wrote under the same ``kind``; `CheckpointError` where there is none, or it is damaged."""
    earlier = "; what an earlier version wrote without a checksum has to be trained again"
    with reading(CheckpointError, earlier if path.exists() else ""):
        return files.read_record(path, f"ascend_fixes.examples {kind} 1")
