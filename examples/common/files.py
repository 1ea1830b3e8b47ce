"""Files through `ascend_fixes.files`, and the error about what an example was given: one line, and exit status 2."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ascend_fixes import files
from ascend_fixes.errors import AscendFixesError


class ExampleError(AscendFixesError, ValueError):
    """What an example was given cannot be used: names the option, the folder, or the file and line, and what was expected."""


def expect(condition: Any, message: str) -> None:
    """Raise `ExampleError` with the message unless the condition holds."""
    if not condition:
        raise ExampleError(message)


def read_lines(path: Path) -> list[str]:
    """The lines of a file, without their ends and without a byte order mark; `FileError` where it cannot be read."""
    lines = files.read_text(path).removeprefix("\ufeff").replace("\r\n", "\n").split("\n")
    return lines[:-1] if lines[-1] == "" else lines


def read_record(path: Path, kind: str) -> dict[str, Any]:
    """What `ascend_fixes.files.write_record` wrote under the same ``kind``; `ExampleError` where it cannot be read or is damaged."""
    try:
        return files.read_record(path, kind)
    except files.FileError as error:
        hint = "what an earlier version wrote without a checksum has to be trained again"
        raise ExampleError(f"{error}; {hint}") from None


def write_text(path: Path, text: str) -> None:
    """Create or replace a file, all or nothing; `FileError` where it cannot be written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with files.replacing(path) as file:
        file.write(text.encode("utf-8", "replace"))


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as JSON, all or nothing; JSON has no NaN and no infinity: they become null."""
    finite = json.loads(json.dumps(value), parse_constant=lambda name: None)
    write_text(path, json.dumps(finite, indent=1) + "\n")


def read_answer(path: Path) -> dict[str, Any]:
    """The object in a JSON file that another process wrote; empty where it did not."""
    try:
        value = files.read_json(path)
    except files.FileError:
        return {}
    return value if isinstance(value, dict) else {}
