"""Cells that leak padding in the usual ways, and their cures."""

from __future__ import annotations

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, nn, ops
from mindspore.common.initializer import Normal

WIDTH = 6


class Body(nn.Cell):
    """Embedding and a dense layer, in a precision."""

    def __init__(self, dtype=ms.float32):
        super().__init__()
        self.embedding = nn.Embedding(30, WIDTH, embedding_table=Normal(1.0))
        self.dense = nn.Dense(WIDTH, WIDTH)
        self.dtype = dtype
        if dtype != ms.float32:
            self.to_float(dtype)

    def construct(self, ids):
        return self.dense(self.embedding(ids).astype(self.dtype))


class Mean(nn.Cell):
    """A mean over the length."""

    def construct(self, x, mask):
        return x.mean(1)


class MaskedMean(nn.Cell):
    """A mean over the mask."""

    def construct(self, x, mask):
        weights = mask.expand_dims(-1).astype(x.dtype)
        return (x * weights).sum(1) / ops.maximum(weights.sum(1), Tensor(1.0, x.dtype))


class Classifier(nn.Cell):
    """Body, a pooling, a head."""

    def __init__(self, pool, dtype=ms.float32):
        super().__init__()
        self.body, self.pool, self.head = Body(dtype), pool, nn.Dense(WIDTH, 3)
        if dtype != ms.float32:
            self.head.to_float(dtype)

    def construct(self, ids, mask):
        return self.head(self.pool(self.body(ids), mask))


class OwnMean(nn.Cell):
    """The unmasked mean stands in the cell's own construct."""

    def __init__(self):
        super().__init__()
        self.body = Body()

    def construct(self, ids, mask):
        return self.body(ids).mean(1)


class Attention(nn.Cell):
    """Self-attention with or without a mask."""

    def __init__(self, masked):
        super().__init__()
        self.query, self.key, self.value = (nn.Dense(WIDTH, WIDTH) for _ in range(3))
        self.masked = masked

    def construct(self, x, mask):
        scores = ops.matmul(self.query(x), self.key(x).swapaxes(1, 2))
        if self.masked:
            scores = scores + (1 - mask).expand_dims(1) * -1e4
        return ops.matmul(ops.softmax(scores, -1), self.value(x))


class Encoder(nn.Cell):
    """Attention over a body; the output keeps the ragged axis."""

    def __init__(self, masked):
        super().__init__()
        self.body, self.attention, self.norm = Body(), Attention(masked), nn.LayerNorm((WIDTH,))
        self.dropout = nn.Dropout(p=0.5)

    def construct(self, ids, mask):
        states = self.dropout(self.norm(self.attention(self.body(ids), mask)))
        return states, {"pair": ids.expand_dims(2) * mask.expand_dims(1)}


class Normalised(nn.Cell):
    """Batch statistics over rows and positions."""

    def __init__(self):
        super().__init__()
        self.body, self.norm, self.pool = Body(), nn.BatchNorm1d(WIDTH), MaskedMean()

    def construct(self, ids, mask):
        x = self.body(ids)
        return self.pool(self.norm(x.reshape((-1, WIDTH))).reshape(x.shape), mask)


class Recurrent(nn.Cell):
    """A GRU's states and its final state, with or without lengths."""

    def __init__(self, with_lengths):
        super().__init__()
        self.body, self.gru = Body(), nn.GRU(WIDTH, WIDTH, batch_first=True)
        self.with_lengths = with_lengths

    def construct(self, ids, mask):
        x = self.body(ids)
        if self.with_lengths:
            states, last = self.gru(x, None, mask.sum(1).astype(ms.int32))
            return states * mask.expand_dims(-1), last
        states, last = self.gru(x)
        return states, last


class CRF(nn.Cell):
    """The log of the sum over all paths: a linear-chain CRF's normaliser, with or without the mask."""

    def __init__(self, masked):
        super().__init__()
        self.transitions = Parameter(Tensor(np.arange(9).reshape(3, 3) / 9, ms.float32), name="transitions")
        self.masked = masked

    def construct(self, scores, mask):
        alpha = scores[:, 0]
        for step in range(1, scores.shape[1]):
            following = ops.logsumexp(alpha.expand_dims(2) + self.transitions, 1) + scores[:, step]
            on = mask[:, step : step + 1]
            alpha = on * following + (1 - on) * alpha if self.masked else following
        return ops.logsumexp(alpha, 1)


class Tagger(nn.Cell):
    """A CRF's loss over a body."""

    def __init__(self, masked):
        super().__init__()
        self.body, self.scores, self.crf = Body(), nn.Dense(WIDTH, 3), CRF(masked)

    def construct(self, ids, mask):
        return self.crf(self.scores(self.body(ids)), mask).mean()


class Noisy(nn.Cell):
    """Computes something else at every call."""

    def construct(self, ids, mask):
        return ops.standard_normal((2,)) + mask.sum()


class Graded(nn.Cell):
    """A masked recurrent model with everything that padding could change: loss, states, final state, gradients."""

    def __init__(self, dtype, length_axis):
        super().__init__()
        self.dense = nn.Dense(4, WIDTH).to_float(dtype)
        self.gru = nn.GRU(WIDTH, WIDTH, batch_first=length_axis == 1)
        self.head = nn.Dense(WIDTH, 3).to_float(dtype)
        self.axis = length_axis
        self.weights = ms.ParameterTuple(self.trainable_params())
        self.gradients = ops.value_and_grad(self.loss, None, self.weights, has_aux=True)

    def loss(self, x, mask):
        on = mask.expand_dims(-1)
        states, last = self.gru(self.dense(x).astype(ms.float32), None, mask.sum(self.axis).astype(ms.int32))
        pooled = (states * on).sum(self.axis) / on.sum(self.axis)
        return (self.head(pooled + last[0]).astype(ms.float32) ** 2).mean(), states * on, last

    def construct(self, x, mask):
        (loss, states, last), gradients = self.gradients(x, mask)
        return loss, states, last, gradients
