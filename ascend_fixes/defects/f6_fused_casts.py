"""F6: a cast that mixed precision inserts, fused: the graph kernel's compiler fails with ``Response is empty``."""

from __future__ import annotations

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops

from ascend_fixes.defects import Defect, Finding, Patch, first_line
from ascend_fixes.fusion import keeping_out
from ascend_fixes.fusion._compiler import missing_packages, require_compiler, why_empty

__all__ = ["DEFECT", "Block", "probe"]


class Block(nn.Cell):
    """Two layers: float32 (rows, 32) to their sum, float32 ()."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Dense(32, 32), nn.Dense(32, 32)

    def construct(self, x: Tensor) -> Tensor:
        """The sum of both layers' output."""
        return ops.tanh(self.second(ops.tanh(self.first(x)) * 2.0)).sum()


def probe() -> Finding:
    """Take gradients of the lowered block with fusion on."""
    require_compiler()
    ms.set_context(mode=ms.GRAPH_MODE, enable_graph_kernel=True)
    net = ms.amp.auto_mixed_precision(Block(), "auto")
    x = Tensor(np.random.default_rng(0).standard_normal((24, 32)).astype(np.float32))

    def loss(x: Tensor) -> Tensor:
        return net(x)

    try:
        _, gradients = ms.jit(ms.value_and_grad(loss, None, net.trainable_params()))(x)
    except RuntimeError as error:
        if "Response is empty" not in str(error):
            raise
        return Finding(True, f"{first_line(error)} {why_empty(error)}")
    finite = all(np.isfinite(gradient.asnumpy()).all() for gradient in gradients)
    return Finding(not finite, f"compiled; {len(gradients)} gradients, {'all' if finite else 'not all'} finite")


DEFECT = Defect(
    id="F6",
    family="fusion",
    symptom="mixed precision with graph-kernel fusion does not compile: casts of the gradient break its compiler",
    symptom_zh="混合精度与图算融合同时使用时编译不过：梯度里的类型转换让融合编译器失败",
    error="RuntimeError: Response is empty.\nCheck failed: attr->IsInstance<StringImm>()",
    cause="the gradient of a cast that a precision strategy inserts carries its dtype as a number; the compiler (AKG) "
    "takes a name",
    seen="by auto_mixed_precision(net, 'auto'). Compiled for Ascend (dry run), 2.10.0, O1: the same block compiles "
    "with its casts in the fused kernels: the defect is AKG's, on CPU",
    upstream="none found",
    removal="the probe compiles on every supported MindSpore",
    probe=probe,
    patch=Patch(hooks=(keeping_out("cluster:Cast"),), backends=("CPU",)),
    elsewhere=lambda: f"{', '.join(missing_packages())} is not installed, F4" if missing_packages() else "",
)
