"""The batches that each alternative runs in an epoch: their sizes, in order, and which samples they hold.

per shape   batches pooled by length, padded to their longest: a static graph for every shape. Once all are
            compiled this is the oracle
dynamic     the same batches on one dynamic graph (``set_inputs``)
longest     every batch padded to the corpus's longest
native      ``bucket_batch_by_length``: evenly spaced boundaries, as many as ours has sizes; for pairs by the longer
            side. The last batch of each bucket is short, and a graph of its own
full        native with ``drop_remainder``: no short batches, and up to 15 samples of each bucket are lost
ours        ``shapes.bucket_dataset(carry=True)`` over planned sizes
warmed      the same, with every graph compiled ahead by two processes (``shapes.warm``), which is counted
torch       eager PyTorch on the pooled batches
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ascend_fixes.shapes import Buckets, Grid, bucket_dataset
from benchmarks.shapes import corpora as shapes_corpora
from benchmarks.shapes.costs import ROWS, Size

__all__ = ["ALTERNATIVES", "NATIVE", "OURS", "Batch", "Corpus", "batches", "spaced"]

NATIVE = ("per shape", "dynamic", "longest", "native", "full")  # what MindSpore offers
OURS = ("ours", "warmed")
ALTERNATIVES = (*NATIVE, *OURS, "torch")


@dataclass(frozen=True)
class Batch:
    """One step: its padded size, its rows, and the samples in it (fewer than the rows where it was filled up)."""

    size: Size
    rows: int
    members: np.ndarray


@dataclass(frozen=True)
class Corpus:
    """Lengths int64 [n] of texts, or [n, 2] of sentence pairs, and the net that is trained on them."""

    name: str
    lengths: np.ndarray

    @classmethod
    def load(cls, data: str, name: str, count: int = 0) -> Corpus:
        """A corpus, or a fixed sample of ``count`` of it; "multi30k" is its sentence pairs."""
        lengths = shapes_corpora.pairs(data) if name == "multi30k" else shapes_corpora.lengths(data, name)
        return cls(name, np.random.default_rng(0).permutation(lengths)[:count] if count else lengths)

    @property
    def net(self) -> str:
        return "bert" if self.lengths.ndim == 1 else "rnnsearch"

    @property
    def longest(self) -> Size:
        return _size(self.lengths.max(0))


def batches(corpus: Corpus, kind: str, sizes: Any, epoch: int) -> Iterator[Batch]:
    """The batches of one epoch; ``sizes`` are Buckets or a Grid for "ours", boundaries for "native" and "full"."""
    random = np.random.default_rng([0, epoch])
    if kind in ("native", "full"):
        return _natively(corpus, Buckets(sizes), random, keep_short=kind == "native")
    if kind in OURS:
        return _ours(corpus, sizes, epoch)
    return _pooled(corpus, random, padded_to=corpus.longest if kind == "longest" else None)


def spaced(corpus: Corpus, k: int) -> list[int]:
    """Evenly spaced sizes, up to the longest."""
    high = int(corpus.lengths.max())
    return sorted({-(-high * i // k) for i in range(1, k + 1)})


def _pooled(corpus: Corpus, random: np.random.Generator, padded_to: Any) -> Iterator[Batch]:
    """Whole batches of similar lengths, in random order."""
    shuffled = random.permutation(len(corpus.lengths))
    keys = corpus.lengths[shuffled]
    order = shuffled[np.argsort(keys, kind="stable") if keys.ndim == 1 else np.lexsort(keys.T[::-1])]
    for start in random.permutation(np.arange(0, len(order) - ROWS + 1, ROWS)):
        members = order[start : start + ROWS]
        yield Batch(padded_to or _size(corpus.lengths[members].max(0)), ROWS, members)


def _natively(corpus: Corpus, sizes: Buckets, random: np.random.Generator, keep_short: bool) -> Iterator[Batch]:
    """Batches of one bucket each, in random order; the last of a bucket is short, or left out."""
    held: dict[Size, list[int]] = {}
    for place in random.permutation(len(corpus.lengths)).tolist():
        held.setdefault(sizes(int(corpus.lengths[place].max())), []).append(place)
    found = []
    for size, places in held.items():
        for start in range(0, len(places), ROWS):
            members = np.asarray(places[start : start + ROWS])
            if len(members) == ROWS or keep_short:
                found.append(Batch(size if corpus.lengths.ndim == 1 else (size, size), len(members), members))
    for place in random.permutation(len(found)):
        yield found[place]


class _Nothing:
    """As many samples as a corpus has, without their content."""

    def __init__(self, corpus: Corpus):
        self.corpus = corpus

    def __len__(self) -> int:
        return len(self.corpus.lengths)

    def __getitem__(self, place: int) -> dict[str, np.ndarray]:
        return {"words": np.zeros(self.corpus.lengths[place], np.int8)}


def _ours(corpus: Corpus, sizes: Buckets | Grid, epoch: int) -> Iterator[Batch]:
    """What the pipeline itself plans."""
    axes = {"words": 1} if corpus.lengths.ndim == 1 else {"words": {1: "source", 2: "target"}}
    pipeline = bucket_dataset(_Nothing(corpus), corpus.lengths, sizes, ROWS, shuffle_seed=0, axes=axes, carry=True)
    for one in pipeline.source.order(epoch):
        yield Batch(one.size if corpus.lengths.ndim == 2 else one.size[0], one.rows, one.places)


def _size(lengths: Any) -> Size:
    return int(lengths) if np.ndim(lengths) == 0 else tuple(int(n) for n in lengths)
