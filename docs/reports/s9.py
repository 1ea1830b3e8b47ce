"""On Ascend nn.Dense, nn.LayerNorm, nn.Embedding, ops.split and ops.topk take kernels that are built for every shape.

`mindspore.mint` has precompiled ones for the same. Wanted: the same in nn and ops. Compile it for Ascend; how long the
first step takes at every new length shows it on a device.
"""

import mindspore as ms
import numpy as np
from mindspore import nn, ops


class Net(nn.Cell):
    def __init__(self):
        super().__init__()
        self.embedding, self.norm, self.dense = nn.Embedding(20, 8), nn.LayerNorm((8,)), nn.Dense(8, 24)

    def construct(self, ids):
        value, gate, _ = ops.split(self.dense(self.norm(self.embedding(ids))), 8, 2)
        return ops.topk(value * ops.sigmoid(gate), 3)


ms.set_context(mode=ms.GRAPH_MODE)
Net().compile(ms.Tensor(np.ones((2, 5), np.int32)))
