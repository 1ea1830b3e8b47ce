"""A BERT tagger of our own in several depths: what an audit costs."""

from __future__ import annotations

from typing import Any

import numpy as np
from mindspore import Tensor, nn, ops

from benchmarks.auditing.models.text import Built
from benchmarks.shapes.bert import LONGEST, VOCABULARY, WIDTH, Layer

TAGS = 9
LENGTHS = (31, 18, 25, 12, 29, 9, 22, 16)
PADDED = 32


class Tagger(nn.Cell):
    """A tag for every word, and the cross-entropy of them under the mask."""

    def __init__(self, layers: int) -> None:
        super().__init__()
        self.embedding, self.positions = nn.Embedding(VOCABULARY, WIDTH), nn.Embedding(LONGEST, WIDTH)
        self.layers = nn.CellList([Layer() for _ in range(layers)])
        self.head = nn.Dense(WIDTH, TAGS)

    def construct(self, ids: Any, places: Any, mask: Any, tags: Any) -> Any:
        x = self.embedding(ids) + self.positions(places)
        bias = (1.0 - mask).expand_dims(1).expand_dims(1) * -1e4
        for layer in self.layers:
            x = layer(x, bias)
        losses = ops.cross_entropy(self.head(x).reshape((-1, TAGS)), tags.reshape((-1,)), reduction="none")
        return (losses * mask.reshape((-1,))).sum() / mask.sum()


def _built(layers: int) -> Built:
    random, rows = np.random.default_rng(0), len(LENGTHS)
    mask = (np.arange(PADDED) < np.array(LENGTHS)[:, None]).astype(np.float32)
    ids = (random.integers(1, VOCABULARY, (rows, PADDED)) * mask).astype(np.int32)
    tags = (random.integers(0, TAGS, (rows, PADDED)) * mask).astype(np.int32)
    places = np.broadcast_to(np.arange(PADDED, dtype=np.int32), (rows, PADDED)).copy()
    return Tagger(layers), tuple(Tensor(array) for array in (ids, places, mask, tags))


def layers1() -> Built:
    return _built(1)


def layers2() -> Built:
    return _built(2)


def layers4() -> Built:
    return _built(4)


def layers8() -> Built:
    return _built(8)
