"""Train one variant of TextING: plainly, as a newcomer to MindSpore writes it, or with families of fixes.

Each family changes one thing:

* **shapes**: batches hold documents of similar size and are padded to one of a few sizes (`shapes.bucketed`);
  plainly, every document is padded to the longest of the corpus.
* **amp**: maxima are masked finitely, and the step is an `amp.TrainStep` with an `amp.LossScaler`, in float16
  under an `amp.Policy`; plainly, -1e9 is added, and float16 is the cell's ``to_float``.
* **fusion**: with the graph kernel on, `fusion.safe` keeps out of it what it gets wrong.
* **host**: dropout masks come from the host in every variant, because resuming needs it; nothing is left to change.

Run by `examples.common.variants`, in a process of its own.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from mindspore import Tensor, nn

from ascend_fixes import fusion, shapes
from examples.common import ranks, step, trainer, variants
from examples.common.batches import chunks
from examples.common.lengths import TESTED, TRAINED
from examples.common.randomness import Stream, dropout, generator
from examples.texting import data
from examples.texting.graphs import build_cached
from examples.texting.model import HIDDEN, Loss, TextING
from examples.texting.predict import Model
from examples.texting.vectors import read_glove

__all__ = ["TRAINER"]

BATCH = 64
EVALUATION_BATCH = 128
WIDTH = 300
LEARNING_RATE = 0.005
DROPOUT = 0.5

# Trained word vectors learn reviews by heart within two epochs; the paper's fixed ones cannot. Therefore
VECTOR_LEARNING_RATE = 0.001  # they move more slowly than the weights,
VECTOR_DROPOUT = 0.7  # more of them is dropped than of the readout,
WORD_DROPOUT = 0.3  # a word of a training document is unknown with this probability,
AVERAGE = 0.8  # and what is evaluated is a running average of the weights (Polyak and Juditsky 1992).

# What a batch costs, in seconds on two CPU cores; the number of padded sizes is weighed with it.
STEP_SECONDS, NODE_SECONDS, COMPILE_SECONDS = 0.01, 0.0006, 2.0

_RAGGED = {
    "nodes": {0: "documents", 1: "nodes"},
    "adjacency": {0: "documents", 1: "nodes", 2: "nodes"},
    "mask": {0: "documents", 1: "nodes"},
}
_RAGGED_TRAINING = {
    **_RAGGED,
    "keep_features": {0: "documents", 1: "nodes"},
    "keep_readout": {0: "documents"},
    "labels": {0: "documents"},
    "weights": {0: "documents"},
}


class TextINGTrainer(trainer.Trainer):
    """Documents in batches of similar size."""

    metric, average, by_loss = "test_accuracy", AVERAGE, True

    def __init__(self, request: Mapping[str, Any], folder: Path) -> None:
        super().__init__(request, BATCH)
        seed = self.seed
        corpus = _corpus(request)
        self.word_graphs, self.speed = build_cached(corpus.words, corpus.lengths, Path(request["cache"]))
        print(f"{request['variant']}: {self.speed}", flush=True)
        self.parts = data.split(corpus, seed)
        self.train = self.parts["train"] = self.parts["train"][: request["limit"]]
        random = generator(seed, Stream.WEIGHTS)
        self.rows, vectors = _vectors(corpus, self.train, request, random)
        self.buckets = _buckets(self.word_graphs.sizes, self.train, request, self.batch)
        self.padded = step.padded_to(self.buckets, request)
        network = TextING(vectors, len(corpus.label_names), random, finite_masks="amp" in request["fixes"])
        words = np.array(corpus.vocabulary, object)[self.rows > 0].tolist()  # rows are numbered in this order
        self.vector_width = vectors.shape[1]
        Model(tuple(words), corpus.label_names, self.vector_width).save(folder)
        self.corpus, self._digest = corpus, hashlib.sha256(vectors.tobytes()).hexdigest()
        optimizer = _optimizer(network)
        if self.safe:
            fusion.safe(network)
        self.build(Loss(network), network, optimizer)
        if self.bucketing:
            self.cell = self._bucketed(self.cell, _RAGGED_TRAINING, ranks.rows(self.batch))
            self.network = self._bucketed(self.network, _RAGGED, EVALUATION_BATCH, outputs={0: "documents"})

    def _bucketed(self, cell: nn.Cell, axes: Mapping[str, Any], batch: int, outputs: Any = None) -> nn.Cell:
        buckets = {"documents": shapes.Buckets([batch]), "nodes": self.padded}
        return shapes.bucketed(cell, axes=axes, buckets=buckets, outputs=outputs)

    def identity(self) -> dict[str, Any]:
        return {"corpus": self.corpus.digest(), "vectors": self._digest}

    def lengths(self, samples: np.ndarray) -> np.ndarray:
        return self.word_graphs.sizes[samples]

    def _chunks(self, documents: np.ndarray, size: int, random: np.random.Generator | None = None) -> list[np.ndarray]:
        return chunks(documents, self.buckets.assign(self.word_graphs.sizes), size, random)

    def batches(self, epoch: int) -> list[trainer.Batch]:
        cut = self._chunks(self.train, self.batch, generator(self.seed, Stream.ORDER, epoch))
        return [trainer.Batch(epoch, number, documents) for number, documents in enumerate(cut)]

    def _collate(self, documents: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        width = None if self.bucketing or self.ragged else self.padded.sizes[-1]
        return data.collate(self.word_graphs, self.rows, documents, width)

    def inputs(self, batch: trainer.Batch) -> tuple[np.ndarray, ...]:
        epoch, number, documents = batch
        random = generator(self.seed, Stream.DROPOUT, epoch, number)
        nodes, adjacency, mask = self._collate(documents)
        keep_words = random.random((*nodes.shape, 1), np.float32) >= WORD_DROPOUT
        keep_features = dropout(random, (*nodes.shape, self.vector_width), VECTOR_DROPOUT)
        keep_features *= keep_words / np.float32(1 - WORD_DROPOUT)
        keep_readout = dropout(random, (len(documents), HIDDEN), DROPOUT)
        labels, weights = self.corpus.labels[documents], np.ones(len(documents), np.float32)
        return nodes, adjacency, mask, keep_features, keep_readout, labels, weights

    def evaluate(self, part: str) -> tuple[float, float]:
        """Accuracy and mean cross entropy over a part of the corpus."""
        right, loss = 0, 0.0
        for chunk in self._chunks(self.parts[part], EVALUATION_BATCH):
            logits = self.network(*map(Tensor, self._collate(chunk))).asnumpy().astype(np.float64)
            labels = self.corpus.labels[chunk]
            right += int((logits.argmax(1) == labels).sum())
            logits -= logits.max(1, keepdims=True)
            loss += float((np.log(np.exp(logits).sum(1)) - logits[np.arange(len(chunk)), labels]).sum())
        return right / len(self.parts[part]), loss / len(self.parts[part])

    def validate(self) -> tuple[float, float]:
        return self.evaluate("validation")

    def results(self) -> dict[str, Any]:
        return {
            self.metric: self.evaluate("test")[0],
            "documents": {part: len(numbers) for part, numbers in self.parts.items()},
            "sizes": list(self.buckets),
            "graph_building": self.speed,
        }


def _corpus(request: Mapping[str, Any]) -> data.Corpus:
    if request["data"]:
        return data.read_folder(Path(request["data"]))
    if request.get("ragged"):
        return data.built_in(TRAINED, TESTED, request["seed"], ragged=True)
    return data.built_in(seed=request["seed"])


def _vectors(
    corpus: data.Corpus, training_documents: np.ndarray, request: Mapping[str, Any], random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """``rows`` (words,) int32, the row of the vectors that a word has, and the first word vectors (rows, width) float32.

    Words of the training documents have a row, and words of the embeddings file. Row 0 is for padding and unknown words;
    it is zero and stays it.
    """
    counted = np.zeros(len(corpus), bool)
    counted[training_documents] = True
    known = np.zeros(len(corpus.vocabulary), bool)
    known[corpus.words[np.repeat(counted, corpus.lengths)]] = True
    found, given = np.empty(0, np.int64), np.empty((0, request["width"] or WIDTH), np.float32)
    if request["embeddings"]:
        found, given = read_glove(Path(request["embeddings"]), corpus.vocabulary, request["width"])
        known[found] = True
    rows = np.where(known, np.cumsum(known), 0).astype(np.int32)
    vectors = random.uniform(-0.01, 0.01, (int(known.sum()) + 1, given.shape[1])).astype(np.float32)
    vectors[rows[found]] = given
    vectors[0] = 0
    return rows, vectors


def _buckets(
    sizes: np.ndarray, training_documents: np.ndarray, request: Mapping[str, Any], batch: int
) -> shapes.Buckets:
    """The padded sizes with which this training is soonest over; without the family, only the longest document's."""
    longest = int(sizes.max())
    if "shapes" not in request["fixes"]:
        return shapes.Buckets([longest])
    widest_of_batches = np.sort(sizes[training_documents])[batch - 1 :: batch]
    return shapes.Buckets.plan(
        [*widest_of_batches, longest],
        step_cost=lambda nodes: STEP_SECONDS + NODE_SECONDS * nodes,
        compile_cost=COMPILE_SECONDS,
        epochs=request["epochs"],
    )


def _optimizer(network: TextING) -> nn.Optimizer:
    """Adam (Kingma and Ba 2015), slower for the word vectors."""
    weights = [parameter for parameter in network.trainable_params() if parameter is not network.vectors]
    groups = [{"params": [network.vectors], "lr": VECTOR_LEARNING_RATE}, {"params": weights, "lr": LEARNING_RATE}]
    return nn.Adam(groups)


TRAINER = TextINGTrainer

if __name__ == "__main__":
    variants.answer(functools.partial(trainer.run, TRAINER))
