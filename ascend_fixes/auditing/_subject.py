"""What is audited: a cell with its inputs, which of their axes are ragged, and the same inputs at other sizes.

Inputs may be Tensors, NumPy arrays, and these inside tuples, lists and dicts. Every array is a leaf with a name: that
of construct's argument, and the key inside it after a dot, ``"ids"`` or ``"batch.ids"``.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import mindspore
import numpy as np
from mindspore import Tensor, nn

from ascend_fixes import _mindspore
from ascend_fixes.tensors import array_of

__all__ = ["AS_IN_GRAPHS", "COMPILED_ONLY", "EAGERLY", "Clock", "Subject", "leaves_of", "rebuilt"]

EAGERLY = "operator by operator"
AS_IN_GRAPHS = "operator by operator, as a graph takes it"
COMPILED_ONLY = "compiled only"
"""How a cell runs: as most looks need it, as `_mindspore.as_in_graphs` makes it possible, and what is left."""


@dataclass(frozen=True)
class Clock:
    """The time an audit may take, in seconds."""

    budget: float
    start: float = field(default_factory=time.monotonic)

    @property
    def left(self) -> float:
        """Seconds until the audit has to end."""
        return self.start + self.budget - time.monotonic()


@dataclass(frozen=True)
class Subject:
    """What every look is given.

    Attributes:
        cell: the audited cell.
        inputs: its arguments, arrays as Tensors.
        names: construct's names for them.
        axes: the ragged axes of the leaves that have any: {leaf: {axis: name of the length}}.
        inferred: whether nobody said which these are.
        factory: the factory it came from; "" for a cell in memory.
        target: the device to compile for.
        clock: the time that is left.
        function: the function that is audited, of which ``cell`` is a wrapper; None for a cell.
        runs: how it runs here: `EAGERLY`, `AS_IN_GRAPHS` or `COMPILED_ONLY`.
        random: whether two calls differ unless the same numbers are drawn; looks see to that.
    """

    cell: nn.Cell
    inputs: tuple[Any, ...]
    names: tuple[str, ...]
    axes: Mapping[str, Mapping[int, str]]
    factory: str
    target: str
    clock: Clock
    function: Any = None
    runs: str = EAGERLY
    random: bool = False
    inferred: bool = False

    @property
    def leaves(self) -> dict[str, np.ndarray]:
        """The arrays among the inputs, by name."""
        return {name: array_of(value) for name, value in leaves_of(self.names, self.inputs)}

    @property
    def lengths(self) -> dict[str, int]:
        """The sizes of the ragged axes, by the name of the length."""
        leaves = self.leaves
        return {
            length: leaves[name].shape[axis] for name, by_axis in self.axes.items() for axis, length in by_axis.items()
        }

    def with_arrays(self, arrays: Mapping[str, np.ndarray]) -> list[Any]:
        """The inputs with some leaves replaced."""
        return rebuilt(self.names, self.inputs, lambda name, value: Tensor(arrays[name]) if name in arrays else value)

    def resized(self, sizes: Mapping[str, int]) -> dict[str, np.ndarray]:
        """Every leaf with its lengths cut, or continued with what the row begins with.

        Integers that may be lengths or positions follow: a length that was whole is whole again, and none points beyond
        the end.
        """
        own = self.lengths
        new = {}
        for name, array in self.leaves.items():
            for axis, length in self.axes.get(name, {}).items():
                size = sizes.get(length, own[length])
                array = np.take(array, np.arange(size) % max(1, array.shape[axis]), axis)
            if array.dtype.kind in "iu" and array.size:
                for length, size in sizes.items():
                    array = _following(array, own[length], size, ragged=name in self.axes)
            new[name] = array
        return new


def _following(array: np.ndarray, own: int, size: int, ragged: bool) -> np.ndarray:
    top = array.max()
    if top == own and not ragged:  # lengths
        return np.where(array == own, size, np.minimum(array, size)).astype(array.dtype)
    return np.minimum(array, size - 1).astype(array.dtype) if top < own and size < own else array


def leaves_of(names: Sequence[str], inputs: Sequence[Any]) -> Iterator[tuple[str, Any]]:
    """The arrays in the inputs with their names."""
    for index, value in enumerate(inputs):
        name = names[index] if index < len(names) else str(index)
        if isinstance(value, (Tensor, np.ndarray)):
            yield name, value
        elif isinstance(value, Mapping):
            yield from leaves_of([f"{name}.{key}" for key in value], list(value.values()))
        elif isinstance(value, (tuple, list)):
            yield from leaves_of([f"{name}.{place}" for place in range(len(value))], value)


def rebuilt(names: Sequence[str], inputs: Sequence[Any], change: Callable[[str, Any], Any]) -> list[Any]:
    """The inputs with every array replaced by what ``change`` makes of it; containers are made anew."""
    made: list[Any] = []
    for index, value in enumerate(inputs):
        name = names[index] if index < len(names) else str(index)
        if isinstance(value, (Tensor, np.ndarray)):
            made.append(change(name, value))
        elif isinstance(value, Mapping):
            inner = rebuilt([f"{name}.{key}" for key in value], list(value.values()), change)
            made.append(_like(value, dict(zip(value, inner))))
        elif isinstance(value, (tuple, list)):
            inner = rebuilt([f"{name}.{place}" for place in range(len(value))], value, change)
            plain = tuple if isinstance(value, tuple) else list
            made.append(type(value)(*inner) if hasattr(value, "_fields") else _like(value, plain(inner)))
        else:
            made.append(value)
    return made


def _like(container: Any, new: Any) -> Any:
    """The new container, mutable if the old one was."""
    return mindspore.mutable(new) if _mindspore.is_mutable(container) else new
