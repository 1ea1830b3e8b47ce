"""On Ascend `ops.cumsum` refuses int64, which `mint.cumsum` takes. Wanted: the same kernel behind both."""

import mindspore as ms
import numpy as np
from mindspore import nn, ops


class Positions(nn.Cell):
    def construct(self, mask):
        return ops.cumsum(mask, 1) * mask


ms.set_context(mode=ms.GRAPH_MODE)
Positions().compile(ms.Tensor(np.array([[1, 1, 0], [1, 0, 0]], np.int64)))
