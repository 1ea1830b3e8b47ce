"""Where the rows of an `Embedding` and their optimizer state lie: in memory, or in a folder of mapped files.

A folder holds ``rows.npy`` and a file a slot, all written in place through memory
maps, so a table may be larger than memory. What makes that safe is an undo journal:
before a row is changed for the first time since the last flush, its old content is
appended to ``journal.<generation>``. Opening a folder whose journal is not empty puts
the old content back, so after a crash, in the middle of a flush too, everything is
as the last complete flush left it. A flush is complete when the new ``meta.json``,
which names the next generation, takes the place of the old one. This holds when the
process is killed; a power failure between flushes is not covered, since the journal
is not synced to the disk at every step.
"""

from __future__ import annotations

import fcntl
import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, Optional

import numpy as np

from ascend_fixes.host._files import FileError, PathLike, replacing, sync_folder

__all__ = ["Folder", "Memory"]

_KIND = "ascend_fixes.host.Embedding 1"
_CHUNK = 1 << 22  # numbers initialised at a time


class Memory:
    """Rows and slots as plain arrays."""

    def __init__(self, count: int, dim: int, slots: Mapping[str, float], init: Any) -> None:
        self.arrays = {"rows": np.empty((count, dim), np.float32)}
        for name, value in slots.items():
            self.arrays[name] = (
                np.full((count, dim), value, np.float32) if value else np.zeros((count, dim), np.float32)
            )
        _fill(self.arrays["rows"], init)
        self.step = 0

    def before_change(self, ids: np.ndarray) -> None:
        """Nothing to remember."""

    def flush(self) -> None:
        """Nothing to write."""

    def close(self) -> None:
        """Nothing to close."""


class Folder:
    """Rows and slots in the mapped files of a folder; opened by one process at a time."""

    def __init__(self, path: PathLike, count: int, dim: int, slots: Mapping[str, float], init: Any) -> None:
        self._path = Path(path)
        wanted = {"format": _KIND, "num_embeddings": count, "dim": dim, "slots": sorted(slots)}
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
                self._create(wanted, slots, init)
            self._open(wanted)
        except BaseException:
            self._lock.close()
            raise

    def _create(self, wanted: dict, slots: Mapping[str, float], init: Any) -> None:
        shape = (wanted["num_embeddings"], wanted["dim"])
        try:
            for name, value in {"rows": None, **slots}.items():
                array = np.lib.format.open_memmap(self._path / f"{name}.npy", "w+", np.float32, shape)
                if name == "rows":
                    _fill(array, init)
                elif value:
                    _fill(array, float(value))
                array.flush()
        except OSError as error:
            raise FileError(f"cannot write {self._path}: {error.strerror}; free space or pass another path") from error
        self._write_meta({**wanted, "step": 0, "generation": 0})

    def _open(self, wanted: dict) -> None:
        try:
            meta = json.loads((self._path / "meta.json").read_text(encoding="utf-8"))
            found = {key: meta[key] for key in wanted}
            self.step, self._generation = int(meta["step"]), int(meta["generation"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise FileError(f"{self._path}/meta.json is damaged ({error}); restore the folder from a copy") from error
        if found != wanted:
            raise FileError(
                f"{self._path} holds {found}, not {wanted}; pass its own sizes and optimizer, or another path"
            )
        self._meta, self.arrays = wanted, {}
        shape = (wanted["num_embeddings"], wanted["dim"])
        for name in ("rows", *wanted["slots"]):
            try:
                array = np.lib.format.open_memmap(self._path / f"{name}.npy", "r+")
            except (OSError, ValueError, EOFError) as error:
                raise FileError(
                    f"{self._path}/{name}.npy is missing or damaged ({error}); restore it from a copy"
                ) from error
            if array.shape != shape or array.dtype != np.float32:
                raise FileError(f"{self._path}/{name}.npy has shape {array.shape}, not {shape}; restore it from a copy")
            self.arrays[name] = array
        self._roll_back()
        self._start_journal()

    def _journal_path(self) -> Path:
        return self._path / f"journal.{self._generation}"

    def _start_journal(self) -> None:
        for old in self._path.glob("journal.*"):
            old.unlink()
        self._changed = np.zeros(self._meta["num_embeddings"], bool)
        self._journal: Optional[IO[bytes]] = open(self._journal_path(), "wb", buffering=0)  # noqa: SIM115

    def before_change(self, ids: np.ndarray) -> None:
        """Remember rows that are changed for the first time since the last flush."""
        ids = ids[~self._changed[ids]]
        if not len(ids):
            return
        body = b"".join([ids.astype(np.int64).tobytes(), *(self.arrays[name][ids].tobytes() for name in self._names())])
        try:
            assert self._journal is not None
            end = self._journal.tell()
            record = np.array([len(ids), zlib.crc32(body)], np.int64).tobytes() + body
            if self._journal.write(record) != len(record):
                self._journal.truncate(end)
                raise OSError(28, "No space left on device")
        except OSError as error:
            raise FileError(f"cannot write {self._journal_path()}: {error.strerror}; the rows are unchanged") from error
        self._changed[ids] = True

    def _names(self) -> list[str]:
        return ["rows", *self._meta["slots"]]

    def _roll_back(self) -> None:
        """Put back what the journal remembers; a record cut short belongs to a change that was not begun."""
        try:
            data = self._journal_path().read_bytes()
        except FileNotFoundError:
            return
        dim, names, offset = self._meta["dim"], self._names(), 0
        while offset + 16 <= len(data):
            count, check = np.frombuffer(data, np.int64, 2, offset)
            size = int(count) * (8 + 4 * dim * len(names))
            body = data[offset + 16 : offset + 16 + size]
            if len(body) < size or zlib.crc32(body) != check:
                break
            ids = np.frombuffer(body, np.int64, count)
            for place, name in enumerate(names):
                old = np.frombuffer(body, np.float32, count * dim, 8 * int(count) + 4 * place * int(count) * dim)
                self.arrays[name][ids] = old.reshape(-1, dim)
            offset += 16 + size
        for array in self.arrays.values():
            array.flush()

    def flush(self) -> None:
        """Make everything up to now what a later opening finds.

        Raises:
            FileError: it could not be written; a later opening finds the last complete flush.
        """
        try:
            for array in self.arrays.values():
                array.flush()
            self._write_meta({**self._meta, "step": self.step, "generation": self._generation + 1})
        except OSError as error:
            raise FileError(f"cannot flush {self._path}: {error}") from error
        if self._journal is not None:
            self._journal.close()
        self._generation += 1
        self._start_journal()

    def _write_meta(self, meta: dict) -> None:
        with replacing(self._path / "meta.json") as stream:
            stream.write(json.dumps(meta).encode())
        sync_folder(self._path)

    def close(self) -> None:
        """Let go of the files without a flush."""
        if self._journal is not None:
            self._journal.close()
            self._journal = None
            self._lock.close()


def _fill(array: np.ndarray, init: Any) -> None:
    """Write the first content: an array, one number, or 0.01 times a generator's normal numbers, part by part."""
    if isinstance(init, (float, np.ndarray)):
        array[...] = init
        return
    rows = max(1, _CHUNK // array.shape[1])
    for start in range(0, len(array), rows):
        part = array[start : start + rows]
        part[...] = init.standard_normal(part.shape, np.float32) * np.float32(0.01)
