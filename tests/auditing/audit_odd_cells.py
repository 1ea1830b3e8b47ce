"""Cells that run compiled only, draw random numbers, store a length, or have two that change together."""

from __future__ import annotations

import os
import signal

import mindspore
import numpy as np
from audit_cells import Attention, Positions, Scores, SumOfExponentials, Tagger
from mindspore import Parameter, Tensor, nn, ops


class Translator(nn.Cell):
    """Target positions take a mask that is as long as the source: no more of these than of those."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(50, 16)

    def construct(self, ids, target):
        source, words = self.embedding(ids), self.embedding(target)
        seen = words + source[:, : target.shape[1]]
        return (seen.sum(-1) * ops.ones_like(seen[:, :, 0])).sum(1)


@mindspore.ops.constexpr
def _operator_by_operator():
    return mindspore.get_context("mode") == mindspore.PYNATIVE_MODE


class CompiledOnly(Positions):
    """Refuses to run operator by operator; positions are added at a fixed width."""

    def construct(self, ids, mask, labels):
        if _operator_by_operator():
            raise ValueError("not operator by operator")
        return (self.losses(ids, labels) * mask).sum() / mask.sum()


class Sampling(Tagger):
    """Draws noise, and drops out always; ``masked`` or with a loss that counts the padding."""

    def __init__(self, masked):
        super().__init__()
        self.masked, self.dropout = masked, ops.operations.Dropout(keep_prob=0.5)

    def construct(self, ids, mask, labels):
        features = self.dropout(self.features(ids))[0]
        features = features + 0.1 * ops.standard_normal(features.shape)
        scores = self.head(features).reshape(-1, 5)
        losses = ops.cross_entropy(scores, labels.reshape(-1), reduction="none").reshape(ids.shape)
        losses = losses.astype(mindspore.float16).astype(mindspore.float32)
        return (losses * mask).sum() / mask.sum() if self.masked else losses.mean() + features.mean()


class Stored(nn.Cell):
    """Reads the first 8 positions one by one, and the last of them as they are: longer inputs change nothing."""

    def __init__(self, length=8):
        super().__init__()
        self.length, self.head = length, nn.Dense(3, 5)

    def construct(self, x):
        total = ops.zeros_like(x[:, 0])
        for place in range(self.length):
            total = ops.tanh(total + x[:, place])
        return self.head(total)


class Subsampled(nn.Cell):
    """Frames, and a mask of every second one: the two lengths change together."""

    def construct(self, frames, mask):
        return (frames[:, ::2].sum(-1) * mask).sum(1)


class Ranking(nn.Cell):
    """Scores of items, of which those with the number 0 do not count; ``safe``: 0 where none does."""

    def __init__(self, safe):
        super().__init__()
        self.embedding, self.safe = nn.Embedding(50, 16), safe

    def construct(self, ids, items):
        counts = (items != 0).astype(mindspore.float32)
        scores = (self.embedding(ids) * self.embedding(items)).sum(-1)
        total = counts.sum()
        return (scores * counts).sum() / (ops.maximum(total, Tensor(1.0)) if self.safe else total)


class Filled(nn.Cell):
    """A loss that leaves out labels of one value, which is what rows are filled up with."""

    def __init__(self, value):
        super().__init__()
        self.embedding, self.head, self.value = nn.Embedding(50, 16), nn.Dense(16, 13), value

    def construct(self, ids, labels):
        return ops.cross_entropy(
            self.head(self.embedding(ids)).reshape(-1, 13), labels.reshape(-1), ignore_index=self.value
        )


class Angle(nn.Cell):
    """The sine of an angle from its cosine, as the losses of speaker and face recognition take it; ``kept``: within bounds."""

    def __init__(self, kept=lambda cosine: cosine):
        super().__init__()
        self.embedding, self.kept = nn.Embedding(50, 16), kept

    def construct(self, ids):
        x = ops.L2Normalize(-1)(self.embedding(ids))
        cosine = self.kept(ops.matmul(x[:, :1], x[:, 1:].transpose(0, 2, 1)))
        return ops.sqrt(1.0 - ops.pow(cosine, 2)).sum()


class Nothing(nn.Cell):
    """A mean over nothing: 0/0 whatever it is given."""

    def construct(self, x):
        return (x * 0.0).sum(-1) / (x - x).sum(-1)


class Sound(nn.Cell):
    """Convolutions over (rows, channels, positions)."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Conv1d(5, 3, 3)

    def construct(self, x):
        return ops.relu(self.inner(x)).mean()


class Killed(Ranking):
    """Ends its process where nothing is left to count, as some kernels do on an empty row, and has a loss of 0/0 besides."""

    def construct(self, ids, items):
        if not ids.asnumpy().any():
            os.kill(os.getpid(), signal.SIGKILL)
        return super().construct(ids, items)


class OldLookup(nn.Cell):
    """An old operator, which runs in a graph only."""

    def __init__(self):
        super().__init__()
        self.table = Parameter(Tensor(np.ones((50, 16), np.float32)), name="table")
        self.gather = ops.operations.GatherV2()

    def construct(self, ids):
        return self.gather(self.table, ids, 0).astype(mindspore.float16).sum(-1)


class Assigned(Attention):
    """With scores that are assigned where the mask is 0; and elements of slices and lists."""

    def construct(self, ids, mask):
        x = self.embedding(ids)
        found = [None, x]
        found[0] = self.key(ops.tanh(x)).squeeze(-1)
        scores = found[0]
        scores[:, :1] = scores[:, :1] * 2
        scores[mask == 0] = self.off
        return (ops.softmax(scores, axis=1).expand_dims(-1) * x).sum(1)


class Distant(nn.Cell):
    """`Scores` of audit_cells.py and the length of a second input, whose gradient is NaN where it is 0."""

    def __init__(self):
        super().__init__()
        self.scores = Scores()

    def construct(self, x, point):
        return self.scores(x) + ops.sqrt((point * point).sum())


class Softplus(SumOfExponentials):
    """log(1 + exp(x)) of scores, as it is written on paper, and bounded."""

    def construct(self, ids):
        scores = self.head(self.embedding(ids))
        if self.bounded:
            return ops.relu(scores) + ops.log1p(ops.exp(-ops.abs(scores)))
        return ops.log(1.0 + ops.exp(scores))
