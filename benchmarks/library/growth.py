"""How what grows grows: plans, datasets, the store of compiled graphs, and the doctor.

    python -m benchmarks.library.growth [--only plans,bucket_dataset,pack_dataset,cache,doctor] [--largest 10000000] [--json FILE]
    python -m benchmarks.library.growth --table FILE

Lengths are drawn from a lognormal distribution (median 20, at most 400). For 10^4 to 10^7 samples: seconds of
`Buckets.fit`, `Buckets.plan` and `pack`; of `bucket_dataset` and `pack_dataset` the seconds until the dataset stands, until
its first batch, and of a batch after that, with the memory that the process gained by then. `CompileCache` is opened, asked
and listed with 10 to 10,000 entries; entries are copies of one real graph. The doctor examines two defects, one after the other
and all at once. Every row runs in a process of its own.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import records

ENTRIES = (10, 100, 1000, 10000)
DATASETS = ("bucket_dataset", "pack_dataset")
PARTS = ("plans", *DATASETS, "cache", "doctor")


class Samples:
    """``n`` samples without memory of their own: each is its length in zeros."""

    def __init__(self, lengths: np.ndarray) -> None:
        self.lengths = lengths

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, place: int) -> dict[str, np.ndarray]:
        return {"ids": np.zeros(int(self.lengths[place]), np.int32)}


def lengths_of(count: int) -> np.ndarray:
    """int64 [count]."""
    return np.clip(np.random.default_rng(0).lognormal(3.0, 0.6, count), 1, 400).astype(np.int64)


def timed(call: Any) -> tuple[float, Any]:
    start = time.perf_counter()
    value = call()
    return time.perf_counter() - start, value


def plans(count: int) -> dict[str, float]:
    from ascend_fixes import shapes

    lengths = lengths_of(count)
    return {
        "Buckets.fit": timed(lambda: shapes.Buckets.fit(lengths, 8))[0],
        "Buckets.plan": timed(lambda: shapes.Buckets.plan(lengths, lambda size: 1e-4 * size, 5.0))[0],
        "pack": timed(lambda: shapes.pack(lengths, 400))[0],
    }


def dataset(kind: str, count: int) -> dict[str, float]:
    """A dataset of this kind: until it stands, until its first batch, a further batch, memory."""
    from ascend_fixes import shapes

    lengths = lengths_of(count)
    buckets = shapes.Buckets.fit(lengths, 8)
    before = _resident()
    if kind == "bucket_dataset":
        made, found = timed(lambda: shapes.bucket_dataset(Samples(lengths), lengths, buckets, 32, shuffle_seed=0))
    else:
        made, found = timed(lambda: shapes.pack_dataset(Samples(lengths), lengths, 400, 8, shuffle_seed=0))
    iterator = found.create_tuple_iterator(num_epochs=1, output_numpy=True)
    first, _ = timed(lambda: next(iter(iterator)))
    batches = min(200, found.batches - 1)
    rest, _ = timed(lambda: [next(iterator) for _ in range(batches)])
    return {
        "until it stands": made,
        "until its first batch": made + first,
        "a further batch": rest / batches,
        "MB": (_resident() - before) / 1e6,
    }


def _resident() -> int:
    """The most bytes that this process has held so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def cache(count: int) -> dict[str, float]:
    """A store with so many entries: opened, asked for one that is there, and for one that is not."""
    import mindspore as ms
    from mindspore import Tensor, nn

    from ascend_fixes import shapes

    ms.set_device("CPU")
    ms.set_context(mode=ms.GRAPH_MODE)
    with tempfile.TemporaryDirectory() as folder:
        with shapes.CompileCache(folder):
            nn.ReLU()(Tensor(np.zeros(3, np.float32)))
        stored = [path for path in Path(folder).rglob("*") if path.is_file()]
        graph = max(stored, key=lambda path: path.stat().st_size)
        for number in range(count - 1):
            shutil.copyfile(graph, graph.with_name(f"{number:064x}{graph.suffix}"))
        opened, store = timed(lambda: shapes.CompileCache(folder))
        with store:
            present = timed(lambda: nn.ReLU()(Tensor(np.zeros(3, np.float32))))[0]
            absent = timed(lambda: nn.ReLU()(Tensor(np.zeros(count + 4, np.float32))))[0]
    return {"opened": opened, "a graph that is there": present, "a graph that is not": absent}


def doctor(count: int) -> dict[str, float]:
    """``count`` defects."""
    names = ["A7", "H9", "S6", "E1", "A4", "A6", "H2", "A2"][:count]
    command = [sys.executable, "-m", "ascend_fixes", "doctor", "--json", "--only", ",".join(names)]
    seconds, done = timed(lambda: subprocess.run(command, capture_output=True, text=True, check=False))
    return {"seconds": seconds, "rows": len(json.loads(done.stdout))}


def in_process(part: str, count: int) -> Any:
    """One row, in a process and a folder of its own."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(records.ROOT), os.environ.get("PYTHONPATH", "")])}
    command = [sys.executable, "-m", "benchmarks.library.growth", "--child", part, str(count)]
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        return {"failed": done.stderr.strip()[-300:]}
    return json.loads(done.stdout.strip().splitlines()[-1])


def table(found: dict[str, Any]) -> str:
    """Markdown."""
    samples = list(found["plans"])
    lines = [
        "| samples | " + " | ".join(f"{int(count):,}" for count in samples) + " |",
        "|---|" + "---:|" * len(samples),
    ]
    for name in ("Buckets.fit", "Buckets.plan", "pack"):
        row = [f"{found['plans'][count][name]:.2f} s" for count in samples]
        lines.append(f"| `{name}` | " + " | ".join(row) + " |")
    for name in DATASETS:
        for what, unit, factor in (("until its first batch", "s", 1), ("a further batch", "ms", 1e3), ("MB", "MB", 1)):
            row = [f"{found[name][count][what] * factor:,.2f} {unit}" for count in samples]
            text = "memory gained" if what == "MB" else what
            lines.append(f"| `{name}`: {text} | " + " | ".join(row) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(PARTS))
    parser.add_argument("--largest", type=int, default=10**7, help="samples")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--table", type=Path, help="print the table of a result, and run nothing")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        part, count = options.child
        makers = {name: functools.partial(dataset, name) for name in DATASETS}
        run = {"plans": plans, **makers, "cache": cache, "doctor": doctor}[part]
        print(json.dumps(run(int(count))))
        return
    if options.table:
        print(table(records.read(options.table)))
        return
    samples = [count for count in (10**4, 10**5, 10**6, 10**7) if count <= options.largest]
    counts = {"plans": samples, **dict.fromkeys(DATASETS, samples), "cache": ENTRIES, "doctor": (1, 2, 4, 8)}
    file = options.json
    found = records.read(file)
    for part in options.only.split(","):
        for count in counts[part]:
            found.setdefault(part, {})[str(count)] = in_process(part, count)
            print(part, count, json.dumps(found[part][str(count)]), file=sys.stderr, flush=True)
            records.write(file, found)
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
