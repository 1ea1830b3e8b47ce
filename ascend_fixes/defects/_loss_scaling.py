"""The cures of A4, A5 and A6: bodies for the methods of MindSpore's own loss scalers and training cell.

The classes stay MindSpore's, so ``isinstance``, subclasses and attributes (``scale_value``, ``counter``,
``scale_sense``) stay as they are; only arithmetic is replaced. Scales are multiplied and gradients divided in
float32, the scale goes below 1 when it must and does not grow beyond reason.

These functions are parsed by MindSpore's graph compiler, which reads the source of what ``__wrapped__`` points to:
they must not have one.
"""

from __future__ import annotations

import functools
import inspect
import types
from typing import Any, Callable

import mindspore
from mindspore import ParameterTuple, Tensor, ops

from ascend_fixes import _mindspore
from ascend_fixes.amp._scaler import FLOAT16_LIMIT

__all__ = [
    "adjust",
    "cpu_overflow_status",
    "in_place_of",
    "limit_checked",
    "scale_in_float32",
    "train_one_step",
    "unscale_in_float32",
    "update_scale",
    "with_slots",
]

MINIMUM = 2.0**-14  # a smaller scale would push float32 gradients, not only float16 ones, towards underflow
MAXIMUM = 2.0**24  # MindSpore's own start value; more was never seen to help


def in_place_of(function: Callable) -> Callable[[Callable], Callable]:
    """``make`` of a replacement: a copy of ``function`` with the original's name, documentation and signature.

    The way back is ``__original__``, because the graph compiler would follow ``__wrapped__``.
    """

    def make(original: Callable) -> Callable:
        made = types.FunctionType(
            function.__code__, function.__globals__, original.__name__, function.__defaults__, function.__closure__
        )
        made.__module__ = function.__module__
        made.__doc__ = original.__doc__
        made.__qualname__ = original.__qualname__
        made.__signature__ = inspect.signature(original)  # type: ignore[attr-defined]
        made.__original__ = original  # type: ignore[attr-defined]
        return made

    return make


def scale_in_float32(self: Any, inputs: Any) -> Any:
    if isinstance(inputs, (tuple, list)):
        scaled = ()
        for value in inputs:
            scaled = scaled + (self.scale(value),)
        return scaled
    return ops.cast(inputs, mindspore.float32) * self.scale_value


def unscale_in_float32(self: Any, inputs: Any) -> Any:
    if isinstance(inputs, (tuple, list)):
        unscaled = ()
        for value in inputs:
            unscaled = unscaled + (self.unscale(value),)
        return unscaled
    return ops.cast(inputs, mindspore.float32) / self.scale_value


def adjust(self: Any, grads_finite: Any) -> Any:
    scale = self.scale_value.value()
    grown = scale * self.scale_factor
    grown = ops.select(grown <= MAXIMUM, grown, scale)
    lowered = ops.maximum(scale / self.scale_factor, ops.full_like(scale, MINIMUM))
    full = self.counter == self.scale_window - 1
    ops.assign(self.scale_value, ops.select(grads_finite, ops.select(full, grown, scale), lowered))
    ops.assign(self.counter, ((self.counter + 1) % self.scale_window) * grads_finite)
    return True


def update_scale(self: Any, loss_scale: Any, overflow: Any) -> Any:
    scale = loss_scale.value()
    since = self.cur_iter - self.last_overflow_iter
    grows = ops.logical_and(since >= self.scale_window, ops.logical_not(overflow))
    grown = scale * self.scale_factor
    grown = ops.select(grown <= MAXIMUM, grown, scale)
    lowered = ops.maximum(scale / self.scale_factor, ops.full_like(scale, MINIMUM))
    restart = ops.logical_or(overflow, since >= self.scale_window)
    ops.assign(self.last_overflow_iter, ops.select(restart, self.cur_iter, self.last_overflow_iter))
    ops.assign(self.cur_iter, self.cur_iter + 1)
    ops.assign(loss_scale, ops.select(overflow, lowered, ops.select(grows, grown, scale)))
    return overflow


def train_one_step(self: Any, *inputs: Any) -> Any:
    weights = self.weights
    loss = self.network(*inputs)
    scaling_sens = self.scale_sense
    status = Tensor([0] * 8, mindspore.int32)
    sens = ops.ones_like(loss) * ops.cast(scaling_sens, ops.dtype(loss))
    scaled = self.grad(self.network, weights)(*inputs, sens)
    grads = ()
    for grad in scaled:
        grads = grads + (ops.cast(ops.cast(grad, mindspore.float32) / scaling_sens, ops.dtype(grad)),)
    grads = self.grad_reducer(grads)
    cond = self.get_overflow_status(status, grads)
    overflow = self.process_loss_scale(cond)
    loss = ops.depend(loss, self.slots)  # a Parameter that only a branch writes is not seen by checkpoints
    if not overflow:
        loss = ops.depend(loss, self.optimizer(grads))
    return loss, cond, scaling_sens


def with_slots(original: Callable) -> Callable:
    """For ``TrainOneStepWithLossScaleCell.__init__``: also keeps the optimizer's Parameters at hand."""

    @functools.wraps(original)
    def __init__(self: Any, network: Any, optimizer: Any, scale_sense: Any) -> None:
        original(self, network, optimizer, scale_sense)
        self.slots = ParameterTuple(list(optimizer.get_parameters()))

    return __init__


def cpu_overflow_status(self: Any, status: Any, compute_output: Any) -> Any:
    values = compute_output
    if isinstance(compute_output, Tensor):
        values = (compute_output,)
    bad = Tensor(0.0, mindspore.float32)
    for value in values:
        bad = bad + ops.logical_not(ops.isfinite(value).all()).astype(mindspore.float32)
    if self.is_distributed:
        bad = self.allreduce(bad)
    return bad > 0


def limit_checked(original: Callable) -> Callable:
    """For `mindspore.amp.all_finite`: a float16 at the end of its range is an overflow, as on a device that stops
    there.

    Where the device saturates, that holds for gradients that were cast to float32, too.
    """
    saturating = _mindspore.saturates()

    def all_finite(inputs: Any) -> Any:
        return ops.logical_and(original(inputs), below_limit(inputs, saturating))

    return in_place_of(all_finite)(original)


def below_limit(values: Any, saturating: Any) -> Any:
    bad = Tensor(0.0, mindspore.float32)
    for value in values:
        if saturating or value.dtype == mindspore.float16:
            bad = bad + (ops.abs(value).max() >= FLOAT16_LIMIT).astype(mindspore.float32)
    return bad == 0
