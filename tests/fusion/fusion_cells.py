"""Cells that MindSpore compiles; it reads their source, so they live in a file."""

from __future__ import annotations

from mindspore import nn, ops

from ascend_fixes import fusion


class Plain(nn.Cell):
    def construct(self, x):
        return ops.tanh(ops.exp(x * 2.0) + x) + 1.0


class Inner(nn.Cell):
    def __init__(self):
        super().__init__()
        self.leaf = Plain()

    def construct(self, x):
        return self.leaf(x)


class Outer(nn.Cell):
    def __init__(self):
        super().__init__()
        self.inner = Inner()

    def construct(self, x):
        return self.inner(x) * 2.0


@fusion.safe(keep_out=["Exp"])
class Decorated(nn.Cell):
    def construct(self, x):
        return ops.exp(x)


@fusion.safe
class DecoratedByDefault(nn.Cell):
    def construct(self, x):
        return ops.exp(x)
