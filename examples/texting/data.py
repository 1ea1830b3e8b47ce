"""Corpora for TextING, in the format of Yao et al. 2019 (Text GCN), or built-in ones; word graphs, splits and batches.

Word graphs are those of Zhang et al. 2020 (ACL, section 2.1): the nodes of a document are its distinct words, two words are
joined when they occur together in a sliding window of three words, and the adjacency matrix A becomes D^-1/2 A D^-1/2
(unweighted, no self-loops, as in the authors' code).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from examples.common.files import ExampleError, expect, read_lines
from examples.common.randomness import Stream, digest, drawn, generator, padded

WINDOW = 3


@dataclass(frozen=True)
class Corpus:
    """A tokenised corpus.

    ``vocabulary``: the distinct words, in alphabetical order; ids are positions. ``words`` (all words,) int64 ids, document after
    document; ``lengths`` (n,) int64 words of each; ``labels`` (n,) int32; documents that are not ``is_train`` (n,) are the test set.
    """

    vocabulary: tuple[str, ...]
    words: np.ndarray
    lengths: np.ndarray
    labels: np.ndarray
    label_names: tuple[str, ...]
    is_train: np.ndarray

    def __len__(self) -> int:
        return len(self.lengths)

    @classmethod
    def of(cls, documents: list[list[str]], labels: list[str], is_train: list[bool]) -> Corpus:
        vocabulary, words = np.unique([word for document in documents for word in document], return_inverse=True)
        names, ids = np.unique(labels, return_inverse=True)
        lengths = np.array([len(document) for document in documents], np.int64)
        vocabulary, names = tuple(vocabulary.tolist()), tuple(names.tolist())
        return cls(vocabulary, words.astype(np.int64), lengths, ids.astype(np.int32), names, np.array(is_train))

    def digest(self) -> str:
        return digest(self.vocabulary, self.label_names, self.words, self.lengths, self.labels, self.is_train)


def read_folder(folder: Path) -> Corpus:
    """Read a corpus folder; `ExampleError` where a line is malformed, or a split or a second label is missing; `FileError`."""
    texts = sorted(folder.glob("*.clean.txt"))
    expect(len(texts) == 1, f"--data {folder}: expected exactly one file named <name>.clean.txt, found {len(texts)}")
    name = texts[0].name[: -len(".clean.txt")]
    index = folder / f"{name}.txt"
    documents = [line.split() for line in read_lines(texts[0])]
    entries = [line.split("\t") for line in read_lines(index)]
    counts = f"{texts[0].name} has {len(documents):,} documents but {index.name} labels {len(entries):,}"
    expect(len(documents) == len(entries), f"--data {folder}: {counts}")
    for number, (document, entry) in enumerate(zip(documents, entries), start=1):
        expect(document, f"{texts[0]}, line {number}: empty document")
        if len(entry) != 3 or entry[1] not in ("train", "test") or not entry[2].strip():
            found = "\t".join(entry)[:60]
            raise ExampleError(f"{index}, line {number}: expected id<TAB>train|test<TAB>label, got {found!r}")
    labels, is_train = [entry[2].strip() for entry in entries], [entry[1] == "train" for entry in entries]
    trained = {label for label, train in zip(labels, is_train) if train}
    counts = f"has {sum(is_train):,} and {len(entries) - sum(is_train):,}"
    enough = sum(is_train) >= 20 and not all(is_train)
    expect(enough, f"{index}: needs at least 20 training documents and one test document, {counts}")
    expect(len(trained) > 1, f"{index}: the training documents carry only one label")
    if unseen := sorted(set(labels) - trained):
        raise ExampleError(f"{index}: label {unseen[0]!r} occurs in the test set only")
    return Corpus.of(documents, labels, is_train)


_GOOD = "bright clever crisp fresh funny gentle honest lively moving sharp smart solid strong sweet tender warm witty"
_BAD = "awful bland boring clumsy cold dull empty flat grim hollow lazy loud messy silly sloppy stale tired weak"
_THINGS = "acting camera cast dialogue ending film humor music pace plot scene script sound story style tone voice work"
_SYLLABLES = [f"{consonant}{vowel}" for consonant in "bdfgklmnprstvz" for vowel in "aeiou"]
_FILLER = 400


def built_in(train: int = 2400, test: int = 600, seed: int = 0, ragged: bool = False) -> Corpus:
    """A generated corpus of "reviews" in which a bag of words is at chance and word graphs are not.

    Every review holds opinions such as ``plot never boring`` among filler words. Half of the opinions are negated, so good and
    bad adjectives are equally frequent under both labels; what tells is which of them stand next to ``never``. One opinion in
    eight is noise. Lengths are log-normal, from 6 to about 110 words, so that padding to the longest is expensive; with
    ``ragged`` they are those of Reuters-8 (`examples.common.randomness`), and at least the opinions'.
    """
    random = generator(seed, Stream.DATA)
    lengths = drawn("texting", train + test, random)[:, 0] if ragged else None
    good, bad, things = (np.array(words.split()) for words in (_GOOD, _BAD, _THINGS))
    filler = np.array([f"{a}{b}" for a in _SYLLABLES for b in _SYLLABLES])[:_FILLER]
    frequency = 1.0 / np.arange(10, _FILLER + 10)
    documents, labels = [], []
    for i in range(train + test):
        label, opinions = i % 2, 1 + int(random.integers(1, 4))
        parts = []
        for k in range(opinions):
            positive = bool(label) if k < 2 or random.random() < 0.75 else not label
            negated = bool(random.integers(2))
            adjective = random.choice(good if positive != negated else bad)
            parts.append([random.choice(things), "never" if negated else "always", adjective])
        if ragged:
            length = max(int(lengths[i]) - 3 * opinions, 0)
        else:
            length = int(np.clip(random.lognormal(2.6, 0.8), 3, 100))
        parts += [[word] for word in random.choice(filler, length, p=frequency / frequency.sum())]
        documents.append([word for p in random.permutation(len(parts)) for word in parts[p]])
        labels.append("good" if label else "bad")
    return Corpus.of(documents, labels, [i < train for i in range(train + test)])


class Graph(NamedTuple):
    """A document's graph: word ids of its nodes, int32, the two ends of every directed edge, and the edges' float32 weights."""

    nodes: np.ndarray
    rows: np.ndarray
    columns: np.ndarray
    weights: np.ndarray


def build(words: np.ndarray, lengths: np.ndarray, window: int = WINDOW) -> list[Graph]:
    """The graphs of documents: word ids (all words,) in a row, words of every document (n,); ``window`` is at least 2 words."""
    graphs = []
    for document in np.split(np.asarray(words), np.cumsum(lengths)[:-1]):
        nodes, place = np.unique(document, return_inverse=True)
        joined = np.zeros((len(nodes), len(nodes)), bool)
        for distance in range(1, window):
            joined[place[:-distance], place[distance:]] = True
        joined |= joined.T
        np.fill_diagonal(joined, False)
        degree = joined.sum(1)
        rows, columns = joined.nonzero()
        weights = (1.0 / np.sqrt(degree[rows] * degree[columns])).astype(np.float32)
        graphs.append(Graph(nodes.astype(np.int32), rows, columns, weights))
    return graphs


def split(corpus: Corpus, seed: int, validation: float = 0.1) -> dict[str, np.ndarray]:
    """Document numbers of "train", "validation" (a random share of the training documents) and "test"."""
    train = generator(seed, Stream.SPLIT).permutation(np.flatnonzero(corpus.is_train))
    held_out = max(1, int(validation * len(train)))
    return {"train": train[held_out:], "validation": train[:held_out], "test": np.flatnonzero(~corpus.is_train)}


def collate(
    graphs: Sequence[Graph], rows: np.ndarray, documents: np.ndarray, width: int | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Dense arrays of some documents, ``width`` nodes wide or as wide as the largest of them.

    ``rows`` (words,) int32 is the row of the word vectors that a word id has. Returns ``nodes`` (batch, width) int32,
    ``adjacency`` (batch, width, width) float32, ``mask`` (batch, width, 1) float32, zero outside the documents.
    """
    chosen = [graphs[number] for number in documents]
    nodes, mask = padded([rows[graph.nodes] for graph in chosen], width)
    adjacency = np.zeros((*nodes.shape, nodes.shape[1]), np.float32)
    for place, graph in enumerate(chosen):
        adjacency[place, graph.rows, graph.columns] = graph.weights
    return nodes, adjacency, mask[..., None]
