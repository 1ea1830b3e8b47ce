"""Epochs over samples of four corpora, run for real: ours against what MindSpore offers, from a cold start.

    python -m benchmarks.shapes.epochs --data ../shared/data --costs benchmarks/results/shapes_costs.json \
        --corpora mr --samples 640 --epochs 3 [--json FILE]

Every alternative of `shapes_sequences` runs in a process of its own, in turn; the clock starts before the first batch
and stops after the last, feeding and compiling included. Reported: wall seconds of each epoch, graphs, peak memory,
and what `shapes_replay` says about the same batches: how far the replay can be trusted. "ours" plans its sizes from
the measured costs and feeds with `bucket_dataset`; "warmed" compiles them ahead; "tiered" has the oracle's sizes and
``tier="auto"``. The first epoch includes compiling ahead.
A file that is there already is added to.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from benchmarks import records
from benchmarks.shapes import corpora as shapes_corpora
from benchmarks.shapes.costs import ROWS
from benchmarks.shapes.replay import Costs, planned, replay
from benchmarks.shapes.sequences import NATIVE, OURS, Corpus, batches, spaced

PADS = (*OURS, "tiered")
KINDS = (*NATIVE, *PADS, "torch")


def module_of(corpus: Corpus) -> Any:
    """The net's module: ``training_step()``, ``batch(lengths, size)``, ``RAGGED``."""
    from benchmarks.shapes import bert as shapes_bert
    from benchmarks.shapes import rnnsearch as shapes_rnnsearch

    return shapes_bert if corpus.net == "bert" else shapes_rnnsearch


def samples(corpus: Corpus) -> tuple[list[str], list[tuple]]:
    """Column names and the samples by themselves, unpadded."""
    module = module_of(corpus)
    names = ["ids", "places", "mask", "label"] if corpus.net == "bert" else list(module.RAGGED)
    rows = []
    for length in corpus.lengths:
        size = int(length) if np.ndim(length) == 0 else tuple(map(int, length))
        arrays = module.batch(np.asarray(length)[None], size)
        rows.append(tuple(array[0] for array in arrays[: len(names)]))
    return names, rows


def fed(corpus: Corpus, kind: str, sizes: Any, epochs: int) -> Iterator[Iterator[list[np.ndarray]]]:
    """For every epoch the arguments of every step."""
    if kind in PADS:
        return _ours(corpus, sizes, epochs)
    if kind in ("native", "full"):
        return _native(corpus, sizes, epochs, drop=kind == "full")
    return (_padded(corpus, kind, epoch) for epoch in range(epochs))


def _padded(corpus: Corpus, kind: str, epoch: int) -> Iterator[list[np.ndarray]]:
    for one in batches(corpus, kind, None, epoch):
        yield module_of(corpus).batch(corpus.lengths[one.members], one.size)


def _ours(corpus: Corpus, sizes: Any, epochs: int) -> Iterator[Iterator[list[np.ndarray]]]:
    from ascend_fixes.shapes import bucket_dataset

    names, rows = samples(corpus)
    pipeline = bucket_dataset(
        rows, corpus.lengths, sizes, ROWS, shuffle_seed=0, axes=module_of(corpus).RAGGED, columns=names, carry=True
    )
    for _ in range(epochs):
        taken = (list(batch) for batch in pipeline.create_tuple_iterator(num_epochs=1, output_numpy=True))
        # BERT takes the weight of rows as it is; RNNSearch has one for every word.
        yield taken if corpus.net == "bert" else ([*b[:4], b[4] * b[5][:, None]] for b in taken)


def _native(corpus: Corpus, sizes: list[int], epochs: int, drop: bool) -> Iterator[Iterator[list[np.ndarray]]]:
    """MindSpore's own bucketing; its boundaries are exclusive, so each is one more than a size."""
    import mindspore.dataset as ds

    names, rows = samples(corpus)
    ragged = module_of(corpus).RAGGED
    if corpus.net == "bert":
        names, rows, measured = [*names, "weight"], [(*row, np.float32(1)) for row in rows], ["ids"]
    else:
        measured = ["source", "target"]
    pipeline = ds.GeneratorDataset(rows, names, shuffle=True).bucket_batch_by_length(
        measured,
        [size + 1 for size in sizes],
        [ROWS] * (len(sizes) + 1),
        element_length_function=lambda *columns: np.array(max(map(len, columns)), np.int32),
        pad_info={name: ([None], 0) for name in ragged},
        pad_to_bucket_boundary=True,
        drop_remainder=drop,
    )
    for _ in range(epochs):
        yield map(list, pipeline.create_tuple_iterator(num_epochs=1, output_numpy=True))


def run(corpus: Corpus, kind: str, sizes: Any, epochs: int) -> dict[str, Any]:
    """Wall seconds of each epoch, graphs, and the last loss."""
    if kind == "torch":
        from benchmarks.shapes.torch import training_step

        step: Any = training_step(corpus.net)
        cell = None
    else:
        step = cell = _cell(corpus, kind, sizes)
    seconds, loss, steps = [], 0.0, 0
    with contextlib.ExitStack() as stack:
        start = time.perf_counter()
        if kind == "warmed":
            _warm(cell, corpus, stack)
        for arguments in fed(corpus, kind, sizes, epochs):
            for arrays in arguments:
                loss = float(step(*(arrays if kind in (*PADS, "torch") else _tensors(arrays))))
                steps += 1
            now = time.perf_counter()
            seconds.append(now - start)
            start = now
    found = {"seconds": seconds, "steps": steps, "loss": loss}
    if cell is not None:
        from ascend_fixes.shapes import graphs

        found.update(graphs=len(graphs(cell)), compiling=sum(graph.seconds or 0.0 for graph in graphs(cell)))
    return found


def _warm(cell: Any, corpus: Corpus, stack: contextlib.ExitStack) -> None:
    """Compile every graph of the cell in two processes, and use them until ``stack`` is left."""
    from ascend_fixes.shapes import CompileCache, warm

    cache = CompileCache(stack.enter_context(tempfile.TemporaryDirectory()))
    example = module_of(corpus).batch(
        np.ones((ROWS, *corpus.lengths.shape[1:]), int), 1 if corpus.net == "bert" else (1, 1)
    )
    warm(cell, example, cache, workers=2)
    stack.enter_context(cache)


def _cell(corpus: Corpus, kind: str, sizes: Any) -> Any:
    import mindspore as ms

    from ascend_fixes.shapes import bucketed, limit_graphs

    ms.set_device("CPU")
    ms.set_context(mode=ms.GRAPH_MODE)
    module = module_of(corpus)
    cell = module.training_step()
    if kind in PADS:
        return bucketed(cell, module.RAGGED, sizes, tier="auto" if kind == "tiered" else "static")
    if kind == "dynamic":
        example = _tensors(module.batch(np.full((ROWS, *corpus.lengths.shape[1:]), 8), corpus.longest))
        cell.set_inputs(*(ms.Tensor(shape=[ROWS, None], dtype=a.dtype) if a.ndim == 2 else a for a in example))
    return limit_graphs(cell, None)


def _tensors(arrays: list[np.ndarray]) -> list[Any]:
    import mindspore as ms

    return [ms.Tensor(array) for array in arrays]


def sizes_for(corpus: Corpus, kind: str, costs: Costs, epochs: int) -> Any:
    """Ours: planned. Native: as many, evenly spaced. Tiered: every size that occurs."""
    if kind == "tiered":
        from ascend_fixes.shapes import Buckets, Grid

        wanted = {one.size for one in batches(corpus, "per shape", None, 0)} | {corpus.longest}
        return Buckets(wanted) if corpus.net == "bert" else Grid(wanted)
    ours = planned(corpus, costs, epochs)
    return ours if kind in OURS else spaced(corpus, len(ours)) if kind in ("native", "full") else None


def child(options: argparse.Namespace) -> None:
    corpus = Corpus.load(options.data, options.corpora, options.samples)
    costs = Costs.load(options.costs, corpus.net)
    sizes = sizes_for(corpus, options.child, costs, options.epochs)
    found = run(corpus, options.child, sizes, options.epochs)
    found["peak memory, MB"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    if sizes is not None and options.child != "tiered":
        found["sizes"] = list(sizes)
    if options.child != "tiered":
        found["replayed"] = replay(corpus, options.child, sizes, costs).cold(options.epochs)
    print("RESULT" + json.dumps(found))


def measure(options: argparse.Namespace, corpus: str, kind: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.shapes.epochs", "--child", kind, "--corpora", corpus]
    command += ["--data", options.data, "--samples", str(options.samples), "--epochs", str(options.epochs)]
    done = subprocess.run([*command, "--costs", options.costs], capture_output=True, text=True)
    if done.returncode:
        lines = [line for line in done.stderr.strip().splitlines() if "Error" in line] or ["no message"]
        return {"failed": lines[-1]}
    return json.loads(done.stdout.partition("RESULT")[2])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--costs", required=True)
    parser.add_argument("--corpora", default=",".join(shapes_corpora.CORPORA))
    parser.add_argument("--kinds", default=",".join(KINDS))
    parser.add_argument("--samples", type=int, default=640, help="0 for the whole corpus")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--json")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(options)
        return
    found: dict[str, Any] = records.read(options.json)
    for corpus in options.corpora.split(","):
        key = f"{corpus}, {options.samples or 'all'} samples, {options.epochs} epochs"
        for kind in options.kinds.split(","):
            found.setdefault(key, {})[kind] = measure(options, corpus, kind)
            print(key, kind, json.dumps(found[key][kind]), flush=True)
            records.write(options.json, found)


if __name__ == "__main__":
    main()
