"""Four small models with their losses, one for each kind of network in the study: what the amp benchmark and tests train.

Each is as large as shows what mixed precision does to it, and written as users write them: scores with an additive mask of
-1e9, a recurrent network by `mindspore.nn.GRU`, a partition function by log-sum-exp, message passing by an adjacency matrix.
``batches(name)`` gives the data, made from a rule that can be learnt.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, nn, ops

WIDTH, WORDS, LENGTH, BATCH, TAGS = 32, 24, 10, 8, 5


class Attention(nn.Cell):
    """A block of self-attention and a classifier of the mean."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(WORDS, WIDTH)
        self.query, self.key, self.value = (nn.Dense(WIDTH, WIDTH) for _ in range(3))
        self.norm = nn.LayerNorm((WIDTH,))
        self.inner, self.outer = nn.Dense(WIDTH, 2 * WIDTH), nn.Dense(2 * WIDTH, WIDTH)
        self.head = nn.Dense(WIDTH, TAGS)

    def construct(self, ids: Any, mask: Any, label: Any) -> Any:
        x = self.embedding(ids)
        scores = ops.matmul(self.query(x), self.key(x).transpose(0, 2, 1)) / WIDTH**0.5
        scores = scores + (1.0 - mask).expand_dims(1) * -1e9
        x = self.norm(x + ops.matmul(ops.softmax(scores, -1), self.value(x)))
        x = x + self.outer(ops.gelu(self.inner(x)))
        pooled = (x * mask.expand_dims(-1)).sum(1) / mask.sum(1, keepdims=True)
        return ops.cross_entropy(self.head(pooled), label)


class Translation(nn.Cell):
    """A GRU encoder, and a GRU decoder that sees the encoder's last state and the words before."""

    def __init__(self) -> None:
        super().__init__()
        self.source, self.target = nn.Embedding(WORDS, WIDTH), nn.Embedding(WORDS, WIDTH)
        self.encoder = nn.GRU(WIDTH, WIDTH, batch_first=True)
        self.decoder = nn.GRU(WIDTH, WIDTH, batch_first=True)
        self.head = nn.Dense(WIDTH, WORDS)

    def construct(self, source: Any, before: Any, target: Any) -> Any:
        _, state = self.encoder(self.source(source), ops.zeros((1, BATCH, WIDTH), ms.float32))
        states, _ = self.decoder(self.target(before), state)
        return ops.cross_entropy(self.head(states).reshape(-1, WORDS), target.reshape(-1))


class Tagger(nn.Cell):
    """A tagger with a conditional random field: the score of the tags minus the logarithm of all tags' scores."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(WORDS, WIDTH)
        self.inner, self.head = nn.Dense(WIDTH, WIDTH), nn.Dense(WIDTH, TAGS)
        self.transitions = Parameter(np.zeros((TAGS, TAGS), np.float32), name="transitions")

    def construct(self, ids: Any, tags: Any) -> Any:
        emissions = self.head(ops.tanh(self.inner(self.embedding(ids))))
        return (self.partition(emissions) - self.score(emissions, tags)).mean() / LENGTH

    def partition(self, emissions: Any) -> Any:
        total = emissions[:, 0]
        for step in range(1, LENGTH):
            paths = total.expand_dims(2) + self.transitions
            total = ops.logsumexp(paths, 1) + emissions[:, step]
        return ops.logsumexp(total, 1)

    def score(self, emissions: Any, tags: Any) -> Any:
        chosen = ops.one_hot(tags, TAGS, Tensor(1.0, ms.float32), Tensor(0.0, ms.float32))
        moves = ops.matmul(chosen[:, :-1], self.transitions) * chosen[:, 1:]
        return (emissions * chosen).sum((1, 2)) + moves.sum((1, 2))


class Graph(nn.Cell):
    """A gated graph network over words that stand near each other, read out by gated mean and maximum."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(WORDS, WIDTH)
        self.gates = nn.CellList([nn.Dense(2 * WIDTH, WIDTH) for _ in range(3)])
        self.attention, self.values, self.head = nn.Dense(WIDTH, 1), nn.Dense(WIDTH, WIDTH), nn.Dense(WIDTH, TAGS)

    def construct(self, ids: Any, adjacency: Any, mask: Any, label: Any) -> Any:
        x = self.embedding(ids)
        for _ in range(2):
            x = self.step(x, adjacency)
        x = ops.sigmoid(self.attention(x)) * ops.tanh(self.values(x))
        mean = (x * mask).sum(1) / mask.sum(1)
        largest = ops.amax(x + (mask - 1.0) * 1e9, 1)
        return ops.cross_entropy(self.head(mean + largest), label)

    def step(self, x: Any, adjacency: Any) -> Any:
        near = ops.matmul(adjacency, x)
        both = ops.cat((near, x), -1)
        update, reset = ops.sigmoid(self.gates[0](both)), ops.sigmoid(self.gates[1](both))
        new = ops.tanh(self.gates[2](ops.cat((near, x * reset), -1)))
        return update * new + (1.0 - update) * x


MODELS = {"attention": Attention, "translation": Translation, "tagger": Tagger, "graph": Graph}


def batches(name: str, seed: int = 0, rows: int = BATCH) -> Iterator[tuple[Tensor, ...]]:
    """An endless stream of batches of ``rows`` (for "translation" of `BATCH`), the same for the same seed."""
    random = np.random.default_rng(seed)
    while True:
        ids = random.integers(2, WORDS, (rows, LENGTH)).astype(np.int32)
        mask = (np.arange(LENGTH) < random.integers(3, LENGTH + 1, (rows, 1))).astype(np.float32)
        counts = ((ids[..., None] % TAGS == np.arange(TAGS)) * mask[..., None]).sum(1)
        label = counts.argmax(-1).astype(np.int32)  # the commonest kind of word
        if name == "attention":
            arrays: tuple[np.ndarray, ...] = (ids, mask, label)
        elif name == "translation":
            target = (ids * 5 + 3) % WORDS
            arrays = (ids, np.concatenate([np.ones((rows, 1)), target[:, :-1]], 1), target)
        elif name == "tagger":
            arrays = (ids, ids % TAGS)
        else:
            near = np.abs(np.arange(LENGTH)[:, None] - np.arange(LENGTH)) <= 2
            adjacency = near * mask[:, None] * mask[:, :, None]
            arrays = (ids, adjacency / np.maximum(adjacency.sum(-1, keepdims=True), 1), mask[..., None], label)
        yield tuple(
            Tensor(
                array.astype(np.float32 if (array.dtype.kind == "f" and array.ndim > 2) or array is mask else np.int32)
            )
            for array in arrays
        )


def network(name: str, seed: int = 0) -> nn.Cell:
    """A model with the weights of a seed: the same whatever was built before."""
    net, random = MODELS[name](), np.random.default_rng(seed)
    for weight in net.trainable_params():
        if weight.name != "transitions":
            bound = 1.0 / weight.shape[-1] ** 0.5
            weight.set_data(Tensor(random.uniform(-bound, bound, weight.shape).astype(np.float32)))
    return net
