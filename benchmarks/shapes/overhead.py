"""What `bucketed` adds to a call: three inputs, batch 16, against a bare call whose inputs are padded already.

    python -m benchmarks.shapes.overhead [--json FILE]

Microseconds, the median over many rounds of the mean of 100 calls; the kinds of call take turns.
"""

from __future__ import annotations

import argparse
import json
import statistics
import timeit
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn

from ascend_fixes.shapes import Buckets, bucketed
from benchmarks import records

ROUNDS, CALLS = 60, 100


class Sums(nn.Cell):
    """Next to no work, so that the call itself is what takes time."""

    def construct(self, ids: Any, mask: Any, weight: Any) -> Any:
        return ids.sum() + mask.sum() + weight.sum()


def measure() -> dict[str, float]:
    """Microseconds of a call, by kind."""
    axes = {"ids": 1, "mask": 1, "weight": 1}
    wide = [np.ones((16, 32), kind) for kind in (np.int32, np.float32, np.float32)]
    ragged = [np.ascontiguousarray(array[:, :20]) for array in wide]
    tensors = [Tensor(array) for array in ragged]
    bare, bound = Sums(), bucketed(Sums(), axes, Buckets([32]), max_graphs=1)
    cell, tiered = bucketed(Sums(), axes, Buckets([32])), bucketed(Sums(), axes, Buckets([32]), tier="auto")
    padded = [Tensor(array) for array in wide]
    calls = {
        "bare, padded Tensors": lambda: bare(*padded),
        "bucketed, NumPy arrays": lambda: cell(*ragged),
        "bucketed, Tensors": lambda: cell(*tensors),
        "bucketed, Tensors that fit": lambda: cell(*padded),
        "bucketed, NumPy arrays, at its max_graphs": lambda: bound(*ragged),
        "bucketed, NumPy arrays, tier auto": lambda: tiered(*ragged),
    }
    for call in calls.values():
        timeit.timeit(call, number=CALLS)
    seconds: dict[str, list[float]] = {kind: [] for kind in calls}
    for _ in range(ROUNDS):
        for kind, call in calls.items():
            seconds[kind].append(timeit.timeit(call, number=CALLS) / CALLS)
    return {kind: 1e6 * statistics.median(values) for kind, values in seconds.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json")
    options = parser.parse_args()
    ms.set_device("CPU")
    ms.set_context(mode=ms.GRAPH_MODE)
    found = measure()
    bare = found["bare, padded Tensors"]
    result = {"microseconds": found, "more than bare": {kind: value - bare for kind, value in found.items()}}
    print(json.dumps(result, indent=1))
    records.write(options.json, result)


if __name__ == "__main__":
    main()
