"""Lengths as real corpora have them, for built-in data that is as ragged: counts only, no text.

``lengths.json`` holds for every example the corpus, what was counted and a histogram of its training part, made by
``python -m benchmarks.trained.corpus_lengths --data DIR``.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["TESTED", "TRAINED", "drawn", "source"]

TRAINED, TESTED = 720, 80  # samples of a ragged corpus: enough for a comparison of seconds

_FILE = Path(__file__).with_name("lengths.json")


def source(example: str) -> dict[str, Any]:
    """``corpus``, ``unit``, ``width`` of a bin, and ``bins``: ``[from, ..., samples]`` of each."""
    return json.loads(_FILE.read_text(encoding="utf-8"))[example]


def drawn(example: str, count: int, random: np.random.Generator) -> np.ndarray:
    """``count`` lengths, int64 (count, sides): a bin by its share of the samples, and evenly within it; at least 1."""
    stored = source(example)
    bins = np.array(stored["bins"], np.int64)
    low = bins[random.choice(len(bins), count, p=bins[:, -1] / bins[:, -1].sum()), :-1]
    return np.maximum(low + random.integers(0, stored["width"], low.shape), 1)
