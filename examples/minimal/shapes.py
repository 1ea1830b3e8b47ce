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


buckets, batches = shapes.Buckets.fit(LENGTHS, k=3), [np.ones((2, length), np.int32) for length in LENGTHS]
bucketed = shapes.bucketed(Tagger(), {"ids": 1}, buckets, outputs=1)
dataset = shapes.bucket_dataset([{"ids": row} for two in batches for row in two], np.repeat(LENGTHS, 2), buckets, 2)
drawn = [batch["ids"] for batch in dataset.create_dict_iterator(output_numpy=True, num_epochs=1)]
for name, tagger, fed in (("as it is", Tagger(), batches), ("bucketed", bucketed, batches), ("drawn", Tagger(), drawn)):
    start, found = time.perf_counter(), [tagger(ms.Tensor(ids)) for ids in fed]
    print(f"{name}: {len(shapes.graphs(tagger))} graphs, {time.perf_counter() - start:.1f} s")
