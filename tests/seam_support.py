"""What the cases of the seam share: a tiny cell, its input, and what stands at a target."""

from __future__ import annotations

import importlib

import numpy as np
from mindspore import Tensor, nn, ops


class Tiny(nn.Cell):
    """``exp(x W)``: float32 (2, n) to (2, n); ``ids`` and ``names`` are there to be found again."""

    def __init__(self, n=4):
        super().__init__()
        self.dense = nn.Dense(n, n)

    def construct(self, x):
        return ops.exp(self.dense(x))


X = Tensor(np.full((2, 4), 0.25, np.float32))


def resolved(target):
    """What stands at ``"module:Class.attribute"``."""
    module, _, path = target.partition(":")
    value = importlib.import_module(module)
    for name in path.split("."):
        value = getattr(value, name)
    return value
