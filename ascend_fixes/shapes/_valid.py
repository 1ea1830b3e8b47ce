"""The part of a result that belongs to the batch itself, and not to its padding.

Nobody says which axes of a result are ragged. Between two widths it shows: an axis that has the batch's own length
in one run and the padded size in the other is. At one width, where the rows' own lengths are known, an axis as long as
the batch is taken for one, and what lies beyond a row's end is dead. An axis of rows times length, as after a reshape
for a dense layer, is taken apart.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from mindspore import Tensor, ops

__all__ = ["Lengths", "Own", "leaves", "rebuilt"]

Lengths = Mapping[str, int]
Places = tuple[np.ndarray, np.ndarray]  # of the same elements, in the batch's own result and in the padded one


def leaves(output: Any, path: str = "") -> dict[str, Tensor]:
    """The Tensors in an output by their place: ``""``, ``"[1]"``, ``"['states'][0]"``."""
    if isinstance(output, Tensor):
        return {path: output}
    found: dict[str, Tensor] = {}
    for key, value in _items(output):
        found.update(leaves(value, f"{path}[{key!r}]"))
    return found


def rebuilt(output: Any, values: Mapping[str, Any], path: str = "") -> Any:
    """``output`` with the Tensors at the places in ``values`` replaced."""
    if isinstance(output, Tensor):
        return values.get(path, output)
    parts = {key: rebuilt(value, values, f"{path}[{key!r}]") for key, value in _items(output)}
    if isinstance(output, dict):
        return parts
    if isinstance(output, (tuple, list)):
        return type(output)(*parts.values()) if hasattr(output, "_fields") else type(output)(parts.values())
    return output


def _items(output: Any) -> Iterator[tuple[Any, Any]]:
    if isinstance(output, (tuple, list)):
        return iter(enumerate(output))
    return iter(output.items() if isinstance(output, dict) else ())


@dataclass(frozen=True)
class Own:
    """Which elements of results belong to the batch.

    Attributes:
        lengths: the batch's own, by name.
        sizes: what they are padded to; the same where garbage was put in place.
        rows: the length of every row, by name, as far as they are known.
    """

    lengths: Lengths
    sizes: Lengths
    rows: Mapping[str, np.ndarray] = field(default_factory=dict)

    def fits(self, shape: tuple, wide: tuple) -> bool:
        """Whether a result of shape ``wide`` can be read as one of ``shape``."""
        return bool(self.readings(tuple(shape), tuple(wide))[1])

    def difference(self, own: np.ndarray, padded: np.ndarray) -> float:
        """The largest change of what belongs to the batch, relative to the largest value; infinity for another shape."""
        lead, readings = self.readings(own.shape, padded.shape)
        flat, wide = _two_axes(own, lead), _two_axes(padded, lead)
        return min((_relative(flat[here], wide[there]) for here, there in readings), default=float("inf"))

    def differs(self, shape: tuple, one: np.ndarray, other: np.ndarray, tolerance: float) -> bool:
        """Whether two padded results differ in what belongs to the batch, whose own result has ``shape``."""
        return not self.between(shape, one, other) <= tolerance

    def between(self, shape: tuple, one: np.ndarray, other: np.ndarray) -> float:
        """The largest difference of two padded results in what belongs to the batch, whose own result has ``shape``."""
        lead, readings = self.readings(shape, one.shape)
        first, second = _two_axes(one, lead), _two_axes(other, lead)
        return max((_relative(first[there], second[there]) for _, there in readings[:1]), default=0.0)

    def restored(self, own: np.ndarray, padded: np.ndarray) -> np.ndarray:
        """``padded`` with what belongs to the batch as it is in ``own``."""
        lead, readings = self.readings(own.shape, padded.shape)
        flat, wide = _two_axes(own, lead), _two_axes(padded, lead).copy()
        if readings:
            here, there = min(readings, key=lambda reading: _relative(flat[reading[0]], wide[reading[1]]))
            wide[there] = flat[here]
        return wide.reshape(padded.shape)

    def part(self, value: Tensor, shape: tuple) -> Tensor:
        """What belongs to the batch of the padded result whose own shape is ``shape``; differentiable, in two axes."""
        lead, readings = self.readings(tuple(shape), tuple(value.shape))
        flat = value.reshape(math.prod(value.shape[:lead]), -1)
        return ops.gather(flat, Tensor(readings[0][1].astype(np.int32)), 0)

    def is_ragged(self, shape: tuple, wide: tuple) -> bool:
        """Whether a result has a ragged axis: one that padding made longer; at one width, one as long as the batch."""
        if dict(self.sizes) != dict(self.lengths):
            return tuple(shape) != tuple(wide)
        lengths, rows = set(self.lengths.values()), self._count()
        return any(size in lengths for size in shape[1:]) or any(shape[:1] == (rows * size,) for size in lengths)

    def readings(self, shape: tuple, wide: tuple) -> tuple[int, list[Places]]:
        """How many leading axes tell what belongs to the batch, and where in these, flattened, it lies.

        More than one reading where rows and length share an axis; none where the shapes do not correspond.
        """
        if len(shape) != len(wide):
            return 0, []
        lead = max((axis + 1 for axis, pair in enumerate(zip(shape, wide)) if pair[0] != pair[1]), default=0)
        alive = self._alive(shape) if self.rows else []
        lead = max([lead, *(part.ndim for part in alive)])
        alive = [part.reshape(part.shape + (1,) * (lead - part.ndim)) for part in alive]
        masks = [np.broadcast_to(part, shape[:lead]).reshape(-1) for part in alive] or [
            np.ones(math.prod(shape[:lead]), bool)
        ]
        places = np.arange(math.prod(wide[:lead])).reshape(wide[:lead])
        cuts = [cut.reshape(-1) for cut in _valid(places, shape[:lead], self.lengths, self.sizes)]
        return lead, [(np.flatnonzero(mask), cut[mask]) for cut in cuts for mask in masks]

    def _count(self) -> int:
        return next((len(rows) for rows in self.rows.values()), 0)

    def _alive(self, shape: tuple) -> list[np.ndarray]:
        """Readings of the leading axes of a result: True where it belongs to a row, before the row's end."""
        count = self._count()
        living = np.max([rows > 0 for rows in self.rows.values()], axis=0)
        found = []
        if shape[:1] == (count,):
            found.append(self._beside(shape, 0, living))
        for name, rows in self.rows.items():
            own = self.lengths[name]
            inside = np.arange(own) < rows[:, None]
            if shape[:2] == (own, count):
                found.append(self._beside(shape, 1, living))
            if count != 1 and shape[:1] == (count * own,):
                found += [inside.reshape(-1), inside.T.reshape(-1)]
            elif shape[:1] == (count * own,):
                found.append(inside.reshape(-1))
        if not found and len(shape) > 1 and shape[0] % count == 0 and shape[0] > 0:  # heads are folded into the rows
            repeats = shape[0] // count
            if any(size in self.lengths.values() for size in shape[1:]):
                found.append(self._beside(shape, 0, living, repeats))
        if not found and shape[1:2] == (count,):
            found.append(living[None])
        return found

    def _beside(self, shape: tuple, row_axis: int, living: np.ndarray, repeats: int = 1) -> np.ndarray:
        """True where every axis as long as the batch is before the end of the row on ``row_axis``."""
        axes = [axis for axis in range(len(shape)) if axis != row_axis and self._ends(shape[axis]) is not None]
        lead = max([row_axis, *axes]) + 1
        alive = np.expand_dims(np.repeat(living, repeats), tuple(i for i in range(lead) if i != row_axis))
        for axis in axes:
            inside = np.arange(shape[axis]) < np.repeat(self._ends(shape[axis]), repeats)[:, None]
            order = inside if row_axis < axis else inside.T
            alive = alive & np.expand_dims(order, tuple(i for i in range(lead) if i not in (row_axis, axis)))
        return alive

    def _ends(self, size: int) -> Any:
        """Where rows end on an axis of this size; the earliest, where several lengths have it."""
        ends = [rows for name, rows in self.rows.items() if self.lengths[name] == size]
        return np.min(ends, axis=0) if ends else None


def _two_axes(array: np.ndarray, lead: int) -> np.ndarray:
    return array.reshape(math.prod(array.shape[:lead]), -1) if array.size else array.reshape(0, 1)


def _relative(own: np.ndarray, other: np.ndarray) -> float:
    if own.size == 0:
        return 0.0
    if own.dtype.kind in "biu":
        return float((own != other).mean())
    own, other = own.astype(np.float64), other.astype(np.float64)
    same = (own == other) | (np.isnan(own) & np.isnan(other))
    if same.all():
        return 0.0
    with np.errstate(invalid="ignore"):
        change = np.where(same, 0.0, np.abs(own - other))
    finite = np.abs(own[np.isfinite(own)])
    error = float(change.max()) / (float(finite.max(initial=0.0)) or 1.0)
    return error if np.isfinite(error) else float("inf")


def _valid(padded: np.ndarray, shape: tuple, lengths: Lengths, sizes: Lengths) -> list[np.ndarray]:
    """Readings of ``padded`` as an array of ``shape``: more than one where rows and length share an axis."""
    readings = [padded]
    for axis, (own, wide) in enumerate(zip(shape, padded.shape)):
        if own == wide:
            continue
        readings = [part for reading in readings for part in _cut(reading, axis, own, lengths, sizes)]
    return readings


def _cut(array: np.ndarray, axis: int, own: int, lengths: Lengths, sizes: Lengths) -> Iterator[np.ndarray]:
    wide = array.shape[axis]
    for name, length in lengths.items():
        size = sizes[name]
        if length == 0 or own % length or wide % size or own // length != wide // size:
            continue
        rows = own // length
        before, after = array.shape[:axis], array.shape[axis + 1 :]
        batch_major = array.reshape(*before, rows, size, *after)
        yield np.take(batch_major, range(length), axis + 1).reshape(*before, own, *after)
        if rows > 1:
            time_major = array.reshape(*before, size, rows, *after)
            yield np.take(time_major, range(length), axis).reshape(*before, own, *after)
