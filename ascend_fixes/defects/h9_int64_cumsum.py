"""H9: `ops.cumsum` refuses int64 on Ascend, as positions counted from a mask are in NumPy's default dtype."""

from __future__ import annotations

import numpy as np
from mindspore import Tensor, mint, nn, ops
from mindspore import dtype as types

from ascend_fixes.defects import Defect, Finding, OnAscend, Patch
from ascend_fixes.defects._compiled import COMPILED, compile_for_ascend, not_refused
from ascend_fixes.defects._loss_scaling import in_place_of
from ascend_fixes.patching import Replacement

__all__ = ["DEFECT", "Positions", "cumsum", "probe"]


class Positions(nn.Cell):
    """The position of every element that counts: int64 (batch, length) to the same."""

    def construct(self, mask):
        return ops.cumsum(mask, 1) * mask


def positions() -> tuple[nn.Cell, Tensor]:
    """A mask in int64."""
    return Positions(), Tensor(np.array([[1, 1, 0], [1, 0, 0]], np.int64))


def probe() -> Finding:
    """Compile it for Ascend."""
    return not_refused(compile_for_ascend(__name__, "plain"))


def cumsum(x, axis, dtype=None):  # read by the graph compiler
    """`mindspore.ops.cumsum`; int64 by the kernel of `mint.cumsum`."""
    if dtype is not None and x.dtype != dtype:
        x = x.astype(dtype)
    if x.dtype == types.int64:
        return mint.cumsum(x, axis, dtype=types.int64)
    return ops.CumSum()(x, axis)


DEFECT = Defect(
    id="H9",
    family="host",
    symptom="ops.cumsum of int64 does not compile on Ascend",
    symptom_zh="ops.cumsum 的 int64 输入在昇腾上编译不过",
    error="For primitive[CumSum], the input argument[x] must be a type of {Tensor[Float16], Tensor[Float32], ...}, but got "
    "Tensor[Int64].",
    cause="the primitive CumSum has no int64 on Ascend; that of mint.cumsum has",
    seen=COMPILED,
    upstream="none found",
    removal="the probe compiles without the patch",
    probe=probe,
    patch=Patch((Replacement("mindspore.ops.function.math_func:cumsum", in_place_of(cumsum)),), backends=("Ascend",)),
    ascend=OnAscend(positions, not_refused),
)
