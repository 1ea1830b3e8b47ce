"""A Parameter that only a branch writes falls apart into two copies once the host has set it, as loading a checkpoint does."""

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops


class Skipping(nn.Cell):
    def __init__(self, cell, optimizer):
        super().__init__(auto_prefix=False)
        self.cell, self.optimizer = cell, optimizer
        self.gradient = ops.value_and_grad(cell, None, optimizer.parameters)

    def construct(self, x):
        loss, grads = self.gradient(x)
        if ops.isfinite(grads[0]).all():
            loss = ops.depend(loss, self.optimizer(grads))
        return loss


class Mean(nn.Cell):
    def __init__(self):
        super().__init__()
        self.dense = nn.Dense(3, 2, weight_init="ones", has_bias=False)

    def construct(self, x):
        return self.dense(x).mean()


ms.set_context(mode=ms.GRAPH_MODE)
cell, x = Mean(), Tensor(np.ones((4, 3), np.float32))
optimizer = nn.Momentum(cell.trainable_params(), 0.1, 0.9)
step = Skipping(cell, optimizer).set_train()
for _ in range(2):
    step(x)
cell.dense.weight.asnumpy()  # waits for the steps
optimizer.moments[0].asnumpy()
optimizer.moments[0].set_data(Tensor(np.zeros((2, 3), np.float32)))
step(x)
cell.dense.weight.asnumpy()
found = float(optimizer.moments[0].asnumpy()[0, 0])
if abs(found - 0.5) > 1e-6:
    raise SystemExit(f"WRONG: a momentum set to 0 reads {found:g} after a step with gradient 0.5")
