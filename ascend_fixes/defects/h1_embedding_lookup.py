"""H1: ``nn.EmbeddingLookup(target="DEVICE")`` has no kernel on CPU."""

from __future__ import annotations

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn

from ascend_fixes.defects import Defect, Finding, Patch, first_line
from ascend_fixes.host._lookup import lookup_replacements

__all__ = ["DEFECT", "Lookup", "probe"]


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


DEFECT = Defect(
    id="H1",
    family="host",
    symptom='nn.EmbeddingLookup(target="DEVICE") does not run on CPU: no kernel for SparseGatherV2',
    error="RuntimeError: Unsupported op [SparseGatherV2] on CPU, Please confirm whether the device target setting is "
    "correct",
    cause="the cell gathers its rows with SparseGatherV2, which has kernels on GPU and Ascend only",
    seen="MindSpore 2.7.0, 2.8.0, 2.9.0 and 2.10.0, CPU, PyPI wheel, in graph and PyNative mode",
    upstream="none found; MindSpore announces the removal of the cell after 2.9.0",
    removal="SparseGatherV2 gets a CPU kernel, or the cell is gone from every supported MindSpore",
    probe=probe,
    patch=Patch(replacements=lookup_replacements(), backends=("CPU",)),
)
