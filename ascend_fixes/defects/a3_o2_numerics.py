"""A3: O2 and O3 turn finite float32 results into inf and NaN.

They run every operator in float16 but the norm layers: exponentials, sums, squares and additive masks leave its
range. Level "auto" keeps some of these in float32 and misses others. The cure lowers matrix products and
convolutions only.
"""

from __future__ import annotations

import mindspore as ms
import numpy as np
from mindspore import Tensor, amp, nn, ops

from ascend_fixes import _mindspore
from ascend_fixes.defects import Defect, Finding, Patch
from ascend_fixes.defects._precision_levels import levels, precision_process
from ascend_fixes.patching import Replacement

__all__ = ["DEFECT", "AdditiveMask", "Exp", "MaskedScores", "Square", "Sum", "probe"]


class Exp(nn.Cell):
    """``exp(x)``."""

    def construct(self, x):
        return ops.exp(x)


class Sum(nn.Cell):
    """The sum of all elements."""

    def construct(self, x):
        return x.sum()


class Square(nn.Cell):
    """``x * x``."""

    def construct(self, x):
        return x * x


class AdditiveMask(nn.Cell):
    """A softmax whose every position is masked by -1e9: the same weight for all in float32."""

    def construct(self, x):
        return ops.softmax(x - 1e9, -1)


class MaskedScores(nn.Cell):
    """The same after a matrix product, where level "auto" has float16 scores."""

    def construct(self, x):
        return ops.softmax(ops.matmul(x, x) - 1e9, -1)


_CASES = (
    ("exp(12)", Exp, np.full((1,), 12.0)),
    ("sum of 4096 x 32", Sum, np.full((4096,), 32.0)),
    ("300 squared", Square, np.full((1,), 300.0)),
    ("softmax(x - 1e9)", AdditiveMask, np.zeros((1, 4))),
    ("softmax(x x - 1e9)", MaskedScores, np.zeros((4, 4))),
)


def probe() -> Finding:
    """Every case at O2, O3 and auto against float32."""
    ms.set_context(mode=ms.GRAPH_MODE)
    wrong, right = [], 0
    for name, make, value in _CASES:
        x = Tensor(value, ms.float32)
        expected = make()(x).asnumpy().ravel()[0]
        for level in ("O2", "O3", "auto"):
            found = amp.auto_mixed_precision(make(), level)(x).asnumpy().ravel()[0]
            if np.isclose(found, expected, rtol=1e-2):
                right += 1
            else:
                wrong.append(f"{level} {name} = {found:g} for {expected:g}")
    return Finding(bool(wrong), "; ".join(wrong) or f"{right} of {right} results at O2, O3 and auto equal float32's")


DEFECT = Defect(
    id="A3",
    family="amp",
    symptom="O2 and O3: exp(12), a sum of 4096 x 32 and 300 squared are inf, softmax(x - 1e9) is NaN",
    symptom_zh="O2、O3 下 exp(12)、4096 个 32 的和、300 的平方变成 inf，softmax(x - 1e9) 变成 NaN",
    error="",
    cause="every operator outside the norm layers runs in float16, whose largest number is 65504",
    seen="",
    upstream="https://discuss.mindspore.cn topic 1324 (reported: O2 gives NaN where float32 trains)",
    removal="the probe finds no wrong result on every supported MindSpore",
    probe=probe,
    patch=Patch(
        replacements=(
            Replacement("mindspore.train.amp:auto_mixed_precision", levels("O2", "O3", "auto")),
            Replacement(_mindspore.precision_process_target(), precision_process),
        )
    ),
)
