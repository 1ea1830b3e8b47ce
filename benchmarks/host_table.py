"""Look-ups a second of `host.Table`, one core, against a dict, `numpy.searchsorted` and `dataset.text` Lookup.

    python -m benchmarks.host_table [--keys 1000000] [--json FILE]

Every figure is the best of several passes over as many random known keys as the table holds.
"""

from __future__ import annotations

import argparse
import json
import time
from typing import Any, Callable

import numpy as np

from ascend_fixes.host import Table


def rate(look_up: Callable[[], Any], keys: int, passes: int = 5) -> float:
    """Millions of keys a second, the best of several passes."""
    best = float("inf")
    for _ in range(passes):
        start = time.perf_counter()
        look_up()
        best = min(best, time.perf_counter() - start)
    return keys / best / 1e6


def integers(keys: np.ndarray, queries: np.ndarray) -> dict[str, float]:
    """`Table`, `dict` and `numpy.searchsorted` on integer keys."""
    table, plain, order = Table(keys), dict(zip(keys.tolist(), range(len(keys)))), np.sort(keys)
    as_list = queries.tolist()
    return {
        "Table": rate(lambda: table(queries), len(queries)),
        "dict": rate(lambda: [plain[key] for key in as_list], len(queries), 2),
        "numpy.searchsorted": rate(lambda: np.searchsorted(order, queries), len(queries), 2),
    }


def strings(keys: np.ndarray, queries: np.ndarray) -> dict[str, float]:
    """`Table` on arrays and on lists, `dict`, and MindSpore's Lookup of whole rows."""
    from mindspore.dataset import text

    table, as_list = Table(keys), queries.tolist()
    plain = dict(zip(keys.tolist(), range(len(keys))))
    lookup = text.Lookup(text.Vocab.from_list(keys.tolist()))
    rows = np.array_split(queries, max(1, len(queries) // 1024))
    return {
        "Table": rate(lambda: table(queries), len(queries)),
        "Table, rows of 1024": rate(lambda: [table(row) for row in rows], len(queries)),
        "Table, list of str": rate(lambda: table(as_list), len(queries)),
        "dict": rate(lambda: [plain[key] for key in as_list], len(queries), 2),
        "dataset.text.Lookup, rows of 1024": rate(lambda: [lookup(row) for row in rows], len(queries), 2),
    }


def measure(count: int) -> dict[str, dict[str, float]]:
    """All figures at one number of keys."""
    random = np.random.default_rng(0)
    wide = np.unique(random.integers(-(2**62), 2**62, count + count // 100 + 1))
    wide = random.permutation(wide)[:count]
    words = np.char.add("word", np.arange(count).astype(str))
    return {
        "dense integers": integers(np.arange(count), random.integers(0, count, count)),
        "64-bit integers": integers(wide, random.permutation(wide)),
        "strings": strings(words, random.permutation(words)),
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
    if options.json:
        with open(options.json, "w", encoding="utf-8") as stream:
            json.dump({"keys": options.keys, "million_per_second": found}, stream, indent=1)


if __name__ == "__main__":
    main()
