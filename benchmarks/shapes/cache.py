"""What a second start saves: compile seconds with `CompileCache`, cold, again in another order, and warmed in parallel.

    python -m benchmarks.shapes.cache --net bert --sizes 8,16,24,32,48,64,96,128 [--json FILE]

Three processes after one another over the same sizes: "cold" compiles into an empty folder, "again" starts with the
folder and meets the sizes in a shuffled order, "warmed" has an empty folder of its own and lets `warm` compile with two
workers first. Seconds are those of the compilations alone (of loading, where a graph is found), without steps.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from typing import Any

import numpy as np

from benchmarks import records
from benchmarks.shapes.costs import Size, full, named, parsed


def child(net: str, sizes: list[Size], folder: str, ahead: bool) -> dict[str, Any]:
    """One start: every size once."""
    import mindspore as ms

    from ascend_fixes.shapes import Buckets, CompileCache, Grid, bucketed, graphs, warm
    from benchmarks.shapes import bert as shapes_bert
    from benchmarks.shapes import rnnsearch as shapes_rnnsearch

    ms.set_device("CPU")
    ms.set_context(mode=ms.GRAPH_MODE)
    module: Any = shapes_bert if net == "bert" else shapes_rnnsearch
    cell = bucketed(module.training_step(), module.RAGGED, Buckets(sizes) if net == "bert" else Grid(sizes))
    cache, found = CompileCache(folder), {}
    if ahead:
        found["warming"] = warm(cell, full(net, sizes[0]), cache, workers=2, progress=lambda line: None).seconds
    start = time.perf_counter()
    with cache:
        losses = [float(cell(*full(net, size))) for size in sizes]
    found["run"] = time.perf_counter() - start
    found["compiling"] = [graph.seconds for graph in graphs(cell)]
    return {**found, "losses": losses, "counts": vars(cache.counts), "reasons": cache.reasons}


def start(net: str, sizes: list[Size], folder: str, ahead: bool) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.shapes.cache", "--net", net, "--child", folder]
    command += ["--sizes", ",".join(map(named, sizes)), *(["--ahead"] if ahead else [])]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr[-2000:])
    return json.loads(done.stdout.partition("RESULT")[2])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--net", choices=("bert", "rnnsearch"), required=True)
    parser.add_argument("--sizes", default="8,16,24,32,48,64,96,128")
    parser.add_argument("--json")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--ahead", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    sizes = [parsed(size) for size in options.sizes.split(",")]
    if options.child:
        print("RESULT" + json.dumps(child(options.net, sizes, options.child, options.ahead)))
        return
    shuffled = [sizes[place] for place in np.random.default_rng(1).permutation(len(sizes))]
    with tempfile.TemporaryDirectory() as folder:
        one, other = os.path.join(folder, "one"), os.path.join(folder, "other")
        found = {
            "sizes": list(map(named, sizes)),
            "cold": start(options.net, sizes, one, ahead=False),
            "again": start(options.net, shuffled, one, ahead=False),
            "warmed": start(options.net, sizes, other, ahead=True),
        }
    seconds = {kind: sum(found[kind]["compiling"]) for kind in ("cold", "again", "warmed")}
    found["again / cold"] = seconds["again"] / seconds["cold"]
    found["warming and loading / cold"] = (found["warmed"]["warming"] + seconds["warmed"]) / seconds["cold"]
    print(json.dumps(found, indent=1))
    if options.json:
        merged: dict[str, Any] = records.read(options.json)
        merged[options.net] = found
        records.write(options.json, merged)


if __name__ == "__main__":
    main()
