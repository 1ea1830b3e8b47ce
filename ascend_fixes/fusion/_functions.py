"""exp, tanh and sigmoid that fusion leaves accurate.

The graph kernel's compiler replaces exp and tanh by approximations that are off
by up to 4e-4; unfused, the CPU's own kernels are off by 5e-6 and 1e-4 (its tanh
is 1 from 5 on). ``expm1`` is right to 6e-8 of the larger of its value and 1 and is not fused, so the
functions are built on it, where it is large; each states its gradient by its own value, for the
gradient of ``expm1`` would bring the fused exp back.

All take and give float32.
"""

from __future__ import annotations

from mindspore import Tensor, nn, ops

__all__ = ["Exp", "Sigmoid", "Tanh"]


class Exp(nn.Cell):
    """``exp(x)`` for x up to 0, to 4e-7 of its value: of a thousand small terms none may be a multiple of 6e-8."""

    def construct(self, x: Tensor) -> Tensor:
        """A float32 tensor of any shape, of numbers that are not positive; below -88 the value is 0."""
        return 1.0 / (ops.expm1(-x) + 1.0)

    def bprop(self, x: Tensor, out: Tensor, dout: Tensor) -> tuple[Tensor]:
        """exp is its own derivative."""
        return (dout * out,)


class Tanh(nn.Cell):
    """``tanh(x)``, to 2e-7."""

    def construct(self, x: Tensor) -> Tensor:
        """A float32 tensor of any shape."""
        shrunk = ops.expm1(-2.0 * ops.abs(x))  # in (-1, 0], so nothing overflows
        return -ops.sign(x) * shrunk * (1.0 / (shrunk + 2.0))  # on CPU a quotient keeps 16 bytes an element (S8)

    def bprop(self, x: Tensor, out: Tensor, dout: Tensor) -> tuple[Tensor]:
        """``1 - tanh(x) ** 2``."""
        return (dout * (1.0 - out * out),)


class Sigmoid(nn.Cell):
    """``1 / (1 + exp(-x))``, to 2e-7."""

    def construct(self, x: Tensor) -> Tensor:
        """A float32 tensor of any shape; where ``exp(-x)`` overflows the value is 0."""
        return 1.0 / (ops.expm1(-x) + 2.0)

    def bprop(self, x: Tensor, out: Tensor, dout: Tensor) -> tuple[Tensor]:
        """``s * (1 - s)``."""
        return (dout * out * (1.0 - out),)
