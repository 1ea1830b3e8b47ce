"""S10: layer normalisation, embeddings and top-k on Ascend are built for every shape; their precompiled kernels do not run here.

As S9, for operators whose counterparts in `mindspore.mint` have no kernel on CPU, or none for the gradient: what they
compute could not be compared here, so the patch stays off until it is asked for by its id. For dropout
(`mint.nn.functional.dropout` draws other numbers) and the optimizers of `nn` (at jit level O1 they are fused) it has nothing.
"""

from __future__ import annotations

import numpy as np
from mindspore import Tensor, mint, nn, ops
from mindspore import dtype as types

from ascend_fixes.defects import Defect, Finding, OnAscend, Patch
from ascend_fixes.defects._compiled import COMPILED, compile_for_ascend, lacks_kernels_built_per_shape
from ascend_fixes.defects._loss_scaling import in_place_of
from ascend_fixes.patching import Replacement

__all__ = ["DEFECT", "Ranked", "probe"]

_CONCERNED = ("LayerNorm", "Gather", "TopK")


class Ranked(nn.Cell):
    """Embedding, layer normalisation and the largest three: int32 (batch, length) to float32 (batch, length, 3)."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.norm = nn.Embedding(20, 8), nn.LayerNorm((8,))

    def construct(self, ids):
        values, places = ops.topk(self.norm(self.embedding(ids)), 3)
        return values * places.astype(types.float32)


def ranked() -> tuple[nn.Cell, Tensor]:
    """The cell and ids."""
    return Ranked(), Tensor(np.arange(10).reshape(2, 5), types.int32)


_judge = lacks_kernels_built_per_shape(_CONCERNED)


def probe() -> Finding:
    """Compile it for Ascend."""
    return _judge(compile_for_ascend(__name__, "plain"))


# --- the cure: read by the graph compiler -----------------------------------------------------------


def layer_norm(self, input_x):
    """The mean and variance of the last axes, by the kernel behind `mint`."""
    if self.gamma.ndim != input_x.ndim - self.begin_norm_axis % input_x.ndim:
        y, _, _ = self.layer_norm(input_x, self.gamma.astype(input_x.dtype), self.beta.astype(input_x.dtype))
        return y
    gamma, beta = self.gamma.astype(input_x.dtype), self.beta.astype(input_x.dtype)
    return mint.nn.functional.layer_norm(input_x, self.gamma.shape, gamma, beta, self.epsilon)


def embedding(self, ids):
    """Rows by id, by the kernel behind `mint`."""
    if self.use_one_hot:
        one_hot = self.one_hot(ids.reshape(-1), self.vocab_size, self.on_value, self.off_value)
        return self.array_mul(one_hot, self.embedding_table).reshape(ids.shape + (self.embedding_size,))
    return mint.nn.functional.embedding(ids, self.embedding_table)


def topk(input, k, dim=None, largest=True, sorted=True):
    """The largest, with int32 indices, by the kernel behind `mint`."""
    values, places = mint.topk(input, k, -1 if dim is None else dim, largest, sorted)
    return values, places.astype(types.int32)


REPLACEMENTS = (
    Replacement("mindspore.nn:LayerNorm.construct", in_place_of(layer_norm)),
    Replacement("mindspore.nn:Embedding.construct", in_place_of(embedding)),
    Replacement("mindspore.ops.function.array_func:topk", in_place_of(topk)),
)

DEFECT = Defect(
    id="S10",
    family="shapes",
    symptom="on Ascend nn.LayerNorm, nn.Embedding and ops.topk use kernels that are built again for every shape",
    symptom_zh="昇腾上 nn.LayerNorm、nn.Embedding、ops.topk 的 kernel 要按形状现编",
    error="",
    cause="the primitives LayerNorm, Gather and TopK have kernels of the vendor's compiler only; mindspore.mint's counterparts "
    "have precompiled ones, which do not run on CPU",
    seen=COMPILED,
    upstream="none found",
    removal="the probe finds none of them built for every shape",
    probe=probe,
    patch=Patch(REPLACEMENTS, backends=("Ascend",), verified=False),
    ascend=OnAscend(ranked, _judge),
)
