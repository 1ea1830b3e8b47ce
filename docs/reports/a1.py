"""`auto_mixed_precision(net, "O1")` fails on ordinary cells: the rewritten copy has lost names of its module."""

import mindspore as ms
import numpy as np
from mindspore import mint, nn


class Attend(nn.Cell):
    def __init__(self):
        super().__init__()
        self.dense = nn.Dense(4, 4)

    def construct(self, x):
        return mint.nn.functional.softmax(self.dense(x), dim=-1)


ms.set_context(mode=ms.GRAPH_MODE)
print(ms.amp.auto_mixed_precision(Attend(), "O1")(ms.Tensor(np.ones((2, 4), np.float32))))
