"""`custom_mixed_precision` changes the caller's own network. Wanted: a lowered copy, as for O1."""

import mindspore as ms
import numpy as np
from mindspore import nn


class Block(nn.Cell):
    def __init__(self):
        super().__init__()
        self.dense, self.norm = nn.Dense(4, 4), nn.LayerNorm((4,))

    def construct(self, x):
        return self.norm(self.dense(x))


ms.set_context(mode=ms.GRAPH_MODE)
net, x = Block(), ms.Tensor(np.full((2, 4), 1.0 / 3.0), ms.float32)
before = type(net.norm).__name__
ms.amp.custom_mixed_precision(net, black_list=ms.amp.get_black_list())
if type(net.norm).__name__ != before:
    raise SystemExit(f"WRONG: the caller's {before} has become a {type(net.norm).__name__}")
