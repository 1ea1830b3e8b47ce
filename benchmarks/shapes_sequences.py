"""The batches that each alternative runs in an epoch: their sizes, in order, and which samples they hold.

    per shape   batches pooled by length, padded to their longest: a static graph for every shape. Once all are
                compiled this is the oracle
    dynamic     the same batches on one dynamic graph (``set_inputs``)
    longest     every batch padded to the corpus's longest
    native      ``bucket_batch_by_length``: evenly spaced boundaries, as many as ours has sizes; for pairs by the longer
                side. The last batch of each bucket is short, and a graph of its own
    full        native with ``drop_remainder``: no short batches, and up to 15 samples of each bucket are lost
    ours        ``shapes.bucket_dataset`` over planned sizes
    torch       eager PyTorch on the pooled batches
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Union

import numpy as np

from ascend_fixes.shapes import Buckets, Grid
from benchmarks import shapes_corpora
from benchmarks.shapes_costs import ROWS, Size

__all__ = ["ALTERNATIVES", "NATIVE", "Batch", "Corpus", "batches", "spaced"]

NATIVE = ("per shape", "dynamic", "longest", "native", "full")  # what MindSpore offers
ALTERNATIVES = (*NATIVE, "ours", "torch")


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
        return _bucketed(corpus, Buckets(sizes), random, filled=False, keep_short=kind == "native")
    if kind == "ours":
        return _bucketed(corpus, sizes, random, filled=True, keep_short=True)
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


def _bucketed(
    corpus: Corpus, sizes: Union[Buckets, Grid], random: np.random.Generator, filled: bool, keep_short: bool
) -> Iterator[Batch]:
    """Batches of one bucket each, in random order; the last of a bucket filled up, short, or left out."""
    held: dict[Size, list[int]] = {}
    square = isinstance(sizes, Buckets) and corpus.lengths.ndim == 2
    for place in random.permutation(len(corpus.lengths)).tolist():
        length = corpus.lengths[place]
        size: Size = sizes(int(length.max())) if isinstance(sizes, Buckets) else sizes(*map(int, length))
        held.setdefault((size, size) if square else size, []).append(place)
    found = []
    for size, places in held.items():
        for start in range(0, len(places), ROWS):
            members = np.asarray(places[start : start + ROWS])
            if len(members) == ROWS or keep_short:
                found.append(Batch(size, ROWS if filled else len(members), members))
    for place in random.permutation(len(found)):
        yield found[place]


def _size(lengths: Any) -> Size:
    return int(lengths) if np.ndim(lengths) == 0 else tuple(int(n) for n in lengths)
