"""F2: the fusion of F1 turns the float16 gradient of an unrolled GRU into NaN."""

from __future__ import annotations

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, nn, ops

from ascend_fixes.defects import Defect, Finding, Patch
from ascend_fixes.fusion import keeping_out
from ascend_fixes.fusion._compiler import require_compiler

__all__ = ["DEFECT", "UnrolledGRU", "gradients", "probe"]

_HIDDEN = 32


class UnrolledGRU(nn.Cell):
    """A float16 GRU as people port it, one step after another: ``(batch, length, 16)`` to ``(batch, 32)``."""

    def __init__(self) -> None:
        super().__init__()
        rng = np.random.default_rng(1)
        w_in, w_h = (rng.standard_normal((rows, 3 * _HIDDEN)) * 0.1 for rows in (16, _HIDDEN))
        self.w_in = Parameter(w_in.astype(np.float16), name="w_in")
        self.w_h = Parameter(w_h.astype(np.float16), name="w_h")

    def construct(self, x: Tensor) -> Tensor:
        """The last state."""
        h = ops.zeros((x.shape[0], _HIDDEN), x.dtype)
        for t in range(x.shape[1]):
            gi, gh = ops.matmul(x[:, t], self.w_in), ops.matmul(h, self.w_h)
            r = ops.sigmoid(gi[:, :_HIDDEN] + gh[:, :_HIDDEN])
            z = ops.sigmoid(gi[:, _HIDDEN : 2 * _HIDDEN] + gh[:, _HIDDEN : 2 * _HIDDEN])
            h = (1 - z) * ops.tanh(gi[:, 2 * _HIDDEN :] + r * gh[:, 2 * _HIDDEN :]) + z * h
        return h


def gradients(length: int = 10) -> np.ndarray:
    """The gradients of the sum of the last state by both weights, flat, float64."""
    x = Tensor(np.random.default_rng(2).standard_normal((4, length, 16)).astype(np.float16))
    net = UnrolledGRU()

    def loss(inputs: Tensor) -> Tensor:
        return (net(inputs) * 1.0).sum()

    grads = ms.jit(ms.grad(loss, None, net.trainable_params()))(x)
    return np.concatenate([grad.asnumpy().astype(np.float64).ravel() for grad in grads])


def probe() -> Finding:
    """Count NaN in the gradient, with fusion off and on."""
    require_compiler()
    ms.set_context(mode=ms.GRAPH_MODE, enable_graph_kernel=False)
    plain = gradients()
    ms.set_context(enable_graph_kernel=True)
    fused = gradients()
    bad = int(np.isnan(fused).sum())
    return Finding(bad > 0, f"NaN among {fused.size} gradients: fused {bad}, unfused {int(np.isnan(plain).sum())}")


DEFECT = Defect(
    id="F2",
    family="fusion",
    symptom="fusion turns the float16 gradient of an unrolled GRU into NaN",
    symptom_zh="融合使手写展开的 GRU 的 float16 梯度变成 NaN",
    error="",
    cause="the same kernels as F1: a fused Transpose of the gradient reads wrong elements",
    seen="Compiled for Ascend (dry run), 2.10.0, O1: no transpose is in a fused kernel: the defect is AKG's, on CPU",
    upstream="none found",
    removal="the probe finds no NaN on every supported MindSpore",
    probe=probe,
    patch=Patch(hooks=(keeping_out("cluster:Transpose"),), backends=("CPU",)),
)
