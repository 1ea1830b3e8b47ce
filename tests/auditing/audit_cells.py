"""Cells with one hazard each, and cells without, on a batch of (4, 8) ids; all have 16 channels and 5 classes."""

from __future__ import annotations

import mindspore
import numpy as np
from mindspore import Parameter, Tensor, nn, ops

RANDOM = np.random.default_rng(0)
IDS = RANDOM.integers(1, 50, (4, 8)).astype(np.int32)
MASK = np.ones((4, 8), np.float32)
LABELS = RANDOM.integers(0, 5, (4, 8)).astype(np.int32)


class Tagger(nn.Cell):
    """Ids, mask and labels to the masked mean of the cross entropy; length and padding do not matter."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(50, 16)
        self.head = nn.Dense(16, 5)

    def features(self, ids):
        return self.embedding(ids)

    def losses(self, ids, labels):
        scores = self.head(self.features(ids)).reshape(-1, 5)
        return ops.cross_entropy(scores, labels.reshape(-1), reduction="none").reshape(ids.shape)

    def construct(self, ids, mask, labels):
        return (self.losses(ids, labels) * mask).sum() / mask.sum()


class Unmasked(Tagger):
    """The mean over all positions: the loss counts the padding."""

    def construct(self, ids, mask, labels):
        return self.losses(ids, labels).mean()


class Positions(Tagger):
    """A table of positions added at the width that the model was built for."""

    def __init__(self, length=8):
        super().__init__()
        self.table = Parameter(
            Tensor(np.random.default_rng(0).standard_normal((length, 16)), mindspore.float32), name="table"
        )

    def features(self, ids):
        return self.embedding(ids) + self.table


class Longest(Positions):
    """A table of which as much is added as there are positions: no longer than 8."""

    def features(self, ids):
        return self.embedding(ids) + self.table[: ids.shape[1]]


class StoredReshape(nn.Cell):
    """Rows of the stored length: where rows and length divide evenly, rows are mixed without an error."""

    def __init__(self, length=8):
        super().__init__()
        self.embedding, self.length = nn.Embedding(50, 16), length

    def construct(self, ids):
        return self.embedding(ids.reshape(-1)).reshape(-1, self.length, 16).mean(1)


class FirstOnly(nn.Cell):
    """Reads the first 8 positions of whatever it is given, and says nothing."""

    def __init__(self, length=8):
        super().__init__()
        self.embedding, self.length = nn.Embedding(50, 16), length

    def construct(self, ids):
        return self.embedding(ids[:, : self.length]).sum(1)


class Classifier(nn.Cell):
    """Ids to (4, 5) by the mean over all positions."""

    def __init__(self):
        super().__init__()
        self.embedding, self.head = nn.Embedding(50, 16), nn.Dense(16, 5)

    def construct(self, ids):
        return self.head(self.embedding(ids).mean(1))


class Flat(nn.Cell):
    """Ids of 8 positions to (4, 5) by one dense layer over all of them."""

    def __init__(self):
        super().__init__()
        self.embedding, self.head = nn.Embedding(50, 16), nn.Dense(8 * 16, 5)

    def construct(self, ids):
        return self.head(self.embedding(ids).reshape(ids.shape[0], -1))


class Normalised(Tagger):
    """With statistics that the forward pass writes."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(16)

    def features(self, ids):
        return self.norm(self.embedding(ids).reshape(-1, 16)).reshape(*ids.shape, 16)


class Failing(Tagger):
    """Fails on whatever it is given."""

    def features(self, ids):
        return ops.concat((self.embedding(ids), self.embedding(ids)[:, :1]), 2)


def tagger():
    """A factory."""
    return Tagger(), Tensor(IDS), Tensor(MASK), Tensor(LABELS)


class Attention(nn.Cell):
    """Ids and mask to one vector a row: a query attends to the positions. What is added where the mask is 0 can be chosen."""

    def __init__(self, off=-1e4):
        super().__init__()
        self.embedding, self.key, self.off = nn.Embedding(50, 16), nn.Dense(16, 1), off

    def construct(self, ids, mask):
        x = self.embedding(ids)
        scores = self.key(ops.tanh(x)).squeeze(-1) + (1.0 - mask) * self.off
        return (ops.softmax(scores, axis=1).expand_dims(-1) * x).sum(1)


class OneScore(nn.Cell):
    """The same with the softmax over the one score of each position."""

    def __init__(self):
        super().__init__()
        self.embedding, self.key = nn.Embedding(50, 16), nn.Dense(16, 1)

    def construct(self, ids, mask):
        x = self.embedding(ids)
        weights = ops.softmax(self.key(x), axis=-1) * mask.expand_dims(-1)
        return (weights * x).sum(1)


class SumOfExponentials(nn.Cell):
    """log(sum(exp)) of the scores, with and without their maximum taken off."""

    def __init__(self, bounded):
        super().__init__()
        self.embedding, self.head, self.bounded = nn.Embedding(50, 16), nn.Dense(16, 5), bounded

    def construct(self, ids):
        scores = self.head(self.embedding(ids))
        if self.bounded:
            largest = scores.max(-1, keepdims=True)
            return ops.log(ops.exp(scores - largest).sum(-1)) + largest.squeeze(-1)
        return ops.log(ops.exp(scores).sum(-1))


class Ignoring(nn.Cell):
    """The mean cross entropy of labels that are not -100: 0/0 where none is. ``safe`` divides by at least 1."""

    def __init__(self, safe):
        super().__init__()
        self.embedding, self.head, self.safe = nn.Embedding(50, 16), nn.Dense(16, 5), safe

    def construct(self, ids, labels):
        scores = self.head(self.embedding(ids)).reshape(-1, 5)
        if self.safe:
            losses = ops.cross_entropy(scores, labels.reshape(-1), ignore_index=-100, reduction="sum")
            return losses / ops.maximum((labels != -100).astype(mindspore.float32).sum(), 1.0)
        return ops.cross_entropy(scores, labels.reshape(-1), ignore_index=-100)


class Arguments(nn.Cell):
    """The embedding of ids, times what else is given: a number, or what a container or a dict holds."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(50, 16)

    def construct(self, ids, other):
        if isinstance(other, (int, float, Tensor)):
            return self.embedding(ids) * other
        if isinstance(other, dict):
            return self.embedding(ids) * other["scale"]
        return self.embedding(ids) * other[0]


class Loop(nn.Cell):
    """A recurrence written as a Python loop over the positions."""

    def __init__(self):
        super().__init__()
        self.embedding, self.step = nn.Embedding(50, 16), nn.Dense(16, 16)

    def construct(self, ids):
        x = self.embedding(ids)
        state = x[:, 0]
        for position in range(1, ids.shape[1]):
            state = ops.tanh(self.step(state) + x[:, position])
        return state


class Selecting(nn.Cell):
    """The mean of the positions whose mask is on, picked out."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(50, 16)

    def construct(self, ids, mask):
        x = self.embedding(ids).sum(-1)
        return ops.masked_select(x, mask > 0).mean()


class Scores(nn.Cell):
    """Attention in heads, whose transposed gradient MindSpore 2.10 fuses wrongly on CPU (defect F1)."""

    def __init__(self):
        super().__init__()
        self.query, self.key, self.value = nn.Dense(32, 32), nn.Dense(32, 32), nn.Dense(32, 32)

    def heads(self, x):
        return x.reshape(4, 8, 4, 8).transpose(0, 2, 1, 3)

    def construct(self, x):
        query, key, value = self.heads(self.query(x)), self.heads(self.key(x)), self.heads(self.value(x))
        weights = ops.softmax(ops.matmul(query, key.swapaxes(2, 3)) * 0.35, -1)
        return ops.matmul(weights, value).transpose(0, 2, 1, 3).reshape(4, 8, 32)


@mindspore.jit
def doubled(x):
    """A function under jit."""
    return ops.tanh(x) * 2


class Variadic(nn.Cell):
    """A loss around a cell, that takes whatever the cell takes."""

    def __init__(self, network: nn.Cell) -> None:
        super().__init__()
        self.network = network

    def construct(self, *inputs):
        return self.network(*inputs).sum()


class Chosen(nn.Cell):
    """The embedded words that a mask selects, one after the other."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(50, 1)

    def construct(self, ids, mask):
        return ops.masked_select(self.embedding(ids).squeeze(-1), mask)


class Wrapped(nn.Cell):
    """A cell that passes on what it is given, as training scripts join a network with its loss; layers in a sequence."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(50, 16)
        self.layers = nn.SequentialCell(nn.Dense(16, 16), nn.Tanh(), nn.Dense(16, 5))

    def construct(self, *given):
        return ops.cross_entropy(self.layers(self.embedding(given[0])).reshape(-1, 5), given[1].reshape(-1))


class InDict(Tagger):
    """The masked loss of a batch in a dict."""

    def construct(self, batch):
        return (self.losses(batch["ids"], batch["labels"]) * batch["mask"]).sum() / batch["mask"].sum()


class FixedIgnoring(Ignoring):
    """A table at a fixed width, and labels that are ignored: no mask says where rows end."""

    def __init__(self):
        super().__init__(safe=True)
        self.table = Parameter(
            Tensor(np.random.default_rng(0).standard_normal((8, 16)), mindspore.float32), name="table"
        )

    def construct(self, ids, labels):
        scores = self.head(self.embedding(ids) + self.table).reshape(-1, 5)
        losses = ops.cross_entropy(scores, labels.reshape(-1), ignore_index=-100, reduction="sum")
        return losses / ops.maximum((labels != -100).astype(mindspore.float32).sum(), 1.0)


class Likelihood(Tagger):
    """Minus the logarithm of the softmax, taken in two steps or in one."""

    def __init__(self, safe):
        super().__init__()
        self.safe = safe

    def construct(self, ids, labels):
        scores = self.head(self.features(ids))
        logarithms = ops.log_softmax(scores, -1) if self.safe else ops.log(ops.softmax(scores, -1))
        return -(logarithms * ops.one_hot(labels, 5)).mean()


class ByLengths(nn.Cell):
    """The mean of a row's vectors by its length, which may be 0 in a row that fills up a batch."""

    def __init__(self, safe):
        super().__init__()
        self.embedding, self.safe = nn.Embedding(50, 16), safe

    def construct(self, ids, lengths):
        return self.embedding(ids).sum(1) / (ops.maximum(lengths, 1) if self.safe else lengths).reshape(-1, 1)


class Subscripted(nn.Cell):
    """Rows of a table by a subscript: an id beyond it would end the process."""

    def __init__(self):
        super().__init__()
        self.table = Parameter(
            Tensor(np.random.default_rng(0).standard_normal((50, 16)), mindspore.float32), name="table"
        )

    def construct(self, ids, labels):
        return ops.cross_entropy(self.table[ids].reshape(-1, 16), labels.reshape(-1))


class UnderJit(Likelihood):
    """The same with its method under `mindspore.jit`."""

    @mindspore.jit
    def construct(self, ids, labels):
        scores = self.head(self.features(ids))
        return -(ops.log(ops.softmax(scores, -1)) * ops.one_hot(labels, 5)).mean()


class Largest(nn.Cell):
    """The largest score over the positions; ``safe`` leaves out those whose id is 0."""

    def __init__(self, safe):
        super().__init__()
        self.embedding, self.head, self.safe = nn.Embedding(50, 16), nn.Dense(16, 5), safe

    def construct(self, ids):
        scores = self.head(self.embedding(ids))
        if self.safe:
            scores = ops.masked_fill(scores, (ids == 0).expand_dims(-1), -1e4)
        return scores.max(1)


class Faint(Subscripted):
    """A loss that hardly depends on the ids: the mean over all positions, or over those of the mask."""

    def __init__(self, safe):
        super().__init__()
        self.safe = safe

    def construct(self, ids, mask):
        x = self.table[ids].mean(-1)
        return 1.0 + 1e-4 * ((x * mask).sum() / mask.sum() if self.safe else x.mean())
