"""H5: concat and stack of 192 or more tensors fail on Ascend, as an unrolled RNN or CRF makes them."""

from __future__ import annotations

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops

from ascend_fixes import _mindspore, host
from ascend_fixes.defects import Defect, Finding, Tool, first_line

__all__ = ["DEFECT", "Joined", "JoinedInGroups", "probe", "probe_groups"]

_LIMIT = 192


class Joined(nn.Cell):
    """What unrolling 192 steps ends in: a tensor ``(rows, columns)`` to two sums."""

    def construct(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The sums of 192 copies of x, concatenated and stacked."""
        steps = (x,) * _LIMIT
        return ops.concat(steps, 0).sum(), ops.stack(steps, 0).sum()


def probe() -> Finding:
    """Join 192 tensors both ways."""
    ms.set_context(mode=ms.GRAPH_MODE)
    backend = _mindspore.backend()
    try:
        sums = [float(total) for total in Joined()(Tensor(np.ones((1, 2), np.float32)))]
    except RuntimeError as error:
        if backend != "Ascend":
            raise
        return Finding(True, first_line(error))
    if sums != [2.0 * _LIMIT] * 2:
        return Finding(True, f"{_LIMIT} inputs give {sums} instead of {2.0 * _LIMIT:g} twice")
    if backend == "Ascend":
        return Finding(False, f"concat and stack of {_LIMIT} inputs run")
    return Finding(None, f"needs a device; on {backend} concat and stack of {_LIMIT} inputs run")


class JoinedInGroups(nn.Cell):
    """The same with `host.concat` and `host.stack`."""

    def construct(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The sums of 192 copies of x, concatenated and stacked."""
        steps = (x,) * _LIMIT
        return host.concat(steps, 0).sum(), host.stack(steps, 0).sum()


def probe_groups() -> Finding:
    """Join 192 tensors both ways in groups; the sums must be right."""
    ms.set_context(mode=ms.GRAPH_MODE)
    sums = [float(total) for total in JoinedInGroups()(Tensor(np.ones((1, 2), np.float32)))]
    return Finding(sums != [2.0 * _LIMIT] * 2, f"concat and stack of {_LIMIT} inputs in groups of 191 give {sums}")


DEFECT = Defect(
    id="H5",
    family="host",
    symptom="concat and stack of 192 or more tensors fail on Ascend (unrolled RNN, CRF)",
    symptom_zh="昇腾上 concat、stack 连接 192 个以上的张量会失败（展开的 RNN、CRF）",
    error="",
    cause="the device's kernels take fewer than 192 inputs",
    seen="reported: MindSpore's list of limits on Ascend; CPU joins 192 inputs",
    upstream="https://www.mindspore.cn/docs/en/master/faq/operators_compile.html",
    removal="a run on a device joins 192 inputs",
    probe=probe,
    tool=Tool("host.concat, host.stack", probe_groups),
    needs_device=True,
)
