"""Choosing padded sizes for two ragged axes at once: source x target, nodes x nodes, batch x length.

A product of two sets of sizes wastes graphs on combinations that hardly occur. A
`Grid` is a free choice of at most k rectangles; each pair of lengths is padded to the
cheapest one that holds it. Choosing them is a covering problem without a fast exact
method, so `Grid.fit` searches locally from several starts (the best product grids and
the best nested chain among them) and keeps the best: see `_cover`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Callable

import numpy as np

from ascend_fixes.shapes._buckets import LengthError, SizesError
from ascend_fixes.shapes._cover import best_cover

__all__ = ["Grid"]

Pair = tuple[int, int]
PairCost = Callable[[int, int], float]


@dataclass(frozen=True)
class Grid:
    """Padded sizes of two ragged axes.

    ``grid(a, b)`` is the pair of sizes, of least area, that holds both lengths.

    Attributes:
        sizes: distinct pairs of positive integers, by area.
    """

    sizes: tuple[Pair, ...]

    def __init__(self, sizes: Iterable[Pair]):
        object.__setattr__(self, "sizes", _checked_sizes(sizes))

    @classmethod
    def fit(
        cls, pairs: Iterable[Pair], k: int, cost: PairCost | None = None, multiple_of: tuple[int, int] = (1, 1)
    ) -> Grid:
        """At most ``k`` rectangles that hold all ``pairs`` at a low total cost.

        Only what is held by ``pairs`` is sure to be held later: add the largest pair you mean to accept.

        Args:
            pairs: two lengths for every sample (or batch), integers [n, 2].
            k: how many sizes, and therefore graphs, there may be.
            cost: of one sample padded to (first, second); None for the area. It must not fall with either.
            multiple_of: the first and second size are rounded up to multiples of these.

        Raises:
            SizesError: for no pairs, a negative or fractional length, k < 1, or a cost that is not finite.
        """
        if k < 1:
            raise SizesError(f"k={k} sizes cannot hold anything; pass at least 1")
        if min(multiple_of) < 1:
            raise SizesError(f"multiple_of={multiple_of} is no alignment; pass two positive integers")
        array = _checked_pairs(pairs)
        aligned = np.maximum(-(-array // multiple_of), 1) * np.asarray(multiple_of)
        return cls(best_cover(aligned, k, _cost_table(cost)))

    @classmethod
    def plan(
        cls,
        pairs: Iterable[Pair],
        step_cost: PairCost,
        compile_cost: float | PairCost,
        epochs: float = 1,
        max_sizes: int = 8,
        multiple_of: tuple[int, int] = (1, 1),
    ) -> Grid:
        """Of the grids that `fit` finds for 1 to ``max_sizes`` sizes the one with the least time for a whole run.

        Args:
            pairs: of every step of one epoch; or of every sample, if ``step_cost`` is then a sample's share.
            step_cost: seconds of one step at two sizes; must not fall with either.
            compile_cost: seconds to compile two sizes: a number, or a function of them.
            epochs: how often ``pairs`` are run; more epochs pay for more graphs.
            max_sizes: no more sizes than this.
            multiple_of: as in `fit`.

        Raises:
            SizesError: as `fit`, and for ``epochs`` or ``max_sizes`` that is not positive.
        """
        if not epochs > 0 or max_sizes < 1:
            raise SizesError(f"epochs={epochs}, max_sizes={max_sizes}: no run to plan for; pass positive numbers")
        array = _checked_pairs(pairs)
        distinct, counts = np.unique(array, axis=0, return_counts=True)

        def seconds(grid: Grid) -> float:
            padded = [grid(int(first), int(second)) for first, second in distinct]
            compiling = (compile_cost(*size) if callable(compile_cost) else compile_cost for size in grid)
            return epochs * sum(step_cost(*size) * int(n) for size, n in zip(padded, counts)) + sum(compiling)

        return min((cls.fit(array, k, step_cost, multiple_of) for k in range(1, max_sizes + 1)), key=seconds)

    def __call__(self, first: int, second: int) -> Pair:
        """The pair of sizes that holds both lengths, of least area. Raises `LengthError` where there is none."""
        for size in self.sizes:
            if first <= size[0] and second <= size[1]:
                return size
        raise LengthError(
            f"lengths {first} x {second} are over every bucket; the largest is {self.sizes[-1]}: "
            f"fit the grid on pairs that include them, or shorten the sample"
        )

    def waste(self, pairs: Iterable[Pair]) -> float:
        """Padded area over content area: 0.25 means that 100 cells are padded to 125.

        Raises:
            LengthError: for a pair that no size holds.
            SizesError: where the pairs hold nothing at all.
        """
        distinct, counts = np.unique(_checked_pairs(pairs), axis=0, return_counts=True)
        content = int((distinct.prod(1) * counts).sum())
        if content == 0:
            raise SizesError("pairs have no area at all, so the share of padding is undefined; pass real lengths")
        padded = sum(int(np.prod(self(int(a), int(b)))) * int(n) for (a, b), n in zip(distinct, counts))
        return padded / content - 1.0

    def grown(self, first: int, second: int) -> Grid:
        """These sizes and one more that holds the two lengths: the largest sides, doubled until it does."""
        sides = [max(size[axis] for size in self.sizes) for axis in (0, 1)]
        for axis, length in enumerate((first, second)):
            while sides[axis] < length:
                sides[axis] *= 2
        return Grid((*self.sizes, (sides[0], sides[1])))

    def truncated(self, first: int, second: int) -> Pair:
        """The sizes that the two lengths are padded, or else cut, to: those that keep the most of them."""
        return max(self.sizes, key=lambda size: (min(first, size[0]) * min(second, size[1]), -size[0] * size[1]))

    def __iter__(self) -> Iterator[Pair]:
        return iter(self.sizes)

    def __len__(self) -> int:
        return len(self.sizes)


def _checked_sizes(sizes: Iterable[Pair]) -> tuple[Pair, ...]:
    pairs = {tuple(size) for size in sizes}
    for pair in pairs:
        if len(pair) != 2 or not all(isinstance(n, (int, np.integer)) and n >= 1 for n in pair):
            raise SizesError(f"sizes contain {pair!r}; every size is a pair of positive integers")
    if not pairs:
        raise SizesError("sizes is empty; pass at least one pair of positive integers")
    return tuple(sorted(((int(a), int(b)) for a, b in pairs), key=lambda size: (size[0] * size[1], size)))


def _checked_pairs(pairs: Iterable[Pair]) -> np.ndarray:
    """int64 [n, 2], n >= 1, none negative."""
    array = np.asarray(pairs if isinstance(pairs, np.ndarray) else list(pairs))
    if array.ndim != 2 or array.shape[1:] != (2,) or array.shape[0] == 0:
        raise SizesError(f"pairs has shape {array.shape}; pass a non-empty sequence of pairs of integers")
    if not np.issubdtype(array.dtype, np.integer):
        raise SizesError(f"pairs has dtype {array.dtype}; pass integers")
    if array.min() < 0:
        raise SizesError(f"pairs contain {int(array.min())}; a length cannot be negative")
    return array.astype(np.int64, copy=False)


def _cost_table(cost: PairCost | None) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """Costs of all combinations: (firsts [p], seconds [q]) -> float64 [p, q]."""

    def table(firsts: np.ndarray, seconds: np.ndarray) -> np.ndarray:
        if cost is None:
            return np.multiply.outer(firsts.astype(np.float64), seconds)
        values = np.array([[float(cost(int(a), int(b))) for b in seconds] for a in firsts])
        if not np.isfinite(values).all():
            raise SizesError("cost is not finite for some sizes; a cost is a finite number")
        return values

    return table
