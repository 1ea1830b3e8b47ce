"""S1: every new length compiles the whole graph again."""

from __future__ import annotations

import time

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops

from ascend_fixes.defects import Defect, Finding, Tool
from ascend_fixes.shapes import Buckets, bucketed, graphs

LENGTHS = (5, 6, 7, 8)


class Encoder(nn.Cell):
    """An embedding and six dense layers: enough to make a compilation felt."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(100, 32)
        self.layers = nn.SequentialCell([nn.Dense(32, 32) for _ in range(6)])

    def construct(self, ids):
        return ops.softmax(self.layers(self.embedding(ids)), -1).sum(1)


def _finding(cell: nn.Cell) -> Finding:
    seconds = []
    for length in LENGTHS:
        start = time.perf_counter()
        cell(Tensor(np.ones((2, length)), ms.int32)).asnumpy()
        seconds.append(time.perf_counter() - start)
    compiled = len(graphs(cell))
    times = ", ".join(f"{s:.2f}" for s in seconds)
    return Finding(compiled == len(LENGTHS), f"{len(LENGTHS)} lengths compiled {compiled} graph(s): {times} s")


def probe() -> Finding:
    """Four lengths through one cell: present if each made a graph."""
    ms.set_context(mode=ms.GRAPH_MODE)
    return _finding(Encoder())


def probe_bucketed() -> Finding:
    """The same four lengths, padded to one bucket."""
    ms.set_context(mode=ms.GRAPH_MODE)
    return _finding(bucketed(Encoder(), {"ids": 1}, Buckets([8])))


DEFECT = Defect(
    id="S1",
    family="shapes",
    symptom="every new length compiles the whole graph again",
    symptom_zh="每出现一个新长度，整张图就重新编译一遍",
    error="",
    cause=(
        "In graph mode a graph is compiled for the exact shapes of its inputs. Ragged text has a new shape in almost "
        "every batch, and nothing is said while it compiles: 3 s for each length of a 4-layer BERT training step."
    ),
    seen="reported from Ascend, where a graph takes 30 s and more",
    upstream="https://discuss.mindspore.cn topic 286; PaddlePaddle/PaddleCustomDevice issue 1118 for the same hardware",
    removal="when graph mode compiles one graph for all lengths that is as fast as a static one, on Ascend too",
    probe=probe,
    tool=Tool("shapes.bucketed", probe_bucketed),
)
