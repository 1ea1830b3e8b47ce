"""A table from string or integer keys to ids and back, on the host, a whole array at a time.

A lookup table is a resource: it cannot sink to the device, and MindSpore's own
`MapParameter` has no kernel on most backends (defect H2). Published ports fell back
to a Python dict, one key at a time. A `Table` answers whole arrays in NumPy: dense
integers by direct indexing, other keys by open addressing (`_index.py`), with
hashes that are the same in every process (`_hashing.py`).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from ascend_fixes.errors import AscendFixesError
from ascend_fixes.files import FileError, PathLike, parse_json, read_arrays, read_text, write_arrays
from ascend_fixes.host._index import ABSENT
from ascend_fixes.host._keys import IntegerKeys, KeysError, StringKeys

__all__ = ["FrozenError", "Table", "UnknownKeyError"]

_KIND, _EARLIER = "ascend_fixes.host.Table 2", "ascend_fixes.host.Table 1"


class UnknownKeyError(AscendFixesError, LookupError):
    """A key or an id that is not in the table, where the table has no answer for such."""


class FrozenError(AscendFixesError, TypeError):
    """Keys added to a table that does not grow."""


class Table:
    """Keys to ids, ids to keys.

    ``table(keys)`` gives the ids of any array, list or Tensor of keys, in its shape. A key that is not
    there gets ``default``, or one of ``num_oov_buckets`` ids past the table's own, chosen by a hash that
    is the same in every process; without either it raises `UnknownKeyError`.

    Args:
        keys: distinct strings (str, UTF-8 bytes, or arrays of dtype ``U``, ``S`` or object) or distinct
            64-bit integers, shape (n,); or a dict of keys and ids. An empty list makes a table of strings.
        values: their ids, distinct integers, shape (n,); None numbers the keys from 0.
        default: the id of unknown keys; a str means the id of that key, as in ``default="[UNK]"``.
        num_oov_buckets: how many ids unknown keys share: ``m, m + 1, ...`` with m the largest id plus one.
        frozen: whether `add` is refused.
        dtype: of the ids, ``numpy.int32`` or ``numpy.int64``.

    Raises:
        KeysError: keys that are duplicate, mixed, neither strings nor integers, not UTF-8, or that hold
            NUL; ids that are duplicate or do not fit the dtype; options that contradict each other.
    """

    def __init__(
        self,
        keys: Any,
        values: Any = None,
        default: int | str | None = None,
        num_oov_buckets: int = 0,
        frozen: bool = False,
        dtype: Any = np.int32,
    ) -> None:
        self._dtype = np.dtype(dtype)
        if self._dtype not in (np.dtype(np.int32), np.dtype(np.int64)):
            raise KeysError(f"dtype={dtype!r} is no dtype for ids; pass numpy.int32 or numpy.int64")
        if num_oov_buckets < 0 or (num_oov_buckets and default is not None):
            raise KeysError(
                f"num_oov_buckets={num_oov_buckets} with default={default!r}: pass one of the two, positive"
            )
        if isinstance(keys, Mapping):
            if values is not None:
                raise KeysError("keys is a dict, which holds the ids, and values are given too; pass one of the two")
            keys, values = list(keys), list(keys.values())
        vector = _vector(keys)
        self._store: Any = IntegerKeys() if vector.dtype.kind in "iu" else StringKeys()
        self._ids: IntegerKeys | None = None if values is None else IntegerKeys()
        self._buckets = int(num_oov_buckets)
        self._next = 0
        self.frozen = False
        self._extend(vector, None if values is None else _vector(values))
        self._default = self._default_id(default)
        self.frozen = bool(frozen)

    # --- other sources -------------------------------------------------------------------------

    @classmethod
    def from_file(cls, path: PathLike, **options: Any) -> Table:
        """A table of the lines of a UTF-8 vocabulary file, one key a line, the first line id 0.

        Raises:
            FileError: the file cannot be read, is not UTF-8, or has an empty or repeated line.
        """
        text = read_text(path)
        text = text[1:] if text.startswith("\ufeff") else text
        lines = [line[:-1] if line.endswith("\r") else line for line in text.split("\n")]
        if lines[-1] == "":
            lines.pop()
        if "" in lines:
            raise FileError(f"{path}, line {lines.index('') + 1} is empty; remove it")
        try:
            return cls(lines, **options)
        except KeysError as error:
            raise FileError(f"{path}: {error}") from None

    @classmethod
    def from_counts(
        cls,
        counts: Mapping[Any, int],
        size: int | None = None,
        minimum: int = 1,
        special: Iterable[Any] = (),
        **options: Any,
    ) -> Table:
        """A table of the most frequent keys: ``special`` first, then by falling count, equal counts by key.

        Args:
            counts: how often each key occurs, for example a `collections.Counter`.
            size: how many keys at most, special ones included.
            minimum: the least count of a key that is kept.
            special: keys that come first whatever their counts, as ``["[PAD]", "[UNK]"]``.
        """
        first = list(special)
        if size is not None and size < len(first):
            raise KeysError(f"size={size} holds fewer than the {len(first)} special keys; raise it")
        known = set(first)
        ranked = sorted((-count, key) for key, count in counts.items() if count >= minimum and key not in known)
        return cls([*first, *(key for _, key in ranked)][:size], **options)

    @classmethod
    def from_vocab(cls, vocab: Any, **options: Any) -> Table:
        """A table of the tokens and ids of a `mindspore.dataset.text.Vocab`."""
        items = sorted(vocab.vocab().items(), key=lambda item: item[1])
        return cls([token for token, _ in items], [id_ for _, id_ in items], **options)

    # --- looking up ----------------------------------------------------------------------------

    def __call__(self, keys: Any) -> Any:
        """The ids of keys, in the shape of ``keys`` and the table's dtype; a NumPy scalar for a single key.

        Raises:
            UnknownKeyError: a key is not there, and the table has neither default nor buckets.
            KeysError: keys of another kind than the table's, or bytes that are not UTF-8.
        """
        vector, shape = _query(keys, self._store.kind)
        ids, start = np.empty(len(vector), self._dtype), 0
        for part in self._store.parts(vector):
            ids[start : start + len(part)] = self._known_or_default(part)
            start += len(part)
        return ids.reshape(shape)[()]

    def _known_or_default(self, part: Any) -> np.ndarray:
        positions = self._store.find(part)
        missing = np.flatnonzero(positions == ABSENT)
        ids = positions if self._ids is None else self._ids.at(positions) if len(self._ids) else positions
        if not len(missing):
            return ids
        unknown = self._store.take(part, missing)
        if self._buckets:
            ids[missing] = self._next + (self._store.hashes(unknown) % np.uint64(self._buckets)).astype(np.int64)
        elif self._default is not None:
            ids[missing] = self._default
        else:
            first = unknown[0] if self._store.kind == "int" else unknown.strings()[0]
            raise UnknownKeyError(
                f"{len(missing)} keys are not in the table, the first is {_shown(first)}; "
                "give the table a default or num_oov_buckets, or add them"
            )
        return ids

    def keys(self, ids: Any, default: Any = None) -> Any:
        """The keys of ids, in their shape: dtype int64, ``U``, or object where a string is long.

        Args:
            ids: integers.
            default: stands for ids that have no key, such as those of the buckets; None raises instead.

        Raises:
            UnknownKeyError: an id has no key.
        """
        vector, shape = _query(ids, "int")
        (vector,) = IntegerKeys.parts(vector)
        known = (vector >= 0) & (vector < len(self._store))
        positions = np.where(known, vector, ABSENT) if self._ids is None else self._ids.find(vector)
        missing = positions == ABSENT
        if not missing.any():
            return self._store.at(positions).reshape(shape)[()]
        if default is None:
            raise UnknownKeyError(f"id {vector[missing][0]} has no key; pass default= for the keys of such ids")
        found = np.full(len(vector), default, object if self._store.kind == "str" else np.int64)
        found[~missing] = self._store.at(positions[~missing])
        return found.reshape(shape)[()]

    def __contains__(self, key: Any) -> bool:
        vector, _ = _query(key, self._store.kind)
        if len(vector) != 1:
            raise KeysError(f"`in` asks for one key, got {len(vector)}; call the table on many")
        (part,) = self._store.parts(vector)
        return bool(self._store.find(part)[0] != ABSENT)

    def __len__(self) -> int:
        """How many keys there are."""
        return len(self._store)

    @property
    def size(self) -> int:
        """The largest id plus one, buckets included: the rows that an embedding of these ids needs."""
        return self._next + self._buckets

    def __repr__(self) -> str:
        unknown = f"num_oov_buckets={self._buckets}" if self._buckets else f"default={self._default}"
        return f"Table({len(self)} {self._store.kind} keys, {unknown}, frozen={self.frozen})"

    # --- growing -------------------------------------------------------------------------------

    def add(self, keys: Any) -> Any:
        """The ids of keys, as a call gives them; keys that are not there are added and numbered on, in their order.

        Raises:
            FrozenError: the table is frozen, or has buckets, whose ids would move.
            KeysError: as the constructor; nothing was added.
        """
        if self.frozen or self._buckets:
            why = "is frozen" if self.frozen else "has out-of-vocabulary buckets, whose ids follow its own"
            raise FrozenError(f"the table {why}; build a new one with these keys")
        vector, shape = _query(keys, self._store.kind)
        ids, start = np.empty(len(vector), self._dtype), 0
        parts = self._checked_parts(vector)
        room = np.iinfo(self._dtype).max - self._next
        if len(vector) > room:
            raise KeysError(f"{len(vector)} more keys may pass the largest {self._dtype} id; use dtype=numpy.int64")
        for part in parts:
            self._add_part(part)
            ids[start : start + len(part)] = self._known_or_default(part)
            start += len(part)
        return ids.reshape(shape)[()]

    def _checked_parts(self, vector: np.ndarray) -> list[Any]:
        """All parts of a vector, each known to hold nothing that cannot be added."""
        parts = list(self._store.parts(vector))
        for part in parts:
            self._store.check(part)
        return parts

    def _add_part(self, part: Any) -> None:
        unknown = self._store.take(part, np.flatnonzero(self._store.find(part) == ABSENT))
        if len(unknown):
            new = self._store.take(unknown, self._store.distinct(unknown))
            self._store.append(new)
            if self._ids is not None:
                self._ids.append(np.arange(self._next, self._next + len(new)))
            self._next += len(new)

    def _extend(self, vector: np.ndarray, values: np.ndarray | None) -> None:
        """Fill a new table."""
        if values is not None:
            self._number(vector, values)
        for part in self._checked_parts(vector):
            if (self._store.find(part) != ABSENT).any() or len(self._store.distinct(part)) < len(part):
                raise KeysError(f"key {_shown(self._repeated(part))} occurs twice; remove one")
            self._store.append(part)
        if values is None:
            self._next = len(self._store)
            if self.size - 1 > np.iinfo(self._dtype).max:
                raise KeysError(f"{self.size} ids do not fit {self._dtype}; use dtype=numpy.int64")

    def _repeated(self, part: Any) -> Any:
        """A key of the part that is in the store already, or twice in the part."""
        twice = np.ones(len(part), bool)
        twice[self._store.distinct(part)] = False
        rows = np.flatnonzero(twice | (self._store.find(part) != ABSENT))[:1]
        one = self._store.take(part, rows)
        return one[0] if self._store.kind == "int" else one.strings()[0]

    def _number(self, vector: np.ndarray, values: np.ndarray) -> None:
        """Take the ids of a new table."""
        if values.dtype.kind not in "iu" and len(values):
            raise KeysError(f"values have dtype {values.dtype}; ids are integers")
        if len(values) != len(vector):
            raise KeysError(f"there are {len(vector)} keys and {len(values)} values; pass one id a key")
        (ids,) = IntegerKeys.parts(values)
        if len(IntegerKeys.distinct(ids)) < len(ids):
            repeated = np.delete(ids, IntegerKeys.distinct(ids))[0]
            raise KeysError(f"id {repeated} is given to two keys; ids must be distinct")
        self._next = int(ids.max(initial=-1)) + 1
        limits = np.iinfo(self._dtype)
        if len(ids) and (ids.min() < limits.min or self.size - 1 > limits.max):
            raise KeysError(f"ids from {ids.min()} to {self.size - 1} do not fit {self._dtype}; use numpy.int64")
        assert self._ids is not None
        self._ids.append(ids)

    def _default_id(self, default: int | str | None) -> int | None:
        if default is None:
            return None
        if isinstance(default, str):
            if self._store.kind != "str" or default not in self:
                raise KeysError(f"default={default!r} is not a key of the table; add it or pass an id")
            return int(self(default))
        if isinstance(default, bool) or not isinstance(default, (int, np.integer)):
            raise KeysError(f"default={default!r} is no id; pass an integer or one of the keys")
        limits = np.iinfo(self._dtype)
        if not limits.min <= default <= limits.max:
            raise KeysError(f"default={default} does not fit {self._dtype}; use dtype=numpy.int64")
        return int(default)

    # --- files ---------------------------------------------------------------------------------

    def save(self, path: PathLike) -> None:
        """Write the table to an npz file, without pickle; whoever reads sees the old file or the new one.

        Raises:
            FileError: the folder is missing, read-only or full; the old file is unchanged.
        """
        settings = {
            "keys": self._store.kind,
            "default": self._default,
            "num_oov_buckets": self._buckets,
            "frozen": self.frozen,
            "dtype": self._dtype.name,
        }
        arrays = {"settings": np.array(json.dumps(settings)), **self._store.pack()}
        if self._ids is not None:
            arrays["values"] = self._ids.pack()["keys"]
        write_arrays(path, _KIND, arrays)

    @classmethod
    def load(cls, path: PathLike) -> Table:
        """Read what `save` wrote.

        Raises:
            FileError: the file is missing, truncated, damaged, or holds something else.
        """
        optional = ("keys", "utf8", "ends", "values")
        arrays = read_arrays(path, _KIND, ("settings",), earlier=_EARLIER, optional=optional)
        try:
            settings = parse_json(str(arrays["settings"]), path)
            keys = (IntegerKeys if settings.pop("keys") == "int" else StringKeys).unpack(arrays)
            return cls(keys, arrays.get("values"), **settings)
        except (KeysError, LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
            raise FileError(
                f"{path} holds a table that contradicts itself ({error}); restore it from a copy"
            ) from error


def _shown(key: Any) -> str:
    """A key for a message."""
    text = repr(key.item() if isinstance(key, np.generic) else key)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _plain(keys: Any) -> Any:
    """NumPy data from a Tensor; anything else as it is."""
    return keys.asnumpy() if hasattr(keys, "asnumpy") else keys


def _vector(keys: Any) -> np.ndarray:
    """A vector of keys to build from: integers or strings."""
    keys = _plain(keys)
    if not isinstance(keys, np.ndarray):
        if isinstance(keys, (str, bytes)) or not isinstance(keys, Iterable):
            raise KeysError(f"keys={keys!r} is one key; pass a sequence of keys")
        items = list(keys)
        numbers = all(isinstance(item, (int, np.integer)) and not isinstance(item, bool) for item in items)
        try:
            keys = np.array(items, None if numbers and items else object)
        except OverflowError:
            raise KeysError("a key does not fit 64 bits; renumber the keys or pass them as strings") from None
    if keys.ndim != 1:
        raise KeysError(f"keys have shape {keys.shape}; pass a vector")
    if keys.dtype.kind not in "iuUSO" and keys.size:
        raise KeysError(f"keys have dtype {keys.dtype}; they must be strings or integers")
    return keys.astype(object) if keys.dtype.kind == "f" else keys  # an empty list is float64


def _query(keys: Any, kind: str) -> tuple[np.ndarray, tuple[int, ...]]:
    """Keys to look for as a vector, and their shape."""
    keys = _plain(keys)
    if not isinstance(keys, np.ndarray):
        try:
            keys = np.array(keys, object if kind == "str" else None)
        except (OverflowError, ValueError) as error:
            raise KeysError(f"the keys are ragged or too large ({error}); pass a rectangular array") from None
    return keys.reshape(-1), keys.shape
