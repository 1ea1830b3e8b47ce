"""Warms a bucketed training step's graphs, then runs them from the cache; prints what it saw as JSON."""

from __future__ import annotations

import json
import sys

import mindspore as ms
import numpy as np
from shapes_cells import batch, pooled_step

from ascend_fixes.shapes import Buckets, CompileCache, CompileCacheError, bucketed, graphs, warm

if __name__ == "__main__":
    ms.set_device("CPU")
    ms.set_context(mode=ms.GRAPH_MODE)
    cell = bucketed(pooled_step(), {"ids": 1, "mask": 1}, Buckets([4, 6, 8]), max_graphs=3)
    label, told = np.array([0, 2], np.int32), []
    cache = CompileCache(sys.argv[1])
    report = warm(cell, (*batch(3), label), cache, progress=told.append)
    with cache:
        losses = [float(cell(*batch(length), label)) for length in (7, 3, 5)]
    found = {"hits": cache.counts.hits, "stored": cache.counts.stored, "graphs": len(graphs(cell)), "told": told}
    try:
        warm(cell, (*batch(3), label), CompileCache(sys.argv[1]))
    except CompileCacheError as error:
        found["again"] = str(error)
    found.update(compiled=[sizes for sizes, _ in report.compiled], failed=report.failed)
    found["finite"] = bool(np.isfinite(losses).all())
    print("RESULT" + json.dumps(found))
