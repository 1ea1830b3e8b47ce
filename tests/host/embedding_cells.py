"""What the tests of `host.Embedding` share: first rows, and a network over them with a weight of its own."""

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
