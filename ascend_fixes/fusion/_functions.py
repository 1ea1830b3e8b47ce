"""exp, tanh and sigmoid that fusion leaves accurate.

The graph kernel's compiler replaces exp and tanh by approximations that are off by up to 4e-4. Unfused, the CPU's kernels
are off by 8e-6 of its value (exp), by 8e-7 (sigmoid, which is not fused) and by 1e-4 (tanh, which is 1 from 5 on, and right
near 0). ``expm1`` is right to 6e-8 of the larger of its value and 1 and is not fused, but takes many times as long as tanh: what
has to keep its places where it is small is built on it, the gates of recurrent layers are not.

All take and give float32, and each states its gradient by its own value.
"""

from __future__ import annotations

from mindspore import Tensor, nn, ops

__all__ = ["Exp", "Gate", "Sigmoid", "Tanh", "tanh_of_half"]


class Exp(nn.Cell):
    """``exp(x)`` for x up to 0, to 4e-7 of its value: of a thousand small terms none may be a multiple of 6e-8."""

    def construct(self, x: Tensor) -> Tensor:
        """A float32 tensor of any shape, of numbers that are not positive; below -88 the value is 0."""
        return 1.0 / (ops.expm1(-x) + 1.0)

    def bprop(self, x: Tensor, out: Tensor, dout: Tensor) -> tuple[Tensor]:
        """exp is its own derivative."""
        return (dout * out,)


def tanh_of_half(half: Tensor) -> Tensor:
    """``tanh(2 * half)``: the CPU's kernel is right where its argument is small, and where it is not, its error hardly matters."""
    part = ops.tanh(half)
    return 2.0 * part * ops.reciprocal(part * part + 1.0)


class Tanh(nn.Cell):
    """``tanh(x)``, to 3e-7 of its value, in graphs that keep Tanh out of fusion (`ascend_fixes.fusion.safe`)."""

    def construct(self, x: Tensor) -> Tensor:
        """A float32 tensor of any shape."""
        return tanh_of_half(0.5 * x)

    def bprop(self, x: Tensor, out: Tensor, dout: Tensor) -> tuple[Tensor]:
        """``1 - tanh(x) ** 2``."""
        return (dout * (1.0 - out * out),)


class Gate(nn.Cell):
    """MindSpore's ``sigmoid(x)``, to 8e-7, in much less time than `Sigmoid`."""

    def construct(self, x: Tensor) -> Tensor:
        """A float32 tensor of any shape."""
        return ops.sigmoid(x)

    def bprop(self, x: Tensor, out: Tensor, dout: Tensor) -> tuple[Tensor]:
        """``s * (1 - s)``."""
        return (dout * out * (1.0 - out),)


class Sigmoid(nn.Cell):
    """``1 / (1 + exp(-x))``, to 2e-7."""

    def construct(self, x: Tensor) -> Tensor:
        """A float32 tensor of any shape; where ``exp(-x)`` overflows the value is 0."""
        return 1.0 / (ops.expm1(-x) + 2.0)

    def bprop(self, x: Tensor, out: Tensor, dout: Tensor) -> tuple[Tensor]:
        """``s * (1 - s)``."""
        return (dout * out * (1.0 - out),)
