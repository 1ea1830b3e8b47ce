"""What batches of like lengths do to learning: validation loss over the samples seen, by how batches are made and weighed.

    python -m benchmarks.shapes.learning --data ../shared/data [--corpora wnut17,multi30k] [--seeds 0,1,2] [--json FILE]
    python -m benchmarks.shapes.learning --table FILE

Two of the examples' models, small and without dropout: BERT-CRF on WNUT17 (its loss is a mean over sentences) and RNNSearch
on pairs of Multi30k (a mean over tokens). A seed decides initial weights and orders. Every way of `WAYS` trains from the same
weights with the same number of samples, at one constant rate of Adam, and is validated a few times an epoch. "random" draws
each batch from the whole corpus. In a way that is "spread" the batches of each size come evenly over an epoch, otherwise in
any order. A way that is "weighed" multiplies a batch's loss by what that loss is the mean of, over what a batch has of it
on average, so that every sentence or token counts alike. A file that is there is added to.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable

import numpy as np

from benchmarks import records

EVALUATIONS = 4  # an epoch
VALIDATED = 400  # samples
WAYS = (
    "random",
    "random, weighed",
    "buckets",
    "buckets, weighed",
    "buckets, carry, weighed",
    "buckets, spread",
    "buckets, spread, weighed",
    "equal tokens",
    "equal tokens, weighed",
    "equal tokens, spread, weighed",
)


@dataclass(frozen=True)
class Batch:
    """Samples of a batch, the size they are padded to, and its rows: those beyond the samples have weight 0."""

    places: np.ndarray
    size: tuple[int, ...]
    rows: int


@dataclass(frozen=True)
class Workload:
    """A corpus and a model.

    Attributes:
        lengths: [n] or [n, 2], of the training samples, and of those to validate with.
        sizes: a `Buckets` or a `Grid`.
        batch: samples of a batch, on average.
        counts: what a sample has of that which the loss is the mean of: 1, or its tokens.
        network: made from a seed.
        loss: of a network, a cell.
        arrays: of a part's samples, padded to a size and to so many rows; the loss's arguments.
    """

    lengths: dict[str, np.ndarray]
    sizes: Any
    batch: int
    rate: float
    epochs: int
    counts: dict[str, np.ndarray]
    network: Callable[[int], Any]
    loss: Callable[[Any], Any]
    arrays: Callable[[str, Batch], Sequence[np.ndarray]]


def wnut17(data: str) -> Workload:
    """BERT-CRF, two layers, 64 wide."""
    from ascend_fixes.shapes import Buckets
    from examples.bert_crf import train
    from examples.bert_crf.data import collate
    from examples.bert_crf.model import BertCRF, Loss

    setting = train.prepare({"data": f"{data}/ner/wnut17", "pretrained": None, "seed": 0, "limit": None})
    lengths = {part: setting.parts[part].sizes for part in ("train", "validation")}

    def arrays(part: str, batch: Batch) -> list[np.ndarray]:
        filled = np.concatenate((batch.places, np.repeat(batch.places[:1], batch.rows - len(batch.places))))
        found = collate(setting.parts[part], filled, batch.size[0], batch.size[0])
        return [*found, (np.arange(batch.rows) < len(batch.places)).astype(np.float32)]

    return Workload(
        lengths=lengths,
        sizes=Buckets.fit(np.concatenate([*lengths.values()]), 5),
        batch=16,
        rate=1e-3,
        epochs=3,
        counts={part: np.ones(len(found)) for part, found in lengths.items()},
        network=lambda seed: BertCRF(setting.sizes, len(setting.corpus.tags), np.random.default_rng(seed)),
        loss=Loss,
        arrays=arrays,
    )


def multi30k(data: str, pairs: int = 6000) -> Workload:
    """RNNSearch with 64 units, English to German, pieces of 1,000."""
    from ascend_fixes.shapes import Grid
    from examples.common.randomness import padded
    from examples.rnnsearch import data as corpora
    from examples.rnnsearch.model import Loss, RNNSearch, Sizes

    corpus = corpora.read_folder(Path(data, "mt", "multi30k_en_de"), "en", "de")
    pieces = {side: corpora.tokenizer(getattr(corpus.parts["train"], side), 1000) for side in corpora.SIDES}
    corpus = corpus.limited(pairs)
    parts = {
        part: corpora.encode(corpus.parts[part], pieces["source"], pieces["target"], 40)
        for part in ("train", "validation")
    }

    def arrays(part: str, batch: Batch) -> list[np.ndarray]:
        encoded, empty = parts[part], batch.rows - len(batch.places)
        source, source_mask = padded([encoded.source[i] for i in batch.places], batch.size[0])
        target, weights = padded([encoded.target[i] for i in batch.places], batch.size[1])
        before = np.concatenate([np.full((len(target), 1), corpora.START, np.int32), target[:, :-1]], 1)
        found = [source, source_mask, before, target, weights]
        filled = [np.concatenate((one, np.repeat(one[:1], empty, 0))) for one in found]
        filled[-1][len(batch.places) :] = 0
        return filled

    words = [pieces[side].get_vocab_size() for side in corpora.SIDES]
    lengths = {part: encoded.lengths for part, encoded in parts.items()}
    return Workload(
        lengths=lengths,
        sizes=Grid.fit(np.concatenate([*lengths.values()]), 5),
        batch=32,
        rate=2e-3,
        epochs=2,
        counts={part: found[:, 1] for part, found in lengths.items()},
        network=lambda seed: RNNSearch(*words, np.random.default_rng(seed), Sizes(64, 64, 64, 64), True),
        loss=lambda network: Loss(network, smoothing=0.0),
        arrays=arrays,
    )


WORKLOADS = {"wnut17": wnut17, "multi30k": multi30k}


# --- batches -------------------------------------------------------------------------------------


def batches(work: Workload, way: str, seed: int, epoch: int) -> list[Batch]:
    """The batches of an epoch, in order."""
    if way.startswith("random"):
        return _random(work, np.random.default_rng([seed, epoch]))
    found = _dataset(work, way, seed).source.order(epoch)
    made = [Batch(one.places, one.size, one.rows) for one in found]
    if "spread" in way:
        return made  # which is how `bucket_dataset` orders them
    return [made[place] for place in np.random.default_rng([seed, epoch, 1]).permutation(len(made))]


def _random(work: Workload, random: np.random.Generator) -> list[Batch]:
    lengths = work.lengths["train"]
    order, rows = random.permutation(len(lengths)), work.batch
    return [_batch(work, "train", order[first : first + rows], rows) for first in range(0, len(order), rows)]


def _batch(work: Workload, part: str, places: np.ndarray, rows: int) -> Batch:
    size = work.sizes(*np.atleast_1d(work.lengths[part][places].max(0)).tolist())
    return Batch(places, size if isinstance(size, tuple) else (size,), rows)


def _dataset(work: Workload, way: str, seed: int) -> Any:
    """`shapes.bucket_dataset` over places instead of samples: its order alone counts here."""
    from ascend_fixes.shapes import bucket_dataset

    lengths = work.lengths["train"]
    places = [{"first": np.zeros(row[0]), "last": np.zeros(row[-1])} for row in lengths.reshape(len(lengths), -1)]
    axes = {"first": {1: "first"}, "last": {1: "last"}} if lengths.ndim > 1 else {"first": 1, "last": 1}
    given: dict[str, int] = {"batch_size": work.batch}
    if "equal tokens" in way:
        given = {"tokens_per_batch": _tokens(work)}
    return bucket_dataset(places, lengths, work.sizes, **given, shuffle_seed=seed, axes=axes, carry="carry" in way)


def _tokens(work: Workload) -> int:
    """The padded positions of a batch with which an epoch has as many batches as by rows."""
    lengths = work.lengths["train"]
    sizes = [np.prod(work.sizes(*np.atleast_1d(row).tolist())) for row in lengths]
    return int(np.mean(sizes) * work.batch)


# --- training ------------------------------------------------------------------------------------


class Trainer:
    """Compiled once; every way begins from the same weights and empty moments."""

    def __init__(self, work: Workload) -> None:
        from mindspore import nn

        from benchmarks.shapes.learning_cells import Weighed

        self.work = work
        self.network = work.network(0)
        self.loss = work.loss(self.network)
        self.optimizer = nn.Adam(self.network.trainable_params(), work.rate)
        self.step = nn.TrainOneStepCell(Weighed(self.loss), self.optimizer).set_train()
        self.slots = {parameter.name: parameter.asnumpy().copy() for parameter in self.optimizer.get_parameters()}

    def begin(self, seed: int) -> None:
        from mindspore import Tensor

        for parameter in self.optimizer.get_parameters():
            parameter.set_data(Tensor(self.slots[parameter.name]))
        for parameter, new in zip(self.network.get_parameters(), self.work.network(seed).get_parameters()):
            parameter.set_data(Tensor(new.asnumpy()))

    def train(self, way: str, seed: int) -> dict[str, Any]:
        """Validation loss by samples seen."""
        from mindspore import Tensor

        self.begin(seed)
        counts, seen, curve, steps, start = self.work.counts["train"], 0, [], 0, time.perf_counter()
        for epoch in range(self.work.epochs):
            made = batches(self.work, way, seed, epoch)
            average = counts.sum() / len(made)
            marks = {round(len(made) * part / EVALUATIONS) for part in range(1, EVALUATIONS + 1)}
            for number, batch in enumerate(made, start=1):
                share = counts[batch.places].sum() / average if "weighed" in way else 1.0
                arrays = self.work.arrays("train", batch)
                self.step(*map(Tensor, arrays), Tensor(np.float32(share)))
                seen, steps = seen + len(batch.places), steps + 1
                if number in marks:
                    curve.append([seen, self.validated()])
        return {"curve": curve, "steps": steps, "seconds": time.perf_counter() - start}

    def validated(self) -> float:
        """The mean loss of the first validation samples, in batches of like lengths."""
        from mindspore import Tensor

        total = 0.0
        counts = self.work.counts["validation"]
        for batch in self.validation():
            count = counts[batch.places].sum()
            total += count * float(self.loss(*map(Tensor, self.work.arrays("validation", batch))))
        return total / counts[:VALIDATED].sum()

    def validation(self) -> Iterator[Batch]:
        lengths = self.work.lengths["validation"][:VALIDATED]
        sizes = [self.work.sizes(*np.atleast_1d(row).tolist()) for row in lengths]
        for size in sorted(set(sizes)):
            places = np.array([place for place, one in enumerate(sizes) if one == size])
            for first in range(0, len(places), self.work.batch):
                yield _batch(self.work, "validation", places[first : first + self.work.batch], self.work.batch)


# --- results -------------------------------------------------------------------------------------


def table(found: dict[str, Any]) -> str:
    """Markdown: each way's loss over that of random batches of the same seed, in the middle and at the end."""
    lines = []
    for corpus, runs in found.items():
        lines += [
            f"| {corpus} | steps | loss over random's, after half the samples | at the end | of each seed |",
            "|---|---:|---:|---:|---|",
        ]
        seeds = sorted({seed for row in runs.values() for seed in row})
        for way, row in runs.items():
            ratios = np.array(
                [
                    [one[1] / other[1] for one, other in zip(row[seed]["curve"], runs["random"][seed]["curve"])]
                    for seed in seeds
                    if seed in row
                ]
            )
            middle, end = ratios[:, ratios.shape[1] // 2 - 1], ratios[:, -1]
            steps = next(iter(row.values()))["steps"]
            each = ", ".join(f"{value:.3f}" for value in end)
            lines.append(f"| {way} | {steps:,} | {middle.mean():.3f} | {end.mean():.3f} | {each} |")
        lines.append("")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="../shared/data")
    parser.add_argument("--corpora", default=",".join(WORKLOADS))
    parser.add_argument("--ways", default=";".join(WAYS), help="apart by semicolons")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--table", type=Path, help="print the table of a result, and run nothing")
    options = parser.parse_args()
    if options.table:
        print(table(records.read(options.table)))
        return
    import mindspore as ms

    ms.set_device("CPU")
    ms.set_context(mode=ms.GRAPH_MODE)
    file = options.json
    found = records.read(file)
    for corpus in options.corpora.split(","):
        trainer = Trainer(WORKLOADS[corpus](options.data))
        for seed in options.seeds.split(","):
            for way in options.ways.split(";"):
                row = trainer.train(way, int(seed))
                found.setdefault(corpus, {}).setdefault(way, {})[seed] = row
                print(corpus, seed, way, json.dumps(row), flush=True)
                records.write(file, found)
    print(table(found))


if __name__ == "__main__":
    main()
