"""Cells padded by `shapes`."""

from __future__ import annotations

from mindspore import nn, ops

from ascend_fixes import shapes
from benchmarks.ascend.cells.parts import (
    BATCH,
    LENGTH,
    TAGS,
    WIDTH,
    Made,
    random_ids,
)


class Tagger(nn.Cell):
    """Ids (batch, length) to scores (batch, length, 5)."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.dense = nn.Embedding(50, WIDTH), nn.Dense(WIDTH, TAGS)

    def construct(self, ids):
        return self.dense(ops.tanh(self.embedding(ids)))


class TaggerLoss(nn.Cell):
    """Ids (batch, length) to a loss."""

    def __init__(self) -> None:
        super().__init__()
        self.tagger = Tagger()

    def construct(self, ids):
        return (self.tagger(ids) ** 2).mean()


def tagger() -> Made:
    return Tagger(), random_ids(50, BATCH, LENGTH)


def tagger_step() -> Made:
    loss = TaggerLoss()
    return nn.TrainOneStepCell(loss, nn.SGD(loss.trainable_params(), 0.1)), random_ids(50, BATCH, LENGTH)


def bucketed() -> Made:
    cell, ids = tagger()
    return shapes.bucketed(cell, {"ids": 1}, shapes.Buckets([16]), outputs=1), ids


def bucketed_step() -> Made:
    cell, ids = tagger_step()
    return shapes.bucketed(cell, {0: 1}, shapes.Buckets([16])), ids


def bucketed_dynamic() -> Made:
    cell, ids = tagger()
    return shapes.bucketed(cell, {"ids": 1}, shapes.Buckets([16]), outputs=1, tier="auto"), ids
