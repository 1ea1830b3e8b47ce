"""Which axes of the inputs are ragged, where nobody says: read off their types, sizes and names.

A length is an axis that several integer or mask inputs share, that integer lengths reach up to, or along which ids
stand. Columns of features (ids beside weights of the same shape), images and one-element axes are none, and neither are the
axes of first states, which are nothing but zeros, unless they are as wide as an input that is not. What is inferred is stated in
the report, and ``axes=`` overrules it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

__all__ = ["filler", "inferred_axes", "is_mask", "normalised_axes", "row_ends", "zero_ends"]

from ascend_fixes.auditing._report import AuditError

Axes = dict[str, dict[int, str]]

_COLUMNS = re.compile(r"field|column|sparse|dense|categ|numer|hldr|image|img|pixel")


def normalised_axes(given: Mapping[str, Any], leaves: Mapping[str, np.ndarray]) -> Axes:
    """``axes=`` as `ascend_fixes.shapes.bucketed` takes it, as {leaf: {axis: name of the length}}.

    Raises:
        AuditError: it names no array among the inputs, or an axis that the array does not have.
    """
    if not isinstance(given, Mapping):
        raise AuditError(f'axes={given!r} must be a mapping such as {{"ids": 1}}; {{}} says that nothing is ragged')
    made: Axes = {}
    for key, spec in given.items():
        name = list(leaves)[key] if isinstance(key, int) and 0 <= key < len(leaves) else str(key)
        if name not in leaves:
            raise AuditError(f"axes= names {key!r}, but the arrays among the inputs are {', '.join(leaves) or 'none'}")
        pairs = dict(spec) if isinstance(spec, Mapping) else dict.fromkeys(_axes(name, spec), "length")
        for axis in pairs:
            if not isinstance(axis, int) or not -leaves[name].ndim <= axis < leaves[name].ndim:
                raise AuditError(f"axes= names axis {axis!r} of {name!r}, whose shape is {list(leaves[name].shape)}")
        made[name] = {axis % leaves[name].ndim: str(length) for axis, length in pairs.items()}
    sizes: dict[str, int] = {}
    for name, by_axis in made.items():
        for axis, length in by_axis.items():
            size = leaves[name].shape[axis]
            if sizes.setdefault(length, size) != size:
                raise AuditError(
                    f"axes= calls axis {axis} of {name!r} {length!r}, which is {size} there and {sizes[length]} elsewhere; "
                    f'give the axes different names, as in {{"source": {{1: "source"}}}}'
                )
    return made


def _axes(name: str, spec: Any) -> tuple[int, ...]:
    if isinstance(spec, int) and not isinstance(spec, bool):
        return (spec,)
    if isinstance(spec, (tuple, list)):
        return tuple(spec)
    raise AuditError(f"axes of {name!r} are {spec!r}; pass an axis, several axes, or {{axis: name of the length}}")


def inferred_axes(leaves: Mapping[str, np.ndarray], numbers: Sequence[int] = ()) -> Axes:
    """The axes that are likely ragged, by leaf: those of one size have one name.

    Args:
        leaves: the arrays among the inputs, by name.
        numbers: the Python integers among them; an axis of such a size is as long as the caller says.
    """
    rows = _rows_after_time(leaves)
    batch = _batch(leaves)
    if rows:
        candidates = {name: _along_time(array, rows) for name, array in leaves.items()}
        lengths = list(dict.fromkeys(leaves[name].shape[0] for name, axes in candidates.items() if 0 in axes))
    else:
        candidates = {name: _candidates(name, array, leaves, batch) for name, array in leaves.items()}
        shared = Counter(size for name, axes in candidates.items() for size in _at(leaves[name], axes))
        lengths = [size for size in shared if _is_length(size, shared[size], candidates, leaves)]
    sizes = [size for size in lengths if size not in numbers]
    names = dict.fromkeys(sizes, "length")
    if len(sizes) > 1:  # named after the first argument that has it
        names = {size: next(n for n, axes in candidates.items() if size in _at(leaves[n], axes)) for size in sizes}
    for name, array in leaves.items():  # such as dropout masks, (layers, rows, heads, positions, positions)
        if array.ndim > 3 and array.dtype.kind == "f" and not is_mask(array) and not _COLUMNS.search(name.lower()):
            candidates[name] = tuple(axis for axis in range(1, array.ndim) if array.shape[axis] != batch)
    made = {
        name: {axis: names[leaves[name].shape[axis]] for axis in axes if leaves[name].shape[axis] in names}
        for name, axes in candidates.items()
    }
    return {name: axes for name, axes in made.items() if axes}


def _at(array: np.ndarray, axes: tuple[int, ...]) -> set[int]:
    return {array.shape[axis] for axis in axes}


def _candidates(name: str, array: np.ndarray, leaves: Mapping[str, np.ndarray], batch: int) -> tuple[int, ...]:
    """The axes of one array along which positions may stand."""
    low = 1 if batch else 0
    if _is_blank(array) and all(one.shape[:2] != array.shape[:2] or _is_blank(one) for one in leaves.values()):
        return ()
    told = {int(one.max()) for other, one in leaves.items() if other != name and _are_lengths(one, batch)}
    reached = tuple(axis for axis in range(low, array.ndim) if array.shape[axis] > 1 and array.shape[axis] in told)
    if is_mask(array):
        if array.ndim == 3 and _is_alone(array, leaves):
            return (1,)  # several codes a position: there is nothing that it could be a mask of
        return tuple(axis for axis in range(low, array.ndim) if array.shape[axis] > 1)
    if _COLUMNS.search(name.lower()) or _beside_weights(array, leaves):
        return ()
    if array.ndim > 2 and _is_square(array, batch):
        return (array.ndim - 2, array.ndim - 1)
    if array.dtype.kind in "iu":
        if array.ndim == 3 and (1 in reached or zero_ends(array, 1) is not None):
            return (1,)  # positions of several ids each
        return (array.ndim - 1,) if low < array.ndim <= 3 and array.shape[-1] > 1 else ()
    if array.ndim > 3:
        return reached or tuple(axis for axis in range(1, array.ndim) if zero_ends(array, axis) is not None)
    if array.ndim == 3:  # channels may come before positions
        return reached or tuple(axis for axis in (1, 2) if zero_ends(array, axis) is not None) or (1,)
    if batch and row_ends(array) is not None:
        return (1,)
    if array.ndim == 2 and not batch:
        return (0, 1) if _is_square(array, batch) else (0,)
    return reached


def _is_length(
    size: int, count: int, candidates: Mapping[str, tuple[int, ...]], leaves: Mapping[str, np.ndarray]
) -> bool:
    """Whether a size is one of positions: not one that only a mask has, not a few columns, not a number of items."""
    holders = [name for name, axes in candidates.items() if size in _at(leaves[name], axes)]
    only = leaves[holders[0]]
    few = 3 if only.dtype.kind == "f" else 2  # coordinates, columns
    if count == 1 and (size <= few or (is_mask(only) and not _is_alone(only, leaves))):
        return False
    if count == 1 and only.ndim == 3 and only.shape[2] == 1 and not _is_alone(only, leaves):
        return False  # channels, of which all positions have the same
    items = (
        leaves[name].shape
        for name, axes in candidates.items()
        if leaves[name].dtype.kind in "iu" and leaves[name].ndim == 3 and 1 not in axes
    )
    return not any(shape[1] == size != shape[2] for shape in items)


def _batch(leaves: Mapping[str, np.ndarray]) -> int:
    """The number of rows, by which most arrays begin; 0 where there are none, as for one graph of nodes."""
    firsts = Counter(array.shape[0] for array in leaves.values() if array.ndim)
    squares = (array for array in leaves.values() if array.ndim == 2 and _is_square(array, 0))
    if any(array.dtype.kind != "i" and not _is_blank(array) for array in squares):
        return 0
    if not any(array.ndim > 1 for array in leaves.values()) and len(leaves) == 1:
        return 0  # one sentence
    return firsts.most_common(1)[0][0] if firsts else 0


def _rows_after_time(leaves: Mapping[str, np.ndarray]) -> int:
    """The number of rows, where these come after time; 0 where they come first. Lengths of the rows show it."""
    shapes = [array.shape[:2] for array in leaves.values() if array.ndim > 1 and not is_mask(array)]
    for one in leaves.values():
        if one.ndim == 1 and one.dtype.kind in "iu" and one.size:
            rows, top = one.size, int(one.max())
            if (top, rows) in shapes and (rows, top) not in shapes:
                return rows
    return 0


def _along_time(array: np.ndarray, rows: int) -> tuple[int, ...]:
    """The first axis of what has rows in the second; of what begins with rows, as masks may, the second."""
    if array.ndim < 2 or rows not in array.shape[:2] or array.shape[0] == array.shape[1]:
        return ()
    return (0,) if array.shape[1] == rows else (1,)


def _are_lengths(array: np.ndarray, batch: int) -> bool:
    return array.dtype.kind in "iu" and array.size == (batch or array.size) and array.size > 0 and array.max() > 1


def is_mask(array: np.ndarray) -> bool:
    """Zeros and ones that are not one-hot, or zeros and one large negative number that is added to scores."""
    if array.dtype.kind == "b" or array.ndim < 2 or array.size == 0:
        return array.dtype.kind == "b"
    if np.isin(array, (0, 1)).all():
        return array.ndim > 2 or not (array.sum(-1) == 1).all()
    return array.dtype.kind == "f" and array.max() == 0 and bool(np.isin(array, (0, array.min())).all())


def _is_blank(array: np.ndarray) -> bool:
    """Nothing but zeros, in a float type: what a state or a sum begins with."""
    return array.dtype.kind == "f" and array.ndim > 1 and not array.any()


def _is_square(array: np.ndarray, batch: int) -> bool:
    return (
        array.ndim >= 2 and array.shape[-1] == array.shape[-2] > 1 and (array.ndim == 2 or not batch or array.ndim == 3)
    )


def _is_alone(array: np.ndarray, leaves: Mapping[str, np.ndarray]) -> bool:
    return all(one is array or one.ndim < 2 for one in leaves.values())


def zero_ends(array: np.ndarray, axis: int) -> np.ndarray | None:
    """Where rows end along an axis, if at different places, with nothing but zeros behind and never before."""
    if array.ndim < 3 or array.dtype.kind not in "iuf" or array.size == 0:
        return None
    own = (array != 0).any(tuple(other for other in range(1, array.ndim) if other != axis))
    ends = own.sum(1)
    ragged = 0 < ends.min() < ends.max() and (own == (np.arange(array.shape[axis]) < ends[:, None])).all()
    return ends if ragged else None


def row_ends(array: np.ndarray) -> np.ndarray | None:
    """Where the rows of whole numbers (rows, positions) end, if all that follows is one value that stands nowhere else.

    None where that is not so, or all rows are as long as the array.
    """
    return next((ends for ends, _ in _filled_up(array)), None)


def filler(array: np.ndarray) -> int | None:
    """The one value that rows of whole numbers are filled up with, as `row_ends` sees it; None where there is none."""
    return next((value for _, value in _filled_up(array)), None)


def _filled_up(array: np.ndarray) -> Iterator[tuple[np.ndarray, int]]:
    if array.ndim != 2 or array.shape[1] < 3 or array.dtype.kind not in "iuf" or (array != np.round(array)).any():
        return
    for value in np.unique(array[array[:, -1] == array[:, -2], -1]):
        own = array != value
        ends = np.where(own.any(1), array.shape[1] - own[:, ::-1].argmax(1), 0)
        filled = np.arange(array.shape[1]) >= ends[:, None]
        if (filled == ~own).all() and (ends > 0).all() and ends.min() < array.shape[1]:
            yield ends, int(value)


def _beside_weights(array: np.ndarray, leaves: Mapping[str, np.ndarray]) -> bool:
    """Whether these are ids of columns: numbers of the same shape stand beside them, or they are one-hot."""
    if array.ndim != 2:
        return False
    if array.shape[1] > 1 and np.isin(array, (0, 1)).all() and (array.sum(-1) == 1).all():
        return True
    if row_ends(array) is not None:
        return False
    beside = [one for one in leaves.values() if one is not array and one.shape == array.shape]
    return array.dtype.kind in "iu" and any(one.dtype.kind == "f" and not is_mask(one) for one in beside)
