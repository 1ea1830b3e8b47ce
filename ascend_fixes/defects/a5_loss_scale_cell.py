"""A5: `TrainOneStepWithLossScaleCell` and `build_train_network("O2")` do not run on CPU.

The cell asks a register that only Ascend devices have. The cure looks at the gradients, on CPU, and divides them by
the scale in float32.
"""

from __future__ import annotations

import mindspore as ms
import numpy as np
from mindspore import Tensor, amp, nn

from ascend_fixes.defects import Defect, Finding, Patch, first_line
from ascend_fixes.defects._loss_scaling import (
    cpu_overflow_status,
    in_place_of,
    train_one_step,
    update_scale,
    with_slots,
)
from ascend_fixes.defects._precision_levels import train_network
from ascend_fixes.patching import Replacement

__all__ = ["DEFECT", "Mean", "probe"]

_MODULE = "mindspore.nn.wrap.loss_scale"


class Mean(nn.Cell):
    """The mean of a Dense layer's output, as a loss."""

    def __init__(self) -> None:
        super().__init__()
        self.dense = nn.Dense(4, 1)

    def construct(self, x):
        return self.dense(x).mean()


def probe() -> Finding:
    """One finite and one overflowed step, and `build_train_network` at O2."""
    ms.set_context(mode=ms.GRAPH_MODE)
    x = np.ones((2, 4), np.float32)
    failures, done = [], []
    try:
        net = Mean()
        update = nn.DynamicLossScaleUpdateCell(2**16, 2, 1000)
        step = nn.TrainOneStepWithLossScaleCell(net, nn.SGD(net.trainable_params(), 0.1), update).set_train()
        step(Tensor(x))
        before = net.dense.weight.asnumpy().copy()
        _, overflow, _ = step(Tensor(x * np.inf))
        kept = bool(np.array_equal(before, net.dense.weight.asnumpy()))
        if not (bool(overflow) and kept):
            failures.append("an overflowed step changed the weights")
        done.append(f"the overflowed step is skipped, scale {float(step.scale_sense.asnumpy()):g}")
    except RuntimeError as raised:
        failures.append(f"TrainOneStepWithLossScaleCell: {first_line(raised, 'Unsupported')}")
    try:
        net = Mean()
        step = amp.build_train_network(net, nn.SGD(net.trainable_params(), 0.1), level="O2")
        done.append(f"build_train_network at O2 trains with scale {float(step(Tensor(x))[2].asnumpy()):g}")
    except (ValueError, RuntimeError) as raised:
        failures.append(f"build_train_network: {first_line(raised)}")
    return Finding(bool(failures), "; ".join(failures or done))


DEFECT = Defect(
    id="A5",
    family="amp",
    symptom="TrainOneStepWithLossScaleCell and build_train_network('O2') do not run on CPU",
    symptom_zh="TrainOneStepWithLossScaleCell 和 build_train_network('O2') 在 CPU 上不能运行",
    error="Unsupported op [NPUGetFloatStatusV2] on CPU",
    cause="off the GPU the cell reads the float status register of an Ascend device; build_train_network refuses "
    "for that reason",
    seen="",
    upstream="none found",
    removal="the probe trains and skips on every supported MindSpore",
    probe=probe,
    patch=Patch(
        replacements=(
            Replacement(
                f"{_MODULE}:TrainOneStepWithLossScaleCell.get_overflow_status", in_place_of(cpu_overflow_status)
            ),
            Replacement(f"{_MODULE}:TrainOneStepWithLossScaleCell.__init__", with_slots),
            Replacement(f"{_MODULE}:TrainOneStepWithLossScaleCell.construct", in_place_of(train_one_step)),
            Replacement(f"{_MODULE}:DynamicLossScaleUpdateCell.construct", in_place_of(update_scale)),
            Replacement("mindspore.train.amp:build_train_network", train_network),
        ),
        backends=("CPU",),
    ),
)
