"""Padding against the number of sizes, on four corpora: optimal sizes and the usual choices.

    python -m benchmarks.shapes.waste --data ../shared/data [--json FILE] [--figure FILE]

Also measures how long fitting takes as the number of samples and of distinct lengths grows
by 10 and by 100.
"""

from __future__ import annotations

import argparse
import json
import time
from typing import Any

import numpy as np

from ascend_fixes.shapes import Buckets, Grid
from benchmarks import records
from benchmarks.shapes import corpora as shapes_corpora

SIZES = (1, 2, 3, 4, 6, 8, 12, 16)


def rivals(lengths: np.ndarray, k: int) -> dict[str, Buckets]:
    """The usual choices of k sizes."""
    high = int(lengths.max())
    quantiles = np.quantile(lengths, np.arange(1, k + 1) / k, method="higher").astype(int)
    powers = [high, *(2**p for p in range(20) if 2**p < high)]
    return {
        "optimal": Buckets.fit(lengths, k),
        "geometric": Buckets.geometric(int(lengths.min()), high, k),
        "evenly spaced": Buckets({-(-high * i // k) for i in range(1, k + 1)}),
        "quantiles": Buckets(set(quantiles.tolist())),
        "powers of two": Buckets(sorted(powers)[-k:]),
    }


def waste(data: str) -> dict[str, Any]:
    """Padding over content, by corpus, choice and number of sizes."""
    found: dict[str, Any] = {}
    for corpus in shapes_corpora.CORPORA:
        lengths = shapes_corpora.lengths(data, corpus)
        curves: dict[str, dict[int, float]] = {}
        for k in SIZES:
            for name, buckets in rivals(lengths, k).items():
                curves.setdefault(name, {})[k] = buckets.waste(lengths)
        found[corpus] = curves
    pairs = shapes_corpora.pairs(data)
    found["multi30k pairs"] = {"Grid": {k: Grid.fit(pairs, k).waste(pairs) for k in SIZES}}
    return found


def fitting() -> dict[str, float]:
    """Seconds to fit 8 sizes, by samples and distinct lengths."""
    random = np.random.default_rng(0)
    found = {}
    for samples, distinct in [(10**4, 41), (10**5, 410), (10**6, 4096)]:
        lengths = random.integers(1, distinct + 1, samples)
        start = time.perf_counter()
        Buckets.fit(lengths, 8)
        found[f"{samples} samples, {distinct} distinct"] = time.perf_counter() - start
    return found


def figure(found: dict[str, Any], path: str) -> None:
    """Waste against k, one panel per corpus."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    _, panels = pyplot.subplots(1, len(shapes_corpora.CORPORA), figsize=(14, 3.4), sharex=True)
    for panel, corpus in zip(panels, shapes_corpora.CORPORA):
        for name, curve in found[corpus].items():
            width = 2.4 if name == "optimal" else 1.0
            panel.plot(list(curve), [100 * value for value in curve.values()], marker=".", linewidth=width, label=name)
        panel.set(title=corpus, xlabel="sizes (graphs)", yscale="log")
    panels[0].set_ylabel("padding, % of content")
    panels[-1].legend(fontsize=7)
    pyplot.tight_layout()
    pyplot.savefig(path, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--json")
    parser.add_argument("--figure")
    options = parser.parse_args()
    found = {"waste": waste(options.data), "fitting": fitting()}
    print(json.dumps(found, indent=1))
    records.write(options.json, found)
    if options.figure:
        figure(found["waste"], options.figure)


if __name__ == "__main__":
    main()
