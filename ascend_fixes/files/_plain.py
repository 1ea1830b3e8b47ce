"""Ordinary files: opened without waiting, replaced whole, locked; text and JSON in them."""

from __future__ import annotations

import contextlib
import fcntl
import gzip
import hashlib
import io
import json
import os
import stat
import tempfile
import time
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any, Union

from ascend_fixes.errors import AscendFixesError

__all__ = [
    "EVERYBODY",
    "FileError",
    "LockedError",
    "MissingFileError",
    "PathLike",
    "check_writable",
    "lock",
    "open_regular",
    "parse_json",
    "read_bytes",
    "read_json",
    "read_record",
    "read_text",
    "reason_of",
    "replacing",
    "sweep",
    "sync_folder",
    "user_folder",
    "writable_by_others",
    "write_record",
]

EVERYBODY = "everybody"
PathLike = Union[str, "os.PathLike[str]"]

_ABANDONED = 3600.0  # seconds without a write after which a partial file has no writer any more
_RATIO = 200  # how many times its own size a compressed text may grow to; corpora stay below 10


class FileError(AscendFixesError, OSError):
    """A file that cannot be read or written, or that is truncated, damaged or something else than expected."""


class LockedError(FileError):
    """Another process, or another part of this one, holds the lock."""


class MissingFileError(FileError, FileNotFoundError):
    """There is no such file."""


# --- opening ---------------------------------------------------------------------------------------


def _path(path: Any) -> Path:
    try:
        text = os.fsdecode(path)
    except TypeError:
        text = ""
    if not text or "\0" in text:
        raise FileError(f"path={path!r} is no path; pass a str or a pathlib.Path")
    return Path(text)


def reason_of(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def open_regular(path: PathLike, flags: int = os.O_RDONLY) -> IO[bytes]:
    """An ordinary file, open in binary and unbuffered where it is written.

    Args:
        path: the file.
        flags: as of `os.open`; with ``os.O_CREAT`` the file is made where it is missing.

    Raises:
        MissingFileError: there is none.
        FileError: it may not be opened, or it is a folder, a FIFO, a device or a socket.
    """
    path = _path(path)
    try:
        # O_NONBLOCK: opening a FIFO or a device must not wait for its other end.
        handle = os.open(path, flags | os.O_CLOEXEC | os.O_NONBLOCK, 0o666)
    except FileNotFoundError:
        raise MissingFileError(f"cannot open {path}: No such file or directory") from None
    except OSError as error:
        raise FileError(f"cannot open {path}: {reason_of(error)}") from None
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise FileError(f"{path} is not an ordinary file; pass the path of one")
    writes = flags & (os.O_WRONLY | os.O_RDWR)
    return os.fdopen(handle, "r+b" if writes else "rb", buffering=0 if writes else -1)


def read_bytes(path: PathLike) -> bytes:
    """All bytes of an ordinary file. Raises as `open_regular`."""
    with open_regular(path) as stream:
        try:
            return stream.read()
        except OSError as error:
            raise FileError(f"cannot read {path}: {reason_of(error)}") from None


def read_text(path: PathLike, hint: str = "convert it first") -> str:
    """The text of an ordinary file in UTF-8, gzipped where its name ends in ``.gz``; a byte order mark is kept.

    Args:
        path: the file.
        hint: what to do about one that is not UTF-8.

    Raises:
        FileError: as `open_regular`, or it is not UTF-8, not gzipped, cut short, or grows beyond 200 times its size.
    """
    raw = read_bytes(path)
    if _path(path).suffix == ".gz":
        raw = _unpacked(raw, path)
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise FileError(f"{path}: not UTF-8 (byte {error.start:,}); {hint}") from None


def _unpacked(raw: bytes, path: PathLike) -> bytes:
    most = _RATIO * len(raw) + (1 << 20)
    try:
        text = gzip.GzipFile(fileobj=io.BytesIO(raw)).read(most + 1)
    except (OSError, EOFError, zlib.error):
        raise FileError(f"{path}: damaged, or not compressed by gzip; unpack it, or restore it from a copy") from None
    if len(text) > most:
        raise FileError(
            f"{path}: its {len(raw):,} bytes unpack to more than {most:,}; unpack it yourself if it is sound"
        )
    return text


# --- writing ---------------------------------------------------------------------------------------


@contextlib.contextmanager
def replacing(path: PathLike) -> Iterator[IO[bytes]]:
    """A binary file that takes the place of ``path`` at the end of the block, whole; nothing changes on an error.

    A symbolic link is replaced, not followed. Partial files of this path that are an hour old are removed.

    Raises:
        FileError: the folder is missing, read-only or full, or the target is read-only or no ordinary file.
    """
    target = _path(path)
    partial = None
    try:
        if target.exists() and not target.is_file():
            raise FileError(f"cannot write {target}: it is not an ordinary file; pass another path")
        if target.exists() and not os.access(target, os.W_OK):
            raise PermissionError(f"{target} is read-only")
        sweep(target.parent, target.name)
        handle, partial = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".part", dir=target.parent)
        with os.fdopen(handle, "wb") as stream:
            yield stream
            stream.flush()
            os.fchmod(stream.fileno(), _mode(target))
            os.fsync(stream.fileno())
        os.replace(partial, target)
        partial = None
        sync_folder(target.parent)
    except FileError:
        raise
    except OSError as error:
        raise FileError(f"cannot write {target}: {reason_of(error)}; what it held is unchanged") from error
    finally:
        if partial is not None:
            with contextlib.suppress(OSError):
                os.unlink(partial)


def check_writable(path: PathLike) -> None:
    """Refuse a path that `replacing` could not write, before the work whose result it is to hold.

    Raises:
        FileError: as `replacing`.
    """
    target = _path(path)
    if target.exists() and not target.is_file():
        raise FileError(f"cannot write {target}: it is not an ordinary file; pass another path")
    if not target.parent.is_dir():
        raise FileError(f"cannot write {target}: there is no folder {target.parent}; make it first")
    if not os.access(target if target.exists() else target.parent, os.W_OK):
        raise FileError(f"cannot write {target}: it is read-only; pass another path")


def sweep(folder: PathLike, name: str = "") -> None:
    """Remove the partial files of ``name``, or of all names, whose writers died: a young one may be being written."""
    start = f".{name}." if name else "."
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith(start) and entry.name.endswith(".part"):
                with contextlib.suppress(OSError):
                    if time.time() - entry.stat(follow_symlinks=False).st_mtime > _ABANDONED:
                        os.unlink(entry.path)


def sync_folder(folder: PathLike) -> None:
    """Make renames in a folder outlast a power failure."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _mode(target: Path) -> int:
    """The permissions of the file to be replaced, or those that a new file gets here."""
    if target.exists():
        return target.stat().st_mode & 0o777
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask


# --- sharing ---------------------------------------------------------------------------------------


def lock(path: PathLike, wait: bool = True) -> IO[bytes]:
    """Lock a file against other processes until what this returns is closed; it is made where it is missing.

    Args:
        path: of a file that serves as the lock alone; its content is never touched.
        wait: wait for another holder to let go; otherwise raise.

    Raises:
        LockedError: another one holds it, and ``wait`` is False.
        FileError: the file cannot be made or locked, or it is a symbolic link or no ordinary file.
    """
    stream = open_regular(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW)
    try:
        fcntl.flock(stream, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        stream.close()
        kind: type[FileError] = LockedError if isinstance(error, BlockingIOError) else FileError
        raise kind(f"cannot lock {path}: {reason_of(error)}") from None
    return stream


def user_folder(variable: str, default: str) -> Path:
    """Where this library keeps files of the user: ``ascend_fixes`` in ``$variable``, by default in ``~/default``.

    Args:
        variable: of the XDG base directory specification, as ``"XDG_CACHE_HOME"``; a relative path in it is ignored.
        default: ``".cache"`` or ``".config"``.

    Raises:
        FileError: the variable is not set and the user has no home.
    """
    base = os.environ.get(variable, "")
    if os.path.isabs(base):
        return Path(base, "ascend_fixes")
    try:
        return Path.home() / default / "ascend_fixes"
    except RuntimeError:
        raise FileError(f"this user has no home folder; set HOME or {variable} to a folder of yours") from None


def writable_by_others(folder: PathLike) -> str:
    """Who besides the user, root and the user's own group may put files into a folder; empty for nobody."""
    status = os.stat(folder)
    if status.st_mode & stat.S_IWOTH:
        return EVERYBODY
    if status.st_uid not in (os.geteuid(), 0):
        return f"user {status.st_uid}"
    if status.st_mode & stat.S_IWGRP and status.st_gid not in (os.getegid(), 0):
        return f"group {status.st_gid}"
    return ""


# --- JSON ------------------------------------------------------------------------------------------


def parse_json(text: str, source: PathLike) -> Any:
    """The value of a JSON text.

    Raises:
        FileError: it is none, is nested too deeply, or holds a number too long; names ``source``.
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise FileError(f"{source}: damaged, or no JSON ({reason}); restore it from a copy") from None


def read_json(path: PathLike) -> Any:
    """The value of a JSON file. Raises `FileError` as `read_text` and `parse_json`."""
    return parse_json(read_text(path), path)


def write_record(path: PathLike, kind: str, content: Mapping[str, Any]) -> None:
    """Write a JSON object that says what it is and carries a digest of its content.

    Args:
        path: the file to create or replace.
        kind: what it holds.
        content: what JSON can express, by name; without "format" and "sha256".

    Raises:
        FileError: as `replacing`.
    """
    record = {"format": kind, **content}
    with replacing(path) as stream:
        stream.write(json.dumps({"sha256": _digest(record), **record}, indent=1, ensure_ascii=False).encode() + b"\n")


def read_record(path: PathLike, kind: str) -> dict[str, Any]:
    """The content that `write_record` wrote under the same ``kind``.

    Raises:
        FileError: the file is missing, damaged, or of another kind.
    """
    record = read_json(path)
    if not isinstance(record, dict) or not isinstance(record.get("sha256"), str):
        raise FileError(f"{path} is not a whole {kind} file (no object with a checksum); restore it from a copy")
    if record.pop("sha256") != _digest(record):
        raise FileError(f"{path} is not a whole {kind} file (its checksum differs); restore it from a copy")
    found = record.pop("format", None)
    if found != kind:
        raise FileError(f"{path} holds {found!r}, not {kind!r}; pass a file that was saved as that")
    return record


def _digest(record: Mapping[str, Any]) -> str:
    try:
        return hashlib.sha256(json.dumps(record, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
    except RecursionError:
        return ""
