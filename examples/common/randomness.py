"""Random numbers that need no saved state, what is drawn with them (masks, batches, lengths), and arrays of batches.

Every draw is keyed by the run's seed and by where in the run it happens (``generator(seed, DROPOUT, epoch, step)``), so a
resumed run draws what the uninterrupted one would have drawn; MindSpore's dropout keeps its generator inside the kernel.
The bits come from NumPy's Philox (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3").
"""

from __future__ import annotations

import enum
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

TRAINED, TESTED = 720, 80  # samples of a ragged corpus: enough for a comparison of seconds


class Stream(enum.IntEnum):
    """What the numbers are for; two streams of one run never share numbers."""

    DATA = 0
    SPLIT = 1
    WEIGHTS = 2
    ORDER = 3
    DROPOUT = 4


def generator(seed: int, stream: Stream, *position: int) -> np.random.Generator:
    """The generator of ``stream`` at ``position`` (for example epoch and step) of the run with this ``seed``."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, int(stream), *position])))


def dropout(random: np.random.Generator, shape: tuple[int, ...], rate: float) -> np.ndarray:
    """A float32 dropout mask: 0 with probability ``rate``, otherwise 1 / (1 - rate).

    One random byte decides an entry: four times cheaper to draw than 32 bits. The scale fits the rate that is met.
    """
    dropped = round(rate * 256)
    if dropped == 0:
        return np.ones(shape, np.float32)
    kept = np.frombuffer(random.bytes(int(np.prod(shape))), np.uint8).reshape(shape) >= dropped
    return kept * np.float32(256 / (256 - dropped))


def chunks(
    samples: np.ndarray, widths: np.ndarray, size: int, random: np.random.Generator | None = None
) -> list[np.ndarray]:
    """Batches of ``size`` of the sample numbers that are padded to similar widths; the last one of all may be smaller.

    ``widths`` are those of every sample of the corpus; what does not fill a batch moves up to the next. ``random`` shuffles the
    samples of one width, and then the batches; None keeps the order.
    """
    if random is not None:
        samples = random.permutation(samples)
    samples = samples[np.argsort(widths[samples], kind="stable")]
    batches = [samples[start : start + size] for start in range(0, len(samples), size)]
    return batches if random is None else [batches[i] for i in random.permutation(len(batches))]


def padded(rows: Sequence[Sequence[int]], width: int | None = None, fill: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Numbers (batch, width) int32, filled up with ``fill``, and a float32 mask, 0 there; as wide as the longest row."""
    lengths = np.array([len(row) for row in rows])
    mask = np.arange(width or lengths.max()) < lengths[:, None]
    numbers = np.full(mask.shape, fill, np.int32)
    numbers[mask] = np.concatenate([np.asarray(row, np.int32) for row in rows])
    return numbers, mask.astype(np.float32)


def digest(*values: Any) -> str:
    """A hash of arrays, and of what `repr` shows as a whole."""
    found = hashlib.sha256()
    for value in values:
        is_array = isinstance(value, np.ndarray)
        found.update(np.ascontiguousarray(value).tobytes() if is_array else repr(value).encode())
    return found.hexdigest()


def counted(example: str) -> dict[str, Any]:
    """Lengths as a real corpus has them, counts only, no text; made by ``python -m benchmarks.trained.corpus_lengths``.

    ``corpus``, ``unit``, ``width`` of a bin, and the histogram of the training part, ``bins``: ``[from, ..., samples]``.
    """
    return json.loads(Path(__file__).with_name("lengths.json").read_text(encoding="utf-8"))[example]


def drawn(example: str, count: int, random: np.random.Generator) -> np.ndarray:
    """``count`` lengths, int64 (count, sides): a bin by its share of the samples, and evenly within it; at least 1."""
    stored = counted(example)
    bins = np.array(stored["bins"], np.int64)
    low = bins[random.choice(len(bins), count, p=bins[:, -1] / bins[:, -1].sum()), :-1]
    return np.maximum(low + random.integers(0, stored["width"], low.shape), 1)
