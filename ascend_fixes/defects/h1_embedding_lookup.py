"""H1: ``nn.EmbeddingLookup(target="DEVICE")`` has no kernel on CPU.

The cell's two targets differ in where the rows are gathered, not in the result.
On CPU both mean the same memory, so the look-up of target "CPU" takes over; its
gradient is sparse, like that of target "DEVICE", so a lazy optimizer goes on
updating the rows of the batch alone.
"""

from __future__ import annotations

import functools
from typing import Any, Callable

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn

from ascend_fixes import _mindspore
from ascend_fixes.defects import Defect, Finding, Patch, first_line
from ascend_fixes.patching import Replacement

__all__ = ["DEFECT", "Lookup", "probe"]

_WITHOUT_KERNEL = ("CPU",)  # backends without SparseGatherV2


class Lookup(nn.Cell):
    """A table of 50 rows of 8 whose rows live on the device: ids ``(n,)`` int32 to ``(n, 8)`` float32."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.EmbeddingLookup(50, 8, target="DEVICE")

    def construct(self, ids: Tensor) -> Tensor:
        """The rows of the ids."""
        return self.embedding(ids)


def probe() -> Finding:
    """Look rows up, and take the gradient of the sum of their squares."""
    ms.set_context(mode=ms.GRAPH_MODE)
    net, ids = Lookup(), Tensor(np.array([3, 1, 3, 0]), ms.int32)
    table = net.embedding.embedding_table

    def loss(ids: Tensor) -> Tensor:
        return (net(ids) ** 2).sum()

    try:
        rows = net(ids).asnumpy()
        indices, values, _ = ms.jit(ms.grad(loss, None, table))(ids)
    except RuntimeError as error:
        if "Unsupported op" not in str(error):
            raise
        return Finding(True, first_line(error, "Unsupported op"))
    wanted = table.asnumpy()[ids.asnumpy()]
    gradient, expected = np.zeros((2, 50, 8))
    np.add.at(gradient, indices.asnumpy(), values.asnumpy())
    np.add.at(expected, ids.asnumpy(), 2 * wanted)
    off = max(np.abs(rows - wanted).max(), np.abs(gradient - expected).max())
    return Finding(not off < 1e-6, f"runs; largest error of rows and gradient {off:.1g}")


# --- the cure --------------------------------------------------------------------------------------


def _gathered_on_host(original: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(original)
    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        if self.sparse and self.target == "DEVICE" and _mindspore.backend() in _WITHOUT_KERNEL:
            self.target = "CPU"

    return __init__


DEFECT = Defect(
    id="H1",
    family="host",
    symptom='nn.EmbeddingLookup(target="DEVICE") does not run on CPU: no kernel for SparseGatherV2',
    symptom_zh='nn.EmbeddingLookup(target="DEVICE") 在 CPU 上不能运行：SparseGatherV2 没有 kernel',
    error="RuntimeError: Unsupported op [SparseGatherV2] on CPU, Please confirm whether the device target setting is "
    "correct",
    cause="the cell gathers its rows with SparseGatherV2, which has kernels on GPU and Ascend only",
    seen="in graph and PyNative mode",
    upstream="none found; MindSpore announces the removal of the cell after 2.9.0",
    removal="SparseGatherV2 gets a CPU kernel, or the cell is gone from every supported MindSpore",
    probe=probe,
    patch=Patch(
        replacements=(Replacement("mindspore.nn:EmbeddingLookup.__init__", _gathered_on_host),),
        backends=_WITHOUT_KERNEL,
    ),
)
