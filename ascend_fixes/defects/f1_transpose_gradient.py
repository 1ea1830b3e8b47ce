"""F1: fused transposes give a wrong float32 gradient for the attention key projection.

The guilty transposes are made by the gradient, so no attribute of the forward
operators reaches them; the cure keeps the operator type out of fusion, in every
compilation that fuses and in no other.
"""

from __future__ import annotations

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops

from ascend_fixes.defects import Defect, Finding, Patch
from ascend_fixes.fusion import keeping_out
from ascend_fixes.fusion._compiler import require_compiler

__all__ = ["DEFECT", "Attention", "key_gradient", "probe"]

_HIDDEN, _HEADS = 64, 4


class Attention(nn.Cell):
    """Self-attention without dropout: ``(batch, length, hidden)`` to the same, float32."""

    def __init__(self, hidden: int = _HIDDEN, heads: int = _HEADS) -> None:
        super().__init__()
        self.query, self.key = nn.Dense(hidden, hidden), nn.Dense(hidden, hidden)
        self.value, self.out = nn.Dense(hidden, hidden), nn.Dense(hidden, hidden)
        self.hidden, self.heads = hidden, heads

    def construct(self, x: Tensor) -> Tensor:
        """Attend from every position to every position."""
        batch, length, _ = x.shape
        shape = (batch, length, self.heads, self.hidden // self.heads)
        q = self.query(x).reshape(shape).transpose(0, 2, 1, 3)
        k = self.key(x).reshape(shape).transpose(0, 2, 1, 3)
        v = self.value(x).reshape(shape).transpose(0, 2, 1, 3)
        p = ops.softmax(ops.matmul(q, k.transpose(0, 1, 3, 2)) / 4.0, -1)
        return self.out(ops.matmul(p, v).transpose(0, 2, 1, 3).reshape(batch, length, self.hidden))


def key_gradient(batch: int = 4, length: int = 10) -> np.ndarray:
    """The gradient of ``sum(attention(x) ** 3)`` by the key projection's weight, (hidden, hidden); seeded."""
    ms.set_seed(0)
    net = Attention()
    x = Tensor(np.random.default_rng(1).standard_normal((batch, length, _HIDDEN)).astype(np.float32))

    def loss(inputs: Tensor) -> Tensor:
        return (net(inputs) ** 3).sum()

    names = [parameter.name for parameter in net.trainable_params()]
    _, grads = ms.jit(ms.value_and_grad(loss, None, net.trainable_params()))(x)
    return grads[names.index("key.weight")].asnumpy()


def probe() -> Finding:
    """The gradient with fusion on against the gradient with fusion off."""
    require_compiler()
    ms.set_context(mode=ms.GRAPH_MODE, enable_graph_kernel=False)
    right = key_gradient()
    ms.set_context(enable_graph_kernel=True)
    fused = key_gradient()
    error = float(np.abs(fused - right).max() / np.abs(right).max())
    return Finding(not error < 1e-4, f"fused gradient of key.weight is off by {error:.2g} of its largest value")


DEFECT = Defect(
    id="F1",
    family="fusion",
    symptom="fused transposes give a wrong float32 gradient: attention key projection off by tens of times its largest value",
    symptom_zh="融合后的转置给出错误的 float32 梯度：注意力的 key 投影偏差达最大值的几十倍",
    error="",
    cause="kernels that the graph kernel's compiler (AKG) builds from a Transpose and a Reshape of the gradient read "
    "wrong elements; the values differ from run to run, and right and wrong alternate with batch x length",
    seen="2 x 12, 4 x 10 and 16 x 24 wrong, 3 x 9 right. Compiled for Ascend (dry run), 2.10.0, O1: no transpose "
    "is in a fused kernel, with or without the flag: the defect is AKG's, on CPU",
    upstream="none found",
    removal="the probe finds the gradient right on every supported MindSpore",
    probe=probe,
    patch=Patch(hooks=(keeping_out("cluster:Transpose"),), backends=("CPU",)),
)
