"""What searches on this machine found, kept in the user's configuration directory.

`learn` adds a row, `quirks` lists it and `patch("fusion")` heeds it from then on,
for the version of MindSpore and the backend it was found on. The file is JSON,
checked on every reading; a damaged one is set aside with a warning.
"""

from __future__ import annotations

import json
import os
import tempfile
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ascend_fixes import _mindspore
from ascend_fixes.errors import AscendFixesError, UnknownNameError
from ascend_fixes.fusion._guarding import exclusions
from ascend_fixes.fusion._quirks import LEARNED, Quirk

if TYPE_CHECKING:
    from ascend_fixes.fusion._search import BisectReport

__all__ = ["LearnError", "learn", "learned", "learned_file"]

_FIELDS = {"keep_out": list, "backend": str, "mindspore": str, "symptom": str}


class LearnError(AscendFixesError, ValueError):
    """A report that teaches nothing: no operator was found guilty."""


def learned_file() -> Path:
    """``$XDG_CONFIG_HOME/ascend_fixes/quirks.json``, by default under ``~/.config``."""
    home = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    return home / "ascend_fixes" / "quirks.json"


def learn(report: BisectReport) -> Quirk:
    """Remember what a search found; the same finding is kept once.

    Args:
        report: of `bisect`, with something to keep out.

    Raises:
        LearnError: the report has nothing to keep out.
        OSError: the file cannot be written.
    """
    if not report.keep_out:
        raise LearnError("report: the search found nothing to keep out, so there is nothing to learn")
    row = {
        "keep_out": list(report.keep_out),
        "backend": report.backend,
        "mindspore": report.mindspore,
        "symptom": report.failure or f"{report.worst} off by {report.error_before:.2g} of its largest value",
    }
    path = learned_file()
    rows = _read(path)
    known = [{key: old[key] for key in ("keep_out", "backend", "mindspore")} for old in rows]
    if {key: row[key] for key in ("keep_out", "backend", "mindspore")} not in known:
        _write(path, [*rows, row])
    return _quirk(row)


def learned() -> tuple[Quirk, ...]:
    """The rows for this version of MindSpore and this backend."""
    here = (_mindspore.version_text(), _mindspore.backend())
    return tuple(_quirk(row) for row in _read(learned_file()) if (row["mindspore"], row["backend"]) == here)


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
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError) as error:
        return _set_aside(path, str(error))
    try:
        rows = json.loads(text)
    except ValueError as error:
        return _set_aside(path, str(error))
    if not isinstance(rows, list) or not all(map(_is_row, rows)):
        return _set_aside(path, f"not a list of objects with {', '.join(_FIELDS)}")
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


def _set_aside(path: Path, why: str) -> list[dict[str, Any]]:
    aside = path.with_suffix(".damaged")
    try:
        path.replace(aside)
        where = f"it was moved to {aside}"
    except OSError as error:
        where = f"it could not be moved: {error}"
    warnings.warn(f"{path} is damaged ({why}) and is not used; {where}", RuntimeWarning, stacklevel=2)
    return []


def _write(path: Path, rows: list[dict[str, Any]]) -> None:
    """The whole file or the old one, whatever happens meanwhile."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=path.name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(rows, file, indent=2)
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
