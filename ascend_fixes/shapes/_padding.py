"""Padding and slicing of arrays along named axes.

In graph mode this happens on the host, in NumPy: a device operator for it would be
one more graph per length. In PyNative mode it is done with tensor operations, so
that gradients still flow through the inputs and outputs.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, Union

import mindspore
import numpy as np
from mindspore import Tensor, ops

from ascend_fixes import _mindspore
from ascend_fixes.errors import AscendFixesError

__all__ = [
    "Array",
    "PadValueError",
    "as_input",
    "crop",
    "fill_value",
    "is_array",
    "pad",
    "pad_array",
    "signature",
]

Array = Union[np.ndarray, Tensor]


class PadValueError(AscendFixesError, ValueError):
    """A pad value that the input's dtype cannot hold."""


def is_array(value: Any) -> bool:
    """Whether ``value`` is something that `pad` takes."""
    return isinstance(value, (Tensor, np.ndarray))


def as_input(value: Any) -> Any:
    """An argument as a graph takes it for an input, not for a constant that compiles anew with every content.

    A NumPy array becomes a Tensor; a tuple, list or dict of nothing else a `mindspore.mutable`. A container that holds
    anything besides stays as it is, for a graph may need the numbers in it as constants.
    """
    if isinstance(value, np.ndarray):
        return Tensor(value)
    if type(value) not in (tuple, list, dict) or not _holds_arrays_only(value):
        return value
    if isinstance(value, dict):
        value = {key: as_input(item) for key, item in value.items()}
    else:
        value = type(value)(as_input(item) for item in value)
    return mindspore.mutable(value) if _mindspore.in_graph_mode() else value


def signature(value: Any) -> Any:
    """What of an argument decides on the graph, to compare: the shape of a Tensor, the text of a constant."""
    if isinstance(value, Tensor):
        return tuple(value.shape)
    if isinstance(value, (tuple, list)):
        return tuple(map(signature, value))
    if isinstance(value, dict):
        return tuple((key, signature(item)) for key, item in value.items())
    return repr(value)


def _holds_arrays_only(value: Any) -> bool:
    if type(value) in (tuple, list, dict):
        items = value.values() if isinstance(value, dict) else value
        return len(value) > 0 and all(map(_holds_arrays_only, items))
    return is_array(value)


def pad(array: Array, shape: Sequence[int], value: Any = 0) -> Tensor:
    """``array`` with every axis padded at the end with ``value``, or cut, to ``shape``.

    A NumPy array becomes a Tensor of the same dtype.

    Raises:
        PadValueError: where the dtype cannot hold ``value`` (a fraction or a negative in an integer, -1e9 in float16).
    """
    if isinstance(array, Tensor):
        if not _mindspore.in_graph_mode():
            return _pad_on_device(array, shape, value)
        array = array.asnumpy()
    return Tensor.from_numpy(pad_array(array, shape, value))


def pad_array(array: np.ndarray, shape: Sequence[int], value: Any = 0) -> np.ndarray:
    """As `pad`, from NumPy to NumPy."""
    kept = _kept(array.shape, tuple(shape))
    padded = np.zeros(shape, array.dtype)  # faster than np.full
    if value != 0:
        padded[...] = fill_value(array.dtype, value)
    padded[kept] = array[kept]
    return padded


@functools.lru_cache(maxsize=4096)  # at every step, a few microseconds for each argument
def _kept(old: tuple[int, ...], new: tuple[int, ...]) -> tuple[slice, ...]:
    """Where an array of one shape stands in one of another."""
    return tuple(slice(min(pair)) for pair in zip(old, new))


def crop(tensor: Tensor, sizes: Sequence[tuple[int, int]]) -> Tensor:
    """``tensor`` cut to ``size`` along every ``(axis, size)`` of ``sizes``."""
    index = [slice(None)] * tensor.ndim
    for axis, size in sizes:
        index[axis] = slice(size)
    if not _mindspore.in_graph_mode():
        return tensor[tuple(index)]
    return Tensor.from_numpy(np.ascontiguousarray(tensor.asnumpy()[tuple(index)]))


def _pad_on_device(tensor: Tensor, target: Sequence[int], value: Any) -> Tensor:
    for axis, size in enumerate(target):
        missing = size - tensor.shape[axis]
        if missing > 0:
            shape = list(tensor.shape)
            shape[axis] = missing
            tensor = ops.concat((tensor, ops.full(tuple(shape), value, dtype=tensor.dtype)), axis)
        elif missing < 0:
            tensor = crop(tensor, [(axis, size)])
    return tensor


@functools.lru_cache(maxsize=256)
def fill_value(dtype: np.dtype, value: Any) -> Any:
    """``value`` in ``dtype``; refused where the conversion changes what it means."""
    with np.errstate(over="ignore", invalid="ignore"):
        filled = np.asarray(value).astype(dtype)
    rounds = dtype.kind not in "biu"  # bfloat16, too, which NumPy itself does not know
    if (np.isfinite(value) and not np.isfinite(filled)) if rounds else not filled == value:
        raise PadValueError(f"pad value {value!r} does not fit {dtype}; choose one that {dtype} can hold")
    return filled[()]
