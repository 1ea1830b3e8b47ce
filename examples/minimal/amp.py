"""One overflow in float16 costs MindSpore's O3 step its weights; `TrainStep` skips the step and goes on."""

import mindspore as ms
import numpy as np
from mindspore import nn, ops

from ascend_fixes import amp

ms.set_context(mode=ms.GRAPH_MODE)
ms.set_seed(0)
x, y = ms.Tensor(np.ones((4, 8), np.float32)), ms.Tensor(np.zeros((4, 1), np.float32))


class Loss(nn.Cell):
    def __init__(self):
        super().__init__()
        self.net = nn.Dense(8, 1)

    def construct(self, x, y):
        return ops.square(self.net(x) - y).mean()


plain, safe = Loss(), Loss()
lowered = ms.amp.auto_mixed_precision(plain, "O3")
step = nn.TrainOneStepCell(lowered, nn.Adam(lowered.trainable_params(), 0.01))
ours = amp.TrainStep(safe, nn.Adam(safe.trainable_params(), 0.01), amp.LossScaler(1e3), amp.Policy("compute=float16"))
for scale in (1, 1e30, 1):  # the second batch overflows
    loss, result = step(x * scale, y), ours(x * scale, y)
    print(f"O3: loss {loss}, weights finite: {np.isfinite(plain.net.weight.asnumpy()).all()}", end="; ")
    print(f"TrainStep: {result.event}, loss {result.loss}, finite: {np.isfinite(safe.net.weight.asnumpy()).all()}")
