"""A training run with a compile cache, in a process of its own: prints what it saw as JSON."""

from __future__ import annotations

import json
import sys
import time

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn
from shapes_cells import Scorer, pooled_step

from ascend_fixes.shapes import CompileCache

SCALE = 1.0


class Scaled(nn.Cell):
    """Multiplies by a value that is an attribute, and by one that is global."""

    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def construct(self, x):
        return x * self.factor * SCALE


@ms.jit
def doubled(x):
    return x * 2


def main(folder, lengths, factor="1.5"):
    ms.set_device("CPU")
    ms.set_context(mode=ms.GRAPH_MODE)
    ms.set_seed(3)
    step, scorer, scaled = pooled_step(), Scorer().set_train(False), Scaled(float(factor))
    results, start = {}, time.perf_counter()
    with CompileCache(folder) as cache:
        for length in map(int, lengths.split(",")):
            rng = np.random.default_rng(length)
            ids = Tensor(rng.integers(0, 50, (2, length)), ms.int32)
            mask = Tensor(np.ones((2, length)), ms.float32)
            label = Tensor([0, 2], ms.int32)
            results[length] = [
                float(scorer(ids, mask)[0].sum()),
                float(doubled(mask).sum()),
                float(scaled(mask).sum()),
            ]
            step(ids, mask, label)
    seconds = time.perf_counter() - start
    counts = vars(cache.counts)
    print("RESULT" + json.dumps({"results": results, "counts": counts, "reasons": cache.reasons, "seconds": seconds}))


if __name__ == "__main__":
    main(*sys.argv[1:])
