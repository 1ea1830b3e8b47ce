"""Why the value of an operation is not finite, and what helps.

An overflow is one reason of several, and precision cures no other: a division by zero, 0/0 where nothing is counted, the
logarithm of zero, a function outside of its domain, or an input that was not finite to begin with.
"""

from __future__ import annotations

import types
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import mindspore
import numpy as np
from mindspore import Tensor, nn
from mindspore.ops import Primitive

from ascend_fixes import _mindspore
from ascend_fixes.amp._overrides import override_of
from ascend_fixes.amp._policy import Policy, operators_of
from ascend_fixes.amp._sites import SYMBOLS, Site
from ascend_fixes.tensors import array_of

__all__ = ["Event", "advice", "cause", "is_logarithm", "operator_name"]

_METHODS = {
    "astype": "Cast",
    "to": "Cast",
    "mean": "ReduceMean",
    "sum": "ReduceSum",
    "dot": "MatMul",
    "square": "Square",
}
_DIVISIONS = {"div", "divs", "realdiv", "truediv", "true_divide", "divide", "floordiv", "floor_div", "floormod", "mod"}
_INVERSES = {"reciprocal", "inv", "rsqrt", "inverse"}
_LOGARITHMS = {"log": 0.0, "log2": 0.0, "log10": 0.0, "log1p": -1.0}
_ROOTS = {"sqrt", "norm", "lpnorm", "pow", "std"}
_LOSSES = ("crossentropy", "cross_entropy", "nll")
_HALF = (mindspore.float16, mindspore.bfloat16)

_ADVICE = {
    "0/0": "no precision helps: 0 is divided by 0, nothing is counted; divide by ops.maximum(total, 1), or leave the batch out",
    "division by zero": "no precision helps: the divisor is 0; bound it from below with ops.maximum, or add an epsilon",
    "logarithm of zero": "no precision helps: the argument is 0; bound it from below, ops.log(ops.maximum(x, 1e-12)), or "
    "compute logarithms of probabilities with log_softmax",
    "undefined": "no precision helps: there is no value there (the root of a negative number, a row masked with -inf throughout); "
    "bound the argument, mask with -1e9",
    "input": "no precision helps: an operand is not finite before this operation; look at the inputs and the weights",
}


@dataclass
class Event:
    """One operation that was run."""

    callee: Any
    site: Site
    path: str
    caller: str
    operands: tuple[Any, ...] = ()
    dtypes: tuple[Any, ...] = ()
    value: float = 0.0
    dtype: Any = None


def operator_name(event: Event) -> str:
    """MindSpore's operator, or the text of what is called."""
    callee = event.callee
    if isinstance(callee, Primitive):
        return callee.name
    if isinstance(callee, nn.Cell):
        return type(callee).__name__
    if event.site.callee in SYMBOLS:
        return SYMBOLS[event.site.callee]
    name = getattr(callee, "__name__", event.site.callee)
    if isinstance(callee, types.FunctionType):
        found = sorted(operators_of(callee))
        return found[0] if len(found) == 1 else name
    if isinstance(getattr(callee, "__self__", None), Tensor):
        known = {operator.lower(): operator for operator in _mindspore.operator_names()}
        return _METHODS.get(name, known.get(name.lower(), name))
    return name


def is_logarithm(event: Event) -> bool:
    """Whether an operation is a logarithm."""
    return _plain(event) in _LOGARITHMS


def cause(event: Event, backward: bool) -> str:
    """ "overflow", "0/0", "division by zero", "logarithm of zero", "undefined", or "input" for one that was not finite."""
    name = _plain(event)
    numbers = [_numbers(value) for value in event.operands]
    floats = [array for array in numbers if array.dtype.kind == "f"]
    if any(array.size == 0 for array in floats):
        return "0/0"
    if name in _LOGARITHMS and floats:
        return _beyond(floats[0] - _LOGARITHMS[name])
    if "softmax" in name and floats and np.isneginf(floats[0]).any():
        return "0/0"
    beyond = [array[~np.isfinite(array)] for array in floats]
    if any(len(some) for some in beyond):
        masked = not backward and np.isnan(event.value) and all((some == -np.inf).all() for some in beyond)
        return "undefined" if masked else "input"
    if name in _DIVISIONS and len(numbers) > 1 and (numbers[1] == 0).any():
        above, below = np.broadcast_arrays(*numbers[:2])
        return "0/0" if (above[below == 0] == 0).all() else "division by zero"
    if name in _INVERSES and floats and (floats[0] == 0).any():
        return "division by zero"
    if any(part in name for part in _LOSSES) and _all_ignored(numbers):
        return "0/0"
    if backward and name in _ROOTS and floats and (floats[0] == 0).any():
        return "division by zero"
    if not backward and np.isnan(event.value) and name in _ROOTS | _INVERSES | {"acos", "asin", "acosh", "atanh"}:
        return "undefined"
    return "overflow"


def advice(event: Event, why: str, backward: bool, policy: Policy | None, overrides: Mapping[str, str]) -> str:
    """What to do: an entry for the policy, or what else."""
    if why != "overflow":
        return _ADVICE[why] + _if_half(event, why)
    operator = operator_name(event)
    known = operator in _mindspore.operator_names()
    inside = operators_of(event.callee) if isinstance(event.callee, types.FunctionType) else frozenset()
    low = policy.low if policy is not None and policy.mixed else None
    may_lower = low is not None and bool(inside & low or not (known or event.site.callee in SYMBOLS))
    if event.dtype not in _HALF and not may_lower:
        if backward:
            return "lower the loss scale: the gradient leaves float32's range"
        return "no precision helps: the value leaves float32's range; bound it, or look at the inputs and the weights"
    override = override_of(event.path, overrides)
    if override is not None and override[1] != "float32":
        where = repr(override[0]) if override[0] else "the cell itself"
        return f"take .to_float(mindspore.{override[1]}) off {where}: no policy reaches what it computes"
    if event.path:
        return f'add to the policy: fp32=["{event.path}"]'
    if known:
        return f'add to the policy: fp32=["{operator}"]'
    return f"compute {event.site.text} in float32: cast its inputs with .astype(mindspore.float32)"


def _if_half(event: Event, why: str) -> str:
    """What may have become 0 only in half precision."""
    if why == "input" or not any(isinstance(one, Tensor) and one.dtype in _HALF for one in event.operands):
        return ""
    return f" (if it is 0 in half precision alone, compute {event.site.text} in float32)"


def _plain(event: Event) -> str:
    name = operator_name(event).lower()
    called = event.site.callee.rpartition(".")[2].lower()
    return called if called in _DIVISIONS | _INVERSES | _ROOTS | set(_LOGARITHMS) else name


def _beyond(array: np.ndarray) -> str:
    """What a logarithm is of whose argument is this much above where it ends."""
    if not np.isfinite(array).all() and not (array <= 0).any():
        return "input"
    return "undefined" if (array < 0).any() else "logarithm of zero"


def _all_ignored(numbers: list[np.ndarray]) -> bool:
    ignored = {int(array) for array in numbers if array.dtype.kind in "iu" and array.ndim == 0}
    labels = [array for array in numbers if array.dtype.kind in "iu" and array.ndim > 0]
    return any((array < 0).all() or any((array == number).all() for number in ignored) for array in labels)


def _numbers(value: Any) -> np.ndarray:
    """An operand in float64, or in integers."""
    if isinstance(value, Tensor):
        array = array_of(value)
        return array.astype(np.float64) if array.dtype.kind == "f" else array
    if isinstance(value, (bool, int, float)):
        return np.asarray(value)
    return np.asarray("")
