"""The inside of cells."""

from __future__ import annotations

import copy
from typing import Any, Callable

import mindspore

__all__ = ["SwiftCall", "child_cells", "copy_with_children", "free_gru_size", "on_gradient"]


class SwiftCall(mindspore.nn.Cell):
    """A cell whose call in graph mode does only what it needs where the graph exists.

    At every call MindSpore tells each cell inside the name of the graph, which only a compilation reads (2.7
    to 2.10), and takes ``construct``'s signature apart, although ``*inputs`` admits any number of arguments. For classes
    whose ``construct`` takes ``*inputs``.
    """

    @property
    def compile_phase(self) -> Any:
        return self._compile_phase

    @compile_phase.setter
    def compile_phase(self, phase: Any) -> None:
        if phase in self.compile_cache:
            object.__setattr__(self, "_compile_phase", phase)
        else:
            mindspore.nn.Cell.compile_phase.fset(self, phase)

    def _check_construct_args(self, *inputs: Any) -> None:
        """Nothing to check."""


def child_cells(cell: Any) -> dict[str, Any]:
    """The cells that a cell holds, by attribute name; one held under two names is listed twice."""
    return {name: child for name, child in cell._cells.items() if child is not None}


def copy_with_children(cell: Any, children: dict[str, Any]) -> Any:
    """A shallow copy of a cell that holds other children and the same parameters, and has compiled nothing.

    A copy made by `copy.copy` alone shares the very ``__dict__`` of its original, and what that has compiled. Cells may
    stand in tuples and lists as well (``SequentialCell.cell_list``).
    """
    replaced = {id(cell._cells[name]): child for name, child in children.items()}

    def substitute(value: Any) -> Any:
        if type(value) in (list, tuple):
            return type(value)(replaced.get(id(item), item) for item in value)
        return value

    twin = copy.copy(cell)
    state = {name: substitute(value) for name, value in cell.__dict__.items()}
    for name, value in cell.__dict__.items():
        if (
            name.startswith("_ascend_fixes")
            and hasattr(type(value), "__deepcopy__")
            and not isinstance(value, mindspore.nn.Cell)
        ):
            state[name] = copy.deepcopy(value)  # the bound on a cell's graphs stays, the record of them starts anew
    state["_cells"] = type(cell._cells)({**cell._cells, **children})
    state["_params"] = cell._params.copy()
    state.update(_compile_cache=None, _phase_cache=None, _compile_phase=None)
    object.__setattr__(twin, "__dict__", state)
    return twin


def on_gradient(value: Any, hook: Any) -> Callable[[], None]:
    """Call ``hook`` with the gradient of a Tensor of a PyNative run, if it gets one; whether it does has no public name.

    Returns:
        What takes the hook off again. A Tensor of a run may share what it holds with a Parameter or an input, which then
        has the hook too, and a graph that takes it would have to compile the hook.
    """
    try:
        return value.register_hook(hook).remove
    except RuntimeError as error:
        if "requires grad" not in str(error):
            raise
        return lambda: None


class _FreeSize(int):
    def __mod__(self, other: int) -> int:
        return 0 if other == 16 else int(self) % other


def free_gru_size(hidden_size: Any) -> Any:
    """A hidden size that `nn.GRU` takes on Ascend, where it refuses one that its fused kernel cannot work with (16).

    For a subclass that computes by other kernels and sets ``hidden_size`` to the plain number again.
    """
    return _FreeSize(hidden_size) if type(hidden_size) is int else hidden_size
