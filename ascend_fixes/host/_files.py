"""Files that are whole: written beside the target and moved over it, read without pickle.

A reader sees the old file or the new one, whenever the writer is killed and
whoever else writes: the bytes are on the disk before the name points at them
(write to a temporary file, fsync, rename, fsync of the folder).
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Union

import numpy as np

from ascend_fixes.errors import AscendFixesError

__all__ = ["FileError", "read_arrays", "replacing", "sync_folder", "write_arrays"]

PathLike = Union[str, "os.PathLike[str]"]


class FileError(AscendFixesError, OSError):
    """A file that cannot be written, or that is truncated, damaged or something else than expected."""


@contextlib.contextmanager
def replacing(path: PathLike) -> Iterator[IO[bytes]]:
    """A binary file that takes the place of ``path`` at the end of the block, whole; nothing changes on an error.

    Raises:
        FileError: the folder is missing, read-only or full, or the target is a read-only file.
    """
    target = Path(path)
    partial = None
    try:
        if target.exists() and not os.access(target, os.W_OK):
            raise PermissionError(f"{target} is read-only")
        handle, partial = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".part", dir=target.parent)
        with os.fdopen(handle, "wb") as stream:
            yield stream
            stream.flush()
            os.fchmod(stream.fileno(), _mode(target))
            os.fsync(stream.fileno())
        os.replace(partial, target)
        partial = None
        sync_folder(target.parent)
    except OSError as error:
        raise FileError(f"cannot write {target}: {error.strerror or error}; what it held is unchanged") from error
    finally:
        if partial is not None:
            with contextlib.suppress(OSError):
                os.unlink(partial)


def sync_folder(folder: Path) -> None:
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


def write_arrays(path: PathLike, kind: str, arrays: dict[str, np.ndarray]) -> None:
    """Write named arrays as an npz file that says what it is.

    Raises:
        FileError: as `replacing`.
    """
    # numpy.savez leaves a half-open archive behind when the disk is full, which complains when it is collected.
    with replacing(path) as stream, zipfile.ZipFile(stream, "w") as archive:
        for name, array in {"format": np.array(kind), **arrays}.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as part:
                np.lib.format.write_array(part, np.asarray(array), allow_pickle=False)


def read_arrays(path: PathLike, kind: str, names: tuple[str, ...] = ()) -> dict[str, np.ndarray]:
    """Read what `write_arrays` wrote under the same ``kind``; the checksums of the archive are verified.

    Raises:
        FileError: the file is missing, truncated, damaged, holds Python objects, or is of another kind.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except FileNotFoundError:
        raise FileError(f"there is no file {path}; save one first") from None
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error, AttributeError) as error:
        raise FileError(f"{path} is not a whole {kind} file ({error}); restore it from a copy") from error
    found = str(arrays.pop("format", ""))
    if found != kind:
        raise FileError(f"{path} holds {found or 'something else'!r}, not {kind!r}; pass a file that was saved as that")
    missing = [name for name in names if name not in arrays]
    if missing:
        raise FileError(f"{path} lacks {', '.join(missing)}; it was not written by this library's save")
    return arrays
