"""ALBERT on SQuAD and BERT-CRF on WNUT17, packed and bucketed: losses, graphs, steps, padding, seconds, kernels.

    python -m benchmarks.shapes.packed_models --data ../shared/data [--json benchmarks/results/shapes_packed_models.json]

For the whole corpus: steps and padded positions of an epoch. For its first ``--samples``: the loss and its gradients,
packed and padded; a cold epoch on CPU, one graph against at most eight. With ``--ascend`` also the kernels of the
training step as MindSpore's Ascend back end compiles it; nothing is executed there.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn

from ascend_fixes import shapes
from benchmarks.shapes.packed_losses import PackedLoss, PackedSpanLoss
from examples.albert import data as questions
from examples.albert.data import Part, Shape, read_vocabulary
from examples.albert.model import Albert, Config, SpanLoss
from examples.bert_crf.model import BertCRF, Loss
from examples.bert_crf.train import prepare

TOKENS = 2048  # of a batch, padding included
SIZES = 8  # graphs that bucketing may have
ADDED = ("segment_ids", "positions", "sample_weight")


@dataclass(frozen=True)
class Task:
    """A model, its samples, and the arguments of its two losses by column name."""

    samples: Sequence[dict[str, np.ndarray]]
    lengths: np.ndarray
    width: int
    options: dict[str, Any]  # of `pack_dataset`
    packed: nn.Cell
    packed_arguments: tuple[str, ...]
    padded: nn.Cell
    padded_arguments: tuple[str, ...]

    def packed_data(self, count: int | None = None) -> shapes.PackedDataset:
        """Packed batches of the first ``count`` samples."""
        rows = max(1, TOKENS // self.width)
        return shapes.pack_dataset(
            self.samples[:count], self.lengths[:count], self.width, rows, shuffle_seed=0, **self.options
        )

    def bucketed_data(self, count: int | None = None) -> shapes.BucketDataset:
        """Bucketed batches of the first ``count`` samples, as many tokens each."""
        buckets = shapes.Buckets.fit(self.lengths[:count], SIZES)
        samples = [_widened(sample, self.options.get("sizes", ())) for sample in self.samples[:count]]
        return shapes.bucket_dataset(samples, self.lengths[:count], buckets, tokens_per_batch=TOKENS, shuffle_seed=0)


def _widened(sample: dict[str, np.ndarray], words: Any) -> dict[str, np.ndarray]:
    """With a mask, and what stands for words as long as what stands for pieces."""
    length = len(sample["ids"])
    wide = {name: np.pad(sample[name], (0, length - len(sample[name]))) for name in words}
    return {**sample, **wide, "mask": np.ones(length, np.float32)}


def albert(data: str, width: int = 256) -> Task:
    """ALBERT, 4 layers of 128, on the windows of SQuAD's training questions."""
    folder = Path(data)
    vocabulary = read_vocabulary(folder / "vocab" / "albert-30k-clean.vocab")
    corpus = questions.read_file(folder / "mrc" / "squad" / "squad-v1.1-train-44articles.json.gz")
    part = Part.of(corpus[:4000], vocabulary, Shape(width, width // 2, 64))
    windows = [part.windows[number] for number in part.trainable()]
    samples = [
        {
            "ids": window.ids,
            "segments": (np.arange(len(window)) >= window.passage).astype(np.int32),
            "first": np.int32(window.first),
            "last": np.int32(window.last),
        }
        for window in windows
    ]
    config = Config(len(vocabulary), 64, 128, 4, 4, 512, width)
    network = Albert(config, np.random.default_rng(0))
    return Task(
        samples,
        np.array([len(window) for window in windows]),
        width,
        {"places": ["first", "last"]},
        PackedSpanLoss(network),
        ("ids", "segments", "first", "last", *ADDED),
        SpanLoss(network),
        ("ids", "segments", "mask", "first", "last", "weight"),
    )


def bert_crf(data: str, width: int = 128) -> Task:
    """BERT-CRF, 2 layers of 64, on the sentences of WNUT17."""
    setting = prepare({"data": str(Path(data) / "ner" / "wnut17"), "pretrained": None, "seed": 0, "limit": None})
    part = setting.parts["train"]
    kept = np.flatnonzero(part.sizes <= width)
    samples = [
        {
            "ids": part.pieces[i],
            "firsts": part.firsts[i],
            "tags": part.tags[i],
            "lengths": np.int32(len(part.firsts[i])),
        }
        for i in kept
    ]
    words = int(part.words[kept].max())
    network = BertCRF(setting.sizes, len(setting.corpus.tags), np.random.default_rng(0))
    return Task(
        samples,
        part.sizes[kept],
        width,
        {"places": ["firsts"], "sizes": {"firsts": words, "tags": words}, "packed": ["ids"], "max_samples": 8},
        PackedLoss(network),
        ("ids", "firsts", "tags", "lengths", *ADDED),
        Loss(network),
        ("ids", "mask", "firsts", "lengths", "tags", "weight"),
    )


TASKS = {"albert": albert, "bert_crf": bert_crf}


def plan(task: Task) -> dict[str, Any]:
    """Steps, graphs and padding over content of an epoch of the whole corpus."""
    packed, bucketed = task.packed_data(), task.bucketed_data()
    shapes_of = {batch.size for batch in bucketed.source.order(0)}
    return {
        "samples": len(task.samples),
        "packed": {"graphs": 1, "steps": packed.batches, "waste": packed.waste, "slots": packed.slots},
        "bucketed": {"graphs": len(shapes_of), "steps": bucketed.batches, "waste": bucketed.waste},
    }


def equality(task: Task, count: int) -> dict[str, float]:
    """The packed loss of one batch and its gradients against those of the same samples, padded in rows of their own."""
    batch = next(task.packed_data(count).create_dict_iterator(output_numpy=True, num_epochs=1))
    held = [task.samples[place] for place in batch["sample"][batch["sample"] >= 0]]
    rows = [_widened(sample, task.options.get("sizes", ())) for sample in held]
    longest = max(len(row["ids"]) for row in rows)
    columns = {
        name: np.stack(
            [np.pad(row[name], (0, longest - len(row[name]))) if row[name].ndim else row[name] for row in rows]
        )
        for name in rows[0]
    }
    columns["weight"] = np.ones(len(rows), np.float32)
    found = []
    for cell, names, arrays in (
        (task.packed, task.packed_arguments, batch),
        (task.padded, task.padded_arguments, columns),
    ):
        parameters = ms.ParameterTuple(cell.trainable_params())
        arguments = [Tensor(arrays[name]) for name in names]
        loss, gradients = ms.value_and_grad(cell, None, parameters)(*arguments)
        found.append((float(loss), [gradient.asnumpy() for gradient in gradients]))
    (loss, gradients), (expected, wanted) = found
    largest = max(float(np.abs(value).max()) for value in wanted)
    return {
        "samples": len(held),
        "loss, packed": loss,
        "loss, padded": expected,
        "loss, relative difference": abs(loss - expected) / abs(expected),
        "gradients, largest difference over largest value": max(
            float(np.abs(one - other).max()) for one, other in zip(gradients, wanted)
        )
        / largest,
    }


def epoch(task: Task, count: int, packed: bool) -> dict[str, Any]:
    """Seconds of a cold training epoch in graph mode, and what was compiled for it."""
    cell, names = (task.packed, task.packed_arguments) if packed else (task.padded, task.padded_arguments)
    data = task.packed_data(count) if packed else task.bucketed_data(count)
    step = nn.TrainOneStepCell(cell, nn.Adam(cell.trainable_params(), 1e-4))
    start = time.perf_counter()
    for batch in data.create_dict_iterator(output_numpy=True, num_epochs=1):
        step(*(Tensor(batch[name]) for name in names)).asnumpy()
    return {"seconds": time.perf_counter() - start, "graphs": len(shapes.graphs(step)), "steps": data.batches}


# --- for Ascend ---------------------------------------------------------------------------------


def _step(name: str, packed: bool) -> tuple[nn.Cell, list[Tensor]]:
    """A training step and a batch of its widest shape, on built-in numbers: what is compiled does not depend on them."""
    data = _data_folder()
    task = TASKS[name](data)
    batches = (task.packed_data(256) if packed else task.bucketed_data(256)).create_dict_iterator(output_numpy=True)
    batch = max((next(batches) for _ in range(4)), key=lambda batch: batch["ids"].shape[1])
    cell, names = (task.packed, task.packed_arguments) if packed else (task.padded, task.padded_arguments)
    return nn.TrainOneStepCell(cell, nn.Adam(cell.trainable_params(), 1e-4)), [Tensor(batch[name]) for name in names]


def _data_folder() -> str:
    return os.environ.get("ASCEND_FIXES_DATA", "../shared/data")


def albert_packed() -> tuple[nn.Cell, list[Tensor]]:
    return _step("albert", True)


def albert_bucketed() -> tuple[nn.Cell, list[Tensor]]:
    return _step("albert", False)


def bert_crf_packed() -> tuple[nn.Cell, list[Tensor]]:
    return _step("bert_crf", True)


def bert_crf_bucketed() -> tuple[nn.Cell, list[Tensor]]:
    return _step("bert_crf", False)


def ascend(name: str) -> dict[str, Any]:
    """Kernels of the training step, compiled for Ascend; the bucketed one is compiled once for every size."""
    from ascend_fixes import dryrun

    found = {}
    for way in ("packed", "bucketed"):
        report = dryrun.cell(
            f"{__name__ if __name__ != '__main__' else 'benchmarks.shapes.packed_models'}:{name}_{way}"
        )
        found[way] = {"verdict": report.verdict, "kernels": dict(report.graphs[0].kernels)}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="the folder of the corpora")
    parser.add_argument("--models", default=",".join(TASKS))
    parser.add_argument("--samples", type=int, default=400, help="that are trained on")
    parser.add_argument("--ascend", action="store_true", help="also compile for Ascend")
    parser.add_argument("--json", help="where to write what was measured")
    arguments = parser.parse_args()
    os.environ["ASCEND_FIXES_DATA"] = os.path.abspath(arguments.data)  # a dry run works in a folder of its own
    found: dict[str, Any] = {}
    for name in arguments.models.split(","):
        task = TASKS[name](arguments.data)
        found[name] = {"corpus": plan(task), "equality": equality(task, arguments.samples)}
        ms.set_context(mode=ms.GRAPH_MODE)
        for way in ("packed", "bucketed"):
            found[name][f"epoch, {way}"] = epoch(task, arguments.samples, way == "packed")
        ms.set_context(mode=ms.PYNATIVE_MODE)
        if arguments.ascend:
            found[name]["compiled for Ascend"] = ascend(name)
    text = json.dumps(found, indent=1)
    print(text)
    if arguments.json:
        Path(arguments.json).write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
