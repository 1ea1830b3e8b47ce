"""Random numbers that need no saved state.

Every draw of a run is keyed by the run's seed and by where in the run it happens
(`generator(seed, DROPOUT, epoch, step)`), so a run resumed from a checkpoint
draws exactly what the uninterrupted one would have drawn. MindSpore's own dropout
keeps its generator inside the kernel, where it can be neither saved nor restored.
The bits come from NumPy's Philox, a counter-based generator (Salmon et al. 2011,
"Parallel random numbers: as easy as 1, 2, 3").
"""

from __future__ import annotations

import enum

import numpy as np

__all__ = ["Stream", "dropout", "generator"]


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

    The rate is met to one part in 256 (one random byte decides an entry, which makes drawing
    four times cheaper than with 32-bit numbers), and the scale fits the rate that was met.
    """
    dropped = round(rate * 256)
    if dropped == 0:
        return np.ones(shape, np.float32)
    kept = np.frombuffer(random.bytes(int(np.prod(shape))), np.uint8).reshape(shape) >= dropped
    return kept * np.float32(256 / (256 - dropped))
