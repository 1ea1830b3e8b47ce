"""F7: fused Adam with a learning rate schedule takes a step twice for some of its parameters.

The graph kernel expands Adam into small operators that end in assignments. Where the rate is read
from a schedule, by a Gather and a Reshape, the expansion is fused with that Reshape, split again, and stays in
the graph beside its own copy: both assign.
"""

from __future__ import annotations

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, nn

from ascend_fixes.defects import Defect, Finding, Patch
from ascend_fixes.fusion import keeping_out
from ascend_fixes.fusion._compiler import require_compiler

__all__ = ["DEFECT", "Linear", "probe", "updates"]

_STEPS, _DECAY = 3, 0.9  # Adam's beta1


class Linear(nn.Cell):
    """The sum of two parameters over ``x``: float32 (4,) to float32 (); the gradient of both is ``x``."""

    def __init__(self) -> None:
        super().__init__()
        self.first = Parameter(Tensor(np.ones(4, np.float32)), name="first")
        self.second = Parameter(Tensor(np.ones(4, np.float32)), name="second")

    def construct(self, x: Tensor) -> Tensor:
        """The sum."""
        return (self.first * x).sum() + (self.second * x).sum()


def updates(rate: object, steps: int = _STEPS) -> dict[str, int]:
    """How many updates Adam's first moments have seen after so many steps, by parameter.

    Under a gradient of ones the moment is 1 - beta1 to the power of that number.
    """
    net = Linear()
    optimizer = nn.Adam(net.trainable_params(), rate, beta1=_DECAY)
    step = nn.TrainOneStepCell(net, optimizer).set_train()
    for _ in range(steps):
        step(Tensor(np.ones(4, np.float32)))
    return {
        name: int(np.rint(np.log1p(-float(moment.asnumpy()[0])) / np.log(_DECAY)))
        for name, moment in zip(("first", "second"), optimizer.moment1)
    }


def probe() -> Finding:
    """Train with fusion on, at a rate from a list, and count the updates in Adam's moments."""
    require_compiler()
    ms.set_context(mode=ms.GRAPH_MODE, enable_graph_kernel=True)
    seen = updates([0.1, 0.2, 0.3])
    wrong = any(count != _STEPS for count in seen.values())
    return Finding(wrong, f"after {_STEPS} steps Adam's moments have seen {seen['first']} and {seen['second']} updates")


DEFECT = Defect(
    id="F7",
    family="fusion",
    symptom="fused Adam or LazyAdam with a learning rate schedule updates some parameters twice a step",
    symptom_zh="学习率随步数变化时，融合后的 Adam 或 LazyAdam 会把部分参数一步更新两次",
    error="",
    cause="the graph kernel expands Adam; the expansion, fused with the Reshape of the rate and split again, is left in "
    "the graph twice, and both copies assign",
    seen="nn.Adam with a list; on 2.10.0 also nn.LazyAdam and a LearningRateSchedule; not with a number, nor in "
    "AdamWeightDecay, Momentum, SGD, RMSProp, Adagrad, FTRL, AdaMax, Adadelta, Rprop and ASGD. Compiled for "
    "Ascend (dry run), 2.10.0, O1: DVM composes Adam too, in one kernel for each parameter, none twice: the "
    "defect is AKG's, on CPU",
    upstream="none found",
    removal="the probe counts one update a step on every supported MindSpore",
    probe=probe,
    patch=Patch(hooks=(keeping_out("expand:Adam"),), backends=("CPU",)),
)
