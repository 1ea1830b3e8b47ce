"""A2: O2 and O3 raise on a cell that multiplies by its own Parameter.

Both levels set flags that cast the inputs of cells; a Parameter that a cell holds itself stays float32, and
operators such as matmul refuse two types. The cure casts operators' inputs, whatever they come from.
"""

from __future__ import annotations

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, amp, nn, ops

from ascend_fixes import _mindspore
from ascend_fixes.defects import Defect, Finding, Patch, first_line
from ascend_fixes.defects._precision_levels import levels, precision_process
from ascend_fixes.patching import Replacement

__all__ = ["DEFECT", "Projection", "probe"]


class Projection(nn.Cell):
    """``x W`` with a Parameter of its own: float32 (batch, 4) to float32 (batch, 4)."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = Parameter(np.full((4, 4), 0.5, np.float32), name="weight")

    def construct(self, x):
        return ops.matmul(x, self.weight)


def probe() -> Finding:
    """Lower the cell to O2 and to O3, run both, and train one step at O2."""
    ms.set_context(mode=ms.GRAPH_MODE)
    x = Tensor(np.ones((2, 4)), ms.float32)
    failures, done = [], []
    for level in ("O2", "O3"):
        try:
            output = amp.auto_mixed_precision(Projection(), level)(x)
            done.append(f"{level} gives {output.asnumpy()[0, 0]:g}")
        except (TypeError, ValueError, RuntimeError) as raised:
            failures.append(f"{level}: {first_line(raised)}")
    try:
        net = Projection()
        optimizer = nn.SGD(net.trainable_params(), 0.1)
        step = amp.build_train_network(net, optimizer, nn.MSELoss(), level="O2", loss_scale_manager=None)
        done.append(f"a training step at O2 has loss {float(step(x, x).asnumpy()):g}")
    except (TypeError, ValueError, RuntimeError) as raised:
        failures.append(f"training at O2: {first_line(raised)}")
    return Finding(bool(failures), "; ".join(failures or done))


DEFECT = Defect(
    id="A2",
    family="amp",
    symptom="auto_mixed_precision at O2 and O3 raises on a cell that multiplies by its own Parameter",
    symptom_zh="O2、O3 的 auto_mixed_precision 遇到乘以自身 Parameter 的单元就报错",
    error="For primitive[MatMulExt], the input type must be same.",
    cause="the levels cast the inputs of cells; a Parameter used directly in construct stays float32 beside float16 "
    "inputs",
    seen="",
    upstream="none found",
    removal="the probe finds O2 and O3 right on every supported MindSpore",
    probe=probe,
    patch=Patch(
        replacements=(
            Replacement("mindspore.train.amp:auto_mixed_precision", levels("O2", "O3")),
            Replacement(_mindspore.precision_process_target(), precision_process),
        )
    ),
)
