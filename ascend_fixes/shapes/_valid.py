"""The part of a padded result that belongs to the batch itself.

Nobody says which axes of a result are ragged: an axis that has the batch's own length
in one run and the padded size in the other is. An axis of rows times length, as
after a reshape for a dense layer, is taken apart.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from mindspore import Tensor, ops

__all__ = ["Lengths", "difference", "leaves", "valid", "valid_tensor"]

Lengths = Mapping[str, int]


def leaves(output: Any, path: str = "") -> dict[str, Tensor]:
    """The Tensors in an output by their place: ``""``, ``"[1]"``, ``"['states'][0]"``."""
    if isinstance(output, Tensor):
        return {path: output}
    items: Iterator = iter(())
    if isinstance(output, (tuple, list)):
        items = iter(enumerate(output))
    elif isinstance(output, dict):
        items = iter(output.items())
    found: dict[str, Tensor] = {}
    for key, value in items:
        found.update(leaves(value, f"{path}[{key!r}]"))
    return found


def difference(own: np.ndarray, padded: np.ndarray, lengths: Lengths, sizes: Lengths) -> float:
    """The largest change of what belongs to the batch, relative to the largest value; infinity for another shape."""
    candidates = valid(padded, own.shape, lengths, sizes)
    if not candidates:
        return float("inf")
    return min(_relative(own, candidate) for candidate in candidates)


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


def valid(padded: np.ndarray, shape: tuple, lengths: Lengths, sizes: Lengths) -> list[np.ndarray]:
    """Readings of ``padded`` as an array of ``shape``: more than one where rows and length share an axis."""
    if padded.ndim != len(shape):
        return []
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


def valid_tensor(value: Tensor, shape: tuple, lengths: Lengths, sizes: Lengths) -> Tensor:
    """``value`` cut to ``shape`` in the same way, by differentiable operations; rows and length are batch-major."""
    for axis, (own, wide) in enumerate(zip(shape, value.shape)):
        if own != wide:
            places = next(_cut(np.arange(wide, dtype=np.int32), 0, own, lengths, sizes), None)
            if places is None:
                raise ValueError(f"axis {axis} is {own} long, and {wide} when padded")
            value = ops.gather(value, Tensor(places), axis)
    return value
