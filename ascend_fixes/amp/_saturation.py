"""Devices that saturate: the check that sees their overflows, and `saturating`, which emulates one.

An Ascend 910A, and a 910B told so by ``MS_ASCEND_CHECK_OVERFLOW_MODE=SATURATION_MODE``, has no infinity in float16: an
overflow is 65504, NaN is 0. A check for infinities passes every overflow there. The emulation lets a user see, on
any machine, whether a training step notices; it is no statement about a device.
"""

from __future__ import annotations

import ast
from typing import Any, ClassVar

import mindspore
from mindspore import Tensor, nn, ops

from ascend_fixes import _mindspore
from ascend_fixes.amp import _sites as sites
from ascend_fixes.amp._policy import ArgumentTypeError, Policy
from ascend_fixes.amp._scaler import FLOAT16_LIMIT

__all__ = ["Saturating", "limit_of", "saturates", "saturating"]

LIMITS = {"float16": FLOAT16_LIMIT, "bfloat16": 3.3895313892515355e38, "float32": 3.4028234663852886e38}


def saturates(cell: nn.Cell) -> bool:
    """Whether overflows inside ``cell`` show as the largest finite value: on such a device, or under its emulation."""
    return _mindspore.saturates() or any(isinstance(inner, Saturating) for _, inner in cell.cells_and_names())


def limit_of(policy: Policy | None) -> float:
    """The largest finite value of the type that ``policy`` computes in: float16's where there is no policy."""
    return LIMITS["float16" if policy is None else str(policy.compute).lower()]


class Saturating(nn.Cell):
    """The emulation of a saturating device around a cell. Made by `saturating`; ``wrapped`` is the cell."""

    def __init__(self, cell: nn.Cell, inner: nn.Cell) -> None:
        super().__init__(auto_prefix=False)
        object.__setattr__(self, "wrapped", cell)
        self.cell = inner
        self.phase = cell.phase
        self.add_flags(training=cell.training)

    def construct(self, *args: Any, **kwargs: Any) -> Any:
        return self.cell(*args, **kwargs)


def saturating(cell: nn.Cell) -> Saturating:
    """An EMULATION of a 910A: every float16 result inside ``cell`` has inf replaced by 65504 (-inf by -65504), NaN by 0.

    Applied after each call and each arithmetic operation in the methods of ``cell`` and of the cells in it, to results and
    to the gradients that come back to them. A function that is called counts as one operation; what overflows
    and comes back into range inside it is not seen. Gradients are held in range where they reach a result; the gradient of
    a parameter itself may still be infinite, where the device has 65504. `TrainStep` around the result takes both for an
    overflow. Combine as ``autocast(saturating(cell), policy)`` or ``TrainStep(saturating(cell),
    ..., policy=policy)``. Slower than the cell; for tests.

    ``cell`` is not changed: the emulation works on copies, which share its parameters.

    Raises:
        ArgumentTypeError: ``cell`` is no `mindspore.nn.Cell`.
    """
    if not isinstance(cell, nn.Cell):
        raise ArgumentTypeError(f"cell={cell!r} is no mindspore.nn.Cell; wrap functions in a cell")
    if isinstance(cell, Saturating):
        return cell
    cell.check_names_and_refresh_name()
    return Saturating(cell, sites.instrumented(cell, _Edit, _prepare))


class Clipped(nn.Cell):
    """A float16 Tensor, and the gradient that comes back to it, as a saturating device holds them."""

    def construct(self, x: Any) -> Any:
        return clip(x)

    def bprop(self, x: Any, out: Any, dout: Any) -> Any:
        return (clip(dout),)


def clip(x: Any) -> Any:
    exact = x.astype(mindspore.float32)
    exact = ops.select(ops.isnan(exact), ops.ZerosLike()(exact), exact)
    return ops.maximum(ops.minimum(exact, FLOAT16_LIMIT), -FLOAT16_LIMIT).astype(x.dtype)


def saturated(self: Any, value: Any) -> Any:
    """What the rewritten methods pass every result through."""
    if isinstance(value, Tensor):
        if value.dtype == mindspore.float16:
            return self.clipped(value)
        return value
    if isinstance(value, tuple):
        parts = ()
        for part in value:
            parts = parts + (self.saturated(part),)
        return parts
    return value


def _prepare(cell: nn.Cell, path: str) -> dict[str, Any]:
    return {"clipped": Clipped()}


class _Edit(sites.Edit):
    """``a * f(b)`` becomes ``self.saturated(a * self.saturated(f(b)))``."""

    methods: ClassVar[dict] = {"saturated": saturated}

    def around(self, node: ast.expr) -> ast.expr:
        return self.call("saturated", node)
