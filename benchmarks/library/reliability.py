"""What docs/reliability.md states, tried at length: the generators of tests/fuzz, and what checksums cost.

    nice -n 19 python -m benchmarks.library.reliability [--only files,patching,kills,...] [--scale 1.0] [--seed 0]

``--scale`` multiplies the numbers of cases. Results of a part replace those of an earlier run in
benchmarks/results/reliability.json. A promise that does not hold ends the script with the input that broke it.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import records

FUZZ = records.ROOT / "tests" / "fuzz"
RESULT = records.RESULTS / "reliability.json"
sys.path.insert(0, str(FUZZ))


def mutated_files(scale: float, seed: int) -> Any:
    """Damaged files over every reader."""
    import fuzz_files

    found: dict[str, Any] = {}
    memory = "/dev/shm" if os.path.isdir("/dev/shm") else None
    for reader in fuzz_files.READERS:
        with tempfile.TemporaryDirectory(dir=memory) as folder:
            counts = fuzz_files.run(reader, Path(folder), int(46_000 * scale), seed)
        found[reader.name] = {name: n + found.get(reader.name, {}).get(name, 0) for name, n in counts.items()}
        print(reader.name, found[reader.name], flush=True)
    total = {name: sum(row[name] for row in found.values()) for name in next(iter(found.values()))}
    return {"all readers": total, **found}


def script(name: str, *arguments: Any) -> Any:
    """What a script of tests/fuzz prints last."""
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, str(FUZZ / name), *map(str, arguments)],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(records.ROOT)},
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
    return json.loads(done.stdout.splitlines()[-1])


def patching(scale: float, seed: int) -> Any:
    """Sequences of patches from 8 threads."""
    return script("fuzz_patching.py", int(1000 * scale), 8, seed)


def kills(scale: float, seed: int) -> Any:
    """Writers killed at random moments."""
    import fuzz_kills

    found = {}
    for name, writer in fuzz_kills.WRITERS.items():
        with tempfile.TemporaryDirectory() as folder:
            found[name] = fuzz_kills.run(writer, Path(folder), int(1000 * scale), seed)
        print(name, found[name], flush=True)
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.host.killed", "--rounds", str(int(1000 * scale)), "--seed", str(seed)],
        cwd=records.ROOT,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    named = {"table": "table", "writers": "table, two writers", "embedding": "embedding folder"}
    return {**found, **{named[name]: counts for name, counts in json.loads(done.stdout.splitlines()[-1]).items()}}


def resume(scale: float, seed: int) -> Any:
    """Datasets stopped anywhere."""
    import fuzz_resume

    return fuzz_resume.run(int(1000 * scale), seed)


def training(scale: float, seed: int) -> Any:
    """Training steps stopped anywhere, with their datasets."""
    import fuzz_training
    import mindspore

    mindspore.set_context(mode=mindspore.GRAPH_MODE)
    with tempfile.TemporaryDirectory() as folder:
        return fuzz_training.run(int(1000 * scale), Path(folder), seed)


def scaler(scale: float, seed: int) -> Any:
    """Sequences of a compiled loss scale."""
    import fuzz_scaler
    import mindspore

    mindspore.set_context(mode=mindspore.GRAPH_MODE)
    return fuzz_scaler.run(int(1_000_000 * scale), seed)


def soak(scale: float, seed: int) -> Any:
    """Training without a pause."""
    found = script("soak.py", 3600 * scale)
    assert found["growth in %"] <= 2, found
    return found


def cost(scale: float, seed: int) -> Any:
    """Seconds to open and to flush an `Embedding` of 1 GB, and of that the checksums."""
    import numpy as np

    from ascend_fixes.host import Embedding

    rows, dim = int(1_300_000 * scale), 64
    with tempfile.TemporaryDirectory() as folder:
        Embedding(rows, dim, folder, "adam", 0.0).close()
        begin = time.perf_counter()
        embedding = Embedding(rows, dim, folder, "adam", 0.0)
        opened = time.perf_counter() - begin
        store = embedding._store
        begin = time.perf_counter()
        store._sums_of(store.records, np.arange(store._blocks()))
        sums = time.perf_counter() - begin
        touched = np.random.default_rng(seed).integers(0, rows, 50 * 2048)
        for ids in touched.reshape(50, -1):
            embedding._take_gradient(np.unique(ids), np.ones((len(np.unique(ids)), dim), np.float32))
            embedding.update()
        begin = time.perf_counter()
        changed = np.unique(np.flatnonzero(store._changed) // store._per_block)
        store._sums_of(store.records, changed)
        flushing = time.perf_counter() - begin
        begin = time.perf_counter()
        embedding.flush()
        flushed = time.perf_counter() - begin
        embedding.close()
    return {
        "GB": round(4 * rows * dim * 3 / 1e9, 2),
        "open s": round(opened, 2),
        "of that checksums s": round(sums, 2),
        "flush after 50 steps of 2,048 ids s": round(flushed, 3),
        "of that checksums, s": round(flushing, 3),
    }


PARTS: dict[str, Callable[[float, int], Any]] = {
    "files": mutated_files,
    "patching": patching,
    "kills": kills,
    "resume": resume,
    "training": training,
    "scaler": scaler,
    "soak": soak,
    "cost": cost,
}


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(PARTS))
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, default=RESULT)
    options = parser.parse_args()
    for name in options.only.split(","):
        begin = time.perf_counter()
        result = PARTS[name](options.scale, options.seed)
        seconds = round(time.perf_counter() - begin)
        whole = records.read(options.json)
        whole[name] = {"seed": options.seed, "seconds": seconds, "result": result}
        records.write(options.json, whole)
        print(name, json.dumps(whole[name]), flush=True)


if __name__ == "__main__":
    main()
