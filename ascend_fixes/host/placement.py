"""Operators tagged to run on the host, inside a graph whose other operators run on the device.

MindSpore places a primitive by its attribute ``primitive_target``, set by the public
`Primitive.set_device`. `place` sets it on primitives that a cell holds as attributes.
A function of `mindspore.ops` makes its primitive while the graph is compiled, so
there is nothing to tag before: hold the primitive (``self.unique = ops.Unique()``).

By default it tags what has a data-dependent output shape or holds a resource, as far
as the installed wheel lists it as an AICPU kernel of Ascend's: these run beside the
device's own cores anyway, and are the ones that crash in users' reports (defect H3).
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Optional

from mindspore import nn, ops

from ascend_fixes import _mindspore
from ascend_fixes.errors import UnknownNameError

__all__ = ["Placement", "place"]

_DATA_DEPENDENT = (
    "Unique", "UniqueConsecutive", "UniqueWithPad", "NonZero", "MaskedSelect", "Where", "NonMaxSuppressionV3",
    "NonMaxSuppressionWithOverlaps", "SparseGatherV2", "CTCGreedyDecoder", "ListDiff", "Coalesce",
)  # fmt: skip


@dataclass(frozen=True)
class Placement:
    """What `place` tagged.

    Attributes:
        placed: path of the attribute and name of the operator, ``("encoder.unique", "Unique")``.
    """

    placed: tuple[tuple[str, str], ...]

    def __str__(self) -> str:
        if not self.placed:
            return "no primitive that the cell holds was placed; functions of mindspore.ops cannot be"
        lines = [f"{path}: {operator} runs on the host" for path, operator in self.placed]
        cost = "each brings its inputs to the host and its outputs back in every step"
        return "\n".join([*lines, f"{len(lines)} placed; {cost}"])


def place(cell: nn.Cell, operators: Optional[Sequence[str]] = None) -> Placement:
    """Tag primitives of a cell and its sub-cells to run on the host; graphs compiled from now on obey.

    Args:
        cell: searched with all its sub-cells for attributes that are primitives.
        operators: names as MindSpore's, ``["Unique", "TopK"]``; None for the default described above.

    Raises:
        UnknownNameError: MindSpore has no operator of a name; nothing was tagged.
    """
    if isinstance(operators, str):
        raise UnknownNameError(f"operators must be a sequence of names, not the string {operators!r}")
    if operators is None:
        chosen = {name for name in _DATA_DEPENDENT if name.lower() in _mindspore.aicpu_operators()}
    else:
        chosen = set(operators)
        known = _mindspore.operator_names()
        for name in sorted(chosen - known):
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise UnknownNameError(f"MindSpore has no operator {name!r}{hint}")
    placed = []
    for path, primitive in _primitives(cell):
        if primitive.name in chosen:
            primitive.set_device("CPU")
            placed.append((path, primitive.name))
    return Placement(tuple(sorted(placed)))


def _primitives(cell: nn.Cell) -> Iterator[tuple[str, ops.Primitive]]:
    """The primitives that a cell and its sub-cells hold, with the paths of their attributes."""
    for path, part in cell.cells_and_names():
        for name, value in vars(part).items():
            if isinstance(value, ops.Primitive):
                yield f"{path}.{name}" if path else name, value
