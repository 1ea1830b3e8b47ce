"""Fusion, failed compilations and AMP write into the working directory. Wanted: a temporary folder, or one setting for all."""

import os

import mindspore as ms
import numpy as np
from mindspore import nn, ops


class Normalised(nn.Cell):
    def __init__(self):
        super().__init__()
        self.dense, self.norm = nn.Dense(4, 4), nn.LayerNorm((4,))

    def construct(self, x):
        return self.norm(self.dense(x))


class Fusible(nn.Cell):
    def construct(self, x):
        return ops.exp(x * 2.0)


before, x = set(os.listdir(".")), ms.Tensor(np.ones((4, 4), np.float32))
ms.set_context(mode=ms.GRAPH_MODE)
ms.amp.auto_mixed_precision(Normalised(), "O1")(x)
ms.set_context(enable_graph_kernel=True)
Fusible()(x)
left = sorted(set(os.listdir(".")) - before)
if left:
    raise SystemExit(f"WRONG: left in the working directory: {', '.join(left)}")
