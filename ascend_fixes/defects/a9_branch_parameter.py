"""A9: a Parameter that only one branch of a tensor ``if`` writes falls apart into two copies.

A training cell that skips overflowed steps by ``if finite: self.optimizer(grads)`` trains. But once the host sets one of the
optimizer's slots, as loading a checkpoint into a step that has run does, MindSpore keeps two copies of it: the
graph goes on with its own, and `Parameter.asnumpy` and `save_checkpoint` read the other, which no step changes any more.
`amp.TrainStep` makes the main graph look at every such Parameter.
"""

from __future__ import annotations

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops

from ascend_fixes.amp import LossScaler, TrainStep
from ascend_fixes.defects import Defect, Finding, Tool

__all__ = ["DEFECT", "Mean", "Skipping", "cured", "probe"]


class Mean(nn.Cell):
    """The mean of a Dense layer's output, as a loss."""

    def __init__(self) -> None:
        super().__init__()
        self.dense = nn.Dense(3, 2, weight_init="ones", has_bias=False)

    def construct(self, x):
        return self.dense(x).mean()


class Skipping(nn.Cell):
    """The obvious training cell: update where all gradients are finite."""

    def __init__(self, cell: nn.Cell, optimizer: nn.Cell) -> None:
        super().__init__(auto_prefix=False)
        self.cell, self.optimizer = cell, optimizer
        self.gradient = ops.value_and_grad(cell, None, optimizer.parameters)

    def construct(self, x):
        loss, grads = self.gradient(x)
        if ops.isfinite(grads[0]).all():
            loss = ops.depend(loss, self.optimizer(grads))
        return loss


def probe() -> Finding:
    """Two steps of Momentum, its slot set to zero as by loading, one step more; what a checkpoint would hold."""
    return _seen(Skipping)


def cured() -> Finding:
    """The same by `TrainStep`."""
    return _seen(lambda cell, optimizer: TrainStep(cell, optimizer, LossScaler.off()))


def _seen(make) -> Finding:
    ms.set_device("CPU")
    ms.set_context(mode=ms.GRAPH_MODE)
    cell = Mean()
    optimizer = nn.Momentum(cell.trainable_params(), 0.1, 0.9)
    step = make(cell, optimizer).set_train()
    for _ in range(2):
        step(Tensor(np.ones((4, 3), np.float32)))
    cell.dense.weight.asnumpy()  # waits for the steps
    read = float(optimizer.moments[0].asnumpy()[0, 0])  # gradients are 0.5: 0.5 * 0.9 + 0.5
    optimizer.moments[0].set_data(Tensor(np.zeros((2, 3), np.float32)))
    step(Tensor(np.ones((4, 3), np.float32)))
    cell.dense.weight.asnumpy()
    loaded = float(optimizer.moments[0].asnumpy()[0, 0])
    return Finding(
        abs(read - 0.95) > 1e-6 or abs(loaded - 0.5) > 1e-6,
        f"after two steps the host reads a momentum of {read:g} for 0.95; set to 0, it is {loaded:g} for 0.5 after one more",
    )


DEFECT = Defect(
    id="A9",
    family="amp",
    symptom="a Parameter written only inside a tensor `if` is stale after loading: checkpoints hold old optimizer slots",
    symptom_zh="只在张量 if 里写的 Parameter，加载之后就是旧值：检查点里的优化器状态不再更新",
    error="",
    cause="the graph gets a copy of a Parameter that its main part never uses; the host keeps the other",
    seen="",
    upstream="none found",
    removal="the probe reads 0.95, then 0.5",
    probe=probe,
    tool=Tool("amp.TrainStep", cured),
)
