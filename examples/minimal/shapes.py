"""Forty sentences of forty lengths compile forty graphs; padded to three sizes that fit them best, three."""

import time

import mindspore as ms
import numpy as np
from mindspore import nn, ops

from ascend_fixes import shapes

ms.set_context(mode=ms.GRAPH_MODE)
LENGTHS = range(5, 45)


class Tagger(nn.Cell):
    def __init__(self):
        super().__init__()
        self.embedding, self.layer, self.head = nn.Embedding(1000, 32), nn.Dense(32, 64), nn.Dense(64, 5)

    def construct(self, ids):
        return self.head(ops.relu(self.layer(self.embedding(ids))))


plain, buckets = Tagger(), shapes.Buckets.fit(LENGTHS, k=3)
for name, tagger in (("as it is", plain), ("bucketed", shapes.bucketed(Tagger(), {"ids": 1}, buckets, outputs=1))):
    start = time.perf_counter()
    for length in LENGTHS:
        assert tagger(ms.Tensor(np.ones((2, length), np.int32))).shape == (2, length, 5)
    print(f"{name}: {len(shapes.graphs(tagger))} graphs, {time.perf_counter() - start:.1f} s")
