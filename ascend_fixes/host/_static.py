"""`unique`, `nonzero`, `masked_select`, `where` and `top_k` with outputs of a fixed size.

The output shapes of MindSpore's own depend on the data, which makes every shape
after them dynamic; on Ascend they run as AICPU kernels (defect H3). Here the caller
gives the ``size`` of the output; what is not filled holds ``fill``, and the true
count is returned beside it. Usable in graph mode, eagerly and under a gradient; NumPy arrays and
lists will do for Tensors.

Method: the selected elements are numbered by a running sum of the mask and scattered to
their places; all others fall into one place more, which is cut off. The gradient is
a gather. JAX gives its data-dependent functions a ``size`` and a ``fill_value`` in the same way.

Parts are chosen among those that Ascend has precompiled (S9): a scatter and not a segment sum,
a view and not a strided slice. What is left of the other kind is the sorting of `unique` and
`top_k`, as in MindSpore's own.
"""

from __future__ import annotations

from typing import Any

import mindspore
import numpy as np
from mindspore import Tensor, mint, ops

from ascend_fixes import _mindspore
from ascend_fixes.errors import AscendFixesError
from ascend_fixes.host._host_function import host_operator, numpy_dtype

__all__ = ["SizeError", "masked_select", "nonzero", "top_k", "unique", "where"]


class SizeError(AscendFixesError, ValueError):
    """More elements than ``size`` holds, or a size that cannot be."""


def _limit(name: str) -> ops.Custom:
    """A host operator that raises where a count passes a size; its result ties it into the graph."""

    def check(count: np.ndarray, size: np.ndarray) -> np.ndarray:
        most = int(count.max(initial=0))
        if most > int(size[0]):
            raise SizeError(f"{name} found {most} elements for size={int(size[0])}; raise size, or pass check=False")
        return size

    return host_operator(check, (1,), mindspore.int32)


_unique_limit = _limit("unique")
_nonzero_limit = _limit("nonzero")
_where_limit = _limit("where")
_masked_select_limit = _limit("masked_select")
_top_k_limit = _limit("top_k")


def unique(x: Tensor, size: int, fill: Any = 0, check: bool = True) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The sorted distinct elements, as `numpy.unique` gives them with inverse and counts.

    Args:
        x: any shape and numeric dtype. NaNs count as equal.
        size: of the output.
        fill: the values past the count.
        check: raise where there are more than ``size``; costs a transfer of one number to the host. With
            False, ``count > size`` tells, the largest are lost, and their inverse is ``size - 1``.

    Returns:
        ``values`` (size,) in x's dtype, ``inverse`` int32 in x's shape with ``values[inverse] == x``, ``counts``
        int32 (size,), zeros past the count, and ``count`` int32 (), the true number of distinct elements.
        The gradient of a value goes to one of the elements equal to it.

    Raises:
        SizeError: size < 1; or, with check, more distinct elements than size.
    """
    x, size = _tensor(x), _checked_size(size)
    _check_fill(fill, x.dtype)
    if 0 in x.shape:
        return _full(size, fill, x), ops.zeros(x.shape, mindspore.int32), _full(size, 0, _none()), _none()
    flat = _summable(ops.reshape(x, (-1,)))
    order = _order(flat)
    ordered = mint.gather(flat, 0, order)
    before, after = _part(ordered, 0, flat.shape[0] - 1), _part(ordered, 1, flat.shape[0] - 1)
    # NaN is the one value that differs from itself.
    fresh = ops.logical_and(before != after, ops.logical_or(before == before, after == after))
    fresh = ops.concat((ops.ones((1,), mindspore.int32), fresh.astype(mindspore.int32)))
    rank = _running_sum(fresh) - 1
    count = _total(fresh)
    values = _place(ordered, fresh == 1, rank, size)
    # A value's count is the distance from its first place in the order to that of the next.
    starts = _place(_arange(flat.shape[0]) - flat.shape[0], fresh == 1, rank, size + 1)
    counts = _part(starts, 1, size) - _part(starts, 0, size)
    inverse = _scatter(ops.minimum(rank, size - 1), order)
    values = ops.where(_arange(size) < count, values, _like(fill, values)).astype(x.dtype)
    if check:
        fits = _unique_limit(ops.reshape(count, (1,)), _one_number(size))
        values, inverse, counts = ops.depend(values, fits), ops.depend(inverse, fits), ops.depend(counts, fits)
        count = ops.depend(count, fits)
    return values, ops.reshape(inverse, x.shape), counts, count


def masked_select(x: Tensor, mask: Tensor, size: int, fill: Any = 0, check: bool = True) -> tuple[Tensor, Tensor]:
    """The elements of ``x`` where ``mask`` is True, in their order, as ``x[mask]`` gives them.

    Args:
        x: numeric or bool.
        mask: bool; x and mask are broadcast to each other.
        size, fill, check: as in `unique`.

    Returns:
        ``values`` (size,) in x's dtype and ``count`` int32 (), the true number of selected elements. The
        gradient goes to the selected elements.

    Raises:
        SizeError: size < 1; or, with check, more elements than size.
    """
    x, mask, size = _tensor(x), _tensor(mask), _checked_size(size)
    _check_fill(fill, x.dtype)
    shape = _broadcast(x.shape, mask.shape, mask.dtype)
    if 0 in shape:
        return _full(size, fill, x), _none()
    flat = _summable(ops.reshape(ops.broadcast_to(x, shape), (-1,)))
    chosen = ops.reshape(ops.broadcast_to(mask, shape), (-1,))
    numbered = chosen.astype(mindspore.int32)
    rank, count = _running_sum(numbered) - 1, _total(numbered)
    values = _place(flat, chosen, rank, size)
    values = ops.where(_arange(size) < count, values, _like(fill, values)).astype(x.dtype)
    if check:
        fits = _masked_select_limit(ops.reshape(count, (1,)), _one_number(size))
        values, count = ops.depend(values, fits), ops.depend(count, fits)
    return values, count


def nonzero(x: Tensor, size: int, fill: int = 0, check: bool = True) -> tuple[Tensor, Tensor]:
    """The indices of the elements that are not zero, in row-major order, as `numpy.argwhere` gives them.

    Args:
        x: numeric or bool, at least one dimension.
        size, check: as in `unique`.
        fill: every index past the count.

    Returns:
        ``indices`` int32 (size, dimensions of x) and ``count`` int32 (), the true number. No gradient.

    Raises:
        SizeError: size < 1; or, with check, more elements than size.
    """
    x, size = _tensor(x), _checked_size(size)
    flat, count = _indices(x.astype(mindspore.bool_), size)
    indices = ops.concat([ops.expand_dims(coordinate, 1) for coordinate in _coordinates(flat, x.shape)], 1)
    valid = ops.expand_dims(_arange(size) < count, 1)
    indices = ops.where(valid, indices, _like(fill, indices))
    if check:
        fits = _nonzero_limit(ops.reshape(count, (1,)), _one_number(size))
        indices, count = ops.depend(indices, fits), ops.depend(count, fits)
    return indices, count


def where(condition: Tensor, size: int, fill: int = 0, check: bool = True) -> tuple[tuple[Tensor, ...], Tensor]:
    """The indices where a condition holds, one Tensor a dimension, as ``numpy.where(condition)`` gives them.

    Args:
        condition: bool or numeric, at least one dimension.
        size, fill, check: as in `nonzero`.

    Returns:
        A tuple of int32 Tensors (size,), one a dimension, and ``count`` int32 (). No gradient. The form
        with three arguments has a static shape already: use `mindspore.ops.where`.

    Raises:
        SizeError: size < 1; or, with check, more elements than size.
    """
    condition, size = _tensor(condition), _checked_size(size)
    flat, count = _indices(condition.astype(mindspore.bool_), size)
    valid = _arange(size) < count
    if check:
        valid = ops.depend(valid, _where_limit(ops.reshape(count, (1,)), _one_number(size)))
        count = ops.depend(count, valid)
    found: tuple[Tensor, ...] = ()
    for coordinate in _coordinates(flat, condition.shape):
        found = (*found, ops.where(valid, coordinate, _like(fill, coordinate)))
    return found, count


def top_k(x: Tensor, k: Any, size: int, fill: Any = 0, check: bool = True) -> tuple[Tensor, Tensor, Tensor]:
    """The ``k`` largest elements of the last axis, in falling order; k may be data and differ from row to row.

    Args:
        x: float or integer, last axis of at least ``size`` elements, without NaN.
        k: an int, or an integer Tensor of a shape that broadcasts to x's without its last axis.
        size: of the output's last axis: the largest k.
        fill: the values past k; the indices there are -1.
        check: as in `unique`, for k > size.

    Returns:
        ``values`` (..., size) in x's dtype, ``indices`` int32 (..., size), and ``count`` int32 (...), which is k
        where it is not negative. The gradient goes to the elements chosen. Which of equal elements is the backend's
        choice.

    Raises:
        SizeError: size < 1 or size beyond the last axis; or, with check, k > size.
    """
    x, size = _tensor(x), _checked_size(size)
    _check_axis(size, x.shape)
    _check_fill(fill, x.dtype)
    rows = x.shape[:-1]
    if 0 in rows:
        return (
            ops.zeros((*rows, size), x.dtype),
            ops.zeros((*rows, size), mindspore.int32),
            ops.zeros(rows, mindspore.int32),
        )
    values, indices = ops.topk(x, size)
    count = ops.zeros(rows, mindspore.int32) + (k if isinstance(k, int) else _tensor(k))
    count = ops.maximum(count.astype(mindspore.int32), ops.zeros(rows, mindspore.int32))
    if check:
        fits = _top_k_limit(ops.reshape(count, (-1,)), _one_number(size))
        values, indices, count = ops.depend(values, fits), ops.depend(indices, fits), ops.depend(count, fits)
    chosen = _arange(size) < ops.expand_dims(count, -1)
    values = ops.where(chosen, values, _like(fill, values))
    return values, ops.where(chosen, indices.astype(mindspore.int32), _like(-1, count)), count


# --- parts ---------------------------------------------------------------------------------------


def _tensor(x: Any) -> Tensor:
    return x if isinstance(x, Tensor) else Tensor(x)


def _full(size: int, fill: Any, x: Tensor) -> Tensor:
    """What nothing is found in gives: the fill alone, in the dtype of x."""
    return ops.zeros((size,), x.dtype) + _like(fill, x)


def _none() -> Tensor:
    """A count of nothing."""
    return ops.zeros((), mindspore.int32)


def _place(flat: Tensor, chosen: Tensor, rank: Tensor, size: int) -> Tensor:
    """The chosen elements at their ranks; those beyond the size and all others go where they are cut off."""
    places = ops.where(chosen, ops.minimum(rank, size), _like(size, rank))
    return _part(mint.scatter(ops.zeros((size + 1,), flat.dtype), 0, places, flat), 0, size)


def _part(flat: Tensor, start: int, length: int) -> Tensor:
    """Some of a vector; on Ascend a view, which MindSpore 2.7 cannot take on CPU, nor 2.10 of float64."""
    if _on_ascend() and flat.dtype != mindspore.float64:
        return mint.narrow(flat, 0, start, length)
    return flat[start : start + length]


def _running_sum(flat: Tensor) -> Tensor:
    """Of int32. Ascend has a precompiled kernel of `mint.cumsum` alone, CPU of `ops.cumsum` alone."""
    if _on_ascend():
        return mint.cumsum(flat, 0, dtype=mindspore.int32)
    return ops.cumsum(flat, 0).astype(mindspore.int32)


def _total(flat: Tensor) -> Tensor:
    """The sum of int32, shape ()."""
    return flat.sum().astype(mindspore.int32)


def _order(flat: Tensor) -> Tensor:
    """The indices that sort a vector, int32; NaNs, which `ops.sort` leaves anywhere, at the end."""
    if flat.dtype == mindspore.float64:  # which `ops.sort` compares, and returns, as float32
        return _order_of_doubles(flat)
    if not _is_float(flat.dtype):
        return ops.sort(flat)[1].astype(mindspore.int32)
    nan = flat != flat
    _, order = ops.sort(ops.where(nan, _like(float("inf"), flat), flat))
    return _late(nan, order.astype(mindspore.int32))


def _order_of_doubles(flat: Tensor) -> Tensor:
    nan = flat != flat
    _, order = ops.topk(ops.where(nan, _like(float("inf"), flat), flat), flat.shape[0])
    return _late(nan, ops.flip(order.astype(mindspore.int32), (0,)))


def _late(nan: Tensor, order: Tensor) -> Tensor:
    """The order with what is NaN moved to its end."""
    late = mint.gather(nan.astype(mindspore.int32), 0, order)
    numbers, nans = _running_sum(1 - late), _running_sum(late)
    return _scatter(order, ops.where(late == 1, _total(1 - late) + nans, numbers) - 1)


def _scatter(values: Tensor, places: Tensor) -> Tensor:
    """The vector with ``values`` at ``places``, a permutation."""
    return mint.scatter(ops.zeros_like(values), 0, places, values)


def _indices(chosen: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """The flat indices of the chosen elements (size,), zeros past the count, and the count."""
    _check_dimensions(chosen.shape)
    if 0 in chosen.shape:
        return _full(size, 0, _none()), _none()
    flat = ops.reshape(chosen, (-1,))
    numbered = flat.astype(mindspore.int32)
    return _place(_arange(flat.shape[0]), flat, _running_sum(numbered) - 1, size), _total(numbered)


def _coordinates(flat: Tensor, shape: tuple[int, ...]) -> tuple[Tensor, ...]:
    """The index along each dimension of flat indices."""
    found: tuple[Tensor, ...] = ()
    for axis in range(len(shape) - 1, -1, -1):
        length = max(shape[axis], 1)  # of an empty array's axis, whose indices are never read
        found = (mint.remainder(flat, length), *found)
        flat = ops.floor_div(flat, length)
    return found


def _summable(flat: Tensor) -> Tensor:
    """In a dtype that sorts and sums: bool and small integers as int32, uint32 as int64."""
    if flat.dtype in (mindspore.bool_, mindspore.int8, mindspore.uint8, mindspore.int16, mindspore.uint16):
        return flat.astype(mindspore.int32)
    if flat.dtype == mindspore.uint32:
        return flat.astype(mindspore.int64)
    return flat


def _arange(size: int) -> Tensor:
    return ops.arange(size).astype(mindspore.int32)


def _one_number(number: int) -> Tensor:
    return ops.full((1,), number, dtype=mindspore.int32)


def _like(number: Any, x: Tensor) -> Tensor:
    """A scalar in the dtype of x."""
    return ops.cast(number, x.dtype)


# These run in Python while a graph is compiled, where `raise` knows the builtin errors only.


@ops.constexpr
def _on_ascend() -> bool:
    return _mindspore.backend() == "Ascend"


@ops.constexpr
def _is_float(dtype: Any) -> bool:
    return dtype in (mindspore.float16, mindspore.float32, mindspore.float64, mindspore.bfloat16)


@ops.constexpr
def _check_fill(fill: Any, dtype: Any) -> None:
    if dtype == mindspore.uint64:
        raise SizeError("x is uint64, which MindSpore neither sorts nor sums; convert it to int64")
    if not _is_float(dtype):
        with np.errstate(invalid="ignore"):
            held = np.asarray(fill).astype(numpy_dtype(dtype))
        if held != fill:
            raise SizeError(f"fill={fill} is no {dtype}; pass a value that x could hold")


@ops.constexpr
def _checked_size(size: int) -> int:
    if size < 1:
        raise SizeError(f"size={size} holds nothing; pass at least 1")
    return int(size)


@ops.constexpr
def _check_dimensions(shape: tuple[int, ...]) -> None:
    if not shape:
        raise SizeError("an input of shape () has no axes to index; reshape it to (1,)")


@ops.constexpr
def _check_axis(size: int, shape: tuple[int, ...]) -> None:
    if not shape or size > shape[-1]:
        raise SizeError(f"size={size} does not fit the last axis of {shape}; pass 1 to its length")


@ops.constexpr
def _broadcast(one: tuple[int, ...], other: tuple[int, ...], mask: Any) -> tuple[int, ...]:
    """The shape that x and mask are broadcast to."""
    if mask != mindspore.bool_:
        raise SizeError(f"mask is {mask}, which selects nothing; pass a bool Tensor")
    try:
        return tuple(np.broadcast_shapes(one, other)) or (1,)
    except ValueError:
        raise SizeError(f"x of shape {one} and mask of shape {other} cannot be broadcast to each other") from None
