"""From documents to word graphs, for a whole corpus at once.

As in Zhang et al. 2020 ("Every Document Owns Its Structure: Inductive Text
Classification via Graph Neural Networks", ACL, section 2.1): the nodes of a
document are its distinct words, two words are joined when they occur together in
a sliding window of three words, and the adjacency matrix A becomes
D^-1/2 A D^-1/2 (unweighted, no self-loops, as in the authors' code).

Everything is NumPy over the concatenated corpus; no Python loop runs over
documents or windows.
"""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from ascend_fixes import files

__all__ = ["WINDOW", "Graphs", "build", "build_cached"]

WINDOW = 3
_FORMAT = "texting-graphs-1"
_KIND = "ascend_fixes.examples graphs 1"


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


def build_cached(words: np.ndarray, lengths: np.ndarray, folder: Path, window: int = WINDOW) -> tuple[Graphs, str]:
    """`build`, kept in ``folder`` under a hash of its input; also returns one line that tells how fast it went.

    A cache file that cannot be read is built again.
    """
    started = time.perf_counter()
    digest = hashlib.sha256(f"{_FORMAT} window {window}".encode())
    for array in (words, lengths):
        digest.update(np.ascontiguousarray(array, np.int64).tobytes())
    path = folder / f"texting-graphs-{digest.hexdigest()[:20]}.npz"
    graphs = _load(path, len(lengths))
    how = "read"
    if graphs is None:
        graphs = build(words, lengths, window)
        how = "built"
        folder.mkdir(parents=True, exist_ok=True)
        files.write_arrays(path, _KIND, {field.name: getattr(graphs, field.name) for field in fields(graphs)})
    seconds = time.perf_counter() - started
    return graphs, f"{how} {len(graphs):,} graphs in {seconds:.2f} s ({len(graphs) / seconds:,.0f} documents/s)"


def _load(path: Path, documents: int) -> Graphs | None:
    try:
        graphs = Graphs(**files.read_arrays(path, _KIND, [field.name for field in fields(Graphs)]))
    except (files.FileError, TypeError):
        return None
    return graphs if len(graphs) == documents else None
