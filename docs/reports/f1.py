"""Graph-kernel fusion makes an attention's float32 gradient wrong on CPU. `pip install decorator` first (see f4.py)."""

import mindspore as ms
import numpy as np
from mindspore import nn, ops


class Attention(nn.Cell):
    def __init__(self):
        super().__init__()
        self.layers = nn.CellList([nn.Dense(64, 64) for _ in range(4)])

    def construct(self, x):
        q, k, v = [layer(x).reshape(4, 10, 4, 16).transpose(0, 2, 1, 3) for layer in self.layers[:3]]
        mixed = ops.matmul(ops.softmax(ops.matmul(q, k.transpose(0, 1, 3, 2)) / 4.0, -1), v)
        return (self.layers[3](mixed.transpose(0, 2, 1, 3).reshape(4, 10, 64)) ** 3).sum()


net, found = Attention(), []
x = ms.Tensor(np.random.default_rng(1).standard_normal((4, 10, 64)).astype(np.float32))
for fused in (False, True):
    ms.set_context(mode=ms.GRAPH_MODE, enable_graph_kernel=fused)
    step = ms.jit(ms.value_and_grad(net, None, net.trainable_params()))
    found.append(step(x)[1][2].asnumpy())  # of the key projection's weight
error = np.abs(found[1] - found[0]).max() / np.abs(found[0]).max()
if not error < 1e-4:
    raise SystemExit(f"WRONG: fused, the gradient is off by {error:.2g} of its largest value")
