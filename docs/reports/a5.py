"""`TrainOneStepWithLossScaleCell` asks for the status register of an Ascend device, on CPU too. Wanted: look at the gradients."""

import mindspore as ms
import numpy as np
from mindspore import nn


class Mean(nn.Cell):
    def __init__(self):
        super().__init__()
        self.dense = nn.Dense(4, 1)

    def construct(self, x):
        return self.dense(x).mean()


ms.set_context(mode=ms.GRAPH_MODE)
net = Mean()
scale = nn.DynamicLossScaleUpdateCell(2**16, 2, 1000)
step = nn.TrainOneStepWithLossScaleCell(net, nn.SGD(net.trainable_params(), 0.1), scale).set_train()
print(step(ms.Tensor(np.ones((2, 4), np.float32))))
