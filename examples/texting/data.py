"""Corpora for TextING: the published folder format, a built-in generated corpus, splits and batches.

A folder holds ``<name>.clean.txt``, one document a line, words separated by
blanks, and ``<name>.txt``, whose line i describes document i as
``id<TAB>train|test<TAB>label``. This is the format in which Yao et al. 2019
(Text GCN) and Zhang et al. 2020 (TextING) publish MR and R8.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from examples.common.batches import chunks
from examples.common.errors import DataError
from examples.common.files import read_lines
from examples.common.lengths import drawn
from examples.common.randomness import Stream, generator
from examples.texting.graphs import Graphs

__all__ = ["Corpus", "built_in", "chunks", "collate", "read_folder", "split"]


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
        digest = hashlib.sha256("\n".join(self.vocabulary + self.label_names).encode())
        for array in (self.words, self.lengths, self.labels, self.is_train):
            digest.update(np.ascontiguousarray(array, np.int64).tobytes())
        return digest.hexdigest()


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
    Reuters-8 (`examples.common.lengths`), and at least the opinions'.
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
