"""H8: `nn.GRU` refuses hidden sizes that are no multiple of 16 on Ascend."""

from __future__ import annotations

import numpy as np
from mindspore import Tensor, nn

from ascend_fixes.defects import Defect, Finding, OnAscend, Tool
from ascend_fixes.defects._compiled import COMPILED, compile_for_ascend, not_refused
from ascend_fixes.fusion import GRU

__all__ = ["DEFECT", "probe", "probe_layer"]

_INPUT, _HIDDEN = 8, 20


def _made(layer: type[nn.Cell]) -> tuple[nn.Cell, Tensor]:
    return layer(_INPUT, _HIDDEN, batch_first=True), Tensor(np.ones((2, 6, _INPUT), np.float32))


def gru() -> tuple[nn.Cell, Tensor]:
    """MindSpore's layer, (2, 6, 8) to hidden size 20."""
    return _made(nn.GRU)


def loop() -> tuple[nn.Cell, Tensor]:
    """The same with `fusion.GRU`."""
    return _made(GRU)


def probe() -> Finding:
    """Compile MindSpore's layer for Ascend."""
    return not_refused(compile_for_ascend(__name__, "plain"))


def probe_layer() -> Finding:
    """Compile `fusion.GRU`."""
    return not_refused(compile_for_ascend(__name__, "cured"))


DEFECT = Defect(
    id="H8",
    family="host",
    symptom="nn.GRU raises on Ascend for a hidden size that is not divisible by 16, and runs on CPU",
    symptom_zh="隐藏大小不是 16 的倍数时，nn.GRU 在昇腾上报错，在 CPU 上却能运行",
    error="ValueError: GRU on ascend do not support hidden size that is not divisible by 16, but get hidden size 20, "
    "please reset the argument.",
    cause="on Ascend the layer is one kernel (DynamicGRUV2) that works in blocks of 16",
    seen=COMPILED,
    upstream="none found",
    removal="nn.GRU takes any hidden size on Ascend",
    probe=probe,
    tool=Tool("fusion.GRU", probe_layer),
    ascend=OnAscend(gru, not_refused, loop),
)
