"""What the tests of `host.Embedding` share: first rows, a network over them with a weight of its own, updates."""

from __future__ import annotations

import numpy as np
from mindspore import Parameter, Tensor, nn

FIRST = np.random.default_rng(1).normal(size=(10, 4)).astype(np.float32)
WEIGHTS = np.random.default_rng(2).normal(size=(4,)).astype(np.float32)


class WithWeight(nn.Cell):
    """Holds an embedding and a weight; what it computes of them is the subclass's."""

    def __init__(self, embedding):
        super().__init__()
        self.embedding = embedding
        self.weight = Parameter(Tensor(WEIGHTS), name="weight")


def stepped(embedding, seed, times=1):
    """Updates as a graph would bring them, without one."""
    random = np.random.default_rng(seed)
    for _ in range(times):
        embedding._take_gradient(random.integers(0, 10, 6), random.normal(size=(6, 4)).astype(np.float32))
        embedding.update()
    return embedding
