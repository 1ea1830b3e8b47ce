"""Corpora for TextING: the published folder format, a built-in generated corpus, splits and batches.

A folder holds ``<name>.clean.txt``, one document a line, words separated by
blanks, and ``<name>.txt``, whose line i describes document i as
``id<TAB>train|test<TAB>label``. This is the format in which Yao et al. 2019
(Text GCN) and Zhang et al. 2020 (TextING) publish MR and R8.

Word graphs are those of Zhang et al. 2020 ("Every Document Owns Its Structure: Inductive Text Classification via Graph Neural
Networks", ACL, section 2.1): the nodes of a document are its distinct words, two words are joined when they occur together in
a sliding window of three words, and the adjacency matrix A becomes D^-1/2 A D^-1/2 (unweighted, no self-loops, as in the
authors' code). They are made in NumPy over the concatenated corpus; no Python loop runs over documents or windows.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from examples.common.files import DataError, read_lines
from examples.common.randomness import Stream, digest, drawn, generator

__all__ = ["Corpus", "Graphs", "build", "built_in", "collate", "read_folder", "split"]


@dataclass(frozen=True)
class Corpus:
    """A tokenised corpus.

    Attributes:
        name: for tables and file names.
        vocabulary: the distinct words, in alphabetical order; ids are positions.
        words: (all words,) int64 word ids, document after document.
        lengths: (n,) int64 words per document.
        labels: (n,) int32.
        label_names: name of every label id.
        is_train: (n,) bool; the other documents are the test set.
    """

    name: str
    vocabulary: tuple[str, ...]
    words: np.ndarray
    lengths: np.ndarray
    labels: np.ndarray
    label_names: tuple[str, ...]
    is_train: np.ndarray

    def __len__(self) -> int:
        return len(self.lengths)

    def digest(self) -> str:
        """A hash of everything that training depends on."""
        return digest(self.vocabulary, self.label_names, self.words, self.lengths, self.labels, self.is_train)


def _corpus(name: str, documents: list[list[str]], labels: list[str], is_train: list[bool]) -> Corpus:
    vocabulary, words = np.unique([word for document in documents for word in document], return_inverse=True)
    label_names, label_ids = np.unique(labels, return_inverse=True)
    return Corpus(
        name=name,
        vocabulary=tuple(vocabulary.tolist()),
        words=words.astype(np.int64),
        lengths=np.array([len(document) for document in documents], np.int64),
        labels=label_ids.astype(np.int32),
        label_names=tuple(label_names.tolist()),
        is_train=np.array(is_train, bool),
    )


# --- the published format ----------------------------------------------------------------------


def read_folder(folder: Path) -> Corpus:
    """Read a corpus folder.

    Raises:
        DataError: the folder or a file is missing, is not UTF-8, the two files do not have the same number of
            lines, a line is malformed, a document is empty, or a split or a second label is missing.
    """
    if not folder.is_dir():
        raise DataError(f"--data {folder}: no such folder")
    texts = sorted(folder.glob("*.clean.txt"))
    if len(texts) != 1:
        raise DataError(f"--data {folder}: expected exactly one file named <name>.clean.txt, found {len(texts)}")
    name = texts[0].name[: -len(".clean.txt")]
    index = folder / f"{name}.txt"
    documents = [line.split() for line in read_lines(texts[0])]
    entries = [line.split("\t") for line in read_lines(index)]
    if len(documents) != len(entries):
        counts = f"{texts[0].name} has {len(documents):,} documents but {index.name} labels {len(entries):,}"
        raise DataError(f"--data {folder}: {counts}")
    for number, (document, entry) in enumerate(zip(documents, entries), start=1):
        if not document:
            raise DataError(f"{texts[0]}, line {number}: empty document")
        if len(entry) != 3 or entry[1] not in ("train", "test") or not entry[2].strip():
            found = "\t".join(entry)[:60]
            raise DataError(f"{index}, line {number}: expected id<TAB>train|test<TAB>label, got {found!r}")
    labels, is_train = [entry[2].strip() for entry in entries], [entry[1] == "train" for entry in entries]
    corpus = _corpus(name, documents, labels, is_train)
    _check(corpus, index)
    return corpus


def _check(corpus: Corpus, index: Path) -> None:
    if corpus.is_train.sum() < 20 or corpus.is_train.all():
        raise DataError(
            f"{index}: needs at least 20 training documents and one test document, "
            f"has {corpus.is_train.sum():,} and {(~corpus.is_train).sum():,}"
        )
    trained = np.unique(corpus.labels[corpus.is_train])
    if len(trained) < 2:
        raise DataError(f"{index}: the training documents carry only one label")
    unseen = sorted(set(np.unique(corpus.labels).tolist()) - set(trained.tolist()))
    if unseen:
        raise DataError(f"{index}: label {corpus.label_names[unseen[0]]!r} occurs in the test set only")


# --- built-in data -----------------------------------------------------------------------------

_GOOD = "bright clever crisp fresh funny gentle honest lively moving sharp smart solid strong sweet tender warm witty"
_BAD = "awful bland boring clumsy cold dull empty flat grim hollow lazy loud messy silly sloppy stale tired weak"
_THINGS = "acting camera cast dialogue ending film humor music pace plot scene script sound story style tone voice work"
_FILLER = 400


def built_in(train: int = 2400, test: int = 600, seed: int = 0, ragged: bool = False) -> Corpus:
    """A generated corpus of "reviews" in which a bag of words is at chance and word graphs are not.

    Every review holds opinions such as ``plot never boring`` among filler words. Half of the
    opinions are negated, so good and bad adjectives are equally frequent under both labels; what
    tells is which of them stand next to ``never``. One opinion in eight is noise. Lengths are
    log-normal, from 6 to about 110 words, so that padding to the longest is expensive; with ``ragged`` they are those of
    Reuters-8 (`examples.common.randomness`), and at least the opinions'.
    """
    random = generator(seed, Stream.DATA)
    lengths = drawn("texting", train + test, random)[:, 0] if ragged else None
    good, bad, things = (np.array(words.split()) for words in (_GOOD, _BAD, _THINGS))
    filler = np.array([f"{a}{b}" for a in _syllables() for b in _syllables()])[:_FILLER]
    frequency = 1.0 / np.arange(10, _FILLER + 10)
    documents, labels = [], []
    for i in range(train + test):
        label = i % 2
        opinions = 1 + int(random.integers(1, 4))
        parts = []
        for k in range(opinions):
            positive = bool(label) if k < 2 or random.random() < 0.75 else not label
            negated = bool(random.integers(2))
            adjective = random.choice(good if positive != negated else bad)
            parts.append([random.choice(things), "never" if negated else "always", adjective])
        if lengths is None:
            length = int(np.clip(random.lognormal(2.6, 0.8), 3, 100))
        else:
            length = max(int(lengths[i]) - 3 * opinions, 0)
        parts += [[word] for word in random.choice(filler, length, p=frequency / frequency.sum())]
        documents.append([word for p in random.permutation(len(parts)) for word in parts[p]])
        labels.append("good" if label else "bad")
    return _corpus("built-in", documents, labels, [i < train for i in range(train + test)])


def _syllables() -> list[str]:
    return [f"{consonant}{vowel}" for consonant in "bdfgklmnprstvz" for vowel in "aeiou"]


# --- word graphs -------------------------------------------------------------------------------

WINDOW = 3


@dataclass(frozen=True)
class Graphs:
    """The graphs of ``n`` documents, stored flat.

    Attributes:
        nodes: (all nodes,) int32, the word id of every node, document after document.
        node_starts: (n + 1,) int64; the nodes of document i are ``nodes[node_starts[i]:node_starts[i + 1]]``.
        rows, columns: (all edges,) int32, the two ends of every directed edge, counted within the document.
        weights: (all edges,) float32, 1 / sqrt(degree(row) * degree(column)).
        edge_starts: (n + 1,) int64, as ``node_starts``.
    """

    nodes: np.ndarray
    node_starts: np.ndarray
    rows: np.ndarray
    columns: np.ndarray
    weights: np.ndarray
    edge_starts: np.ndarray

    def __len__(self) -> int:
        return len(self.node_starts) - 1

    @property
    def sizes(self) -> np.ndarray:
        """(n,) int64: the number of nodes of every document."""
        return np.diff(self.node_starts)


def build(words: np.ndarray, lengths: np.ndarray, window: int = WINDOW) -> Graphs:
    """Build the graph of every document.

    Args:
        words: (all words,) int, the word ids of all documents in a row.
        lengths: (n,) int, the number of words of every document.
        window: width of the sliding window in words, at least 2.
    """
    words = np.asarray(words, np.int64)
    document = np.repeat(np.arange(len(lengths), dtype=np.int64), lengths)
    vocabulary = int(words.max(initial=0)) + 1
    keys, node = np.unique(document * vocabulary + words, return_inverse=True)
    node_starts = np.searchsorted(keys, np.arange(len(lengths) + 1, dtype=np.int64) * vocabulary)

    edges = _edges(document, node, len(keys), window)
    rows, columns = edges // len(keys), edges % len(keys)
    degree = np.bincount(rows, minlength=len(keys)).astype(np.float64)
    weights = 1.0 / np.sqrt(degree[rows] * degree[columns])

    owner = keys[rows] // vocabulary
    return Graphs(
        nodes=(keys % vocabulary).astype(np.int32),
        node_starts=node_starts,
        rows=(rows - node_starts[owner]).astype(np.int32),
        columns=(columns - node_starts[owner]).astype(np.int32),
        weights=weights.astype(np.float32),
        edge_starts=np.searchsorted(owner, np.arange(len(lengths) + 1)),
    )


def _edges(document: np.ndarray, node: np.ndarray, nodes: int, window: int) -> np.ndarray:
    """Sorted distinct edges as row * nodes + column: words less than ``window`` apart share a window."""
    found = [np.empty(0, np.int64)]
    for distance in range(1, window):
        left, right = node[:-distance], node[distance:]
        joined = (document[:-distance] == document[distance:]) & (left != right)
        left, right = left[joined], right[joined]
        found += [left * nodes + right, right * nodes + left]
    return np.unique(np.concatenate(found))


# --- splits and batches ------------------------------------------------------------------------


def split(corpus: Corpus, seed: int, validation: float = 0.1) -> dict[str, np.ndarray]:
    """Document numbers of "train", "validation" (a random share of the training documents) and "test"."""
    train = generator(seed, Stream.SPLIT).permutation(np.flatnonzero(corpus.is_train))
    held_out = max(1, int(validation * len(train)))
    return {"train": train[held_out:], "validation": train[:held_out], "test": np.flatnonzero(~corpus.is_train)}


def collate(
    graphs: Graphs, rows: np.ndarray, documents: np.ndarray, width: int | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Dense arrays of some documents, ``width`` nodes wide or as wide as the largest of them.

    Args:
        graphs: of the whole corpus.
        rows: (words,) int32, the row of the word vectors that a word id has.
        documents: (batch,) document numbers.

    Returns:
        ``nodes`` (batch, width) int32, ``adjacency`` (batch, width, width) float32, ``mask`` (batch, width, 1)
        float32, zero outside the documents.
    """
    batch = len(documents)
    width = width or int(graphs.sizes[documents].max())
    owner, place, node = _spread(graphs.node_starts, documents)
    nodes = np.zeros((batch, width), np.int32)
    mask = np.zeros((batch, width, 1), np.float32)
    nodes[owner, place] = rows[graphs.nodes[node]]
    mask[owner, place] = 1
    owner, _, edge = _spread(graphs.edge_starts, documents)
    adjacency = np.zeros((batch, width, width), np.float32)
    adjacency[owner, graphs.rows[edge], graphs.columns[edge]] = graphs.weights[edge]
    return nodes, adjacency, mask


def _spread(starts: np.ndarray, documents: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For every item of the documents: which of the documents, which item of it, which item of the corpus."""
    counts = starts[documents + 1] - starts[documents]
    owner = np.repeat(np.arange(len(documents)), counts)
    place = np.arange(len(owner)) - np.repeat(np.cumsum(counts) - counts, counts)
    return owner, place, place + starts[documents][owner]
