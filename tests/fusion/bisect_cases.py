"""Factories for the search, and for the command line: a cell and its inputs."""

from __future__ import annotations

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops

from ascend_fixes.defects.f1_transpose_gradient import Attention

ms.set_device("CPU")


class Healthy(nn.Cell):
    """Fuses, and is right."""

    def construct(self, x):
        return (x * 2.0 + 1.0) * x


class Broken(nn.Cell):
    """Does not compile, fused or not."""

    def construct(self, x):
        return ops.add(x, ops.ones((5, 7), ms.float32))


class Unsteady(nn.Cell):
    """Another result in every run."""

    def construct(self, x):
        return ops.dropout(x, 0.5, True)


def attention():
    ms.set_seed(0)
    return Attention(), Tensor(np.random.default_rng(1).standard_normal((4, 10, 64)).astype(np.float32))


def matrix():
    return Tensor(np.random.default_rng(1).standard_normal((4, 6)).astype(np.float32))


def healthy():
    return Healthy(), matrix()


def broken():
    return Broken(), matrix()


def unsteady():
    return Unsteady(), matrix()


def no_cell():
    return matrix()


def no_inputs():
    return (Healthy(),)


def numpy_input():
    return Healthy(), matrix().asnumpy()


def raising():
    raise ValueError("no weights here\nand a second line")
