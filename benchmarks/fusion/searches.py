"""Cells for `fusion.bisect`, as factories: what `benchmarks.fusion` searches, and what you may try by hand.

ascend-fixes bisect benchmarks.fusion.searches:attention
"""

from __future__ import annotations

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops

from ascend_fixes.defects.f1_transpose_gradient import Attention
from ascend_fixes.defects.f2_gru_nan import UnrolledGRU
from ascend_fixes.defects.f6_fused_casts import Block
from ascend_fixes.defects.f7_adam_twice import Linear
from benchmarks.fusion.model import bert

ms.set_device("CPU")


class Healthy(nn.Cell):
    """Fuses, and is right."""

    def construct(self, x: Tensor) -> Tensor:
        return (x * 2.0 + 1.0) * x


class TwoGuilty(nn.Cell):
    """Attention, whose gradient a fused Transpose spoils, and a fused tanh, off by up to 4e-4."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = Attention()

    def construct(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.attention(x), ops.tanh(x) * 2.0 + x


def _normal(*shape: int, dtype: type = np.float32) -> Tensor:
    return Tensor(np.random.default_rng(1).standard_normal(shape).astype(dtype))


def attention() -> tuple[nn.Cell, Tensor]:
    """The block of F1; guilty: Transpose."""
    ms.set_seed(0)
    return Attention(), _normal(4, 10, 64)


def bert_loss() -> tuple:
    """The loss of a 4-layer BERT and its gradients; guilty: Transpose."""
    step, inputs = bert()
    return (step.network, *inputs)


def bert_step() -> tuple:
    """A whole training step with Adam, compared by its updates; guilty: Transpose."""
    step, inputs = bert(adam=1e-4)
    return (step, *inputs)


def healthy() -> tuple[nn.Cell, Tensor]:
    """Nothing to find."""
    return Healthy(), _normal(4, 6)


def two_guilty() -> tuple[nn.Cell, Tensor]:
    """To 1e-5, guilty: Transpose and Tanh."""
    ms.set_seed(0)
    return TwoGuilty(), _normal(4, 10, 64)


def float16_gru() -> tuple[nn.Cell, Tensor]:
    """The NaN of F2; guilty: Transpose."""
    return UnrolledGRU(), _normal(4, 10, 16, dtype=np.float16)


def lowered_casts() -> tuple[nn.Cell, Tensor]:
    """The failing compiler of F6; guilty: Cast."""
    return ms.amp.auto_mixed_precision(Block(), "auto"), _normal(24, 32)


def scheduled_adam() -> tuple[nn.Cell, Tensor]:
    """The two updates a step of F7, where nothing else fuses; guilty: Reshape, or the expansion of Adam."""
    net = Linear()
    return nn.TrainOneStepCell(net, nn.Adam(net.trainable_params(), [0.1, 0.2, 0.3])).set_train(), _normal(4)
