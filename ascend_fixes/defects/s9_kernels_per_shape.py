"""S9: layers and functions take kernels that the device's compiler builds for every shape, beside ones built beforehand.

On Ascend an operator becomes a precompiled kernel ("aclnn") or one that the vendor's compiler builds when a shape is first
met ("aclop"): seconds, for every bucket. `mindspore.mint` has the former for much of what `nn` and `ops` take the
latter for. The patch changes what has kernels on CPU as well, where the results were compared:
`nn.Dense`, `ops.split` and `ops.chunk`. Methods of Tensors are not reached. For more see S10.
"""

from __future__ import annotations

import numpy as np
from mindspore import Tensor, mint, nn, ops

from ascend_fixes.defects import Defect, Finding, OnAscend, Patch
from ascend_fixes.defects._compiled import COMPILED, compile_for_ascend, lacks_kernels_built_per_shape
from ascend_fixes.defects._loss_scaling import in_place_of
from ascend_fixes.patching import Replacement

__all__ = ["DEFECT", "Gated", "probe"]

_CONCERNED = ("BiasAdd", "Split")


class Gated(nn.Cell):
    """A gated layer: float32 (batch, length, 8) to the same."""

    def __init__(self) -> None:
        super().__init__()
        self.dense = nn.Dense(8, 24)

    def construct(self, x):
        value, gate, rest = ops.split(self.dense(x), 8, 2)
        low, high = ops.chunk(rest, 2, 2)
        return value * ops.sigmoid(gate) + ops.concat((high, low), 2)


def gated() -> tuple[nn.Cell, Tensor]:
    """The layer and an input."""
    return Gated(), Tensor(np.random.default_rng(0).standard_normal((2, 5, 8)).astype(np.float32))


_judge = lacks_kernels_built_per_shape(_CONCERNED)


def probe() -> Finding:
    """Compile it for Ascend."""
    return _judge(compile_for_ascend(__name__, "plain"))


# --- the cure: read by the graph compiler -----------------------------------------------------------


def dense(self, x):
    """``x W^T + b`` by one precompiled kernel."""
    y = mint.nn.functional.linear(x, self.weight, self.bias if self.has_bias else None)
    if self.activation_flag:
        y = self.activation(y)
    return y


def split(tensor, split_size_or_sections, axis=0):
    """Views."""
    return mint.split(tensor, split_size_or_sections, axis)


def chunk(input, chunks, axis=0):
    """Views."""
    return mint.chunk(input, chunks, axis)


REPLACEMENTS = (
    Replacement("mindspore.nn:Dense.construct", in_place_of(dense)),
    Replacement("mindspore.ops.function.array_func:split", in_place_of(split)),
    Replacement("mindspore.ops.function.array_func:chunk", in_place_of(chunk)),
)

DEFECT = Defect(
    id="S9",
    family="shapes",
    symptom="on Ascend nn.Dense, ops.split and ops.chunk use kernels that are built again for every shape",
    symptom_zh="昇腾上 nn.Dense、ops.split、ops.chunk 的 kernel 要按形状现编",
    error="",
    cause="the primitives BiasAdd and Split have kernels of the vendor's compiler only; those behind mindspore.mint have "
    "precompiled ones, or are views",
    seen=COMPILED,
    upstream="none found",
    removal="the probe finds none of them built for every shape",
    probe=probe,
    patch=Patch(REPLACEMENTS, backends=("Ascend",)),
    ascend=OnAscend(gated, _judge),
)
