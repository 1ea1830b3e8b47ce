"""S3: dynamic shapes compile once, but every step is slower than a static graph's."""

from __future__ import annotations

import time

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops

from ascend_fixes.defects import Defect, Finding, Tool
from ascend_fixes.shapes import Buckets, bucketed

LENGTHS = (18, 23, 30)
WIDTH, HEADS, LAYERS = 64, 4, 2
SLOWER = 1.25


class Layer(nn.Cell):
    """A transformer layer."""

    def __init__(self):
        super().__init__()
        self.query, self.key, self.value, self.out = (nn.Dense(WIDTH, WIDTH) for _ in range(4))
        self.inner, self.outer = nn.Dense(WIDTH, 4 * WIDTH), nn.Dense(4 * WIDTH, WIDTH)
        self.norm1, self.norm2 = nn.LayerNorm((WIDTH,)), nn.LayerNorm((WIDTH,))

    def heads(self, x):
        return x.reshape((x.shape[0], -1, HEADS, WIDTH // HEADS)).transpose(0, 2, 1, 3)

    def construct(self, x):
        scores = ops.matmul(self.heads(self.query(x)), self.heads(self.key(x)).transpose(0, 1, 3, 2))
        mixed = ops.matmul(ops.softmax(scores, -1), self.heads(self.value(x)))
        x = self.norm1(x + self.out(mixed.transpose(0, 2, 1, 3).reshape(x.shape)))
        return self.norm2(x + self.outer(ops.gelu(self.inner(x))))


class Loss(nn.Cell):
    """A small encoder with a loss."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(100, WIDTH)
        self.layers = nn.SequentialCell([Layer() for _ in range(LAYERS)])

    def construct(self, ids):
        return self.layers(self.embedding(ids)).square().mean()


def _step() -> nn.Cell:
    loss = Loss()
    return nn.TrainOneStepCell(loss, nn.SGD(loss.trainable_params(), 0.01))


def _seconds(cells: list[nn.Cell], rounds: int = 15) -> list[float]:
    """The best time of one pass over the lengths, for each cell, measured in turn."""
    batches = [Tensor(np.ones((8, length)), ms.int32) for length in LENGTHS]
    best = [float("inf")] * len(cells)
    for turn in range(rounds + 1):
        for place, cell in enumerate(cells):
            start = time.perf_counter()
            for ids in batches:
                cell(ids).asnumpy()
            if turn:  # the first pass compiles
                best[place] = min(best[place], time.perf_counter() - start)
    return best


def _finding(what: str, seconds: float, static: float) -> Finding:
    ratio = seconds / static
    milliseconds = f"{1e3 * seconds:.1f} for {1e3 * static:.1f} ms"
    return Finding(ratio > SLOWER, f"{what} is {ratio:.2f} times a static step: {milliseconds} over lengths {LENGTHS}")


def probe() -> Finding:
    """A training step with a dynamic length, against static graphs of the same lengths."""
    ms.set_context(mode=ms.GRAPH_MODE)
    dynamic = _step()
    dynamic.set_inputs(Tensor(shape=[8, None], dtype=ms.int32))
    return _finding("dynamic", *_seconds([dynamic, _step()]))


def probe_bucketed() -> Finding:
    """The same step in two static graphs, padding included."""
    ms.set_context(mode=ms.GRAPH_MODE)
    return _finding("bucketed", *_seconds([bucketed(_step(), {"ids": 1}, Buckets([24, 32])), _step()]))


DEFECT = Defect(
    id="S3",
    family="shapes",
    symptom="dynamic shapes (set_inputs) compile once, but each step is slower than a static graph's",
    symptom_zh="动态形状（set_inputs）只编译一次，但每一步都比静态图慢",
    error="",
    cause=(
        "With a dynamic length the shapes are worked out, the memory planned and the kernels resized at every step, "
        "and graph-kernel fusion skips the graph. Few static graphs over padded inputs avoid all of it."
    ),
    seen="1.2 to 2.0 times. Reported from Ascend in mindspore-lab/mindone pull 605: 13 to 15 s for 7.8 s",
    upstream="https://github.com/mindspore-lab/mindone/pull/605",
    removal="when the probe's ratio stays under 1.25 and fusion takes dynamic graphs",
    probe=probe,
    tool=Tool("shapes.bucketed", probe_bucketed),
)
