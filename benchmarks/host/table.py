"""Look-ups a second of `host.Table`, one core, against a dict, `numpy.searchsorted` and `dataset.text` Lookup.

    python -m benchmarks.host.table [--keys 1000000] [--json FILE]

Every figure is the best of several passes over as many random known keys as the table holds, a million at most.
"""

from __future__ import annotations

import argparse
import time
from typing import Any, Callable

import numpy as np

from ascend_fixes.host import Table
from benchmarks import records


def rate(look_up: Callable[[], Any], keys: int, passes: int = 5) -> float:
    """Millions of keys a second, the best of several passes."""
    best = float("inf")
    for _ in range(passes):
        start = time.perf_counter()
        look_up()
        best = min(best, time.perf_counter() - start)
    return keys / best / 1e6


def in_calls(look_up: Callable[[Any], Any], queries: np.ndarray) -> Callable[[], Any]:
    """The queries in calls of 1,024, as batches come."""
    parts = np.array_split(queries, max(1, len(queries) // 1024))
    return lambda: [look_up(part) for part in parts]


def integers(keys: np.ndarray, queries: np.ndarray, baselines: bool) -> dict[str, float]:
    """`Table`, `dict` and `numpy.searchsorted` on integer keys."""
    table = Table(keys)
    found = {
        "Table, one call": rate(lambda: table(queries), len(queries)),
        "Table, calls of 1024": rate(in_calls(table, queries), len(queries)),
    }
    if baselines:
        plain, order, as_list = dict(zip(keys.tolist(), range(len(keys)))), np.sort(keys), queries.tolist()
        found["dict"] = rate(lambda: [plain[key] for key in as_list], len(queries), 2)
        found["numpy.searchsorted"] = rate(lambda: np.searchsorted(order, queries), len(queries), 2)
    return found


def strings(keys: np.ndarray, queries: np.ndarray, baselines: bool) -> dict[str, float]:
    """`Table` on arrays and on lists, `dict`, and MindSpore's Lookup in calls of 1,024."""
    from mindspore.dataset import text

    table = Table(keys)
    found = {
        "Table, one call": rate(lambda: table(queries), len(queries)),
        "Table, calls of 1024": rate(in_calls(table, queries), len(queries)),
    }
    if baselines:
        as_list, plain = queries.tolist(), dict(zip(keys.tolist(), range(len(keys))))
        lookup = text.Lookup(text.Vocab.from_list(keys.tolist()))
        found["Table, list of str"] = rate(lambda: table(as_list), len(queries))
        found["dict"] = rate(lambda: [plain[key] for key in as_list], len(queries), 2)
        found["dataset.text.Lookup, calls of 1024"] = rate(in_calls(lookup, queries), len(queries), 2)
    return found


def measure(count: int) -> dict[str, dict[str, float]]:
    """All figures at one number of keys; beyond a million the table's alone."""
    random, baselines = np.random.default_rng(0), count <= 1_000_000
    wide = np.unique(random.integers(-(2**62), 2**62, count + count // 100 + 1))
    wide = random.permutation(wide)[:count]
    words = np.char.add("word", np.arange(count).astype(str))
    asked = min(count, 1_000_000)
    return {
        "dense integers": integers(np.arange(count), random.integers(0, count, asked), baselines),
        "64-bit integers": integers(wide, random.permutation(wide)[:asked], baselines),
        "strings": strings(words, random.permutation(words)[:asked], baselines),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keys", type=int, default=1_000_000)
    parser.add_argument("--json", help="also write the figures here")
    options = parser.parse_args()
    found = measure(options.keys)
    for kind, rates in found.items():
        for name, value in rates.items():
            print(f"{kind:16s} {name:36s} {value:8.2f} million/s")
    records.write(options.json, {"keys": options.keys, "million_per_second": found})


if __name__ == "__main__":
    main()
