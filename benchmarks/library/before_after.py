"""What a step, an import and `patch()` cost, in two checkouts of this repository, taking turns.

    python -m benchmarks.library.before_after BEFORE AFTER [--rounds N] [--json FILE]

Every round starts one process for each checkout, in turn, with that checkout alone on its path. A process measures what
is listed in `KINDS`; of a call the median over many rounds of the mean of 100 calls. Printed are the median over the
processes and, in brackets, the least and the largest.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import timeit
from pathlib import Path
from typing import Any, Callable

from benchmarks import records

KINDS = {
    "import ascend_fixes": "ms",
    "import the four toolboxes, after MindSpore": "ms",
    "patch()": "ms",
    "call of a cell, nothing patched": "us",
    "call of a cell under patch()": "us",
    "call of a jit function under patch()": "us",
    "call of a bucketed cell, NumPy arrays, under patch()": "us",
    "call of a cell after unpatch()": "us",
}
CALLS, REPEATS = 100, 40


def microseconds(call: Callable[[], Any]) -> float:
    """The median of the means of 100 calls."""
    timeit.timeit(call, number=CALLS)
    return 1e6 * statistics.median(timeit.timeit(call, number=CALLS) / CALLS for _ in range(REPEATS))


def milliseconds(call: Callable[[], Any]) -> float:
    start = time.perf_counter()
    call()
    return 1e3 * (time.perf_counter() - start)


def measure() -> dict[str, float]:
    """Every kind, in this process, of the checkout on its path."""
    import importlib

    found = [milliseconds(lambda: importlib.import_module("ascend_fixes"))]
    import mindspore as ms
    import numpy as np

    toolboxes = [f"ascend_fixes.{name}" for name in ("shapes", "host", "fusion", "amp")]
    found.append(milliseconds(lambda: [importlib.import_module(name) for name in toolboxes]))
    import ascend_fixes
    from ascend_fixes.shapes import Buckets, bucketed

    ms.set_device("CPU")
    ms.set_context(mode=ms.GRAPH_MODE)

    class Sum(ms.nn.Cell):
        """Next to no work, so that the call itself is what takes time."""

        def construct(self, x: Any) -> Any:
            return x.sum()

    @ms.jit
    def total(x: Any) -> Any:
        return x.sum()

    cell, array = Sum(), np.ones((16, 32), np.float32)
    padded, ragged = bucketed(Sum(), {"x": 1}, Buckets([32])), np.ascontiguousarray(array[:, :20])
    tensor = ms.Tensor(array)
    cell(tensor)
    plain = microseconds(lambda: cell(tensor))
    found += [milliseconds(ascend_fixes.patch), plain]
    found += [microseconds(call) for call in (lambda: cell(tensor), lambda: total(tensor), lambda: padded(ragged))]
    ascend_fixes.unpatch()
    found.append(microseconds(lambda: cell(tensor)))
    return dict(zip(KINDS, found))


def run(checkout: Path) -> dict[str, float]:
    """The measurements of one process."""
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, __file__, "--measure"],
            env={**os.environ, "PYTHONPATH": str(checkout), "HOME": folder, "GLOG_v": "3"},
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode:
        raise SystemExit(f"{checkout}: {done.stderr[-2000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def commit(checkout: Path) -> str:
    done = subprocess.run(
        ["git", "-C", checkout, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def main() -> None:
    if sys.argv[1:] == ["--measure"]:
        print(json.dumps(measure()))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    checkouts = {"before": arguments.before.resolve(), "after": arguments.after.resolve()}
    seen: dict[str, list[dict[str, float]]] = {which: [] for which in checkouts}
    for _ in range(arguments.rounds):
        for which, checkout in checkouts.items():
            seen[which].append(run(checkout))
    report: dict[str, Any] = {"rounds": arguments.rounds, "commits": {w: commit(c) for w, c in checkouts.items()}}
    print(f"{'':55}{'before':>28}{'after':>28}")
    for kind, unit in KINDS.items():
        values = {which: sorted(one[kind] for one in runs) for which, runs in seen.items()}
        report[kind] = {"unit": unit, **values}
        cells = [f"{statistics.median(v):9.1f} {unit} ({v[0]:.1f} to {v[-1]:.1f})" for v in values.values()]
        print(f"{kind:55}" + "".join(f"{text:>28}" for text in cells))
    records.write(arguments.json, report)


if __name__ == "__main__":
    main()
