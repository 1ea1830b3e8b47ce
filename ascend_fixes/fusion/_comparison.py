"""What a cell computes, array by array, and how far two runs of it are apart.

Fusion may round differently, and rounding decides some results altogether: the sign of Adam's step where
the gradient is zero but for noise. So the reference is also run with its parameters and inputs moved by about a rounding
error, up and down, and a difference counts only where it is larger than four times what that does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import mindspore
import numpy as np
from mindspore import Tensor, nn, ops

__all__ = ["NEARBY", "REPETITIONS", "evaluate", "tolerance", "worst"]

Arrays = Mapping[str, np.ndarray]

REPETITIONS = ("0", "1")  # wrong values that change from run to run are wrong in at least one of them
NEARBY = {"up": 1, "down": -1}

_TOLERANCES = {"float16": 2e-2, "float32": 1e-3, "float64": 1e-3}
_ROUNDING = 4.0  # how many times the effect of moved inputs a difference may be and still count as rounding
# How far parameters and inputs are moved: some 100 units in the last place of float32, one of float16.
_NUDGES = {np.dtype(np.float16): 1e-3, np.dtype(np.float32): 1e-5, np.dtype(np.float64): 1e-5}


def evaluate(
    cell: nn.Cell, inputs: Sequence[Any], *, grad: bool, nearby: bool
) -> tuple[nn.Cell, dict[str, dict[str, np.ndarray]]]:
    """Run a cell; its parameters end with the values that they had.

    Args:
        cell, inputs: what to run, in graph mode and under whatever context is set.
        grad: with the gradients by the inputs and the trainable parameters; without, with what the cell changes.
        nearby: also from parameters and inputs moved up and down by a rounding error.

    Returns:
        The cell that was compiled; and the arrays by name (``output 0``, ``gradient of input 0``, ``gradient of
        <parameter>``, ``change of <parameter>``) for every run, those of `REPETITIONS` and of `NEARBY`.
    """
    trained = [parameter.name for parameter in cell.trainable_params()]
    parameters = dict(cell.parameters_dict())
    values = {name: value.asnumpy().copy() for name, value in parameters.items()}
    subject = _Differentiated(cell) if grad else cell
    runs = {}
    try:
        for run, direction in {**dict.fromkeys(REPETITIONS, 0), **(NEARBY if nearby else {})}.items():
            before = {name: _nudged(value, direction) for name, value in values.items()}
            _set(parameters, before)
            moved = [_nudged_input(value, direction) for value in inputs]
            outputs, gradients = subject(*moved) if grad else (subject(*moved), ((), ()))
            changes = {} if grad else _changes(parameters, before)
            runs[run] = {**_named(outputs, gradients, trained), **changes}
    finally:
        _set(parameters, values)
    return subject, runs


def tolerance(reference: Arrays) -> float:
    """The largest error that counts as right by default: 1e-3, and 2e-2 where an array is float16."""
    return max((_TOLERANCES.get(str(value.dtype), 0.0) for value in reference.values()), default=1e-3)


def worst(reference: Arrays, nearby: Sequence[Arrays], runs: Sequence[Arrays]) -> tuple[float, str]:
    """The largest error of the runs, over the array's largest value, and the array's name.

    A gradient that is truly zero is rounding noise: errors count from a hundredth of the largest of its kind.
    """
    if any(reference.keys() != run.keys() for run in runs):
        return float("inf"), ""
    scales: dict[str, float] = {}
    for name, value in reference.items():
        kind = name.split()[0]
        scales[kind] = max(scales.get(kind, 0.0), _largest(value))
    slack = {name: _slack(name, value, nearby) for name, value in reference.items()}
    return max(
        (
            (
                _distance(run[name], value, slack[name]) / max(_largest(value), scales[name.split()[0]] / 100, 1e-30),
                name,
            )
            for run in runs
            for name, value in reference.items()
        ),
        default=(0.0, ""),
    )


def _slack(name: str, value: np.ndarray, nearby: Sequence[Arrays]) -> np.ndarray:
    """Element by element, how large a difference may be put down to rounding."""
    wanted = value.astype(np.float64)
    with np.errstate(invalid="ignore"):
        moved = [np.abs(near[name] - wanted) for near in nearby if name in near and near[name].shape == wanted.shape]
    return _ROUNDING * np.nan_to_num(np.max(moved, axis=0), nan=0.0, posinf=0.0) if moved else np.zeros_like(wanted)


def _largest(value: np.ndarray) -> float:
    value = np.abs(value.astype(np.float64))
    return float(np.max(value[np.isfinite(value)], initial=0.0))


def _distance(got: np.ndarray, wanted: np.ndarray, slack: np.ndarray) -> float:
    """The largest difference beyond the slack; infinite where one is NaN or infinite and the other is not the same."""
    got, wanted = got.astype(np.float64), wanted.astype(np.float64)
    if got.shape != wanted.shape:
        return float("inf")
    same = (got == wanted) | (np.isnan(got) & np.isnan(wanted))
    with np.errstate(invalid="ignore"):
        difference = np.where(same, 0.0, np.maximum(np.abs(got - wanted) - slack, 0.0))
    return float(np.max(np.where(np.isnan(difference), np.inf, difference), initial=0.0))


# --- the cell that is run -----------------------------------------------------------------------


class _Mixed(nn.Cell):
    """A scalar that depends on every element of every float output, each with a weight of its own."""

    def __init__(self, net: nn.Cell) -> None:
        super().__init__(auto_prefix=False)  # parameters keep their names
        self.net = net

    def construct(self, *inputs: Tensor) -> Tensor:
        outputs = self.net(*inputs)
        if isinstance(outputs, Tensor):
            outputs = (outputs,)
        total = Tensor(0.0, mindspore.float32)
        for output in outputs:
            if output.dtype in (mindspore.float16, mindspore.float32, mindspore.bfloat16):
                total = total + (output.astype(mindspore.float32) * _weights(output.shape)).sum()
        return total


@ops.constexpr
def _weights(shape: tuple[int, ...]) -> Tensor:
    return Tensor(np.cos(np.arange(np.prod(shape, dtype=int)) * 1.7).reshape(shape).astype(np.float32))


class _Differentiated(nn.Cell):
    """Outputs and gradients by inputs and parameters, in one graph."""

    def __init__(self, net: nn.Cell) -> None:
        super().__init__(auto_prefix=False)  # parameters keep their names
        self.net, self.mixed = net, _Mixed(net)
        self.weights = mindspore.ParameterTuple(net.trainable_params())
        self.by_inputs = ops.GradOperation(get_all=True)
        self.by_both = ops.GradOperation(get_all=True, get_by_list=True)

    def construct(self, *inputs: Tensor) -> Any:
        if len(self.weights) == 0:
            return self.net(*inputs), (self.by_inputs(self.mixed)(*inputs), ())
        return self.net(*inputs), self.by_both(self.mixed, self.weights)(*inputs)


# --- moving and naming ---------------------------------------------------------------------------


def _set(parameters: Mapping[str, mindspore.Parameter], values: Arrays) -> None:
    for name, parameter in parameters.items():
        parameter.set_data(Tensor(values[name]))


def _nudged(value: np.ndarray, direction: int) -> np.ndarray:
    """Every float moved by a rounding error, half of them up and half down; the other way with the other direction."""
    if direction == 0 or value.dtype not in _NUDGES:
        return value
    signs = np.where(np.cos(np.arange(value.size) * 2.3) > 0, 1.0, -1.0).reshape(value.shape)
    return (value * (1.0 + direction * _NUDGES[value.dtype] * signs)).astype(value.dtype)


def _nudged_input(value: Any, direction: int) -> Any:
    kept = direction == 0 or not isinstance(value, Tensor) or value.dtype == mindspore.bfloat16
    return value if kept else Tensor(_nudged(value.asnumpy(), direction))


def _named(outputs: Any, gradients: Any, trained: Sequence[str]) -> dict[str, np.ndarray]:
    outputs = outputs if isinstance(outputs, (tuple, list)) else (outputs,)
    by_inputs, by_weights = gradients
    arrays = {f"output {index}": _array(value) for index, value in enumerate(outputs)}
    arrays.update({f"gradient of input {index}": _array(value) for index, value in enumerate(by_inputs)})
    arrays.update({f"gradient of {name}": _array(value) for name, value in zip(trained, by_weights)})
    return arrays


def _changes(parameters: dict[str, mindspore.Parameter], before: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    moved = {name: value.asnumpy().astype(np.float64) - before[name] for name, value in parameters.items()}
    return {f"change of {name}": change for name, change in moved.items() if change.any()}


def _array(value: Any) -> np.ndarray:
    if isinstance(value, Tensor):
        value = value.float() if value.dtype == mindspore.bfloat16 else value
        return value.asnumpy()
    return np.asarray(value)
