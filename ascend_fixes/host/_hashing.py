"""Hashes of keys that are the same in every process, on every machine and under every Python.

Integers pass through the finaliser of splitmix64 (Steele, Lea, Flood, "Fast
splittable pseudorandom number generators", OOPSLA 2014), which is a bijection of
64-bit words: two integers with one hash are one integer. Strings are hashed by the
multilinear family (Lemire, Kaser, "Strongly universal string hashing is fast",
Computer Journal 2014): the sum of the code points, each times a random odd word of
its own. Zero padding adds nothing to that sum, so a string has one hash in arrays
of any width, and a whole array is hashed a column at a time.
"""

from __future__ import annotations

import functools

import numpy as np

__all__ = ["hash_integers", "hash_strings"]

_GOLDEN = 0x9E3779B97F4A7C15
_BLOCK = 1 << 14  # rows at a time: a block of short strings and its sums stay in the cache


def hash_integers(words: np.ndarray) -> np.ndarray:
    """The hashes, uint64 of the same shape, of 64-bit integers. A bijection."""
    mixed = words.view(np.uint64) + np.uint64(_GOLDEN)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed ^= mixed >> np.uint64(shift)
        mixed *= np.uint64(factor)
    mixed ^= mixed >> np.uint64(31)
    return mixed


def hash_strings(points: np.ndarray) -> np.ndarray:
    """The hashes, uint64 of shape (rows,), of strings given as uint32 code points (rows, width), zeros at the end."""
    rows, width = points.shape
    sums = np.empty(rows, np.uint64)
    factors = _factors(width)
    for start in range(0, rows, _BLOCK):
        np.dot(points[start : start + _BLOCK].astype(np.uint64), factors, out=sums[start : start + _BLOCK])
    return hash_integers(sums)


@functools.cache
def _factors(width: int) -> np.ndarray:
    """The odd words that the first ``width`` code points are multiplied by; a longer row of them starts with these."""
    return hash_integers(np.arange(1, width + 1, dtype=np.uint64) * np.uint64(_GOLDEN)) | np.uint64(1)
