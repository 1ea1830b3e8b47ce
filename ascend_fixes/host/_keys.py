"""What a `Table` holds: distinct keys in the order they came, each found by its position.

Two kinds with the same methods: `IntegerKeys` and `StringKeys`. A query goes
through ``parts``, which checks it and cuts it into blocks in the form that the
other methods take.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from ascend_fixes.errors import AscendFixesError
from ascend_fixes.host._hashing import hash_integers, hash_strings
from ascend_fixes.host._index import ABSENT, DirectIndex, HashIndex

__all__ = ["IntegerKeys", "KeysError", "StringKeys", "Text"]

_BLOCK = 1 << 15
_NUL = "a key holds the character NUL, which NumPy drops from the end of strings; remove it"


class KeysError(AscendFixesError, ValueError):
    """Keys of a kind, shape or content that a table cannot hold or be asked for."""


def _first_places(hashes: np.ndarray) -> np.ndarray:
    """Where each distinct hash stands first, ascending."""
    return np.sort(np.unique(hashes, return_index=True)[1])


class IntegerKeys:
    """Distinct 64-bit integers. Dense ranges are indexed directly, all others hashed."""

    kind = "int"

    def __init__(self) -> None:
        self._keys = np.empty(0, np.int64)
        self._count = 0
        self._index: DirectIndex | HashIndex = DirectIndex(0, 0)

    def __len__(self) -> int:
        return self._count

    @staticmethod
    def parts(keys: np.ndarray) -> Iterator[np.ndarray]:
        """The whole query at once, as int64."""
        if not np.issubdtype(keys.dtype, np.integer) and len(keys):
            raise KeysError(f"the keys of this table are integers, got dtype {keys.dtype}; pass an integer array")
        if keys.dtype == np.uint64 and len(keys) and keys.max() > np.iinfo(np.int64).max:
            raise KeysError(f"key {keys.max()} does not fit 64 bits with a sign; renumber or reinterpret the keys")
        yield np.ascontiguousarray(keys, np.int64)

    @staticmethod
    def hashes(keys: np.ndarray) -> np.ndarray:
        return hash_integers(keys)

    def find(self, keys: np.ndarray) -> np.ndarray:
        """The position of each key, int64, or `ABSENT`."""
        return self._index.find(hash_integers(keys) if isinstance(self._index, HashIndex) else keys)

    @staticmethod
    def distinct(keys: np.ndarray) -> np.ndarray:
        """Where each distinct key stands first, ascending."""
        return _first_places(keys)

    @staticmethod
    def take(keys: np.ndarray, rows: np.ndarray) -> np.ndarray:
        return keys[rows]

    @staticmethod
    def check(keys: np.ndarray) -> None:
        """Every integer can be held."""

    def append(self, keys: np.ndarray) -> None:
        """Add distinct keys that are not there yet."""
        count = self._count + len(keys)
        if count > len(self._keys):
            self._keys = np.concatenate([self._keys[: self._count], np.empty(max(len(keys), self._count), np.int64)])
        self._keys[self._count : count] = keys
        if not self._fits(keys):
            self._reindex(count)
        elif isinstance(self._index, HashIndex):
            self._index.insert(hash_integers(keys), np.arange(self._count, count))
        else:
            self._index.insert(keys, np.arange(self._count, count))
        self._count = count

    def _fits(self, keys: np.ndarray) -> bool:
        """Can the index take these as it is?"""
        return (
            isinstance(self._index, HashIndex) or not len(keys) or self._index.holds(int(keys.min()), int(keys.max()))
        )

    def _reindex(self, count: int) -> None:
        """Index the first ``count`` keys afresh: directly where they fill an eighth of their range, else hashed."""
        keys = self._keys[:count]
        low, high = int(keys.min()), int(keys.max())
        span = high - low + 1
        if span <= 8 * count + 1024:
            room = span if self._count == 0 else 2 * span  # a growing table doubles, so that growth costs little
            low = min(low, max(high - room + 1, np.iinfo(np.int64).min)) if keys[-1] == low else low
            self._index = DirectIndex(low, room)
            self._index.insert(keys, np.arange(count))
        else:
            self._index = HashIndex(count)
            self._index.insert(hash_integers(keys), np.arange(count))

    def at(self, positions: np.ndarray) -> np.ndarray:
        return self._keys[: self._count][positions]

    def pack(self) -> dict[str, np.ndarray]:
        """The keys as plain arrays for a file."""
        return {"keys": self._keys[: self._count]}

    @staticmethod
    def unpack(arrays: dict[str, np.ndarray]) -> np.ndarray:
        keys = arrays["keys"]
        if keys.dtype != np.int64 or keys.ndim != 1:
            raise KeysError(f"keys are {keys.dtype} of {keys.ndim} dimensions, not a vector of int64")
        return keys


class Text:
    """A block of strings: code points in a matrix, and the few strings too long for it on their own.

    Attributes:
        points: uint32 of shape (rows, width), zeros at the end; a row of zeros for a long string.
        long: the long strings by row.
    """

    WIDEST = 64  # characters; longer strings would make the matrix of a whole vocabulary too large

    def __init__(self, points: np.ndarray, long: dict[int, str]) -> None:
        self.points = points
        self.long = long

    def __len__(self) -> int:
        return len(self.points)

    def take(self, rows: np.ndarray) -> Text:
        places = {int(row): place for place, row in enumerate(rows)} if self.long else {}
        return Text(self.points[rows], {places[row]: text for row, text in self.long.items() if row in places})

    def strings(self) -> np.ndarray:
        """The strings as an array: dtype ``U``, or object where there are long ones."""
        short = self.points.view(f"U{self.points.shape[1]}").reshape(-1)
        if not self.long:
            return short
        mixed = short.astype(object)
        for row, text in self.long.items():
            mixed[row] = text
        return mixed

    @staticmethod
    def of(strings: Sequence[str]) -> Text:
        """Convert a list of str."""
        lengths = np.fromiter(map(len, strings), np.int64, len(strings))
        rows = np.flatnonzero(lengths > Text.WIDEST)
        long = {int(row): strings[row] for row in rows}
        if long:
            strings = ["" if row in long else text for row, text in enumerate(strings)]
            lengths[rows] = 0
        joined = np.frombuffer("".join(strings).encode("utf-32-le", "surrogatepass"), np.uint32)
        points = np.zeros((len(strings), max(1, int(lengths.max(initial=0)))), np.uint32)
        points[np.arange(points.shape[1]) < lengths[:, None]] = joined
        if not joined.all() or any("\0" in text for text in long.values()):
            raise KeysError(_NUL)
        return Text(points, long)


class StringKeys:
    """Distinct strings, kept as UCS-4 in one matrix and indexed by hash; equality is checked on the strings."""

    kind = "str"

    def __init__(self) -> None:
        self._points = np.zeros((0, 1), np.uint32)
        self._count = 0
        self._index = HashIndex()
        self._long: dict[str, int] = {}  # position by string
        self._long_at: dict[int, str] = {}

    def __len__(self) -> int:
        return self._count

    @staticmethod
    def parts(keys: np.ndarray) -> Iterator[Text]:
        """Blocks of the query, a vector of dtype ``U``, ``S`` (UTF-8) or object (str and bytes)."""
        if keys.dtype.kind not in "USO" and len(keys):
            raise KeysError(f"the keys of this table are strings, got dtype {keys.dtype}; pass strings")
        narrow = keys.dtype.kind == "U" and keys.dtype.itemsize <= 4 * Text.WIDEST
        for start in range(0, len(keys), _BLOCK):
            block = keys[start : start + _BLOCK]
            if narrow:
                width = max(1, keys.dtype.itemsize // 4)
                yield Text(np.ascontiguousarray(block, f"U{width}").view(np.uint32).reshape(-1, width), {})
            else:
                yield Text.of(_decoded(block.tolist(), start))

    @staticmethod
    def hashes(keys: Text) -> np.ndarray:
        hashes = hash_strings(keys.points)
        for row, text in keys.long.items():
            hashes[row] = hash_strings(np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)[None])[0]
        return hashes

    def find(self, keys: Text) -> np.ndarray:
        """The position of each key, int64, or `ABSENT`."""
        query, width = keys.points, self._points.shape[1]
        held = self._points.view(f"U{width}").reshape(-1)
        strings = query.view(f"U{query.shape[1]}").reshape(-1)
        found = self._index.find(hash_strings(query), lambda rows, places: strings[rows] == held[places])
        for row, text in keys.long.items():
            found[row] = self._long.get(text, ABSENT)
        return found

    def distinct(self, keys: Text) -> np.ndarray:
        """Where each distinct key stands first, ascending."""
        hashes = self.hashes(keys)
        _, first, inverse = np.unique(hashes, return_index=True, return_inverse=True)
        strings = keys.strings()
        if (strings == strings[first[inverse]]).all():
            return np.sort(first)
        seen: dict[str, int] = {}  # two strings with one hash: rare enough for a dict
        for row, text in enumerate(strings.tolist()):
            seen.setdefault(text, row)
        return np.fromiter(seen.values(), np.int64, len(seen))

    @staticmethod
    def take(keys: Text, rows: np.ndarray) -> Text:
        return keys.take(rows)

    @staticmethod
    def check(keys: Text) -> None:
        """Raise `KeysError` for a string that cannot be held: one that UTF-8 cannot write, or with a NUL inside."""
        points = keys.points
        if len(points) and (points[:, :-1] == 0)[points[:, 1:] != 0].any():
            raise KeysError(_NUL)
        if ((points >= 0xD800) & (points <= 0xDFFF)).any() or keys.long:
            for text in keys.strings().tolist():
                try:
                    text.encode("utf-8")
                except UnicodeEncodeError:
                    raise KeysError(f"key {text[:40]!r} holds half a surrogate pair; decode it") from None

    def append(self, keys: Text) -> None:
        """Add distinct keys that are not there yet."""
        count = self._count + len(keys)
        self._reserve(count, keys.points.shape[1])
        self._points[self._count : count, : keys.points.shape[1]] = keys.points
        positions = np.arange(self._count, count)
        for row, text in keys.long.items():
            self._long[text] = int(positions[row])
            self._long_at[int(positions[row])] = text
        short = np.ones(len(keys), bool)
        short[list(keys.long)] = False
        self._index.insert(hash_strings(keys.points[short]), positions[short])
        self._count = count

    def _reserve(self, count: int, width: int) -> None:
        rows, columns = self._points.shape
        if count > rows or width > columns:
            room = count if not rows else max(count, 2 * rows if count > rows else rows)
            points = np.zeros((room, max(width, columns)), np.uint32)
            points[: self._count, :columns] = self._points[: self._count]
            self._points = points

    def at(self, positions: np.ndarray) -> np.ndarray:
        long = {}
        if self._long_at:
            wanted = np.flatnonzero(np.isin(positions, list(self._long_at)))
            long = {int(row): self._long_at[int(positions[row])] for row in wanted}
        return Text(self._points[: self._count][positions], long).strings()

    def pack(self) -> dict[str, np.ndarray]:
        """The keys as plain arrays for a file: UTF-8 without separators, and the end of each key in it."""
        encoded = [text.encode("utf-8") for text in self.at(np.arange(self._count)).tolist()]
        ends = np.cumsum(np.fromiter(map(len, encoded), np.int64, len(encoded)))
        return {"utf8": np.frombuffer(b"".join(encoded), np.uint8), "ends": ends}

    @staticmethod
    def unpack(arrays: dict[str, np.ndarray]) -> np.ndarray:
        blob, ends = arrays["utf8"], arrays["ends"]
        bounds = np.concatenate([[0], ends])
        if blob.dtype != np.uint8 or ends.dtype != np.int64 or (np.diff(bounds) < 0).any() or bounds[-1] != len(blob):
            raise KeysError("the ends of the keys do not divide their text")
        raw = blob.tobytes()
        return _objects([raw[start:end] for start, end in zip(bounds[:-1].tolist(), bounds[1:].tolist())])


def _decoded(items: list, start: int) -> list[str]:
    """str as they are, bytes as UTF-8."""
    if set(map(type, items)) <= {str}:
        return items
    return [_decode(item, start + row) for row, item in enumerate(items)]


def _decode(item: Any, row: int) -> str:
    if isinstance(item, str):
        return str(item)
    if not isinstance(item, bytes):
        raise KeysError(f"the keys of this table are strings, got {item!r} at row {row}; pass str or UTF-8 bytes")
    try:
        return item.decode("utf-8")
    except UnicodeDecodeError:
        raise KeysError(f"key {item[:40]!r} at row {row} is not UTF-8; decode it with its own encoding") from None


def _objects(items: list) -> np.ndarray:
    """A vector that holds Python objects as they are."""
    vector = np.empty(len(items), object)
    vector[:] = items
    return vector
