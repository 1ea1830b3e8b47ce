"""Operators tagged to run on the host, inside a graph whose other operators run on the device.

MindSpore places a primitive by its attribute ``primitive_target``, set by the public
`Primitive.set_device`. `place` sets it on the primitives that a cell holds, and, while the
cell is compiled, on those that the functions of `mindspore.ops` hold or make.

What is placed by default comes from the installed wheel: operators whose output shape is
data or that hold a resource, where the wheel lists them as AICPU kernels (these run
beside the device's own cores anyway, and are the ones that crash in users' reports,
defect H3); and operators whose own documentation lists CPU but not Ascend.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

from mindspore import nn, ops

from ascend_fixes import _mindspore, compiling
from ascend_fixes.compiling import Compilation, Hook
from ascend_fixes.errors import UnknownNameError, nearest

__all__ = ["Placement", "place"]

_DATA_DEPENDENT = (
    "Unique",
    "UniqueConsecutive",
    "UniqueDim",
    "UniqueWithPad",
    "NonZero",
    "MaskedSelect",
    "Where",
    "NonMaxSuppressionV3",
    "NonMaxSuppressionWithOverlaps",
    "SparseGatherV2",
    "CTCGreedyDecoder",
    "ListDiff",
    "Coalesce",
)


@dataclass(frozen=True)
class Placement:
    """What `place` tagged.

    Attributes:
        placed: path of the attribute and name of the operator, ``("encoder.unique", "Unique")``, of primitives held.
        operators: the operators that are placed wherever a function of `mindspore.ops` uses them.
        cell: what was placed.
    """

    placed: tuple[tuple[str, str], ...]
    operators: frozenset[str]
    cell: nn.Cell = field(repr=False, compare=False)

    def transfers(self) -> dict[str, int]:
        """Bytes that each placed operator of the latest compiled graph brings to the host and back in every run."""
        if not _mindspore.compiled_phases(self.cell):
            return {}
        found: dict[str, int] = {}
        for operator, size in _mindspore.graph_transfers(self.cell):
            found[operator] = found.get(operator, 0) + size
        return found

    def __str__(self) -> str:
        lines = [f"{path}: {operator} runs on the host" for path, operator in self.placed]
        if not lines:
            lines = ["the cell holds no primitive to place; functions of mindspore.ops are placed when it compiles"]
        transfers = self.transfers()
        for operator, size in transfers.items():
            lines.append(f"{operator}: {size} bytes to the host and back in every run of the compiled graph")
        if not transfers:
            lines.append(
                "each brings its inputs to the host and its outputs back in every step; call the cell to measure"
            )
        return "\n".join(lines)


def place(cell: nn.Cell, operators: Sequence[str] | None = None) -> Placement:
    """Tag operators of a cell and its sub-cells to run on the host; graphs compiled from now on obey.

    Functions of `mindspore.ops` are tagged in the graphs of ``cell`` itself: place the cell that is called, a
    training step for example, not one inside it.

    Args:
        cell: searched with all its sub-cells for attributes that are primitives.
        operators: names as MindSpore's, ``["Unique", "TopK"]``; None for the default described above.

    Raises:
        UnknownNameError: MindSpore has no operator of a name; nothing was tagged.
    """
    if isinstance(operators, str) or not all(isinstance(name, str) for name in operators or ()):
        raise UnknownNameError(f'operators={operators!r} is no sequence of names; pass some, as ["Unique", "TopK"]')
    chosen = _default() if operators is None else frozenset(operators)
    if operators is not None:
        known = _mindspore.operator_names()
        for name in sorted(chosen - known):
            raise UnknownNameError(f"MindSpore has no operator {name!r}{nearest(name, known)}")
    placed = []
    for path, primitive in _primitives(cell):
        if primitive.name in chosen:
            primitive.set_device("CPU")
            placed.append((path, primitive.name))
    compiling.on_cell(cell, Hook("place", _Tagged(chosen)))
    # A part of the cell's own state, so that a compile cache keeps its graphs apart from those of a cell not placed.
    vars(cell)["host_operators"] = sorted(chosen.union(vars(cell).get("host_operators", ())))
    return Placement(tuple(sorted(placed)), chosen, cell)


@dataclass(frozen=True)
class _Tagged:
    """The hook of a placed cell: what functions of `mindspore.ops` make or hold of these operators is tagged."""

    operators: frozenset[str]

    def __call__(self, compilation: Compilation) -> AbstractContextManager[None]:
        return _mindspore.tagged_for_host(self.operators)


@functools.cache
def _default() -> frozenset[str]:
    """Operators without a kernel for the device's own cores, by the installed wheel."""
    aicpu, platforms = _mindspore.aicpu_operators(), _mindspore.documented_platforms()
    beside = {name for name in _DATA_DEPENDENT if name.lower() in aicpu}
    without = {name for name, listed in platforms.items() if "Ascend" not in listed}
    return frozenset(name for name in beside | without if "CPU" in platforms.get(name, ("CPU",)))


def _primitives(cell: nn.Cell) -> Iterator[tuple[str, ops.Primitive]]:
    """The primitives that a cell and its sub-cells hold, with the paths of their attributes."""
    for path, part in cell.cells_and_names():
        for name, value in vars(part).items():
            if isinstance(value, ops.Primitive):
                yield f"{path}.{name}" if path else name, value
