"""Indexes from integers and hashes to positions, built and searched a whole array at a time.

`DirectIndex` holds a position for every integer of a range. `HashIndex` is open
addressing with linear probing at a load of at most one quarter (Knuth, The Art of
Computer Programming, volume 3, section 6.4): every round of a search looks at one
slot of each key that is still unsettled, so a search takes as many rounds as the
longest run it meets, on ever fewer keys. The low load keeps those runs short: in a
batch of a thousand keys a round costs as much for one key as for all.
"""

from __future__ import annotations

from typing import Callable

import numpy as np

__all__ = ["ABSENT", "DirectIndex", "HashIndex"]

ABSENT = -1  # the position of a key that is not there
_BLOCK = 1 << 15  # keys at a time: what a search allocates stays in the cache

# Given rows of the query and the positions whose hashes equal theirs: are the keys equal?
Same = Callable[[np.ndarray, np.ndarray], np.ndarray]


class DirectIndex:
    """Positions of the integers ``low <= key < low + capacity``.

    Args:
        low: the smallest integer it can hold.
        capacity: how many it can hold.
    """

    def __init__(self, low: int, capacity: int) -> None:
        self._low = np.int64(low)
        self._positions = np.full(max(1, capacity), ABSENT, np.int64)

    def holds(self, low: int, high: int) -> bool:
        """Whether it can hold every integer from ``low`` to ``high``."""
        return int(self._low) <= low and high - int(self._low) < len(self._positions)

    def insert(self, keys: np.ndarray, positions: np.ndarray) -> None:
        self._positions[keys - self._low] = positions

    def find(self, keys: np.ndarray) -> np.ndarray:
        """The position of each int64 key, or `ABSENT`."""
        found = np.empty(len(keys), np.int64)
        for start in range(0, len(keys), _BLOCK):
            part, out = keys[start : start + _BLOCK], found[start : start + _BLOCK]
            offsets = part - self._low  # wraps around far outside the range, and stays outside
            np.take(self._positions, offsets, out=out, mode="clip")
            outside = offsets.view(np.uint64) >= np.uint64(len(self._positions))
            if outside.any():
                out[outside] = ABSENT
        return found


class HashIndex:
    """Positions by 64-bit hash."""

    def __init__(self, capacity: int = 0) -> None:
        self._count = 0
        self._allocate(capacity)

    def _allocate(self, capacity: int) -> None:
        self._bits = max(4, int(4 * capacity - 1).bit_length() if capacity else 0)
        self._slots = np.empty((1 << self._bits, 2), np.int64)  # a hash and its position share a cache line
        self._slots[:, 1] = ABSENT

    def _first_slots(self, hashes: np.ndarray) -> np.ndarray:
        return (hashes >> np.uint64(64 - self._bits)).view(np.int64)

    def insert(self, hashes: np.ndarray, positions: np.ndarray) -> None:
        """Add keys that are not there yet and differ from each other; their hashes may be equal."""
        if 4 * (self._count + len(hashes)) > len(self._slots):
            old = self._slots[self._slots[:, 1] != ABSENT]
            self._allocate(max(self._count + len(hashes), 2 * self._count))
            self._place(old[:, 0].view(np.uint64), old[:, 1])
        self._place(hashes, positions)
        self._count += len(hashes)

    def _place(self, hashes: np.ndarray, positions: np.ndarray) -> None:
        slots = self._first_slots(hashes)
        while len(slots):
            free = self._slots[slots, 1] == ABSENT
            self._slots[slots[free], 1] = positions[free]  # of several keys for one slot, one stays
            settled = self._slots[slots, 1] == positions
            self._slots[slots[settled], 0] = hashes[settled].view(np.int64)
            rest = ~settled
            hashes, positions = hashes[rest], positions[rest]
            slots = (slots[rest] + 1) & (len(self._slots) - 1)

    def find(self, hashes: np.ndarray, same: Same | None = None) -> np.ndarray:
        """The position of each key, or `ABSENT`.

        Args:
            hashes: uint64, shape (n,).
            same: tells whether keys with equal hashes are equal; None where equal hashes mean equal keys.
        """
        found = np.full(len(hashes), ABSENT, np.int64)
        for start in range(0, len(hashes), _BLOCK):
            self._find(hashes[start : start + _BLOCK], found[start : start + _BLOCK], start, same)
        return found

    def _find(self, hashes: np.ndarray, found: np.ndarray, start: int, same: Same | None) -> None:
        # A slot is read as one 16-byte item, which is faster than a row of two.
        table = self._slots.view(np.complex128).reshape(-1)
        slots, wanted, rows = self._first_slots(hashes), hashes.view(np.int64), np.arange(len(hashes))
        while len(slots):
            held = table.take(slots).view(np.int64).reshape(-1, 2)
            positions = held[:, 1]
            open_ = positions != ABSENT
            (hit,) = ((held[:, 0] == wanted) & open_).nonzero()
            if same is not None and len(hit):
                hit = hit[same(rows[hit] + start, positions[hit])]
            found[rows[hit]] = positions[hit]
            open_[hit] = False
            (rest,) = open_.nonzero()
            rows, wanted = rows[rest], wanted[rest]
            slots = (slots[rest] + 1) & (len(self._slots) - 1)
