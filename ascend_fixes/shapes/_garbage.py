"""The inputs of a padding check: which of them tell what is padding, where rows end, and garbage beyond.

A mask is recognised by what it does: with it off over the last positions, garbage in the other inputs there no longer
changes something that it changes while the mask is on. Its name does not matter, nor does its polarity. Labels that end
in a negative number, such as -100, keep it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from mindspore import nn

from ascend_fixes.errors import AscendFixesError
from ascend_fixes.shapes._padding import pad_array
from ascend_fixes.shapes._ragged import RaggedArgument, RaggedInputs
from ascend_fixes.shapes._runs import Run, tensors
from ascend_fixes.shapes._valid import Lengths, Own
from ascend_fixes.tensors import array_of

__all__ = ["Batch", "PaddingCheckError"]


class PaddingCheckError(AscendFixesError, ValueError):
    """A cell or inputs that cannot be checked."""


@dataclass(frozen=True)
class Batch:
    """A batch, and what is known of its padding.

    Attributes:
        ragged: its ragged arguments.
        args: its arguments by position.
        own: its lengths.
        pads: the arguments whose padding is a value and not garbage.
        rows: the length of every row, by the name of the length; empty where nobody knows.
        row_arguments: positions of arguments that hold the rows' lengths, and the name of the length.
    """

    ragged: RaggedInputs
    args: tuple[Any, ...]
    own: dict[str, int]
    pads: Mapping[str, Any]
    rows: Mapping[str, np.ndarray]
    row_arguments: Mapping[int, str]

    @classmethod
    def of(
        cls, cell: nn.Cell, ragged: RaggedInputs, args: Sequence[Any], pads: Mapping[str, Any], lengths: Any
    ) -> Batch:
        """Find out what tells of padding; runs ``cell`` where an input may be a mask and is not named one."""
        own = ragged.lengths(args)
        known = {**_endings(ragged, args), **pads}
        masks = _masks(cell, ragged, args, own, known)
        known = {**masks, **known}
        rows = _given(lengths, own, ragged, args)
        for argument in ragged.arguments:
            off = masks.get(argument.name)
            if lengths is None and off is not None and off == known[argument.name]:
                for name, ends in _ends(argument, array_of(argument.of(args)) != off):
                    rows[name] = np.maximum(rows[name], ends) if name in rows else ends
        told = {argument.index for argument in ragged.arguments}
        row_arguments = {
            place: name
            for place, value in enumerate(args)
            for name, ends in rows.items()
            if place not in told and _is_array(value) and np.array_equal(array_of(value).reshape(-1), ends)
        }
        return cls(ragged, tuple(args), own, known, rows, row_arguments)

    def sizes(self, width: int | Mapping[str, int]) -> dict[str, int]:
        """The sizes for a width of every length, or of those named. `PaddingCheckError` for one under the batch's own."""
        sizes = dict(width) if isinstance(width, Mapping) else dict.fromkeys(self.own, width)
        for name, length in self.own.items():
            if sizes.get(name, length) < length:
                raise PaddingCheckError(
                    f"widths contain {name} {sizes[name]}, but the batch's own is {length}; pass more"
                )
        return {name: int(sizes.get(name, length)) for name, length in self.own.items()}

    def padded(self, sizes: Lengths, seed: int, filled: bool = False) -> list[Any]:
        """The arguments padded: with their value in ``pads``, or with garbage of its kind, or (``filled``) with zeros."""
        random = np.random.default_rng(seed)
        padded = list(self.args)
        for argument, array in self._arrays():
            shape = list(array.shape)
            for axis, name in argument.axes:
                shape[axis] = sizes[name]
            if argument.name in self.pads or filled:
                argument.put(padded, pad_array(array, shape, self.pads.get(argument.name, 0)))
            else:
                new = _garbage_like(array, tuple(shape), random)
                new[tuple(slice(length) for length in array.shape)] = array
                argument.put(padded, new)
        return tensors(padded)

    def in_place(self, seed: int) -> list[Any]:
        """The arguments at their own width, with garbage beyond each row's own end."""
        random = np.random.default_rng(seed)
        filled = list(self.args)
        for argument, array in self._arrays():
            if argument.name not in self.pads:
                dead = self._dead(argument, array.shape)
                argument.put(filled, np.where(dead, _garbage_like(array, array.shape, random), array))
        return tensors(filled)

    @property
    def reach(self) -> int:
        """How many elements `in_place` replaces by garbage."""
        free = [(argument, array) for argument, array in self._arrays() if argument.name not in self.pads]
        return sum(int(self._dead(argument, array.shape).sum()) for argument, array in free)

    def shortened(self) -> Batch | None:
        """The batch with every second row cut by a third: masks and rows' lengths say so. None where none can say it."""
        if not self.rows or not any(argument.name in self.pads for argument, _ in self._arrays()):
            return None
        rows = {name: ends.copy() for name, ends in self.rows.items()}
        count = len(next(iter(rows.values())))
        for row in range(0, count, 2):
            shorter = {name: max(1, int(ends[row]) - max(1, int(ends[row]) // 3)) for name, ends in rows.items()}
            if not any(self._points_beyond(row, length) for length in shorter.values()):
                for name, length in shorter.items():
                    rows[name][row] = min(length, rows[name][row])
        cut = Batch(self.ragged, self.args, self.own, self.pads, rows, self.row_arguments)
        args = list(cut.args)
        for argument, array in self._arrays():
            if argument.name in self.pads:
                dead = cut._dead(argument, array.shape)
                argument.put(args, np.where(dead, np.asarray(self.pads[argument.name], array.dtype), array))
        for place, name in self.row_arguments.items():
            array = array_of(args[place])
            args[place] = rows[name].astype(array.dtype).reshape(array.shape)
        return Batch(self.ragged, tuple(args), self.own, self.pads, rows, self.row_arguments)

    def _points_beyond(self, row: int, length: int) -> bool:
        """Whether an argument that is not ragged holds a number for this row that may be a position beyond ``length``."""
        told = {argument.index for argument in self.ragged.arguments} | set(self.row_arguments)
        for place, value in enumerate(self.args):
            if place not in told and _is_array(value):
                array = array_of(value)
                if (
                    array.dtype.kind in "iu"
                    and row < len(array.reshape(-1))
                    and np.max(np.atleast_1d(array)[row], initial=0) >= length
                ):
                    return True
        return False

    def _arrays(self) -> Iterator[tuple[RaggedArgument, np.ndarray]]:
        for argument in self.ragged.arguments:
            if argument.of(self.args) is not None:
                yield argument, array_of(argument.of(self.args))

    def _dead(self, argument: RaggedArgument, shape: tuple) -> np.ndarray:
        """True beyond the ends of rows, broadcast to the argument's shape."""
        dead = np.zeros(shape, bool)
        for axis, name in argument.axes:
            row_axis = _row_axis(axis)
            if name in self.rows and len(shape) > 1 and shape[row_axis] == len(self.rows[name]):
                beyond = np.arange(shape[axis]) >= self.rows[name][:, None]
                beyond = beyond if row_axis < axis else beyond.T
                dead |= np.expand_dims(beyond, tuple(i for i in range(len(shape)) if i not in (axis, row_axis)))
        return dead


def _is_array(value: Any) -> bool:
    return hasattr(value, "dtype") and hasattr(value, "shape")


def _row_axis(axis: int) -> int:
    return 0 if axis != 0 else 1


def _endings(ragged: RaggedInputs, args: Sequence[Any]) -> dict[str, Any]:
    """Integers that hold one negative number, such as -100: what they are padded with already."""
    found = {}
    for argument in ragged.arguments:
        if argument.of(args) is not None:
            array = array_of(argument.of(args))
            negative = set(array[array < 0].tolist()) if array.dtype.kind == "i" else set()
            if len(negative) == 1:
                found[argument.name] = negative.pop()
    return found


def _are_ids(array: np.ndarray) -> bool:
    """Whether numbers of a float type are whole ones that a table may have, and not only zeros and ones."""
    return bool((array == np.round(array)).all() and np.abs(array).max(initial=0) < 2**31 and array.max(initial=0) > 1)


def _garbage_like(array: np.ndarray, shape: tuple, random: np.random.Generator) -> np.ndarray:
    """Whole numbers up to the array's largest, so that ids stay in their table; floats of several times its size."""
    whole = array.dtype.kind == "f" and _are_ids(array)
    if array.dtype.kind in "iu" or whole:
        low, high = int(min(0, array.min(initial=0))), int(array.max(initial=0))
        return random.integers(low, high, shape, endpoint=True).astype(array.dtype)
    if array.dtype.kind == "b":
        return random.integers(0, 2, shape).astype(np.bool_)
    scale = 1.0 + 3.0 * float(np.abs(array).max(initial=0.0))
    return (random.standard_normal(shape) * scale).astype(array.dtype)


# --- where rows end -------------------------------------------------------------------------------


def _ends(argument: RaggedArgument, on: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """The last position that is on in every row, by the name of the length."""
    for axis, name in argument.axes:
        row_axis = _row_axis(axis)
        is_rows = axis == 0 and any(other != name for _, other in argument.axes)  # the number of rows is ragged, too
        if on.ndim > 1 and not is_rows:
            others = tuple(i for i in range(on.ndim) if i not in (axis, row_axis))
            flat = on.any(others) if others else on
            flat = flat if row_axis < axis else flat.T
            yield name, (flat * (np.arange(flat.shape[1]) + 1)).max(1)


def _given(lengths: Any, own: Lengths, ragged: RaggedInputs, args: Sequence[Any]) -> dict[str, np.ndarray]:
    """The rows' lengths as the caller gave them: for every length, or by name."""
    if lengths is None:
        return {}
    given = dict(lengths) if isinstance(lengths, Mapping) else dict.fromkeys(own, lengths)
    rows = {}
    for name, values in given.items():
        values = array_of(values)
        if name not in own or values.ndim != 1 or values.dtype.kind not in "iu" or values.max(initial=0) > own[name]:
            raise PaddingCheckError(
                f"lengths of {name!r} are {values.tolist()}; pass one integer for each row, none over the batch's own "
                f"length {own.get(name, '(axes= names ' + ', '.join(map(repr, own)) + ')')}"
            )
        rows[name] = values
    return rows


# --- masks ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Candidate:
    """An argument that may be a mask: its values where it is on, and where it is off."""

    argument: RaggedArgument
    on: Any
    off: Any
    named: bool

    def pattern(self, array: np.ndarray, cuts: Lengths, off: bool) -> np.ndarray:
        """On throughout, or off from ``cuts`` onwards."""
        new = np.full(array.shape, self.on, array.dtype)
        if off:
            for axis, name in self.argument.axes:
                index: list = [slice(None)] * array.ndim
                index[axis] = slice(cuts[name], None)
                new[tuple(index)] = self.off
        return new


def _masks(
    cell: nn.Cell, ragged: RaggedInputs, args: Sequence[Any], own: Lengths, known: Mapping[str, Any]
) -> dict[str, Any]:
    """The arguments that tell what is padding, with the value that says so: by what they do, else by their names."""
    candidates = list(_candidates(ragged, args))
    if all(one.named and not one.off for one in candidates):
        return {one.argument.name: one.off for one in candidates}
    used = _used(cell, ragged, args, own, known, candidates)
    found = {one.argument.name: one.off for one in candidates if one.argument.name in used}
    return {**{one.argument.name: 0 for one in candidates if one.named}, **found}


def _candidates(ragged: RaggedInputs, args: Sequence[Any]) -> Iterator[_Candidate]:
    for argument in ragged.arguments:
        if argument.of(args) is None:
            continue
        array = array_of(argument.of(args))
        named = "mask" in argument.name.lower() or array.dtype.kind == "b"
        if array.size and np.isin(array, (0, 1)).all():
            first = array[
                tuple(slice(0, 1) if axis in dict(argument.axes) else slice(None) for axis in range(array.ndim))
            ]
            on = 1 if first.any() else 0
            yield _Candidate(argument, on, 1 - on, named)
        elif array.dtype.kind == "f" and array.max() == 0 and np.all(np.isin(array, (0, array.min()))):
            yield _Candidate(argument, 0.0, array.min(), False)


def _used(
    cell: nn.Cell,
    ragged: RaggedInputs,
    args: Sequence[Any],
    own: Lengths,
    known: Mapping[str, Any],
    candidates: Sequence[_Candidate],
) -> set[str]:
    """The names of the candidates without which, off, garbage over the last positions reaches something more."""
    cuts = {name: max(1, length - max(1, length // 3)) for name, length in own.items()}
    count = next((array_of(a.of(args)).shape[0] for a in ragged.arguments if _is_array(a.of(args))), 1)
    part = Own(own, own, {name: np.full(count, cut) for name, cut in cuts.items() if cut < own[name]})
    fixed = {one.argument.name for one in candidates} | set(known)

    def reached(on: str | None) -> set[tuple]:
        """What garbage changes while this candidate is on and all others are off."""
        runs = []
        for seed in (1, 2):
            random = np.random.default_rng(seed)
            filled = list(args)
            for argument in ragged.arguments:
                if argument.of(args) is None:
                    continue
                array = array_of(argument.of(args))
                one = next((one for one in candidates if one.argument is argument), None)
                if one is not None:
                    argument.put(filled, one.pattern(array, cuts, argument.name != on))
                elif argument.name not in fixed:
                    argument.put(filled, _beyond(argument, array, cuts, random))
            runs.append(Run.of(cell, tensors(filled)))
        return set(_changed(runs[0], runs[1], part))

    try:
        least = reached(None)
        return {one.argument.name for one in candidates if reached(one.argument.name) - least}
    except Exception:  # what fails with another mask is no mask
        return set()


def _beyond(argument: RaggedArgument, array: np.ndarray, cuts: Lengths, random: np.random.Generator) -> np.ndarray:
    """``array`` with garbage from ``cuts`` onwards."""
    named = dict(argument.axes)
    kept = tuple(slice(cuts[named[axis]]) if axis in named else slice(None) for axis in range(array.ndim))
    garbage = _garbage_like(array, array.shape, random)
    garbage[kept] = array[kept]
    return garbage


def _changed(one: Run, other: Run, part: Own) -> Iterator[tuple]:
    for place, value in one.outputs.items():
        if not part.difference(value, other.outputs[place]) <= 1e-6:
            yield "", 0, place
    for first, second in zip(one.steps, other.steps):
        for place, value in first.values.items():
            if place in second.values and not part.difference(value, second.values[place]) <= 1e-6:
                yield first.name, first.turn, place
