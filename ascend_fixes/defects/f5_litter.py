"""F5: fusion, failing compilations and AMP's rewriting of networks litter the working directory."""

from __future__ import annotations

import os
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops

from ascend_fixes import _mindspore
from ascend_fixes.defects import Defect, Finding, Patch
from ascend_fixes.fusion._compiler import require_compiler
from ascend_fixes.fusion._workspace import TIDY, scratch_folder
from ascend_fixes.patching import Replacement

__all__ = ["DEFECT", "Fusible", "Mismatched", "Normalised", "probe"]


class Fusible(nn.Cell):
    """Two elementwise operators, the least that fuses."""

    def construct(self, x: Tensor) -> Tensor:
        """Any float32 tensor."""
        return ops.exp(x * 2.0)


class Mismatched(nn.Cell):
    """A graph that cannot be compiled."""

    def construct(self, x: Tensor) -> Tensor:
        """A tensor of shape (4, 4)."""
        return ops.add(x, ops.ones((5, 7), ms.float32))


class Normalised(nn.Cell):
    """A network that ``auto_mixed_precision(net, "O1")`` rewrites."""

    def __init__(self) -> None:
        super().__init__()
        self.dense, self.norm = nn.Dense(4, 4), nn.LayerNorm((4,))

    def construct(self, x: Tensor) -> Tensor:
        """A tensor of shape (n, 4)."""
        return self.norm(self.dense(x))


def probe() -> Finding:
    """Fuse, fail and rewrite; then look at the working directory."""
    require_compiler()
    before = set(os.listdir("."))
    x = Tensor(np.ones((4, 4), np.float32))
    ms.set_context(mode=ms.GRAPH_MODE)
    ms.amp.auto_mixed_precision(Normalised(), "O1")(x)
    try:
        Mismatched()(x)
    except ValueError as error:
        if "broadcast" not in str(error):
            raise
    ms.set_context(enable_graph_kernel=True)
    Fusible()(x)
    litter = sorted(set(os.listdir(".")) - before)
    return Finding(bool(litter), f"left behind: {', '.join(litter) or 'nothing'}")


# --- the cure: a hook around compilations, and one name -----------------------------------------------


class _Elsewhere:
    """The module ``os`` with another answer to ``getcwd``: sources of rewritten networks go to a temporary folder.

    It lives as long as the process, which needs them for ``inspect.getsource``.
    """

    def __init__(self, original: Any) -> None:
        self.__wrapped__ = original
        self.__doc__ = original.__doc__

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__wrapped__, name)

    def getcwd(self) -> str:
        """The folder in which ``rewritten_network`` is made."""
        return str(scratch_folder())


DEFECT = Defect(
    id="F5",
    family="fusion",
    symptom="the working directory fills with akg_kernel_meta, kernel_build_tmp.key, dsa_transfrom.log, rank_0 and "
    "rewritten_network",
    symptom_zh="工作目录里堆满 akg_kernel_meta、kernel_build_tmp.key、dsa_transfrom.log、rank_0 和 rewritten_network",
    error="",
    cause="kernels go to the compile cache's folder, by default the current one; reports of failed compilations to "
    "MS_OM_PATH, by default the current one; rewritten sources and the compiler's trace always to the current one",
    seen="Ascend was not looked at",
    upstream="none found",
    removal="the probe finds nothing left behind on every supported MindSpore",
    probe=probe,
    patch=Patch(
        replacements=(Replacement(_mindspore.rewrite_os_target(), _Elsewhere),), hooks=(TIDY,), backends=("CPU", "GPU")
    ),
)
