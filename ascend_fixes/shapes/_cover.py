"""Few rectangles, each with a corner at the origin, that hold all points at a low total cost.

A local search. The state is a set of corners; one step takes a corner (or two) out
and puts the best possible ones back, judged exactly over the whole table of candidate
corners. It starts from the best product grid found by alternating exact fits of one
axis, from the best nested chain, from the best two of which none holds the other, and
from nothing (greedy), and returns the best end. Two corners are the best two of the
table: they are a chain or such a pair.

On axes with many distinct lengths the search runs on a coarser table, whose lines are
the exact optimal sizes of each axis alone; the corners are then moved one line at a
time on the full table.
"""

from __future__ import annotations

import itertools
from typing import Callable

import numpy as np

from ascend_fixes.shapes._envelope import best_boundaries

__all__ = ["best_cover"]

LINES = 24
PAIRS_UP_TO = 10  # corners; with more, taking out pairs of them gains little for much time
CostTable = Callable[[np.ndarray, np.ndarray], np.ndarray]
Corner = tuple  # (index of the first size, index of the second)


def best_cover(pairs: np.ndarray, k: int, cost: CostTable) -> list[tuple[int, int]]:
    """At most ``k`` pairs of sizes that hold all ``pairs`` (int64 [n, 2]), under ``cost``."""
    full = _Table.of(pairs, cost)
    coarse = full.coarsened(LINES)
    starts = [_product(coarse, rows, k // rows) for rows in range(1, k + 1) if k // rows >= 1]
    starts += [_chain(coarse, k), _crossing(coarse) if k > 1 else [], []]
    ends = [_search(coarse, start, k) for start in starts]
    best = full.corners(coarse, min(ends, key=coarse.total))
    # The starts are repeated on the full table, so that the result is never worse than they are.
    direct = [_product(full, rows, k // rows) for rows in range(1, k + 1)] if full is not coarse else []
    result = min([_nudge(full, best), *direct], key=full.total)
    return [(int(full.firsts[i]), int(full.seconds[j])) for i, j in full.used(result)]


class _Table:
    """Counts and costs of all combinations of the distinct lengths of two axes, ascending."""

    def __init__(self, firsts: np.ndarray, seconds: np.ndarray, counts: np.ndarray, costs: np.ndarray):
        self.firsts, self.seconds, self.counts, self.costs = firsts, seconds, counts, costs
        self.points = np.argwhere(counts > 0)
        self.weights = counts[counts > 0].astype(np.float64)
        # Dearer than any real cover: what an uncovered point counts.
        self.uncovered = float(costs.max()) * (self.weights.sum() + 1) + 1.0

    @classmethod
    def of(cls, pairs: np.ndarray, cost: CostTable) -> _Table:
        firsts, i = np.unique(pairs[:, 0], return_inverse=True)
        seconds, j = np.unique(pairs[:, 1], return_inverse=True)
        counts = np.zeros((len(firsts), len(seconds)), dtype=np.int64)
        np.add.at(counts, (i, j), 1)
        return cls(firsts, seconds, counts, cost(firsts, seconds))

    def coarsened(self, lines: int) -> _Table:
        """At most ``lines`` sizes on each axis; the table itself where it has no more."""
        if max(self.counts.shape) <= lines:
            return self
        rows = best_boundaries(self.firsts.tolist(), self.counts.sum(1).tolist(), min(lines, len(self.firsts)))
        columns = best_boundaries(self.seconds.tolist(), self.counts.sum(0).tolist(), min(lines, len(self.seconds)))
        counts = np.add.reduceat(self.counts, [0] + [r + 1 for r in rows[:-1]], axis=0)
        counts = np.add.reduceat(counts, [0] + [c + 1 for c in columns[:-1]], axis=1)
        return _Table(self.firsts[rows], self.seconds[columns], counts, self.costs[np.ix_(rows, columns)])

    def corners(self, other: _Table, corners: list) -> list:
        """``other``'s corners in this table."""
        return [
            (int(np.searchsorted(self.firsts, other.firsts[i])), int(np.searchsorted(self.seconds, other.seconds[j])))
            for i, j in corners
        ]

    def prices(self, corners: list) -> np.ndarray:
        """float64 [points]: the least cost of a corner that holds each point."""
        prices = np.full(len(self.points), self.uncovered)
        for i, j in corners:
            held = (self.points[:, 0] <= i) & (self.points[:, 1] <= j)
            prices[held] = np.minimum(prices[held], self.costs[i, j])
        return prices

    def total(self, corners: list) -> float:
        return float(self.prices(corners) @ self.weights)

    def used(self, corners: list) -> list:
        """Each corner shrunk to the points it serves; those that serve none left out."""
        order = sorted(set(corners), key=lambda corner: self.costs[corner])
        left, kept = self.points, []
        for i, j in order:
            held = (left[:, 0] <= i) & (left[:, 1] <= j)
            if held.any():
                kept.append(tuple(left[held].max(0).tolist()))
            left = left[~held]
        return kept

    def best_addition(self, corners: list) -> tuple[float, Corner]:
        """The corner that lowers the total the most, and the total with it."""
        prices = self.prices(corners)
        savings = np.empty(self.costs.shape)
        for i, row in enumerate(self.costs):
            # A point helps every candidate of this row that lies at or right of it.
            inside = self.points[:, 0] <= i
            gain = np.maximum(prices[inside, None] - row[None, :], 0.0) * self.weights[inside, None]
            gain *= self.points[inside, 1][:, None] <= np.arange(len(row))[None, :]
            savings[i] = gain.sum(0)
        corner = np.unravel_index(int(np.argmax(savings)), savings.shape)
        return float(prices @ self.weights - savings[corner]), (int(corner[0]), int(corner[1]))


def _search(table: _Table, corners: list, k: int) -> list:
    """Take one or two corners out and put the best back until nothing improves."""
    outs = (1, 2) if k <= PAIRS_UP_TO else (1,)
    corners = _filled(table, table.used(corners), k)
    total = table.total(corners)
    improved = True
    while improved:
        improved = False
        for out in itertools.chain(*(itertools.combinations(range(len(corners)), n) for n in outs)):
            trial = _filled(table, [corner for place, corner in enumerate(corners) if place not in out], k)
            cost = table.total(trial)
            if cost < total * (1 - 1e-12):
                corners, total, improved = trial, cost, True
                break
    return corners


def _filled(table: _Table, corners: list, k: int) -> list:
    """Add the best corners, one after the other, up to ``k``; the last one has to cover what is left."""
    corners = list(corners)
    while len(corners) < k:
        total, corner = table.best_addition(corners)
        if corner in corners or total >= table.total(corners):
            break
        corners.append(corner)
    if table.prices(corners).max() >= table.uncovered:
        missing = table.points[table.prices(corners) >= table.uncovered].max(0)
        corners = [*corners[: k - 1], tuple(np.maximum(missing, table.points.max(0)).tolist())]
    return corners


def _nudge(table: _Table, corners: list) -> list:
    """Move single corners by lines of the full table, in growing steps, until nothing improves."""
    total = table.total(corners)
    steps = [s for n in (1, 2, 4, 8) for s in ((n, 0), (-n, 0), (0, n), (0, -n))]
    improved = True
    while improved:
        improved = False
        for place, (di, dj) in itertools.product(range(len(corners)), steps):
            i, j = corners[place][0] + di, corners[place][1] + dj
            if not (0 <= i < table.costs.shape[0] and 0 <= j < table.costs.shape[1]):
                continue
            trial = [*corners[:place], (i, j), *corners[place + 1 :]]
            cost = table.total(trial)
            if cost < total * (1 - 1e-12):
                corners, total, improved = trial, cost, True
    return corners


def _product(table: _Table, rows: int, columns: int) -> list:
    """A good product of ``rows`` x ``columns`` sizes: exact fits of one axis under the other, alternating."""
    chosen = _axis_fit(table.counts, table.firsts, table.seconds, [len(table.seconds) - 1], rows)
    best: list | None = None
    while True:
        others = _axis_fit(table.counts.T, table.seconds, table.firsts, chosen, columns)
        chosen = _axis_fit(table.counts, table.firsts, table.seconds, others, rows)
        corners = list(itertools.product(chosen, others))
        if best is not None and table.total(corners) >= table.total(best):
            return best
        best = corners


def _axis_fit(counts: np.ndarray, sizes: np.ndarray, others: np.ndarray, chosen: list, k: int) -> list:
    """The ``k`` best lines of one axis, by area, where the other axis is padded to the lines ``chosen``."""
    widths = others[np.asarray(chosen)[np.searchsorted(chosen, np.arange(len(others)))]]
    weights = counts @ widths
    return best_boundaries(sizes.tolist(), weights.tolist(), min(k, len(sizes)))


def _crossing(table: _Table) -> list:
    """The best two rectangles of which none holds the other: all of the first size, and all of the second."""
    last, end = (length - 1 for length in table.costs.shape)
    pairs = ([(i, end), (last, j)] for i in range(last) for j in range(end))
    return min(pairs, key=table.total, default=[])


def _chain(table: _Table, k: int) -> list:
    """The best ``k`` nested rectangles: each holds the one before it; exact on this table."""
    held = table.counts.cumsum(0).cumsum(1).astype(np.float64)
    best = table.costs * held
    rows, shape = [], table.costs.shape
    for _ in range(min(k, sum(shape)) - 1):
        following, previous = best.copy(), np.full(shape, -1, dtype=np.int64)
        for i, j in np.ndindex(*shape):
            inner = best[: i + 1, : j + 1] + table.costs[i, j] * (held[i, j] - held[: i + 1, : j + 1])
            place = int(np.argmin(inner))
            if inner.flat[place] < following[i, j]:
                following[i, j] = inner.flat[place]
                previous[i, j] = (place // (j + 1)) * shape[1] + place % (j + 1)
        rows.append(previous)
        best = following
    corner: Corner = (shape[0] - 1, shape[1] - 1)
    corners = [corner]
    for previous in reversed(rows):
        if previous[corner] >= 0:
            corner = tuple(int(n) for n in divmod(int(previous[corner]), shape[1]))
            corners.append(corner)
    return corners
