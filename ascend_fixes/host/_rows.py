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
killed; a power failure between flushes is not undone, since the journal is not
synced to the disk at every step, but it is noticed:

``checksums.<generation>`` holds a CRC-32 of every 4 KiB of records. A flush computes
those of the blocks that changed, and opening the folder reads all records once and compares them,
after the journal: a folder is believed whole or not at all.
"""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np

from ascend_fixes.files import (
    FileError,
    LockedError,
    MissingFileError,
    PathLike,
    lock,
    open_regular,
    parse_json,
    read_array_header,
    read_arrays,
    read_bytes,
    read_record,
    sync_folder,
    write_arrays,
    write_record,
)

__all__ = ["Folder", "Memory"]

_KIND = "ascend_fixes.host.Embedding 2"
_EARLIER = "ascend_fixes.host.Embedding 1"  # without checksums
_CHECKSUMS = "ascend_fixes.host.Embedding checksums 2"
_CHUNK = 1 << 20  # numbers initialised at a time
_HEADER = 16  # bytes of a journal entry before its body: how many records, and the body's checksum
_BLOCK = 4096  # bytes of records under one checksum: a page, which is what a changed record makes the disk write


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
        self._sizes = {"num_embeddings": count, "dim": dim, "slots": list(slots)}
        self._shape = (count, dim * (1 + len(slots)))
        self._per_block = max(1, _BLOCK // (4 * self._shape[1]))  # records
        try:
            self._path.mkdir(parents=True, exist_ok=True)
            self._lock = lock(self._path / "lock", wait=False)
        except LockedError:
            raise FileError(f"{self._path} is open in another process or Embedding; close that one first") from None
        except FileError as error:
            raise FileError(f"cannot open the folder {self._path}: {error}") from None
        except OSError as error:
            raise FileError(f"cannot open the folder {self._path}: {error.strerror}") from error
        try:
            self._recover_creation()
            if not self._meta_path().exists():
                self._create(dim, slots, init)
            self._open()
        except BaseException:
            self._lock.close()
            raise

    def _records_path(self) -> Path:
        return self._path / "records.npy"

    def _meta_path(self) -> Path:
        return self._path / "meta.json"

    # --- opening -----------------------------------------------------------------------------------

    def _recover_creation(self) -> None:
        """Records get their name after ``meta.json``: records without it are trained ones whose meta.json is lost."""
        new, there = self._path / "records.new", self._records_path().exists()
        if self._meta_path().exists() and not there and new.exists():
            new.rename(self._records_path())
        elif there and not self._meta_path().exists():
            raise FileError(
                f"{self._path} has records.npy and no meta.json; restore it from a copy, or remove the folder to begin anew"
            )

    def _create(self, dim: int, slots: Mapping[str, float], init: Any) -> None:
        path = self._path / "records.new"
        try:
            path.unlink(missing_ok=True)
            open_regular(path, os.O_RDWR | os.O_CREAT | os.O_EXCL).close()
            records = np.lib.format.open_memmap(path, "w+", np.float32, self._shape)
            # Without its blocks, a mapped file on a full disk kills the process (SIGBUS) when it is written.
            with open(path, "r+b") as stream:
                os.posix_fallocate(stream.fileno(), 0, os.fstat(stream.fileno()).st_size)
            _fill(records, dim, slots, init)
            records.flush()
            self.step = 0
            self._write_state(0, self._sums_of(records, np.arange(self._blocks())))
            path.rename(self._records_path())
            sync_folder(self._path)
        except OSError as error:
            with contextlib.suppress(OSError):
                path.unlink()
            if isinstance(error, FileError):
                raise
            raise FileError(f"cannot write {path}: {error.strerror}; free space or pass another path") from error

    def _open(self) -> None:
        meta = self._read_meta()
        try:
            found = {key: meta[key] for key in self._sizes}
            self.step, self._generation = int(meta["step"]), int(meta["generation"])
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise FileError(f"{self._meta_path()} is damaged ({error!r}); restore the folder from a copy") from error
        if found != self._sizes:
            raise FileError(
                f"{self._path} holds {found}, not {self._sizes}; pass its own sizes and optimizer, or another path"
            )
        try:
            self.records = self._map()
        except (OSError, ValueError, EOFError) as error:
            raise FileError(
                f"{self._records_path()} is missing, read-only or damaged ({error}); restore it from a copy"
            ) from error
        self._roll_back()
        self._check(meta["format"])
        self._start_journal()

    def _read_meta(self) -> dict[str, Any]:
        """What ``meta.json`` says; of an earlier version without the digest that it did not have."""
        text = read_bytes(self._meta_path()).decode("utf-8", "replace")
        old = parse_json(text, self._meta_path())
        if isinstance(old, dict) and old.get("format") == _EARLIER and "sha256" not in old:
            return old
        return {"format": _KIND, **read_record(self._meta_path(), _KIND)}

    def _map(self) -> np.ndarray:
        """The records, read page by page as they are touched: the rows of a batch lie far apart."""
        with open_regular(self._records_path(), os.O_RDWR) as stream:
            shape, fortran_order, dtype = read_array_header(stream, os.fstat(stream.fileno()).st_size)
            if shape != self._shape or dtype != np.float32:
                raise ValueError(f"{dtype} of shape {shape}, not {self._shape}")
            if fortran_order:
                raise ValueError("its rows are not contiguous")
            begin = stream.tell()
            self._mapped = mmap.mmap(stream.fileno(), 0)
        self._mapped.madvise(mmap.MADV_RANDOM)
        return np.frombuffer(self._mapped, np.float32, offset=begin).reshape(shape)

    # --- the checksums -----------------------------------------------------------------------------

    def _blocks(self) -> int:
        return -(-self._shape[0] // self._per_block)

    def _sums_of(self, records: np.ndarray, blocks: np.ndarray) -> np.ndarray:
        """CRC-32 of blocks of records, uint32."""
        content = records.data.cast("B")
        size = 4 * self._shape[1] * self._per_block
        starts = (blocks * size).tolist()
        return np.fromiter((zlib.crc32(content[start : start + size]) for start in starts), np.uint32, len(blocks))

    def _sums_path(self, generation: int) -> Path:
        return self._path / f"checksums.{generation}"

    def _check(self, kind: str) -> None:
        """Compare the records with their checksums; those of an earlier version get them now."""
        everything = np.arange(self._blocks())
        self._mapped.madvise(mmap.MADV_SEQUENTIAL)
        sums = self._sums_of(self.records, everything)
        self._mapped.madvise(mmap.MADV_RANDOM)
        if kind == _EARLIER:
            self._sums = sums
            self._write_state(self._generation, sums)
            return
        self._sums = read_arrays(self._sums_path(self._generation), _CHECKSUMS, ("sums",))["sums"]
        wrong = everything if self._sums.shape != sums.shape else np.flatnonzero(self._sums != sums)
        if len(wrong):
            first = int(wrong[0]) * self._per_block
            raise FileError(
                f"{self._records_path()} or its journal was damaged: {len(wrong)} of {len(everything)} blocks differ from "
                f"their checksums, the first at row {first}; restore the folder from a copy"
            )

    # --- the journal -------------------------------------------------------------------------------

    def _journal_path(self) -> Path:
        return self._path / f"journal.{self._generation}"

    def _start_journal(self) -> None:
        for pattern in ("journal.*", "checksums.*", ".*.part"):  # the third is what a flush that was killed leaves
            for old in self._path.glob(pattern):
                if old != self._sums_path(self._generation):
                    old.unlink()
        self._changed = np.zeros(self._shape[0], bool)
        create = os.O_RDWR | os.O_CREAT | os.O_EXCL  # never through a link that somebody has laid there
        self._journal: IO[bytes] | None = open_regular(self._journal_path(), create)

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
        """Put back what the journal remembers; an entry cut short belongs to a change that was not begun.

        What a damaged journal leaves undone, the checksums show.
        """
        try:
            stream = open_regular(self._journal_path())
        except MissingFileError:
            return
        with stream:
            rest = os.fstat(stream.fileno()).st_size
            while rest >= _HEADER:
                count, check = np.frombuffer(stream.read(_HEADER), np.int64).tolist()
                size = count * (8 + 4 * self._shape[1])
                rest -= _HEADER + size
                if count < 1 or rest < 0:
                    break
                body = stream.read(size)
                if zlib.crc32(body) != check:
                    break
                ids = np.frombuffer(body, np.int64, count)
                if not 0 <= ids.min() <= ids.max() < self._shape[0]:
                    break
                self.records[ids] = np.frombuffer(body, np.float32, offset=8 * count).reshape(count, -1)
        self._mapped.flush()

    def flush(self) -> None:
        """Make everything up to now what a later opening finds.

        Raises:
            FileError: it could not be written; a later opening finds the last complete flush.
        """
        if self._journal is None:
            raise FileError(f"{self._path} is closed; build a new Embedding of this path")
        changed = np.unique(np.flatnonzero(self._changed) // self._per_block)
        sums = self._sums.copy()
        sums[changed] = self._sums_of(self.records, changed)
        try:
            self._mapped.flush()
            self._write_state(self._generation + 1, sums)
        except OSError as error:
            raise FileError(f"cannot flush {self._path}: {error}") from error
        self._journal.close()
        self._journal = None
        self._generation, self._sums = self._generation + 1, sums
        self._start_journal()

    def _write_state(self, generation: int, sums: np.ndarray) -> None:
        """Make a generation the one that counts: its checksums first, then ``meta.json``."""
        write_arrays(self._sums_path(generation), _CHECKSUMS, {"sums": sums})
        write_record(self._meta_path(), _KIND, {**self._sizes, "step": self.step, "generation": generation})

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
