"""Train without a pause and see what grows: ``python tests/fuzz/soak.py SECONDS``.

A bucketed training step in float16 with a loss scale, rows in an `Embedding` on disk that is flushed, a `Table`, `feed` and
`bucket_dataset`, epoch after epoch, some of it under `patched`. Prints the resident size after the first tenth of the time and at
the end, as JSON; a NaN, or a graph more than there are sizes, is an error.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from pathlib import Path

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops

import ascend_fixes
from ascend_fixes import amp, host, shapes

WORDS = [f"w{number}" for number in range(2000)]


class Loss(nn.Cell):
    def __init__(self, rows: host.Embedding) -> None:
        super().__init__()
        self.rows, self.head = rows, nn.Dense(16, 2)

    def construct(self, ids: Tensor, mask: Tensor, weight: Tensor) -> Tensor:
        pooled = (self.rows(ids) * mask.expand_dims(-1)).sum(1) / ops.maximum(mask.sum(1, keepdims=True), 1.0)
        return (ops.square(self.head(pooled)).sum(1) * weight).sum()


def resident() -> float:
    """MB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def soak(seconds: float, folder: str) -> dict[str, float]:
    ms.set_context(mode=ms.GRAPH_MODE)
    table, random = host.Table(WORDS, default=0), np.random.default_rng(0)
    texts = [random.choice(WORDS, random.integers(1, 24)) for _ in range(400)]
    samples = [{"ids": table(text), "mask": np.ones(len(text), np.float32)} for text in texts]
    lengths = [len(text) for text in texts]
    buckets = shapes.Buckets.fit(lengths, 3)
    rows = host.Embedding(len(WORDS), 16, Path(folder) / "rows", "adam")
    net = Loss(rows)
    step = amp.TrainStep(net, nn.Adam(net.trainable_params()), amp.LossScaler(1024.0, growth_interval=50))
    data = shapes.bucket_dataset(samples, lengths, buckets, batch_size=8, shuffle_seed=1)
    begin, epochs, steps, early = time.monotonic(), 0, 0, 0.0
    while time.monotonic() - begin < seconds:
        with ascend_fixes.patched("A4", "A5"):
            for ids, mask, weight in host.feed(data):
                result = step(ids, mask, weight)
                rows.follow(result)
                assert np.isfinite(result.loss.asnumpy()), "the loss is no number"
                steps += 1
        rows.flush()
        data.load_state_dict(json.loads(json.dumps(data.state_dict())))
        epochs += 1
        if not early and time.monotonic() - begin >= seconds / 10:
            early = resident()
    graphs = len(shapes.graphs(step))
    assert graphs == len(buckets.sizes), f"{graphs} graphs of {len(buckets.sizes)} sizes"
    rows.close()
    end = resident()
    return {
        "seconds": round(time.monotonic() - begin),
        "epochs": epochs,
        "steps": steps,
        "graphs": graphs,
        "MB after a tenth": round(early, 1),
        "MB at the end": round(end, 1),
        "growth in %": round(100 * (end / early - 1), 2),
    }


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        print(json.dumps(soak(float(sys.argv[1]), place)))
