"""Cells whose types are fixed, cast or differentiated by hand, and their sound twins; ids as in `audit_cells`."""

from __future__ import annotations

import mindspore
import numpy as np
from mindspore import Parameter, Tensor, nn, ops


class Fixed(nn.Cell):
    """A dense layer that is fixed to a type."""

    def __init__(self, dtype):
        super().__init__()
        self.embedding, self.head = nn.Embedding(50, 16), nn.Dense(16, 5)
        self.head.to_float(dtype)

    def construct(self, ids):
        return self.head(self.embedding(ids))


class Casting(nn.Cell):
    """Turns what it computes into a type."""

    def __init__(self, dtype):
        super().__init__()
        self.embedding, self.head, self.dtype = nn.Embedding(50, 16), nn.Dense(16, 5), dtype

    def construct(self, ids):
        return self.head(self.embedding(ids)).astype(self.dtype)


class Product(nn.Cell):
    """A product of matrices with a gradient of its own."""

    def __init__(self):
        super().__init__()
        self.weight = Parameter(
            Tensor(np.random.default_rng(0).standard_normal((16, 5)), mindspore.float32), name="weight"
        )

    def construct(self, x):
        return ops.matmul(x, self.weight)

    def bprop(self, x, out, dout):
        return (ops.matmul(dout, self.weight.T),)


class OwnGradient(nn.Cell):
    """With such a product inside."""

    def __init__(self):
        super().__init__()
        self.embedding, self.head = nn.Embedding(50, 16), Product()

    def construct(self, ids):
        return self.head(self.embedding(ids).reshape(-1, 16))


class Large(nn.Cell):
    """Ids to scores of up to a given size."""

    def __init__(self, size):
        super().__init__()
        self.embedding, self.head = nn.Embedding(50, 16), nn.Dense(16, 5)
        self.size = size

    def construct(self, ids):
        return ops.tanh(self.head(self.embedding(ids) * self.size).mean(1))


class Masked(Casting):
    """Turns a mask into a type, and no numbers."""

    def construct(self, ids):
        return self.head(self.embedding(ids)) * (ids > 3).astype(self.dtype).astype(mindspore.float32).expand_dims(-1)


class Squares(nn.Cell):
    """Squared differences of what a dense layer gives: in its type by MindSpore's own mixed precision, in float32 by a policy."""

    def __init__(self, size):
        super().__init__()
        self.embedding, self.head, self.size = nn.Embedding(50, 16), nn.Dense(16, 5, has_bias=False), size
        self.squares = ops.SquaredDifference()

    def construct(self, ids):
        x = self.head(self.embedding(ids) * self.size)
        return self.squares(x, -x).mean() * 0.01


class WithoutKernel(Casting):
    """Fails as a cell does one of whose operators has no kernel on CPU, and has a layer marked by `.to_float`."""

    def __init__(self):
        super().__init__(mindspore.float32)
        self.head.to_float(mindspore.float16)

    def construct(self, ids):
        raise RuntimeError("Unsupported op [DynamicRNN] on CPU")


class OnOneLine(nn.Cell):
    """Two layers that share the line of one cast."""

    def __init__(self, dtype=mindspore.float16):
        super().__init__()
        self.embedding, self.first, self.second = nn.Embedding(50, 16), Rounding(dtype), Rounding(dtype)

    def construct(self, ids):
        return self.second(self.first(self.embedding(ids)))


class Rounding(nn.Cell):
    """Turns its input into a type and back."""

    def __init__(self, dtype):
        super().__init__()
        self.dtype = dtype

    def construct(self, x):
        return x.astype(self.dtype).astype(mindspore.float32)
