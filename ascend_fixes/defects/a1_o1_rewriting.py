"""A1: `auto_mixed_precision(net, "O1")` raises on ordinary cells, and leaves others in float32 without a word.

O1 rewrites the source of a network and of the functions it calls. A rewritten copy of a function loses names that
exist only in its own module; a rewritten ``super().construct(x)`` calls itself; an inherited ``construct`` is not
rewritten at all. The cure lowers the same operators and rewrites nothing.

The error was first met on ``ops.softmax``; in fresh installations of 2.7.0, 2.8.0, 2.9.0 and 2.10.0 that cell ran,
the cells below it did not.
"""

from __future__ import annotations

import mindspore as ms
import numpy as np
from mindspore import Tensor, amp, mint, nn, ops

from ascend_fixes.defects import Defect, Finding, Patch, first_line
from ascend_fixes.defects._precision_levels import levels
from ascend_fixes.patching import Replacement

__all__ = ["DEFECT", "Attend", "Inheriting", "MintSoftmax", "Supering", "probe"]


class Attend(nn.Cell):
    """``softmax(x W)``: float32 (batch, 4) to float32 (batch, 4)."""

    def __init__(self) -> None:
        super().__init__()
        self.dense = nn.Dense(4, 4)

    def construct(self, x):
        return ops.softmax(self.dense(x), -1)


class MintSoftmax(Attend):
    """The same by MindSpore's other softmax."""

    def construct(self, x):
        return mint.nn.functional.softmax(self.dense(x), dim=-1)


class Supering(Attend):
    """The same by way of the parent class."""

    def construct(self, x):
        return super().construct(x)


class Inheriting(Attend):
    """The same, all inherited."""


def probe() -> Finding:
    """Lower each cell to O1, run it, and see whether it computed in float16: close to float32, but not equal to it."""
    ms.set_context(mode=ms.GRAPH_MODE)
    x = Tensor(np.random.default_rng(0).standard_normal((64, 4)).astype(np.float32))
    wrong, good = [], []
    for make in (Attend, MintSoftmax, Supering, Inheriting):
        net = make()
        expected = net(x).asnumpy()
        try:
            error = float(np.abs(amp.auto_mixed_precision(net, "O1")(x).asnumpy() - expected).max())
        except (NameError, TypeError, ValueError, RuntimeError, AttributeError) as raised:
            wrong.append(f"{make.__name__}: {first_line(raised)}")
            continue
        if 0 < error < 1e-2:
            good.append(f"{make.__name__} differs by {error:.1e}")
        else:
            wrong.append(f"{make.__name__}: {'not lowered at all' if error == 0 else f'wrong by {error:.1e}'}")
    return Finding(bool(wrong), "; ".join(wrong or good))


DEFECT = Defect(
    id="A1",
    family="amp",
    symptom="auto_mixed_precision(net, 'O1') raises on ordinary cells (softmax, super().construct) and silently "
    "skips others",
    symptom_zh="auto_mixed_precision(net, 'O1') 在普通单元（softmax、super().construct）上报错，另一些则悄悄不降精度",
    error="NameError: The name '_get_softmax_implicit_dim' is not defined, or not supported in graph mode.",
    cause="O1 rewrites the source of what the network calls; the copy is executed without the names of the module "
    "it came from, and constructs it does not know stay as they are",
    seen="",
    upstream="none found",
    removal="the probe finds O1 right on every supported MindSpore",
    probe=probe,
    patch=Patch(replacements=(Replacement("mindspore.train.amp:auto_mixed_precision", levels("O1")),)),
)
