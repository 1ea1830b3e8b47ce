"""The cells of these tests, in a file: MindSpore parses their source."""

from __future__ import annotations

import mindspore as ms
import numpy as np
from mindspore import nn, ops

from ascend_fixes.shapes import Buckets, bucketed


class Scorer(nn.Cell):
    """A masked text scorer: outputs of every kind that has to be cut back."""

    def __init__(self):
        super(Scorer, self).__init__()  # noqa: UP008 - as most MindSpore code has it
        self.embedding = nn.Embedding(50, 8)
        self.head = nn.Dense(8, 3)
        self.dropout = nn.Dropout(p=0.5)

    def construct(self, ids, mask, scale=1):
        states = self.dropout(self.embedding(ids)) * mask.expand_dims(-1)
        pooled = states.sum(1) / ops.maximum(mask.sum(1, keepdims=True), 1.0)
        return self.head(states) * scale, {"states": states, "pooled": (pooled, states.sum(-1))}


@bucketed(axes={"ids": 1, "mask": 1}, buckets=Buckets([4, 8]), outputs=1)
class Decorated(nn.Cell):
    """A bucketed class that names itself in ``super``."""

    def __init__(self):
        super(Decorated, self).__init__()  # noqa: UP008
        self.embedding = nn.Embedding(50, 8)

    def construct(self, ids, mask):
        return self.embedding(ids) * mask.expand_dims(-1)


class Pooled(nn.Cell):
    """One output without a ragged axis, from a mean over the mask."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(50, 8)
        self.head = nn.Dense(8, 3)

    def construct(self, ids, mask):
        states = self.embedding(ids) * mask.expand_dims(-1)
        return self.head(states.sum(1) / mask.sum(1, keepdims=True))


class Outer(nn.Cell):
    """Calls another cell inside its own graph."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def construct(self, ids, mask):
        return self.inner(ids, mask) + 1


class Counted(nn.Cell):
    """Class scores from the number of positions that are not zero: one input, as `Model` passes with a loss."""

    def __init__(self):
        super().__init__()
        self.head = nn.Dense(1, 3)

    def construct(self, x):
        return self.head(x.sum(1, keepdims=True))


class CountedLoss(nn.Cell):
    """`Counted` with its loss inside."""

    def __init__(self):
        super().__init__(auto_prefix=False)
        self.network = Counted()
        self.loss = nn.CrossEntropyLoss()

    def construct(self, x, label):
        return self.loss(self.network(x), label)


class PooledLoss(nn.Cell):
    """The loss of `Pooled`, to be trained."""

    def __init__(self, network):
        super().__init__(auto_prefix=False)
        self.network = network
        self.loss = nn.CrossEntropyLoss()

    def construct(self, ids, mask, label):
        return self.loss(self.network(ids, mask), label)


class Pairs(nn.Cell):
    """Two ragged axes: scores of every source position against every target position."""

    def construct(self, source, target):
        return source.expand_dims(2) * target.expand_dims(1), source.sum(1) + target.sum(1)


class Graphs(nn.Cell):
    """A batch of nodes x nodes adjacency matrices."""

    def construct(self, nodes, adjacency):
        return ops.matmul(adjacency, nodes.expand_dims(-1)).squeeze(-1)


class Same(nn.Cell):
    """Returns what it is given."""

    def construct(self, x):
        return x


def pooled_step(learning_rate=0.1):
    """A training cell whose construct takes ``*inputs``."""
    network = PooledLoss(Pooled())
    optimizer = nn.SGD(network.trainable_params(), learning_rate=learning_rate)
    return nn.TrainOneStepCell(network, optimizer)


def batch(length, rows=2, seed=0):
    """ids int32 [rows, length] and mask float32 [rows, length], one row shorter than the rest."""
    rng = np.random.default_rng((seed, length))
    mask = np.ones((rows, length), np.float32)
    mask[0, (length + 1) // 2 :] = 0
    return rng.integers(1, 50, (rows, length)).astype(np.int32), mask


def tensors(*arrays):
    return [ms.Tensor(array) for array in arrays]


def copy_parameters(source, target):
    """Give ``target`` the values of ``source``'s parameters; both are initialised by it."""
    for theirs, own in zip(source.get_parameters(), target.get_parameters()):
        theirs.init_data()
        own.set_data(ms.Tensor(theirs.asnumpy()))


@ms.jit
def scaled_by(x, factor):
    return x * factor


def assert_same(found, expected, tolerance=2e-6):
    """Two Tensors agree but for the order of float32 sums."""
    np.testing.assert_allclose(found.asnumpy(), expected.asnumpy(), rtol=tolerance, atol=tolerance)
