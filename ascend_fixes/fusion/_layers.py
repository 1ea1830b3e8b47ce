"""Layers that give the same result fused and unfused: Softmax, LogSumExp, LayerNorm, GELU and masked pooling.

A cell that states its gradient avoids, in both of its methods, the functions of
``mindspore.ops`` that branch on their arguments (`zeros_like`, `clamp`, `amax`): called
from ``construct`` and from ``bprop`` alike they end in "The func graph is empty".

What a row has one of is spread over the row before it is used, and multiplied by a reciprocal instead of
dividing: on CPU a compiled graph keeps 16 bytes for every element that an operator broadcasts or divides (S8).

All compute in float32 and return the dtype they were given. Masks are boolean,
True where an element counts; rows without one that counts give zeros and no
gradient, never NaN.
"""

from __future__ import annotations

import math
from typing import Any

import mindspore
from mindspore import Tensor, nn, ops

from ascend_fixes.errors import AscendFixesError
from ascend_fixes.fusion._functions import Exp, Sigmoid

__all__ = ["GELU", "LayerError", "LayerNorm", "LogSumExp", "MaskedMax", "MaskedMean", "Softmax", "spread"]

_LOWEST = -3.0e38  # below every float32 that data holds; finite, so that a difference of two is no NaN


class LayerError(AscendFixesError, ValueError):
    """A layer was given an argument that it cannot work with."""


class _BelowTop(nn.Cell):
    """The maximum of what counts, and every element less that; what is masked may have any difference up to 0.

    Differences end at -1e4, where exp is long 0: one of the maximum and the lowest float32 would be -inf.
    """

    def __init__(self, axis: int) -> None:
        super().__init__()
        self.axis, self.largest = axis, ops.ReduceMax(keep_dims=True)

    def construct(self, x: Tensor, masked: Tensor) -> tuple[Tensor, Tensor]:
        x = _filled(x, masked, _LOWEST)
        top = self.largest(x, self.axis)
        return top, ops.maximum(x - spread(top, x.shape), Tensor(-1e4, mindspore.float32))


class _Normalised(nn.Cell):
    """Softmax of float32 over one axis, zero where masked; its gradient needs its value alone."""

    def __init__(self, axis: int) -> None:
        super().__init__()
        self.axis, self.exp, self.below_top = axis, Exp(), _BelowTop(axis)

    def construct(self, x: Tensor, masked: Tensor) -> Tensor:
        """``x`` and a boolean mask of its shape, True for what does not count."""
        _, differences = self.below_top(x, masked)
        parts = _filled(self.exp(differences), masked, 0.0)
        total = parts.sum(self.axis, keepdims=True)
        return parts * spread(1.0 / ops.maximum(total, Tensor(1e-30, mindspore.float32)), x.shape)

    def bprop(self, x: Tensor, masked: Tensor, out: Tensor, dout: Tensor) -> tuple[Tensor, Tensor]:
        """``p * (d - sum(p * d))``."""
        weighted = out * dout
        return weighted - out * spread(weighted.sum(self.axis, keepdims=True), x.shape), masked


class Softmax(nn.Cell):
    """Softmax over one axis, with an optional mask; `mindspore.nn.Softmax` otherwise.

    Args:
        axis: the axis that sums to one.
    """

    def __init__(self, axis: int = -1) -> None:
        super().__init__()
        self.normalised = _Normalised(_axis(axis))

    def construct(self, input: Tensor, mask: Tensor | None = None) -> Tensor:
        """A tensor of any shape, and a boolean mask that broadcasts to it."""
        x = input.astype(mindspore.float32)
        return self.normalised(x, _masked(mask, x.shape)).astype(input.dtype)


class LogSumExp(nn.Cell):
    """``log(sum(exp(x)))`` over one axis, with an optional mask.

    A row without an element that counts gives the lowest float32, -3e38 (float16: -65504), and no gradient.

    Args:
        axis: the axis that is summed.
        keep_dims: keep it with size 1.
    """

    def __init__(self, axis: int = -1, keep_dims: bool = False) -> None:
        super().__init__()
        self.axis, self.keep_dims = _axis(axis), keep_dims
        self.summed = _LogSum(self.axis)

    def construct(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """A tensor of any shape, and a boolean mask that broadcasts to it."""
        full = x.astype(mindspore.float32)
        result = self.summed(full, _masked(mask, full.shape))
        if x.dtype == mindspore.float16:
            result = ops.maximum(result, Tensor(-65504.0, mindspore.float32))
        return (result if self.keep_dims else result.squeeze(self.axis)).astype(x.dtype)


class _LogSum(nn.Cell):
    """LogSumExp of float32 that keeps the axis; its gradient is the softmax."""

    def __init__(self, axis: int) -> None:
        super().__init__()
        self.axis, self.exp, self.below_top = axis, Exp(), _BelowTop(axis)

    def construct(self, x: Tensor, masked: Tensor) -> Tensor:
        """``x`` and a boolean mask of its shape, True for what does not count."""
        top, differences = self.below_top(x, masked)
        total = _filled(self.exp(differences), masked, 0.0).sum(self.axis, keepdims=True)
        # The maximum contributes exactly 1, so the logarithm is that of 1 or more: the part above it, by log1p.
        return top + ops.log1p(ops.maximum(total - 1.0, Tensor(0.0, mindspore.float32)))

    def bprop(self, x: Tensor, masked: Tensor, out: Tensor, dout: Tensor) -> tuple[Tensor, Tensor]:
        """The softmax, weighted."""
        _, differences = self.below_top(x, masked)
        parts = _filled(self.exp(differences), masked, 0.0)
        total = ops.maximum(parts.sum(self.axis, keepdims=True), Tensor(1e-30, mindspore.float32))
        return parts * spread(dout / total, x.shape), masked


class LayerNorm(nn.LayerNorm):
    """`mindspore.nn.LayerNorm`, same arguments and parameters, exact on rows far from zero or near the dtype's limit."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.standard = _Standard(self.epsilon)

    def construct(self, input_x: Tensor) -> Tensor:
        """A tensor whose last axes are the normalised shape."""
        first = self.begin_norm_axis % input_x.ndim
        shape = input_x.shape
        normal = self.standard(input_x.astype(mindspore.float32).reshape(-1, math.prod(shape[first:])))[0]
        gamma, beta = self.gamma.astype(mindspore.float32), self.beta.astype(mindspore.float32)
        return (normal.reshape(shape) * spread(gamma, shape) + spread(beta, shape)).astype(input_x.dtype)


class _Standard(nn.Cell):
    """Rows of mean 0 and variance 1, and the two numbers by which a row was multiplied: float32 (rows, n).

    The row is centred, divided by what is then its largest magnitude, so that no square overflows, and centred
    again, so that the rounding of a large mean does not show. Sixteenths are centred: a difference of two values near
    the limit would overflow, and their reciprocal lose its last places. The gradient needs the result alone.
    """

    def __init__(self, epsilon: float) -> None:
        super().__init__()
        self.root = math.sqrt(epsilon)

    def construct(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        shape = x.shape
        parts = 0.0625 * x - spread((x * (0.0625 / shape[1])).sum(1, keepdims=True), shape)
        by_size = 1.0 / ops.maximum(ops.amax(ops.abs(parts), 1, True), Tensor(0.0625, mindspore.float32))
        centred = parts * spread(by_size, shape)
        centred = centred - spread(centred.mean(1, True), shape)
        root = 0.0625 * self.root * by_size
        variance = (centred * centred).mean(1, True) + ops.maximum(root * root, Tensor(1e-30, mindspore.float32))
        by_deviation = 1.0 / ops.sqrt(variance)
        return centred * spread(by_deviation, shape), by_size * 0.0625, by_deviation

    def bprop(self, x: Tensor, out: tuple[Tensor, ...], dout: tuple[Tensor, ...]) -> tuple[Tensor]:
        """``(g - mean(g) - n * mean(g * n)) / deviation``."""
        normal, by_size, by_deviation = out
        grad, shape = dout[0], x.shape
        along = spread((grad * normal).mean(1, True), shape)
        centred = grad - spread(grad.mean(1, True), shape) - normal * along
        return (centred * spread(by_deviation, shape) * spread(by_size, shape),)


class GELU(nn.Cell):
    """``x * P(X <= x)`` for a standard normal X; `mindspore.nn.GELU` otherwise.

    Args:
        approximate: the tanh approximation (Hendrycks and Gimpel, https://arxiv.org/abs/1606.08415); False for
            the exact function.
    """

    def __init__(self, approximate: bool = True) -> None:
        super().__init__()
        self.function = _TanhGELU() if approximate else _ExactGELU()

    def construct(self, x: Tensor) -> Tensor:
        """A tensor of any shape."""
        return self.function(x.astype(mindspore.float32)).astype(x.dtype)


_ROOT = math.sqrt(2.0 / math.pi)


class _TanhGELU(nn.Cell):
    """``x * sigmoid(2 u)`` with ``u = sqrt(2 / pi) (x + 0.044715 x^3)``, float32."""

    def __init__(self) -> None:
        super().__init__()
        self.sigmoid = Sigmoid()

    def construct(self, x: Tensor) -> Tensor:
        return x * self.sigmoid(2.0 * _ROOT * _bounded(x) * (1.0 + 0.044715 * _bounded(x) * _bounded(x)))

    def bprop(self, x: Tensor, out: Tensor, dout: Tensor) -> tuple[Tensor]:
        near = _bounded(x)
        argument = 2.0 * _ROOT * near * (1.0 + 0.044715 * near * near)
        share, rest = self.sigmoid(argument), self.sigmoid(-argument)  # 1 - share would have lost its last places
        slope = 2.0 * _ROOT * (1.0 + 3.0 * 0.044715 * near * near)
        return (dout * (share + near * share * rest * slope),)


class _ExactGELU(nn.Cell):
    """``x / 2 * erfc(-x / sqrt(2))``, float32: ``1 + erf`` would lose its places below 0."""

    def __init__(self) -> None:
        super().__init__()
        self.exp = Exp()

    def construct(self, x: Tensor) -> Tensor:
        return 0.5 * x * ops.erfc(x * -math.sqrt(0.5))

    def bprop(self, x: Tensor, out: Tensor, dout: Tensor) -> tuple[Tensor]:
        near = _bounded(x)
        density = self.exp(-0.5 * near * near) / math.sqrt(2.0 * math.pi)
        return (dout * (0.5 * ops.erfc(x * -math.sqrt(0.5)) + near * density),)


def _bounded(x: Tensor) -> Tensor:
    """``x`` within [-20, 20]: beyond it the sigmoid and the density are at their limits, and a square may overflow."""
    return ops.maximum(ops.minimum(x, Tensor(20.0, mindspore.float32)), Tensor(-20.0, mindspore.float32))


class MaskedMean(nn.Cell):
    """The mean over one axis of what the mask lets count.

    Args:
        axis: the axis that is averaged, of a tensor ``(..., n, d)``; by default the last but one.
    """

    def __init__(self, axis: int = -2) -> None:
        super().__init__()
        self.axis = _axis(axis)

    def construct(self, x: Tensor, mask: Tensor) -> Tensor:
        """``x`` and a boolean mask: of x's shape, or without its axes after the averaged one, as ``(..., n)``."""
        full = x.astype(mindspore.float32)
        counts = _alike(mask, full, self.axis).astype(mindspore.float32) * ops.ones_like(full)
        number = counts.sum(self.axis)
        # Divided before it is added: the sum of many values near the limit must not overflow.
        shares = counts / ops.maximum(number, ops.ones_like(number)).expand_dims(self.axis)
        kept = ops.masked_fill(full, counts <= 0, Tensor(0.0, mindspore.float32))
        return (kept * shares).sum(self.axis).astype(x.dtype)


class MaskedMax(nn.Cell):
    """The maximum over one axis of what the mask lets count; zero where nothing does.

    The gradient goes in equal parts to the elements that reach the maximum.

    Args:
        axis: the axis that is searched, of a tensor ``(..., n, d)``; by default the last but one.
    """

    def __init__(self, axis: int = -2) -> None:
        super().__init__()
        self.axis = _axis(axis)
        self.largest = _Largest(self.axis)

    def construct(self, x: Tensor, mask: Tensor) -> Tensor:
        """``x`` and a boolean mask: of x's shape, or without its axes after the searched one, as ``(..., n)``."""
        full = x.astype(mindspore.float32)
        counts = _alike(mask, full, self.axis).astype(mindspore.float32) * ops.ones_like(full)
        return self.largest(full, counts).astype(x.dtype)


class _Largest(nn.Cell):
    """The maximum of float32 with a gradient that needs no index."""

    def __init__(self, axis: int) -> None:
        super().__init__()
        self.axis = axis

    def construct(self, x: Tensor, mask: Tensor) -> Tensor:
        top = ops.amax(ops.masked_fill(x, mask <= 0, Tensor(_LOWEST, mindspore.float32)), self.axis)
        return ops.masked_fill(top, mask.sum(self.axis) <= 0, Tensor(0.0, mindspore.float32))

    def bprop(self, x: Tensor, mask: Tensor, out: Tensor, dout: Tensor) -> tuple[Tensor, Tensor]:
        reached = (x == out.expand_dims(self.axis)).astype(mindspore.float32) * mask
        number = ops.maximum(reached.sum(self.axis), Tensor(1.0, mindspore.float32))
        return reached * (dout / number).expand_dims(self.axis), mask * 0.0


def spread(x: Tensor, shape: tuple[int, ...]) -> Tensor:
    """``x`` in a shape that it broadcasts to."""
    return ops.broadcast_to(x, shape)


def _filled(x: Tensor, where: Tensor, value: float) -> Tensor:
    return ops.masked_fill(x, where, Tensor(value, mindspore.float32))


def _masked(mask: Tensor | None, shape: tuple[int, ...]) -> Tensor:
    """What does not count, in that shape; compared before it is spread, where it is smaller."""
    if mask is None:
        return ops.full(shape, False, dtype=mindspore.bool_)
    return spread(mask.astype(mindspore.float32) <= 0, shape)


def _alike(mask: Tensor, x: Tensor, axis: int) -> Tensor:
    """The mask with as many axes as x: those that it lacks follow the axis."""
    missing = x.ndim - mask.ndim
    return mask.reshape(mask.shape + (1,) * missing) if missing else mask


def _axis(axis: int | object) -> int:
    if isinstance(axis, bool) or not isinstance(axis, int):
        raise LayerError(f"axis must be one integer, not {axis!r}")
    return axis
