"""Tiny cells for the dry run's tests, as users give them: factories."""

from __future__ import annotations

import os
import signal
import time

import mindspore
import numpy as np
from mindspore import Tensor, nn, ops


class Block(nn.Cell):
    """Two products with a normalisation between: aclnn, aclop, and at O1 fused kernels."""

    def __init__(self):
        super().__init__()
        self.first, self.norm, self.second = nn.Dense(16, 16), nn.LayerNorm([16]), nn.Dense(16, 16)

    def construct(self, x):
        return self.second(self.norm(ops.relu(self.first(x)) * 2)).mean()


def block():
    return Block(), Tensor(np.ones((4, 16)), mindspore.float32)


class NonZero(nn.Cell):
    def construct(self, x):
        return ops.nonzero(x) + 1


def nonzero():
    return NonZero(), Tensor(np.ones((4, 5)), mindspore.float32)


class Mapped(nn.Cell):
    def __init__(self):
        super().__init__()
        from mindspore.experimental import MapParameter

        self.table = MapParameter(key_dtype=mindspore.int32, value_dtype=mindspore.float32, value_shape=(4,))

    def construct(self, keys):
        return self.table[keys]


def mapped():
    return Mapped(), Tensor(np.array([1, 2]), mindspore.int32)


def narrow_gru():
    return nn.GRU(16, 20), Tensor(np.ones((3, 2, 16)), mindspore.float32)


class Looked(nn.Cell):
    def __init__(self):
        super().__init__()
        self.table = nn.EmbeddingLookup(100, 8, target="CPU")

    def construct(self, ids):
        return self.table(ids) * 2


def looked():
    return Looked(), Tensor(np.ones((3, 4)), mindspore.int32)


def parallel_step():
    mindspore.set_auto_parallel_context(parallel_mode="data_parallel", gradients_mean=True)
    net = nn.Dense(16, 1)
    return nn.TrainOneStepCell(net, nn.SGD(net.trainable_params())), Tensor(np.ones((4, 16)), mindspore.float32)


def killed():
    os.kill(os.getpid(), signal.SIGSEGV)


def hanging():
    time.sleep(600)


def broken():
    raise ZeroDivisionError("the factory's own fault")


def no_cell():
    return 1
