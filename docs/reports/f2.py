"""Graph-kernel fusion turns the float16 gradient of an unrolled GRU into NaN on CPU; the same kernels as f1.py."""

import mindspore as ms
import numpy as np
from mindspore import Parameter, nn, ops


class UnrolledGRU(nn.Cell):
    def __init__(self):
        super().__init__()
        rng = np.random.default_rng(1)
        self.w_in = Parameter((rng.standard_normal((16, 96)) * 0.1).astype(np.float16), name="w_in")
        self.w_h = Parameter((rng.standard_normal((32, 96)) * 0.1).astype(np.float16), name="w_h")

    def construct(self, x):
        h = ops.zeros((x.shape[0], 32), x.dtype)
        for t in range(x.shape[1]):
            gi, gh = ops.matmul(x[:, t], self.w_in), ops.matmul(h, self.w_h)
            r, z = ops.sigmoid(gi[:, :32] + gh[:, :32]), ops.sigmoid(gi[:, 32:64] + gh[:, 32:64])
            h = (1 - z) * ops.tanh(gi[:, 64:] + r * gh[:, 64:]) + z * h
        return (h * 1.0).sum()


x, count = ms.Tensor(np.random.default_rng(2).standard_normal((4, 10, 16)).astype(np.float16)), []
for fused in (False, True):
    ms.set_context(mode=ms.GRAPH_MODE, enable_graph_kernel=fused)
    net = UnrolledGRU()
    grads = ms.jit(ms.grad(net, None, net.trainable_params()))(x)
    count.append(sum(int(np.isnan(grad.asnumpy()).sum()) for grad in grads))
if count[1]:
    raise SystemExit(f"WRONG: NaN in the gradients: unfused {count[0]}, fused {count[1]}")
