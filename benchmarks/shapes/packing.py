"""Rows, padding and graphs of packing, beside bucketing, on four corpora; and how long a plan takes as it grows.

python -m benchmarks.shapes.packing --data ../shared/data [--json benchmarks/results/shapes_packing.json]
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np

from ascend_fixes.shapes import Buckets, pack
from benchmarks.shapes import corpora as shapes_corpora

GROWTH = (10**4, 10**5, 10**6, 10**7)


def corpus(lengths: np.ndarray) -> dict[str, Any]:
    """Padding over content and positions of an epoch: one size, 8 sizes, and packed rows of the longest sample's width."""
    longest, content = int(lengths.max()), int(lengths.sum())
    packing = pack(lengths, longest)
    buckets = Buckets.fit(lengths, 8)
    return {
        "samples": len(lengths),
        "longest": longest,
        "one size": {"graphs": 1, "waste": len(lengths) * longest / content - 1},
        "8 sizes": {"graphs": len(buckets.sizes), "waste": buckets.waste(lengths)},
        "packed": {
            "graphs": 1,
            "waste": packing.waste,
            "rows": len(packing),
            "samples a row": len(lengths) / len(packing),
            "most samples": packing.max_samples,
            "proven fewest": packing.optimal,
        },
    }


def growth(repeats: int) -> dict[str, dict[str, float]]:
    """Seconds of `pack` by number of samples, log-normal lengths up to 512: median, least, most."""
    random = np.random.default_rng(0)
    lengths = np.clip(random.lognormal(4.0, 0.7, max(GROWTH)).astype(np.int64) + 1, 1, 512)
    seconds: dict[int, list[float]] = {samples: [] for samples in GROWTH}
    for _ in range(repeats):
        for samples in GROWTH:
            start = time.perf_counter()
            pack(lengths[:samples], 512, seed=0)
            seconds[samples].append(time.perf_counter() - start)
    return {
        str(samples): {"median": statistics.median(taken), "least": min(taken), "most": max(taken)}
        for samples, taken in seconds.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="the folder of the corpora")
    parser.add_argument("--json", help="where to write what was measured")
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    found = {
        "corpora": {name: corpus(shapes_corpora.lengths(arguments.data, name)) for name in shapes_corpora.CORPORA},
        "seconds": growth(arguments.repeats),
    }
    text = json.dumps(found, indent=1)
    print(text)
    if arguments.json:
        Path(arguments.json).write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
