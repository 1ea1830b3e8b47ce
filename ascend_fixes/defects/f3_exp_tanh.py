"""F3: fused exp and tanh are off by up to 4e-4, and with them GELU and log-space recursions such as a CRF."""

from __future__ import annotations

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops

from ascend_fixes.defects import Defect, Finding, Patch
from ascend_fixes.fusion import keeping_out
from ascend_fixes.fusion._compiler import require_compiler

__all__ = ["DEFECT", "ExpTanh", "errors", "probe"]

_TOLERANCE = 2e-5  # the unfused kernels stay below it for abs(x) <= 4


class ExpTanh(nn.Cell):
    """``exp(x)`` and ``tanh(x)``, each next to another operator, so that they fuse."""

    def construct(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Both functions of a float32 tensor."""
        return ops.exp(x) * 1.0, ops.tanh(x) * 1.0


def errors() -> tuple[float, float]:
    """The largest relative errors of exp and tanh over [-4, 4], against float64."""
    x = np.linspace(-4, 4, 4096).astype(np.float32).reshape(64, 64)
    x = x[np.abs(x).min(axis=1) > 0.05]
    outputs = ExpTanh()(Tensor(x))
    wanted = np.exp(x.astype(np.float64)), np.tanh(x.astype(np.float64))
    found = [float(np.max(np.abs(out.asnumpy() - want) / np.abs(want))) for out, want in zip(outputs, wanted)]
    return found[0], found[1]


def probe() -> Finding:
    """Both errors, with fusion off and on."""
    require_compiler()
    ms.set_context(mode=ms.GRAPH_MODE, enable_graph_kernel=False)
    plain = errors()
    ms.set_context(enable_graph_kernel=True)
    fused = errors()
    text = "relative error of exp {:.1g}, of tanh {:.1g}".format
    return Finding(not max(fused) < _TOLERANCE, f"fused: {text(*fused)}; unfused: {text(*plain)}")


DEFECT = Defect(
    id="F3",
    family="fusion",
    symptom="fused exp and tanh are off by up to 4e-4 (float32), and GELU, CRF and their gradients with them",
    symptom_zh="融合后的 exp 和 tanh（float32）误差达 4e-4，GELU、CRF 及其梯度也跟着不准",
    error="",
    cause="the graph kernel's compiler (AKG) replaces both functions by a fast approximation; "
    "the flag exact_precision_mode changes nothing on CPU",
    seen="exp 2.8e-4, tanh 3.6e-4, gradient of GELU 5e-5 of its largest value. Compiled for Ascend (dry run), "
    "2.10.0, O1: DVM fuses exp and composes tanh of it; how exactly it computes exp only a device can tell. "
    "disable_expand_ops=Tanh keeps tanh out there, disable_cluster_ops=Tanh does not",
    upstream="none found",
    removal="the probe finds both functions within 2e-5 on every supported MindSpore",
    probe=probe,
    patch=Patch(
        hooks=(keeping_out("cluster:Exp", "cluster:Tanh", "expand:GeLU", "expand:GeLUGrad"),), backends=("CPU",)
    ),
)
