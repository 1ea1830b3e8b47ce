"""Where the rows of an `Embedding` and their optimizer state lie: in memory, or in a folder's mapped file.

A record is a row and its state, one after the other: what a step touches together lies
together, so a row costs one page and not one for each part of its state.

A folder holds ``records.npy``, written in place through a memory map, so a table may
be larger than memory. What makes that safe is an undo journal: before a record is
changed for the first time since the last flush, its old content is appended to
``journal.<generation>``. Opening a folder whose journal is not empty puts the old
content back, so after a crash, in the middle of a flush too, everything is as the last
complete flush left it. A flush is complete when the new ``meta.json``, which names
the next generation, takes the place of the old one. This holds when the process is
killed; a power failure between flushes is not covered, since the journal is not
synced to the disk at every step.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import mmap
import os
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np

from ascend_fixes.host._files import FileError, PathLike, replacing, sync_folder

__all__ = ["Folder", "Memory"]

_KIND = "ascend_fixes.host.Embedding 1"
_CHUNK = 1 << 20  # numbers initialised at a time
_HEADER = 16  # bytes of a journal entry before its body: how many records, and the body's checksum


class Memory:
    """Records as a plain array, float32 of shape (count, dim * (1 + slots))."""

    def __init__(self, count: int, dim: int, slots: Mapping[str, float], init: Any) -> None:
        self.records = np.empty((count, dim * (1 + len(slots))), np.float32)
        _fill(self.records, dim, slots, init)
        self.step = 0

    def before_change(self, ids: np.ndarray) -> None:
        """Nothing to remember."""

    def flush(self) -> None:
        """Nothing to write."""

    def close(self) -> None:
        """Nothing to close."""


class Folder:
    """Records in the mapped file of a folder; opened by one process at a time."""

    def __init__(self, path: PathLike, count: int, dim: int, slots: Mapping[str, float], init: Any) -> None:
        self._path = Path(path)
        self._meta = {"format": _KIND, "num_embeddings": count, "dim": dim, "slots": list(slots)}
        self._shape = (count, dim * (1 + len(slots)))
        try:
            self._path.mkdir(parents=True, exist_ok=True)
            self._lock = open(self._path / "lock", "w")  # noqa: SIM115
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise FileError(f"{self._path} is open in another process or Embedding; close that one first") from None
        except OSError as error:
            raise FileError(f"cannot open the folder {self._path}: {error.strerror}") from error
        try:
            if not (self._path / "meta.json").exists():
                self._create(dim, slots, init)
            self._open()
        except BaseException:
            self._lock.close()
            raise

    # --- opening -----------------------------------------------------------------------------------

    def _create(self, dim: int, slots: Mapping[str, float], init: Any) -> None:
        path = self._path / "records.npy"
        try:
            records = np.lib.format.open_memmap(path, "w+", np.float32, self._shape)
            # Without its blocks, a mapped file on a full disk kills the process (SIGBUS) when it is written.
            with open(path, "r+b") as stream:
                os.posix_fallocate(stream.fileno(), 0, os.fstat(stream.fileno()).st_size)
            _fill(records, dim, slots, init)
            records.flush()
        except OSError as error:
            with contextlib.suppress(OSError):
                path.unlink()
            raise FileError(f"cannot write {path}: {error.strerror}; free space or pass another path") from error
        self._write_meta(0, 0)

    def _open(self) -> None:
        try:
            meta = json.loads((self._path / "meta.json").read_text(encoding="utf-8"))
            found = {key: meta[key] for key in self._meta}
            self.step, self._generation = int(meta["step"]), int(meta["generation"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise FileError(f"{self._path}/meta.json is damaged ({error}); restore the folder from a copy") from error
        if found != self._meta:
            raise FileError(
                f"{self._path} holds {found}, not {self._meta}; pass its own sizes and optimizer, or another path"
            )
        try:
            self.records = self._map()
        except (OSError, ValueError, EOFError) as error:
            raise FileError(
                f"{self._path}/records.npy is missing, read-only or damaged ({error}); restore it from a copy"
            ) from error
        self._roll_back()
        self._start_journal()

    def _map(self) -> np.ndarray:
        """The records, read page by page as they are touched: the rows of a batch lie far apart."""
        with open(self._path / "records.npy", "r+b") as stream:
            if np.lib.format.read_magic(stream) != (1, 0):
                raise ValueError("of another format version")
            shape, _, dtype = np.lib.format.read_array_header_1_0(stream)
            begin, size = stream.tell(), os.fstat(stream.fileno()).st_size
            if shape != self._shape or dtype != np.float32 or size != begin + 4 * shape[0] * shape[1]:
                raise ValueError(f"{size} bytes of {dtype} of shape {shape}, not {self._shape}")
            self._mapped = mmap.mmap(stream.fileno(), 0)
        self._mapped.madvise(mmap.MADV_RANDOM)
        return np.frombuffer(self._mapped, np.float32, offset=begin).reshape(shape)

    # --- the journal -------------------------------------------------------------------------------

    def _journal_path(self) -> Path:
        return self._path / f"journal.{self._generation}"

    def _start_journal(self) -> None:
        for pattern in ("journal.*", ".meta.json.*.part"):  # the second is what a flush that was killed leaves
            for old in self._path.glob(pattern):
                old.unlink()
        self._changed = np.zeros(self._shape[0], bool)
        self._journal: IO[bytes] | None = open(self._journal_path(), "wb", buffering=0)  # noqa: SIM115

    def before_change(self, ids: np.ndarray) -> None:
        """Remember records that are changed for the first time since the last flush.

        Raises:
            FileError: they cannot be written; nothing was changed.
        """
        ids = ids[~self._changed[ids]]
        if not len(ids):
            return
        if self._journal is None:
            raise FileError(f"{self._path} is closed; build a new Embedding of this path")
        body = ids.astype(np.int64).tobytes() + self.records.take(ids, axis=0).tobytes()
        entry = np.array([len(ids), zlib.crc32(body)], np.int64).tobytes() + body
        end = self._journal.tell()
        try:
            if self._journal.write(entry) != len(entry):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            self._journal.truncate(end)
            self._journal.seek(end)
            raise FileError(f"cannot write {self._journal_path()}: {error.strerror}; the rows are unchanged") from error
        self._changed[ids] = True

    def _roll_back(self) -> None:
        """Put back what the journal remembers; an entry cut short belongs to a change that was not begun."""
        try:
            stream = open(self._journal_path(), "rb")  # noqa: SIM115
        except FileNotFoundError:
            return
        with stream:
            rest = os.fstat(stream.fileno()).st_size
            while rest >= _HEADER:
                count, check = np.frombuffer(stream.read(_HEADER), np.int64).tolist()
                size = count * (8 + 4 * self._shape[1])
                rest -= _HEADER + size
                if count < 0 or rest < 0:
                    break
                body = stream.read(size)
                if zlib.crc32(body) != check:
                    break
                ids = np.frombuffer(body, np.int64, count)
                self.records[ids] = np.frombuffer(body, np.float32, offset=8 * count).reshape(count, -1)
        self._mapped.flush()

    def flush(self) -> None:
        """Make everything up to now what a later opening finds.

        Raises:
            FileError: it could not be written; a later opening finds the last complete flush.
        """
        if self._journal is None:
            raise FileError(f"{self._path} is closed; build a new Embedding of this path")
        try:
            self._mapped.flush()
            self._write_meta(self.step, self._generation + 1)
        except OSError as error:
            raise FileError(f"cannot flush {self._path}: {error}") from error
        self._journal.close()
        self._generation += 1
        self._start_journal()

    def _write_meta(self, step: int, generation: int) -> None:
        with replacing(self._path / "meta.json") as stream:
            stream.write(json.dumps({**self._meta, "step": step, "generation": generation}).encode())
        sync_folder(self._path)

    def close(self) -> None:
        """Let go of the files without a flush."""
        if self._journal is not None:
            self._journal.close()
            self._journal = None
            self._lock.close()


def _fill(records: np.ndarray, dim: int, slots: Mapping[str, float], init: Any) -> None:
    """Write the first rows (an array, one number, or 0.01 times a generator's normal numbers) and their state."""
    at_a_time = max(1, _CHUNK // records.shape[1])
    for start in range(0, len(records), at_a_time):
        part = records[start : start + at_a_time]
        if isinstance(init, np.ndarray):
            part[:, :dim] = init[start : start + at_a_time]
        elif isinstance(init, float):
            part[:, :dim] = init
        else:
            part[:, :dim] = init.standard_normal((len(part), dim), np.float32)
            part[:, :dim] *= np.float32(0.01)
        for slot, value in enumerate(slots.values(), 1):
            part[:, slot * dim : (slot + 1) * dim] = value
