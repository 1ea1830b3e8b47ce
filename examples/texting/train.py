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

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn

import ascend_fixes
from ascend_fixes import fusion, shapes
from examples.common import ranks, step, training, variants
from examples.common.randomness import Stream, dropout, generator
from examples.texting import data
from examples.texting.graphs import Graphs, build_cached
from examples.texting.model import HIDDEN, Loss, TextING
from examples.texting.predict import Model
from examples.texting.vectors import read_glove

__all__ = ["MODULE", "train"]

MODULE = "examples.texting.train"

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


@dataclass(frozen=True)
class Documents:
    """A corpus ready for batching.

    Attributes:
        labels: (n,) int32.
        graphs: of the n documents.
        rows: (words,) int32, the row of the word vectors that a word has; row 0 is for padding and unknown words.
        buckets: the numbers of nodes that batches are padded to; only one, the largest, where nothing is bucketed.
    """

    labels: np.ndarray
    graphs: Graphs
    rows: np.ndarray
    buckets: shapes.Buckets

    @property
    def widths(self) -> np.ndarray:
        """(n,) int64: how many nodes wide a batch with this document has to be at least."""
        return self.buckets.assign(self.graphs.sizes)


def train(request: dict[str, Any], folder: Path, resume: bool) -> dict[str, Any]:
    """Train the variant that ``request`` describes, with its checkpoint in ``folder``, and return its results."""
    ms.set_context(mode=ms.GRAPH_MODE)
    if request["fused"]:
        ms.set_context(enable_graph_kernel=True)
    if request["fixes"]:
        ascend_fixes.patch(*request["fixes"])
    fixes, seed = request["fixes"], request["seed"]
    corpus = data.read_folder(Path(request["data"])) if request["data"] else data.built_in(seed=seed)
    graphs, speed = build_cached(corpus.words, corpus.lengths, Path(request["cache"]))
    print(f"{request['variant']}: {speed}", flush=True)
    parts = data.split(corpus, seed)
    parts["train"] = parts["train"][: request["limit"]]
    random = generator(seed, Stream.WEIGHTS)
    rows, vectors = _vectors(corpus, parts["train"], request, random)
    documents = Documents(corpus.labels, graphs, rows, _buckets(graphs.sizes, parts["train"], request))
    network = TextING(vectors, len(corpus.label_names), random, finite_masks="amp" in fixes)
    words = np.array(corpus.vocabulary, object)[rows > 0].tolist()  # rows are numbered in this order
    Model(tuple(words), corpus.label_names, vectors.shape[1]).save(folder)
    trainer = _Trainer(documents, network, request)

    task = training.Task(
        settings={
            **{name: request[name] for name in (*variants.SETTINGS, "limit")},
            "corpus": corpus.digest(),
            "vectors": hashlib.sha256(vectors.tobytes()).hexdigest(),
        },
        batches=lambda epoch: trainer.batches(parts["train"], epoch),
        step=trainer.step,
        validate=lambda: trainer.evaluate(parts["validation"]),
        parameters=network.trainable_params(),
        slots=step.slots(trainer.optimizer),
        scaler=trainer.scaler,
        average=AVERAGE,
        by_loss=True,
    )
    progress = training.train(task, request["epochs"], folder / "checkpoint.npz", resume, request["variant"])
    accuracy, _ = trainer.evaluate(parts["test"])
    return {
        **training.summary(progress),
        "graphs": trainer.graphs,
        "padded_share": trainer.padded_share(parts["train"]),
        "metric": "test_accuracy",
        "test_accuracy": accuracy,
        "documents": {part: len(numbers) for part, numbers in parts.items()},
        "sizes": list(documents.buckets),
        "graph_building": speed,
    }


def _vectors(
    corpus: data.Corpus, training_documents: np.ndarray, request: Mapping[str, Any], random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """``rows`` as in `Documents`, and the initial word vectors (rows, width) float32.

    Words of the training documents have a row, and words of the embeddings file. Row 0 is zero and stays it.
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


def _buckets(sizes: np.ndarray, training_documents: np.ndarray, request: Mapping[str, Any]) -> shapes.Buckets:
    """The padded sizes with which this training is soonest over; without the family, only the longest document's."""
    longest = int(sizes.max())
    if "shapes" not in request["fixes"]:
        return shapes.Buckets([longest])
    widest_of_batches = np.sort(sizes[training_documents])[BATCH - 1 :: BATCH]
    return shapes.Buckets.plan(
        [*widest_of_batches, longest],
        step_cost=lambda nodes: STEP_SECONDS + NODE_SECONDS * nodes,
        compile_cost=COMPILE_SECONDS,
        epochs=request["epochs"],
    )


class _Trainer:
    """One variant's compiled step and evaluation, and the batches they take."""

    def __init__(self, documents: Documents, network: TextING, request: Mapping[str, Any]) -> None:
        self.documents = documents
        self.seed = request["seed"]
        self.vector_width = network.vectors.shape[1]
        self.bucketing = "shapes" in request["fixes"]
        self.padded = step.padded_to(documents.buckets, request)
        self.optimizer = _optimizer(network)
        if "fusion" in request["fixes"]:
            fusion.safe(network)
        made = step.cells(Loss(network), network, self.optimizer, request)
        self._step, self._network, self.scaler = made.step, made.network, made.scaler
        if self.bucketing:
            self._step = self._bucketed(self._step, _RAGGED_TRAINING, ranks.rows(BATCH))
            self._network = self._bucketed(self._network, _RAGGED, EVALUATION_BATCH, outputs={0: "documents"})

    def _bucketed(self, cell: nn.Cell, axes: Mapping[str, Any], batch: int, outputs: Any = None) -> nn.Cell:
        buckets = {"documents": shapes.Buckets([batch]), "nodes": self.padded}
        return shapes.bucketed(cell, axes=axes, buckets=buckets, outputs=outputs)

    @property
    def graphs(self) -> int:
        """How many graphs were compiled so far."""
        return len(shapes.graphs(self._step)) + len(shapes.graphs(self._network))

    def batches(self, documents: np.ndarray, epoch: int) -> list[tuple[int, int, np.ndarray]]:
        """(epoch, number, document numbers) of every batch of an epoch, in an order that the epoch decides."""
        random = generator(self.seed, Stream.ORDER, epoch)
        chunks = data.chunks(documents, self.documents.widths, BATCH, random)
        return [(epoch, number, chunk) for number, chunk in enumerate(chunks)]

    def _inputs(self, documents: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        width = None if self.bucketing else self.padded.sizes[-1]
        return data.collate(self.documents.graphs, self.documents.rows, documents, width)

    def step(self, batch: tuple[int, int, np.ndarray]) -> training.Step:
        """Train on one of the `batches`."""
        epoch, number, documents = batch
        random = generator(self.seed, Stream.DROPOUT, epoch, number)
        nodes, adjacency, mask = self._inputs(documents)
        keep_words = random.random((*nodes.shape, 1), np.float32) >= WORD_DROPOUT
        keep_features = dropout(random, (*nodes.shape, self.vector_width), VECTOR_DROPOUT)
        keep_features *= keep_words / np.float32(1 - WORD_DROPOUT)
        keep_readout = dropout(random, (len(documents), HIDDEN), DROPOUT)
        labels, weights = self.documents.labels[documents], np.ones(len(documents), np.float32)
        arrays = (nodes, adjacency, mask, keep_features, keep_readout, labels, weights)
        return step.run(self._step, arrays)

    def evaluate(self, documents: np.ndarray) -> tuple[float, float]:
        """Accuracy and mean cross entropy over some documents."""
        right, loss = 0, 0.0
        for chunk in data.chunks(documents, self.documents.widths, EVALUATION_BATCH):
            logits = self._network(*map(Tensor, self._inputs(chunk))).asnumpy().astype(np.float64)
            labels = self.documents.labels[chunk]
            right += int((logits.argmax(1) == labels).sum())
            logits -= logits.max(1, keepdims=True)
            loss += float((np.log(np.exp(logits).sum(1)) - logits[np.arange(len(chunk)), labels]).sum())
        return right / len(documents), loss / len(documents)

    def padded_share(self, documents: np.ndarray) -> float:
        """The share of the nodes computed in an epoch of training that are padding."""
        padded = 0
        for _, _, chunk in self.batches(documents, 0):
            rows = BATCH if self.bucketing else len(chunk)
            padded += rows * int(self.padded(self.documents.graphs.sizes[chunk].max()))
        return 1 - float(self.documents.graphs.sizes[documents].sum()) / padded


def _optimizer(network: TextING) -> nn.Optimizer:
    """Adam (Kingma and Ba 2015), slower for the word vectors."""
    weights = [parameter for parameter in network.trainable_params() if parameter is not network.vectors]
    groups = [{"params": [network.vectors], "lr": VECTOR_LEARNING_RATE}, {"params": weights, "lr": LEARNING_RATE}]
    return nn.Adam(groups)


if __name__ == "__main__":
    variants.answer(train)
