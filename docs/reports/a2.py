"""`auto_mixed_precision(net, "O2")` fails on a cell that multiplies by a Parameter of its own, which stays float32."""

import mindspore as ms
import numpy as np
from mindspore import Parameter, nn, ops


class Projection(nn.Cell):
    def __init__(self):
        super().__init__()
        self.weight = Parameter(np.full((4, 4), 0.5, np.float32), name="weight")

    def construct(self, x):
        return ops.matmul(x, self.weight)


ms.set_context(mode=ms.GRAPH_MODE)
print(ms.amp.auto_mixed_precision(Projection(), "O2")(ms.Tensor(np.ones((2, 4), np.float32))))
