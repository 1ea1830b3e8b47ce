"""Fused Adam with a learning rate schedule updates some parameters twice a step on CPU."""

import mindspore as ms
import numpy as np
from mindspore import Parameter, nn


class Linear(nn.Cell):
    def __init__(self):
        super().__init__()
        self.first = Parameter(ms.Tensor(np.ones(4, np.float32)), name="first")
        self.second = Parameter(ms.Tensor(np.ones(4, np.float32)), name="second")

    def construct(self, x):
        return (self.first * x).sum() + (self.second * x).sum()


ms.set_context(mode=ms.GRAPH_MODE, enable_graph_kernel=True)
net = Linear()
optimizer = nn.Adam(net.trainable_params(), [0.1, 0.2, 0.3], beta1=0.9)
step = nn.TrainOneStepCell(net, optimizer).set_train()
for _ in range(3):
    step(ms.Tensor(np.ones(4, np.float32)))
# Under a gradient of ones Adam's first moment is 1 - beta1 to the power of the number of updates.
seen = [round(float(np.log(1 - moment.asnumpy()[0]) / np.log(0.9))) for moment in optimizer.moment1]
if seen != [3, 3]:
    raise SystemExit(f"WRONG: after 3 steps Adam's moments have seen {seen} updates")
