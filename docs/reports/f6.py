"""Mixed precision and graph-kernel fusion together do not compile on CPU: AKG refuses the casts of the gradient."""

import mindspore as ms
import numpy as np
from mindspore import nn, ops


class Block(nn.Cell):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Dense(32, 32), nn.Dense(32, 32)

    def construct(self, x):
        return ops.tanh(self.second(ops.tanh(self.first(x)) * 2.0)).sum()


ms.set_context(mode=ms.GRAPH_MODE, enable_graph_kernel=True)
net = ms.amp.auto_mixed_precision(Block(), "auto")
x = ms.Tensor(np.random.default_rng(0).standard_normal((24, 32)).astype(np.float32))


def loss(x):
    return net(x)


ms.jit(ms.value_and_grad(loss, None, net.trainable_params()))(x)
