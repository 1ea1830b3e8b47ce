"""What the assertions of `ascend_fixes.testing` say: prints JSON, an empty string for an assertion that passed."""

from __future__ import annotations

import json
import os

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops

from ascend_fixes import fusion
from ascend_fixes.defects.f1_transpose_gradient import Attention
from ascend_fixes.defects.f2_gru_nan import UnrolledGRU
from ascend_fixes.defects.f6_fused_casts import Block
from ascend_fixes.testing import assert_finite_in_float16, assert_fusion_equivalent


class Unsteady(nn.Cell):
    def construct(self, x):
        return ops.dropout(x, 0.5, True)


class Overflow(nn.Cell):
    def __init__(self):
        super().__init__()
        self.dense = nn.Dense(4, 1, weight_init="ones", has_bias=False)

    def construct(self, x):
        return self.dense(x)


class Squared(nn.Cell):
    def __init__(self, net):
        super().__init__()
        self.net = net

    def construct(self, x):
        return (self.net(x) ** 2).mean()


def said(assertion, cell, *inputs, **options) -> str:
    try:
        assertion(cell, *inputs, **options)
    except AssertionError as error:
        return str(error)
    return ""


def normal(*shape, dtype=np.float32):
    return Tensor(np.random.default_rng(1).standard_normal(shape).astype(dtype))


def main() -> None:
    ms.set_device("CPU")
    ms.set_context(mode=ms.PYNATIVE_MODE)
    x, found = normal(4, 10, 64), {}
    net = Attention()
    before = net.key.weight.asnumpy().copy()
    found["attention"] = said(assert_fusion_equivalent, net, x)
    with fusion.guard("Transpose"):
        found["attention, guarded"] = said(assert_fusion_equivalent, net, x)
    dense = Squared(nn.Dense(64, 8))
    step = nn.TrainOneStepCell(dense, nn.Adam(dense.trainable_params(), 1e-3))
    found["step"] = said(assert_fusion_equivalent, step, x, grad=False)
    found["dropout"] = said(assert_fusion_equivalent, Unsteady(), x, grad=False)
    found["product"] = said(assert_finite_in_float16, nn.Dense(64, 8), x)
    found["overflow"] = said(assert_finite_in_float16, Overflow(), Tensor(np.full((4, 4), 30000.0, np.float32)))
    half = normal(4, 10, 16, dtype=np.float16)
    found["float16 GRU"] = said(assert_finite_in_float16, UnrolledGRU(), half, fused=True)
    with fusion.guard("Transpose"):
        found["float16 GRU, guarded"] = said(assert_finite_in_float16, UnrolledGRU(), half, fused=True)
    # The last: a compiler that has failed does not answer this process again.
    found["lowered casts"] = said(
        assert_fusion_equivalent, ms.amp.auto_mixed_precision(Block(), "auto"), normal(24, 32)
    )
    found["context"] = [int(ms.get_context("mode") == ms.PYNATIVE_MODE), ms.get_context("enable_graph_kernel")]
    found["weights moved"] = bool((net.key.weight.asnumpy() != before).any())
    found["litter"] = sorted(os.listdir("."))
    print(json.dumps(found))


if __name__ == "__main__":
    main()
