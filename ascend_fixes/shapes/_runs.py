"""Runs of a cell in PyNative mode, watched: what it and its sub-cells compute, and the gradients of its parameters."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Callable

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, nn

from ascend_fixes import _mindspore
from ascend_fixes.shapes._valid import Own, leaves, rebuilt
from ascend_fixes.tensors import array_of

__all__ = ["TOLERANCES", "Run", "Step", "as_cell", "checking", "evaluating", "output_name", "tensors", "watched"]

# Padding changes the order of float32 sums by a few units in the last place; a leak changes the leading digits.
TOLERANCES = {"Float64": 1e-9, "Float32": 1e-5, "Float16": 1e-2, "BFloat16": 5e-2}

Replace = Callable[[str, int, str, Tensor], Any]


@dataclass(frozen=True)
class Step:
    """One call of a sub-cell: the how many-th of this cell, and its outputs by their place."""

    name: str
    turn: int
    cell: nn.Cell
    values: dict[str, np.ndarray]


@dataclass
class Run:
    """One run of a cell: everything it computed."""

    outputs: dict[str, np.ndarray]
    gradients: dict[str, np.ndarray]
    steps: list[Step]
    precision: str

    @classmethod
    def of(cls, cell: nn.Cell, args: Sequence[Any], replace: Replace | None = None) -> Run:
        """Run ``cell`` forwards; ``replace(name, turn, place, value)`` may give other outputs of sub-cells, or None."""
        calls: list[tuple[str, nn.Cell, dict[str, Tensor]]] = []
        with _mindspore.synchronous(), watched(cell, calls, replace):
            found = leaves(cell(*args))
        kinds = {str(value.dtype) for value in found.values()} | {str(p.dtype) for p in cell.get_parameters()}
        kinds |= {str(value.dtype) for _, _, values in calls for value in values.values()}
        floats = [kind for kind in TOLERANCES if kind in kinds]
        turns: dict[str, int] = {}
        steps = []
        for name, inner, values in calls:
            turns[name] = turns.get(name, -1) + 1
            steps.append(Step(name, turns[name], inner, {place: array_of(value) for place, value in values.items()}))
        outputs = {place: array_of(value) for place, value in found.items()}
        return cls(outputs, {}, steps, floats[-1] if floats else "Float32")

    def differentiated(self, cell: nn.Cell, args: Sequence[Any], own: Own, base: Run | None = None) -> Run:
        """The same with the gradients of a fixed combination of all that belongs to the batch, by parameter."""
        shapes = {place: value.shape for place, value in (base or self).outputs.items()}
        parameters = cell.trainable_params()
        if not parameters:
            return self

        def combined() -> Tensor:
            total = Tensor(0.0, ms.float32)
            for place, value in leaves(cell(*args)).items():
                if value.is_floating_point():
                    part = own.part(value, shapes[place]).astype(ms.float32)
                    weights = np.cos(np.arange(part.size, dtype=np.float32)).reshape(part.shape)
                    total = total + (part * Tensor(weights)).sum()
            return total

        with _mindspore.synchronous():
            values = ms.value_and_grad(combined, None, ms.ParameterTuple(parameters))()[1]
        self.gradients = {parameter.name: array_of(value) for parameter, value in zip(parameters, values)}
        return self

    def changes(self, other: Run, own: Own, tolerance: float) -> dict[str, float]:
        """What of the batch's own is different in ``other``: the change of each, relative to the largest value."""
        found = {}
        for place, value in self.outputs.items():
            error = own.difference(value, other.outputs[place])
            if not error <= tolerance:
                found[output_name(place, value)] = error
        largest = max((float(np.abs(value).max(initial=0.0)) for value in self.gradients.values()), default=0.0) or 1.0
        for name, value in self.gradients.items() if other.gradients else ():
            error = float(np.abs(value - other.gradients[name]).max(initial=0.0)) / largest
            if not error <= tolerance:
                found[f"gradient of {name}"] = error
        return found


def output_name(place: str, value: np.ndarray) -> str:
    """``loss`` for a scalar, else ``output[1]``."""
    return "loss" if value.ndim == 0 else f"output{place}"


@contextlib.contextmanager
def checking(cell: nn.Cell, reveal: bool = False) -> Iterator[list[str]]:
    """PyNative mode and training mode without dropout, for a while; parameters keep their values.

    Args:
        cell: the cell.
        reveal: fill trainable parameters that are all zeros, behind which a leak cannot be seen.
    """
    training = [(inner, inner.training) for _, inner in cell.cells_and_names()]
    for parameter in cell.get_parameters():
        if parameter.has_init:
            parameter.init_data()
    values = [(parameter, parameter.value().copy()) for parameter in cell.get_parameters()]
    graph_mode = _mindspore.in_graph_mode()
    notes: list[str] = []
    ms.set_context(mode=ms.PYNATIVE_MODE)
    try:
        for inner, _ in training:
            inner.add_flags(training="dropout" not in type(inner).__name__.lower())
        if reveal:
            _fill_zeros(cell.trainable_params())
        yield notes
    finally:
        for inner, was in training:
            inner.add_flags(training=was)
        for parameter, value in values:
            parameter.set_data(value)
        if graph_mode:
            ms.set_context(mode=ms.GRAPH_MODE)


def evaluating(cell: nn.Cell) -> None:
    """Evaluation mode throughout, inside of `checking`."""
    for _, inner in cell.cells_and_names():
        inner.add_flags(training=False)


def _fill_zeros(parameters: Sequence[Parameter]) -> None:
    random = np.random.default_rng(0)
    for parameter in parameters:
        if parameter.is_floating_point() and not array_of(parameter).any():
            filled = random.standard_normal(parameter.shape) * 0.1
            parameter.set_data(Tensor(filled.astype(np.float32)).astype(parameter.dtype))


@contextlib.contextmanager
def watched(cell: nn.Cell, calls: list, replace: Replace | None = None) -> Iterator[None]:
    """Append (name, sub-cell, its outputs) to ``calls`` whenever a sub-cell has been called."""
    handles = []
    turns: dict[str, int] = {}
    for name, inner in cell.cells_and_names():
        if inner is not cell:

            def note(_: Any, __: Any, output: Any, name: str = name, inner: nn.Cell = inner) -> Any:
                turn = turns[name] = turns.get(name, -1) + 1
                found = leaves(output)
                new = {place: replace(name, turn, place, value) for place, value in found.items()} if replace else {}
                new = {place: value for place, value in new.items() if value is not None}
                calls.append((name, inner, {**found, **new}))
                return rebuilt(output, new) if new else None

            handles.append(inner.register_forward_hook(note))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def as_cell(callee: Any) -> Any:
    """A cell as it is; a function, or a jit function, as a cell that holds the cells it names."""
    if isinstance(callee, nn.Cell) or not callable(callee):
        return callee
    function = inspect.unwrap(callee)
    plain = getattr(function, "__func__", function)
    named = inspect.getclosurevars(plain) if inspect.isfunction(plain) else None
    inner = [getattr(function, "__self__", None)]
    inner += [*named.nonlocals.values(), *named.globals.values()] if named else []
    cell = nn.Cell(auto_prefix=False)
    for place, one in enumerate({id(one): one for one in inner if isinstance(one, nn.Cell)}.values()):
        cell.insert_child_to_cell(f"cell{place}", one)
    object.__setattr__(cell, "construct", function)
    return cell


def tensors(args: Sequence[Any]) -> list[Any]:
    """NumPy arrays as Tensors, inside dicts too; all else as it is."""
    return [_tensor(value) for value in args]


def _tensor(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _tensor(item) for key, item in value.items()}
    return Tensor(value) if isinstance(value, np.ndarray) else value
