"""Cells for the tests of amp. They live in a file of their own: MindSpore reads a cell's source to compile it."""

from __future__ import annotations

import mindspore as ms
import numpy as np
from mindspore import Parameter, nn, ops


class Inner(nn.Cell):
    """A product with a weight: (n, 4) to (n, 4)."""

    def __init__(self):
        super().__init__()
        self.dense = nn.Dense(4, 4, has_bias=False)

    def construct(self, x):
        return self.dense(x)


class Mixture(nn.Cell):
    """Products in cells, in a method and by a raw Parameter, and what float16 is bad at; returns every intermediate."""

    def __init__(self):
        super().__init__()
        self.a = Inner()
        self.b = Inner()
        self.w = Parameter(np.eye(4, dtype=np.float32), name="w")

    def helper(self, x):
        return ops.matmul(x, self.w)

    def construct(self, x):
        first = self.a(x)
        second = self.b(first)
        third = self.helper(second)
        return first, second, third, ops.exp(third), ops.softmax(third, -1), third.sum(), third * third, third - 1e9


class Containers(nn.Cell):
    """Cells in a sequence, in a list, and one held under two names."""

    def __init__(self):
        super().__init__()
        self.sequence = nn.SequentialCell(Inner(), Inner())
        self.list = nn.CellList([Inner(), Inner()])
        self.again = self.list[0]

    def construct(self, x):
        outputs = [self.sequence(x)]
        for cell in self.list:
            outputs.append(cell(outputs[-1]))
        outputs.append(self.again(outputs[-1]))
        return outputs


class Branching(nn.Cell):
    """Control flow by value, and a dictionary as output."""

    def __init__(self):
        super().__init__()
        self.inner = Inner()

    def construct(self, x):
        if x.sum() > 0:
            x = self.inner(x)
        else:
            x = self.inner(-x)
        return {"x": x, "best": ops.argmax(x, -1)}


class Masked(nn.Cell):
    """The ways to mask attention scores; every row but the first is masked whole."""

    def construct(self, x, keep):
        scores = ops.matmul(x, x.T)
        additive = ops.softmax(scores + (1.0 - keep) * -1e9, -1)
        scalar = ops.softmax(scores - 1e9, -1)
        filled = ops.softmax(ops.masked_fill(scores, keep == 0, -1e9), -1)
        chosen = ops.softmax(ops.where(keep > 0, scores, -1e9), -1)
        lowest = ops.softmax(ops.masked_fill(scores, keep == 0, float(np.finfo(np.float32).min)), -1)
        return additive, scalar, filled, chosen, lowest


class Injected(nn.Cell):
    """A small loss whose gradients are made infinite, NaN or large at will.

    ``faults`` (float32, one per weight) multiplies the path through that weight: 1 is harmless. The loss itself stays
    finite where ``faults`` reaches the gradient alone.
    """

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(6, 4)
        self.first = nn.Dense(4, 4)
        self.last = nn.Dense(4, 3)
        self.fault = GradientFault()

    def construct(self, ids, faults):
        x = self.fault(self.table(ids), faults[0])
        x = self.fault(ops.tanh(self.first(x)), faults[1])
        x = self.fault(self.last(x), faults[2])
        return (x * x).mean()


class GradientFault(nn.Cell):
    """The identity; its gradient is multiplied by ``factor``."""

    def construct(self, x, factor):
        return x * 1.0

    def bprop(self, x, factor, out, dout):
        return dout * factor, ops.zeros_like(factor)


class Sum(nn.Cell):
    """The sum of the first output of a cell, in float32: a loss."""

    def __init__(self, cell):
        super().__init__(auto_prefix=False)
        self.cell = cell

    def construct(self, x):
        return self.cell(x)[0].astype(ms.float32).sum()


class Gradients(nn.Cell):
    """The gradients of a loss by all trainable parameters."""

    def __init__(self, loss):
        super().__init__(auto_prefix=False)
        self.loss = loss
        self.weights = ms.ParameterTuple(loss.trainable_params())
        self.gradient = ops.GradOperation(get_by_list=True)

    def construct(self, x):
        return self.gradient(self.loss, self.weights)(x)


class ScalerInGraph(nn.Cell):
    """Every method of a loss scaler, in a graph."""

    def __init__(self, scaler):
        super().__init__(auto_prefix=False)
        self.scaler = scaler

    def construct(self, finite, loss):
        return self.scaler.scale(loss), self.scaler.unscale((loss, loss)), self.scaler.update(finite)


class Saturable(nn.Cell):
    """float16 results that leave the range, each in another way of writing it."""

    def __init__(self):
        super().__init__()
        self.product = ops.MatMul()

    def doubled(self, x):
        x += x
        return x

    def construct(self, x):
        high = ops.exp(x)
        square = x * x
        difference = high - ops.exp(x)
        rows = x.reshape(x.shape[0] * 1, -1)
        return high, -square, difference, self.product(rows, rows.T), self.doubled(square), x.astype(ms.float32) * 1e30


class HalfSum(nn.Cell):
    """A loss whose gradient passes through float16: ``1e-3 * factor`` for every output."""

    def __init__(self, factor=1e-3):
        super().__init__()
        self.dense = nn.Dense(4, 4, weight_init="ones", has_bias=False)
        self.factor = factor

    def construct(self, x):
        return (self.dense(x).astype(ms.float32) * self.factor).sum()


class SparseTable(nn.Cell):
    """A table with sparse gradients; ``factors`` (4) multiplies the gradient's columns."""

    def __init__(self):
        super().__init__()
        self.table = nn.EmbeddingLookup(6, 4, target="CPU", sparse=True)
        self.fault = GradientFault()

    def construct(self, ids, factors):
        x = self.fault(self.table(ids), factors)
        return (x * x).mean()


class Writing(nn.Cell):
    """Batch statistics, a moving average, a counter written in a branch, and a trained weight that is held in range."""

    def __init__(self, clamps=False):
        super().__init__()
        self.dense = nn.Dense(4, 4, weight_init="ones")
        self.norm = nn.BatchNorm1d(4, momentum=0.5)
        self.average = Parameter(np.zeros(4, np.float32), name="average", requires_grad=False)
        self.count = Parameter(np.zeros((), np.float32), name="count", requires_grad=False)
        self.table = Parameter(np.ones((70, 1000), np.float32), name="table", requires_grad=False)
        self.clamps = clamps

    def construct(self, x):
        y = self.norm(self.dense(x))
        ops.assign(self.average, self.average * 0.5 + x.mean(0))
        if x.sum() != 0:  # NaN as well
            ops.assign(self.count, self.count + 1)
        if self.clamps:
            ops.assign(self.table, ops.clamp(self.table, 0.0, 1.0))
        return (y * y * y).mean() + (self.average * 0).sum() + self.table[0, 0] * 0


class MeanOver(nn.Cell):
    """The mean loss over rows that are labelled, and how many these are: ``labels`` of -1 are ignored."""

    def __init__(self):
        super().__init__()
        self.dense = nn.Dense(3, 1, weight_init="ones", bias_init="zeros")

    def construct(self, x, labels):
        known = (labels >= 0).astype(ms.float32)
        count = known.sum()
        return (ops.square(self.dense(x)[:, 0] - labels) * known).sum() / count, count


class Named(nn.Cell):
    """Called by position or by name, one input with a default."""

    def __init__(self):
        super().__init__()
        self.dense = nn.Dense(3, 2, weight_init="ones", bias_init="zeros")

    def construct(self, x, y=2.0):
        return (self.dense(x) * y).sum()


class Dropping(nn.Cell):
    """Dropout in front of a layer."""

    def __init__(self):
        super().__init__()
        self.drop, self.dense = nn.Dropout(p=0.5), nn.Dense(16, 4, weight_init="ones")

    def construct(self, x):
        return self.dense(self.drop(x)).mean()


class Losing(nn.Cell):
    """A loss that says which of 16 inputs were dropped; ``fault`` multiplies it. By the layer, or by the function."""

    def __init__(self, by_function=False):
        super().__init__()
        self.drop, self.weight = nn.Dropout(p=0.5), Parameter(np.ones(16, np.float32), name="weight")
        self.by_function = by_function

    def construct(self, x, fault):
        dropped = ops.dropout(x, 0.5, True) if self.by_function else self.drop(x)
        return (dropped * self.weight).sum() * fault


class MaskGiven(nn.Cell):
    """Dropout whose mask is an input, over batch statistics."""

    def __init__(self):
        super().__init__()
        self.dense, self.norm = nn.Dense(4, 4, weight_init="ones"), nn.BatchNorm1d(4, momentum=0.5)

    def construct(self, x, mask, fault):
        return ops.square(self.norm(self.dense(x)) * mask).mean() * fault


class InsideAnother(nn.Cell):
    """A training step within another graph."""

    def __init__(self, step):
        super().__init__(auto_prefix=False)
        self.step = step

    def construct(self, x):
        loss, finite, _, norm, _, updated = self.step(x)
        return loss, finite, norm, updated
