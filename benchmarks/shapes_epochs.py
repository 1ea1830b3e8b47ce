"""Epochs over ragged corpora: ours against everything MindSpore offers, cold and warm.

    python -m benchmarks.shapes_epochs --data ../shared/data [--corpora mr,...] [--samples 2000] [--epochs 3]

A 4-layer BERT training step, batch 16. Every alternative runs in a process of its own, in turn,
``--rounds`` times; the best round counts. Reported: wall seconds of each epoch, graphs compiled, peak memory.

    per shape   batches pooled by length, padded to their longest, a static graph each; its last epoch is the oracle
    dynamic     the same batches, one dynamic graph (``set_inputs``)
    longest     every sample padded to the corpus's longest
    native      ``bucket_batch_by_length``, evenly spaced boundaries
    bucketed    ``shapes.bucket_dataset`` over `Buckets.fit`, as many sizes as native
    tiered      the same with ``tier="auto"``
    torch       eager PyTorch on the same pooled batches, where it is installed: an outside reference
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from benchmarks import shapes_bert, shapes_corpora

BATCH, SIZES = 16, 8
COLUMNS = ("ids", "places", "mask", "label", "weight")
RAGGED = {"ids": 1, "places": 1, "mask": 1}
ALTERNATIVES = ("per shape", "dynamic", "longest", "native", "bucketed", "tiered", "torch")


def samples(lengths: np.ndarray) -> list[dict[str, np.ndarray]]:
    """Random documents of these lengths."""
    random = np.random.default_rng(0)
    return [
        {
            "ids": random.integers(1, shapes_bert.VOCABULARY, n).astype(np.int32),
            "places": np.arange(n, dtype=np.int32),
            "mask": np.ones(n, np.float32),
            "label": np.int32(random.integers(0, 8)),
        }
        for n in lengths.tolist()
    ]


def pooled(documents: list[dict[str, np.ndarray]], epoch: int, width: int = 0) -> Iterator[list[np.ndarray]]:
    """Whole batches of similar length, in random order, padded to their longest or to ``width``."""
    random = np.random.default_rng(epoch)
    order = sorted(random.permutation(len(documents)).tolist(), key=lambda i: len(documents[i]["ids"]))
    starts = random.permutation(np.arange(0, len(order) - BATCH + 1, BATCH))
    for start in starts:
        rows = [documents[i] for i in order[start : start + BATCH]]
        size = width or max(len(row["ids"]) for row in rows)
        yield [
            *(np.stack([np.pad(row[name], (0, size - len(row[name]))) for row in rows]) for name in RAGGED),
            np.stack([row["label"] for row in rows]),
            np.ones(BATCH, np.float32),
        ]


def native(documents: list[dict[str, np.ndarray]], boundaries: list[int]) -> Any:
    """MindSpore's own bucketing; its boundaries are exclusive, so each is one more than a size."""
    import mindspore.dataset as ds

    rows = [(*(row[name] for name in RAGGED), row["label"], np.float32(1)) for row in documents]
    return ds.GeneratorDataset(rows, list(COLUMNS), shuffle=True).bucket_batch_by_length(
        ["ids"],
        [boundary + 1 for boundary in boundaries],
        [BATCH] * (len(boundaries) + 1),
        element_length_function=len,
        pad_info={name: ([None], 0) for name in RAGGED},
        pad_to_bucket_boundary=True,
    )


def run(kind: str, lengths: np.ndarray, epochs: int) -> dict[str, Any]:
    """Seconds of each epoch, and graphs, of one alternative."""
    if kind == "torch":
        return run_torch(lengths, epochs)
    import mindspore as ms

    from ascend_fixes.shapes import Buckets, bucket_dataset, bucketed, graphs, padding_counts

    ms.set_device("CPU")
    ms.set_context(mode=ms.GRAPH_MODE)
    documents, step, high = samples(lengths), shapes_bert.training_step(), int(lengths.max())
    if kind == "dynamic":
        types = (ms.int32, ms.int32, ms.float32)
        ragged = [ms.Tensor(shape=[BATCH, None], dtype=kind_) for kind_ in types]
        step.set_inputs(*ragged, ms.Tensor(shape=[BATCH], dtype=ms.int32), ms.Tensor(shape=[BATCH], dtype=ms.float32))
    spaced = sorted({-(-high * i // SIZES) for i in range(1, SIZES + 1)})
    buckets = Buckets.fit(lengths, SIZES)
    if kind in ("bucketed", "tiered"):
        step = bucketed(step, RAGGED, buckets, tier="auto" if kind == "tiered" else "static")
        pipeline = bucket_dataset(documents, lengths, buckets, BATCH, shuffle_seed=0, axes=RAGGED)
    elif kind == "native":
        pipeline = native(documents, spaced)
    seconds, rows = [], 0
    for epoch in range(epochs):
        start = time.perf_counter()
        if kind in ("bucketed", "tiered", "native"):
            batches: Any = pipeline.create_tuple_iterator(num_epochs=1)
        else:
            batches = ([ms.Tensor(a) for a in b] for b in pooled(documents, epoch, high if kind == "longest" else 0))
        for batch in batches:
            float(step(*batch))
            rows += batch[0].shape[0]
        seconds.append(time.perf_counter() - start)
    found = {"seconds": seconds, "graphs": len(graphs(step)), "rows": rows}
    if kind == "tiered":
        found["dynamic steps"] = padding_counts(step).dynamic
    return found


def run_torch(lengths: np.ndarray, epochs: int) -> dict[str, Any]:
    """The same encoder and batches in eager PyTorch."""
    import torch

    width, heads, layers = shapes_bert.WIDTH, shapes_bert.HEADS, shapes_bert.LAYERS
    torch.set_num_threads(2)
    encoder = torch.nn.TransformerEncoder(
        torch.nn.TransformerEncoderLayer(width, heads, 4 * width, 0.0, "gelu", batch_first=True), layers
    )
    tables = torch.nn.Embedding(shapes_bert.VOCABULARY, width), torch.nn.Embedding(shapes_bert.LONGEST, width)
    head = torch.nn.Linear(width, 8)
    parameters = [p for module in (encoder, *tables, head) for p in module.parameters()]
    optimizer, documents, seconds = torch.optim.Adam(parameters, 1e-4), samples(lengths), []
    for epoch in range(epochs):
        start = time.perf_counter()
        for batch in pooled(documents, epoch):
            ids, places, mask, label, _ = (torch.from_numpy(array) for array in batch)
            x = encoder(tables[0](ids) + tables[1](places), src_key_padding_mask=mask == 0)
            mean = (x * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
            loss = torch.nn.functional.cross_entropy(head(mean), label.long())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        seconds.append(time.perf_counter() - start)
    return {"seconds": seconds, "graphs": 0, "rows": len(documents) // BATCH * BATCH * epochs}


def child(options: argparse.Namespace) -> None:
    lengths = chosen(options.data, options.corpora, options.samples)
    found = run(options.child, lengths, options.epochs)
    found["peak memory, MB"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print("RESULT" + json.dumps(found))


def chosen(data: str, corpus: str, count: int) -> np.ndarray:
    """A fixed sample of the corpus's lengths."""
    lengths = shapes_corpora.lengths(data, corpus)
    return np.random.default_rng(0).permutation(lengths)[:count] if count else lengths


def measure(options: argparse.Namespace, corpus: str, kind: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.shapes_epochs", "--child", kind, "--corpora", corpus]
    command += ["--data", options.data, "--samples", str(options.samples), "--epochs", str(options.epochs)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        return {"failed": (done.stderr.strip().splitlines() or ["no message"])[-1]}
    return json.loads(done.stdout.partition("RESULT")[2])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--corpora", default=",".join(shapes_corpora.CORPORA))
    parser.add_argument("--kinds", default=",".join(ALTERNATIVES))
    parser.add_argument("--samples", type=int, default=2000, help="0 for the whole corpus")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--json")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(options)
        return
    found: dict[str, Any] = {}
    for _ in range(options.rounds):
        for corpus in options.corpora.split(","):
            for kind in options.kinds.split(","):
                new, old = measure(options, corpus, kind), found.setdefault(corpus, {}).get(kind)
                if old is None or sum(new.get("seconds", [np.inf])) < sum(old.get("seconds", [np.inf])):
                    found[corpus][kind] = new
                print(corpus, kind, json.dumps(new), flush=True)
    if options.json:
        with open(options.json, "w", encoding="utf-8") as stream:
            json.dump({"options": vars(options), "found": found}, stream, indent=1)


if __name__ == "__main__":
    main()
