"""S8: on CPU a compiled graph keeps two indices of 8 bytes for every element that an operator broadcasts or divides.

Add, Sub and Mul where one argument has fewer rows or columns than the result, and Div always, keep an index
for each argument in the kernel, and with it in the graph, which lives as long as its cell; Transpose keeps one. Memory
for results is shared by all graphs; this is not. A normalisation written out, in a model with a graph for
every length, fills a machine.
"""

from __future__ import annotations

import gc
import os
from pathlib import Path
from typing import Callable

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, nn, ops

from ascend_fixes.defects import Defect, Finding, Tool
from ascend_fixes.fusion._layers import LayerNorm

LAYERS, WIDTH = 6, 512
LENGTHS = (8000, 7996, 7992, 7988)  # falling: what is not kept fits what an earlier graph has freed
KEPT = 8  # bytes for every element of a layer's input, above which the defect is there


class WrittenOut(nn.Cell):
    """Layer normalisation as its formula reads."""

    def __init__(self) -> None:
        super().__init__()
        self.gamma, self.beta = (Parameter(Tensor(np.full(WIDTH, value, np.float32))) for value in (1.0, 0.0))

    def construct(self, x: Tensor) -> Tensor:
        """float32 (rows, WIDTH) to the same."""
        centred = x - x.mean(-1, True)
        return centred / ops.sqrt((centred * centred).mean(-1, True) + 1e-5) * self.gamma + self.beta


def kept(make_layer: Callable[[], nn.Cell]) -> float:
    """Bytes that a graph keeps for every element of a layer's input, its own input aside; by the resident size."""
    ms.set_context(mode=ms.GRAPH_MODE)
    layers = nn.SequentialCell([make_layer() for _ in range(LAYERS)])
    sizes = []
    for length in LENGTHS:
        layers(Tensor(np.ones((length, WIDTH), np.float32))).asnumpy()
        gc.collect()
        sizes.append(int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE"))
    grown = np.diff(sizes) / (np.array(LENGTHS[1:]) * WIDTH)
    return float(np.median(grown)) / LAYERS


def _finding(what: str, layer: Callable[[], nn.Cell]) -> Finding:
    if not Path("/proc/self/statm").exists():
        return Finding(None, "the resident size can be read on Linux only")
    found = kept(layer)
    return Finding(
        found > KEPT, f"{what}: a further graph keeps {found:.0f} bytes for every element of a layer's input"
    )


def probe() -> Finding:
    """Graphs of normalisations whose operators broadcast."""
    return _finding("written out", WrittenOut)


def probe_layer() -> Finding:
    """The same with `fusion.LayerNorm`, which broadcasts by `ops.broadcast_to` first."""
    return _finding("fusion.LayerNorm", lambda: LayerNorm([WIDTH]))


DEFECT = Defect(
    id="S8",
    family="shapes",
    symptom="every further graph takes gigabytes: memory grows with the number of compiled shapes until the system kills it",
    symptom_zh="每多一张图就多占几个 GB：编译过的形状越多，内存越大，直到进程被系统杀掉",
    error="Out of memory: Killed process (python)",
    cause="kernels that broadcast or divide keep an index of 8 bytes for every element and argument, as long as the graph lives",
    seen="Add, Sub and Mul that broadcast, every Div (16 bytes an element), Transpose (8); not BroadcastTo, "
    "Reciprocal, BiasAdd, Softmax, LayerNorm, reductions, numbers as arguments",
    upstream="none found",
    removal="the probe's graph keeps less than 8 bytes an element",
    probe=probe,
    tool=Tool("fusion.LayerNorm, ops.broadcast_to", probe_layer),
)
