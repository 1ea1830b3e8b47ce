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
        self.table = Parameter(Tensor(RANDOM.standard_normal((length, 16)), mindspore.float32), name="table")

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
