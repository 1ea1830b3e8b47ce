"""What is known to go wrong: the table of quirks, and what searches on this machine found.

Findings are kept in the user's configuration directory: `learn` adds a row, `quirks` lists it and `patch("fusion")`
heeds it from then on, for the version of MindSpore and the backend it was found on. The file is JSON with a checksum,
checked on every reading. A damaged one is not used, with a warning, and not written to: nothing that was learned is
lost.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ascend_fixes import _mindspore
from ascend_fixes.errors import UnknownNameError, warn
from ascend_fixes.files import FileError, MissingFileError, lock, read_json, read_record, user_folder, write_record
from ascend_fixes.fusion._flags import exclusions
from ascend_fixes.fusion._quirks import LEARNED, QUIRKS, Quirk

__all__ = ["known_bad", "learned", "learned_file", "quirks", "remember"]

_KIND = "ascend_fixes.fusion quirks 2"
_FIELDS = {"keep_out": list, "backend": str, "mindspore": str, "symptom": str}


def learned_file() -> Path:
    """``$XDG_CONFIG_HOME/ascend_fixes/quirks.json``, by default under ``~/.config``."""
    return user_folder("XDG_CONFIG_HOME", ".config") / "quirks.json"


def remember(row: dict[str, Any]) -> Quirk:
    """Keep a finding, with the keys of a row; the same finding is kept once.

    Raises:
        FileError: the file cannot be written, or what it holds cannot be read; it is unchanged.
    """
    path = learned_file()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileError(f"cannot make the folder of {path}: {error.strerror}") from None
    with lock(path.with_suffix(".lock")):  # several processes may have learned something at once
        rows = _read(path)
        if _finding(row) not in map(_finding, rows):
            write_record(path, _KIND, {"rows": [*rows, row]})
    return _quirk(row)


def _finding(row: Mapping[str, Any]) -> list[Any]:
    return [row[name] for name in ("keep_out", "backend", "mindspore")]


def quirks(*, everywhere: bool = False, learned: bool = True) -> tuple[Quirk, ...]:
    """The known-bad operators and passes of this backend and version of MindSpore.

    Args:
        everywhere: give the whole table, other backends and versions included.
        learned: add what `ascend_fixes.fusion.learn` has kept on this machine.
    """
    rows = tuple(quirk for quirk in QUIRKS if everywhere or quirk.here)
    return rows + _learned() if learned else rows


def known_bad() -> tuple[str, ...]:
    """What was seen to go wrong on this backend and version, as `guard` takes it; reports are left out."""
    return tuple(dict.fromkeys(name for quirk in quirks() if quirk.verified for name in quirk.keep_out))


def learned() -> tuple[Quirk, ...]:
    """The rows for this version of MindSpore and this backend; none, with a warning, where the file cannot be read."""
    here = (_mindspore.version_text(), _mindspore.backend())
    try:
        rows = _read(learned_file())
    except FileError as error:
        warn(f"what was learned on this machine is not used: {error}", RuntimeWarning)
        return ()
    return tuple(_quirk(row) for row in rows if (row["mindspore"], row["backend"]) == here)


_learned = learned  # for `quirks`, whose argument has the same name


def _quirk(row: dict[str, Any]) -> Quirk:
    return Quirk(
        keep_out=tuple(row["keep_out"]),
        backends=(row["backend"],),
        since=_mindspore.version(),
        before=(),
        dtypes=(),
        symptom=row["symptom"],
        source=LEARNED,
        removal="a search on this machine finds nothing to keep out",
        verified=True,
    )


def _read(path: Path) -> list[dict[str, Any]]:
    """All rows; the version before this one wrote a plain list of them.

    Raises:
        FileError: there is a file, and it cannot be read or is damaged.
    """
    try:
        content = read_json(path)
        rows = content if isinstance(content, list) else read_record(path, _KIND).get("rows")
    except MissingFileError:
        return []
    if not isinstance(rows, list) or not all(map(_is_row, rows)):
        raise FileError(f"{path} is damaged (no list of {', '.join(_FIELDS)}); mend it, or move it away to begin anew")
    return rows


def _is_row(row: Any) -> bool:
    if not isinstance(row, dict) or not all(isinstance(row.get(name), kind) for name, kind in _FIELDS.items()):
        return False
    if not row["keep_out"] or not all(isinstance(name, str) for name in row["keep_out"]):
        return False
    try:  # another version's operators may have no name here, and are not heeded here
        exclusions(row["keep_out"] if row["mindspore"] == _mindspore.version_text() else (), "learned")
    except UnknownNameError:
        return False
    return True
