"""Training steps and recurrent layers as factories for dry runs."""

from __future__ import annotations

import mindspore as ms
import numpy as np
from amp_cells import Writing
from mindspore import Tensor, nn, ops

from ascend_fixes.amp import LossScaler, Policy, TrainStep, autocast

ROWS = Tensor(np.ones((6, 4), np.float32))


class Layers(nn.Cell):
    """Enough layers for gradients to outnumber what a step does once: products and layer norms."""

    def __init__(self):
        super().__init__()
        self.dense = nn.CellList([nn.Dense(32, 32) for _ in range(4)])
        self.norms = nn.CellList([nn.LayerNorm([32]) for _ in range(4)])

    def construct(self, x):
        for dense, norm in zip(self.dense, self.norms):
            x = norm(x + ops.tanh(dense(x)))
        return (x * x * x).mean()


def scaled_step():
    net = Layers()
    manager = nn.DynamicLossScaleUpdateCell(1024, 2, 1000)
    optimizer = nn.Adam(net.trainable_params(), 1e-3)
    return nn.TrainOneStepWithLossScaleCell(autocast(net, Policy()), optimizer, manager), Tensor(
        np.ones((4, 32)), ms.float32
    )


def step():
    net = Layers()
    optimizer = nn.Adam(net.trainable_params(), 1e-3)
    return TrainStep(net, optimizer, LossScaler(), policy=Policy()), Tensor(np.ones((4, 32)), ms.float32)


def every_option():
    net = Writing()
    weights = net.trainable_params()
    optimizers = [nn.Momentum(weights[:2], 0.1, 0.9), nn.Adam(weights[2:], 1e-3)]
    step = TrainStep(net, optimizers, LossScaler(), policy=Policy(), clip_norm=1.0, accumulate=2)
    return step.set_train(), ROWS


class Recurrent(nn.Cell):
    """A recurrent layer whose state comes from a product, in float16 under the policy, or is zero, in float32."""

    def __init__(self, layer, state_of):
        super().__init__()
        self.layer, self.dense, self.state_of = layer, nn.Dense(16, 16), state_of

    def construct(self, x):
        state = self.dense(x[0]).expand_dims(0) if self.state_of == "product" else ops.zeros((1, 2, 16), ms.float32)
        both = (state, state) if isinstance(self.layer, nn.LSTM) else state
        return self.layer(self.dense(x), both)[0].mean()


def _recurrent(layer, state_of):
    net = Recurrent(layer(16, 16), state_of)
    return TrainStep(net, nn.SGD(net.trainable_params()), policy=Policy()), Tensor(np.ones((3, 2, 16)), ms.float32)


def gru():
    return _recurrent(nn.GRU, "product")


def gru_from_zero():
    return _recurrent(nn.GRU, "zero")


def lstm():
    return _recurrent(nn.LSTM, "product")
