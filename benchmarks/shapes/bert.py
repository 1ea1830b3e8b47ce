"""The network of the shapes benchmark: a BERT encoder with a classifier, and its training step."""

from __future__ import annotations

from typing import Any

import numpy as np
from mindspore import nn, ops

WIDTH, HEADS, LAYERS, VOCABULARY, LONGEST = 256, 4, 4, 5000, 2048
RAGGED = {"ids": 1, "places": 1, "mask": 1}


class Layer(nn.Cell):
    """Self-attention over the mask, then a feed-forward block."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value, self.out = (nn.Dense(WIDTH, WIDTH) for _ in range(4))
        self.inner, self.outer = nn.Dense(WIDTH, 4 * WIDTH), nn.Dense(4 * WIDTH, WIDTH)
        self.norm1, self.norm2 = nn.LayerNorm((WIDTH,)), nn.LayerNorm((WIDTH,))

    def heads(self, x: Any) -> Any:
        return x.reshape((x.shape[0], -1, HEADS, WIDTH // HEADS)).transpose(0, 2, 1, 3)

    def construct(self, x: Any, bias: Any) -> Any:
        scores = ops.matmul(self.heads(self.query(x)), self.heads(self.key(x)).transpose(0, 1, 3, 2))
        weights = ops.softmax(scores / (WIDTH // HEADS) ** 0.5 + bias, -1)
        mixed = ops.matmul(weights, self.heads(self.value(x))).transpose(0, 2, 1, 3).reshape(x.shape)
        x = self.norm1(x + self.out(mixed))
        return self.norm2(x + self.outer(ops.gelu(self.inner(x))))


class Classifier(nn.Cell):
    """Weighted cross-entropy of a classifier on the mean over the mask."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.positions = nn.Embedding(VOCABULARY, WIDTH), nn.Embedding(LONGEST, WIDTH)
        self.layers = nn.CellList([Layer() for _ in range(LAYERS)])
        self.head = nn.Dense(WIDTH, 8)

    def construct(self, ids: Any, places: Any, mask: Any, label: Any, weight: Any) -> Any:
        x = self.embedding(ids) + self.positions(places)
        bias = (1.0 - mask).expand_dims(1).expand_dims(1) * -1e4
        for layer in self.layers:
            x = layer(x, bias)
        pooled = (x * mask.expand_dims(-1)).sum(1) / mask.sum(1, keepdims=True)
        losses = ops.cross_entropy(self.head(pooled), label, reduction="none")
        return (losses * weight).sum() / weight.sum()


def training_step() -> nn.Cell:
    """One step of Adam."""
    loss = Classifier()
    return nn.TrainOneStepCell(loss, nn.Adam(loss.trainable_params(), 1e-4)).set_train()


def batch(lengths: np.ndarray, size: int) -> list[np.ndarray]:
    """Random documents of ``lengths`` [rows], padded to ``size``: the arguments of the step."""
    random, rows = np.random.default_rng(0), len(lengths)
    mask = (np.arange(size) < lengths[:, None]).astype(np.float32)
    ids = (random.integers(1, VOCABULARY, (rows, size)) * mask).astype(np.int32)
    places = np.broadcast_to(np.arange(size, dtype=np.int32), (rows, size)).copy()
    return [ids, places, mask, random.integers(0, 8, rows).astype(np.int32), np.ones(rows, np.float32)]
