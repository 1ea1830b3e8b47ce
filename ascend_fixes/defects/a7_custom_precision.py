"""A7: `custom_mixed_precision` changes the caller's network, nests when it is repeated, and takes no primitives in its
black list.
"""

from __future__ import annotations

import mindspore as ms
import numpy as np
from mindspore import Tensor, amp, nn, ops

from ascend_fixes.defects import Defect, Finding, Patch, first_line
from ascend_fixes.defects._precision_levels import custom
from ascend_fixes.patching import Replacement

__all__ = ["DEFECT", "Block", "probe"]


class Block(nn.Cell):
    """A Dense layer and a LayerNorm: (batch, 4) to (batch, 4)."""

    def __init__(self) -> None:
        super().__init__()
        self.dense = nn.Dense(4, 4)
        self.norm = nn.LayerNorm((4,))

    def construct(self, x):
        return self.norm(self.dense(x))


def _depth(cell: nn.Cell) -> int:
    return 1 + max((_depth(child) for child in cell.cells()), default=0)


def probe() -> Finding:
    """Apply it, run the caller's own network, apply it again, and put a primitive into the black list."""
    ms.set_context(mode=ms.GRAPH_MODE)
    x = Tensor(np.full((2, 4), 1.0 / 3.0), ms.float32)
    net = Block()
    before, depth = net(x).asnumpy(), _depth(net)
    once = amp.custom_mixed_precision(net, black_list=amp.get_black_list())
    faults: list[str] = []
    good: list[str] = []
    try:
        changed = _depth(net) != depth or not np.array_equal(net(x).asnumpy(), before)
    except (TypeError, ValueError, RuntimeError) as raised:
        changed = True
        good.append(first_line(raised))
    (faults if changed else good).append(f"the caller's network is {'changed' if changed else 'as it was'}")
    twice = amp.custom_mixed_precision(once, black_list=amp.get_black_list())
    nested = _depth(twice) > _depth(once)
    (faults if nested else good).append(f"{_depth(once)} levels of cells, {_depth(twice)} after a second time")
    try:
        amp.custom_mixed_precision(Block(), black_list=[*amp.get_black_list(), ops.MatMul])(x)
        good.append("primitives are taken")
    except TypeError as raised:
        faults.append(first_line(raised))
    return Finding(bool(faults), "; ".join(faults or good))


DEFECT = Defect(
    id="A7",
    family="amp",
    symptom="custom_mixed_precision changes the caller's network, nests on repetition and refuses primitives in its "
    "black list",
    symptom_zh="custom_mixed_precision 会改动调用者的网络，重复使用会层层嵌套，黑名单里不能放 primitive",
    error="TypeError: The subclass of element in black_list should be one of 'Cell'",
    cause="it sets flags on the network's own cells and replaces some by wrappers; primitives cannot be reached "
    "that way",
    seen="",
    upstream="MindSpore's documentation of the function names nesting and primitives as limits",
    removal="the probe finds none of the three on every supported MindSpore",
    probe=probe,
    patch=Patch(replacements=(Replacement("mindspore.train.amp:custom_mixed_precision", custom),)),
)
