"""Train one variant of TextING: as a newcomer to MindSpore writes it, or with families of fixes (see README.md)."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from mindspore import nn

from ascend_fixes import fusion
from examples.common import checkpoint, training
from examples.common.command_line import positive
from examples.common.randomness import Stream, digest, dropout, generator
from examples.common.training import BOTH, axes
from examples.texting import data
from examples.texting.model import HIDDEN, Loss, TextING
from examples.texting.vectors import read_glove

BATCH, WIDTH, DROPOUT, LEARNING_RATE = 64, 300, 0.5, 0.005
# Trained word vectors learn reviews by heart within two epochs; the paper's fixed ones cannot. Therefore
VECTOR_LEARNING_RATE = 0.001  # they move more slowly than the weights,
VECTOR_DROPOUT = 0.7  # more of them is dropped than of the readout,
WORD_DROPOUT = 0.3  # a word of a training document is unknown with this probability,
AVERAGE = 0.8  # and what is evaluated is a running average of the weights (Polyak and Juditsky 1992).
COSTS = 0.01, 0.0006, 2.0  # in seconds on two CPU cores: of a batch, of every padded node, of a compilation


def corpus_of(options: Mapping[str, Any]) -> data.Corpus:
    """The corpus that the options name."""
    return training.corpus(options, data.read_folder, data.built_in, parts=2)


class Trainer(training.Trainer):
    """Documents in batches of similar size."""

    title, about = "TextING", "TextING (Zhang et al. 2020)"
    epochs: ClassVar = {"built-in": 5, "data": 10}
    options: ClassVar = {
        "embeddings": {"metavar": "FILE", "help": "start from these word vectors (GloVe's text format)"},
        "width": {"type": positive, "metavar": "N", "help": "how wide they are (default: as in FILE, or 300)"},
    }
    metric, samples, average, by_loss, evaluation_batch = "test_accuracy", "documents", AVERAGE, True, 128
    ragged_axes: ClassVar = axes(nodes=BOTH, adjacency="rows size size", mask=BOTH)
    training_axes: ClassVar = axes(keep_features="rows size", keep_readout="rows", labels="rows", weights="rows")

    @staticmethod
    def check(options: Mapping[str, Any]) -> None:
        corpus = corpus_of(options)
        if options["embeddings"]:
            read_glove(Path(options["embeddings"]), corpus.vocabulary, options["width"])

    def __init__(self, request: Mapping[str, Any], folder: Path) -> None:
        super().__init__(request, BATCH)
        self.corpus = corpus = corpus_of(request)
        started = time.perf_counter()
        self.word_graphs = data.build(corpus.words, corpus.lengths)
        seconds = time.perf_counter() - started
        print(f"{request['variant']}: built {len(corpus):,} graphs in {seconds:.2f} s", flush=True)
        sizes = np.array([len(graph.nodes) for graph in self.word_graphs])
        self.numbers = data.split(corpus, self.seed)
        self.lengths = dict.fromkeys(self.numbers, sizes)
        train = self.numbers["train"] = self.numbers["train"][: request["limit"]]
        random = generator(self.seed, Stream.WEIGHTS)
        self.rows, vectors = _vectors(corpus, train, request, random)
        self.width, self.identity = vectors.shape[1], {"corpus": corpus.digest(), "vectors": digest(vectors)}
        self.buckets = self.plan(sizes[train], int(sizes.max()), COSTS)
        words = np.array(corpus.vocabulary, object)[self.rows > 0].tolist()  # rows are numbered in this order
        model = {"words": words, "labels": corpus.label_names, "width": self.width}
        checkpoint.describe(folder, "texting", model)
        gated = self.safe and request["fused"]  # unfused, what a newcomer writes is as right, and faster
        network = TextING(vectors, len(corpus.label_names), random, finite_masks=self.finite, safe=gated)
        if self.safe:
            fusion.safe(network)
        # Adam (Kingma and Ba 2015), slower for the word vectors.
        weights = [parameter for parameter in network.trainable_params() if parameter is not network.vectors]
        groups = [{"params": [network.vectors], "lr": VECTOR_LEARNING_RATE}, {"params": weights, "lr": LEARNING_RATE}]
        self.build(Loss(network), network, nn.Adam(groups))
        self.bucket(outputs={0: "rows"})

    def arrays(self, part: str, samples: np.ndarray) -> tuple[np.ndarray, ...]:
        return data.collate(self.word_graphs, self.rows, samples, None if self.own else self.longest)

    def inputs(self, batch: training.Batch) -> tuple[np.ndarray, ...]:
        epoch, number, documents = batch
        random = generator(self.seed, Stream.DROPOUT, epoch, number)
        nodes, adjacency, mask = self.arrays("train", documents)
        keep_words = random.random((*nodes.shape, 1), np.float32) >= WORD_DROPOUT
        keep_features = dropout(random, (*nodes.shape, self.width), VECTOR_DROPOUT)
        keep_features *= keep_words / np.float32(1 - WORD_DROPOUT)
        keep_readout = dropout(random, (len(documents), HIDDEN), DROPOUT)
        labels, weights = self.corpus.labels[documents], np.ones(len(documents), np.float32)
        return nodes, adjacency, mask, keep_features, keep_readout, labels, weights

    def evaluate(self, part: str) -> tuple[float, float]:
        right, loss, count = 0, 0.0, len(self.numbers[part])
        for documents, _, output in self.evaluated(part):
            logits, labels = output.asnumpy().astype(np.float64), self.corpus.labels[documents]
            right += int((logits.argmax(1) == labels).sum())
            loss += float((np.logaddexp.reduce(logits, 1) - logits[np.arange(len(labels)), labels]).sum())
        return right / count, loss / count


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
    vectors[rows[found]], vectors[0] = given, 0
    return rows, vectors


if __name__ == "__main__":
    training.main(Trainer)
