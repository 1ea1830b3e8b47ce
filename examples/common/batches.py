"""Batches of samples of similar size."""

from __future__ import annotations

import numpy as np

__all__ = ["chunks"]


def chunks(
    samples: np.ndarray, widths: np.ndarray, size: int, random: np.random.Generator | None = None
) -> list[np.ndarray]:
    """Batches of ``size`` sample numbers that are padded to similar widths; the last one of all may be smaller.

    Args:
        samples: the numbers of the samples to batch.
        widths: the padded width of every sample of the corpus. Samples of one width are
            batched together; what does not fill a batch moves up to the next width.
        size: samples per batch.
        random: shuffles the samples of one width, and then the batches; None keeps the order.
    """
    if random is not None:
        samples = random.permutation(samples)
    samples = samples[np.argsort(widths[samples], kind="stable")]
    batches = [samples[start : start + size] for start in range(0, len(samples), size)]
    return batches if random is None else [batches[i] for i in random.permutation(len(batches))]
