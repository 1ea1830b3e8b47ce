"""Choosing the padded sizes of one ragged axis.

Every size is a graph that has to be compiled, and every sample is padded to the
smallest size that holds it. `Buckets.fit` finds the k sizes with the least total
cost over a corpus, exactly; `Buckets.plan` also chooses k, from what a step and a
compilation cost.

Method: with the distinct lengths in ascending order, the best cost of the first j
of them under k sizes is

    best[k][j] = min over i < j of  best[k-1][i] + f(j) * (count(j) - count(i))

where f(j) is the cost of one sample at the j-th length and count is cumulative.
For a cost that does not fall with the size each row is a lower envelope of lines
queried in ascending order, so it takes one linear pass (Bentley's algorithm, known
as the convex hull trick): k * m operations for m distinct lengths.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Callable, Union

import numpy as np

from ascend_fixes.errors import AscendFixesError
from ascend_fixes.shapes._envelope import best_boundaries

__all__ = ["Buckets", "Cost", "LengthError", "SizesError", "attention_cost"]

Cost = Union[None, str, Callable[[int], float]]


class LengthError(AscendFixesError, ValueError):
    """A length that no bucket holds, or lengths that contradict each other."""


class SizesError(AscendFixesError, ValueError):
    """Sizes, lengths or costs from which no buckets can be made."""


def attention_cost(hidden: int) -> Callable[[int], float]:
    """Cost of one sample in a transformer layer of width ``hidden``, up to a constant factor.

    Projections and feed-forward take 24 n h**2 operations, scores and mixing 4 n**2 h (n the
    length, h the width): proportional to ``n * (6 * hidden + n)``.
    """
    if hidden < 1:
        raise SizesError(f"hidden={hidden} is not the width of a layer; pass a positive integer")
    return lambda size: float(size) * (6 * hidden + size)


@dataclass(frozen=True)
class Buckets:
    """The padded sizes of a ragged axis, ascending.

    ``buckets(n)`` is the smallest size that holds ``n``; a longer ``n`` raises `LengthError`.

    Attributes:
        sizes: distinct positive integers; any order is accepted, ascending order is kept.
    """

    sizes: tuple[int, ...]

    def __init__(self, sizes: Iterable[int]):
        object.__setattr__(self, "sizes", _checked_sizes(sizes))

    @classmethod
    def fit(cls, lengths: Iterable[int], k: int, cost: Cost = None, multiple_of: int = 1) -> Buckets:
        """The at most ``k`` sizes with the least total cost over ``lengths``; exact.

        Args:
            lengths: the length of every sample (or batch), non-negative integers.
            k: how many sizes, and therefore graphs, there may be.
            cost: of one sample padded to a size: None or "tokens" for the size itself, "quadratic" for
                its square, or any function of the size. Where a function falls with the size, a
                longer, cheaper size is preferred.
            multiple_of: every size is rounded up to a multiple of this.

        Raises:
            SizesError: for no lengths, a negative or fractional length, k < 1, or a cost that is not finite.
        """
        if k < 1:
            raise SizesError(f"k={k} sizes cannot hold anything; pass at least 1")
        candidates, counts = _histogram(lengths, multiple_of)
        costs = _costs(candidates, cost)
        # A longer size may be cheaper (alignment): the cheapest size that still holds each length.
        cheapest = _cheapest_from_here(costs)
        chosen = best_boundaries([costs[i] for i in cheapest], counts, min(k, len(candidates)))
        return cls({candidates[cheapest[j]] for j in chosen})

    @classmethod
    def plan(
        cls,
        lengths: Iterable[int],
        step_cost: Callable[[int], float],
        compile_cost: float | Callable[[int], float],
        epochs: float = 1,
        multiple_of: int = 1,
        max_sizes: int | None = None,
    ) -> Buckets:
        """The sizes, as many as pay for themselves, with the least time for a whole run; exact.

        Args:
            lengths: of every step of one epoch; or of every sample, if ``step_cost`` is then a sample's share.
            step_cost: seconds of one step at a size.
            compile_cost: seconds to compile a size: a number, or a function of the size.
            epochs: how often ``lengths`` are run; more epochs pay for more graphs.
            multiple_of: every size is rounded up to a multiple of this.
            max_sizes: no more sizes than this, and still the best choice of so many; None for any number.

        Raises:
            SizesError: as `fit`, and for a negative cost, ``epochs`` or ``max_sizes`` that is not positive.
        """
        if not epochs > 0:
            raise SizesError(f"epochs={epochs} is no run to plan for; pass a positive number")
        if max_sizes is not None and max_sizes < 1:
            raise SizesError(f"max_sizes={max_sizes} sizes cannot hold anything; pass at least 1, or None")
        candidates, counts = _histogram(lengths, multiple_of)
        steps = np.asarray(_costs(candidates, step_cost, "step_cost"), dtype=np.float64) * epochs
        compile_of = compile_cost if callable(compile_cost) else lambda size: compile_cost
        compiles = np.asarray(_costs(candidates, compile_of, "compile_cost"), dtype=np.float64)
        if min(steps) < 0 or min(compiles) < 0:
            raise SizesError("step_cost and compile_cost are seconds; none may be negative")
        total = np.concatenate(([0], np.cumsum(counts))).astype(np.float64)
        return cls(candidates[j - 1] for j in _cheapest_run(steps, compiles, total, max_sizes))

    @classmethod
    def geometric(cls, low: int, high: int, k: int, multiple_of: int = 1) -> Buckets:
        """At most ``k`` sizes from ``low`` to ``high`` in equal ratios: for lengths nobody has counted yet.

        Raises:
            SizesError: unless 1 <= low <= high and k >= 1.
        """
        if not 1 <= low <= high or k < 1:
            raise SizesError(f"low={low}, high={high}, k={k}: pass 1 <= low <= high and at least one size")
        grid = np.geomspace(low, high, k) if k > 1 else [high]
        return cls({_round_up(int(np.ceil(size - 1e-9 * size)), multiple_of) for size in grid})

    def __call__(self, length: int) -> int:
        """The smallest size that holds ``length``. Raises `LengthError` where there is none."""
        index = bisect.bisect_left(self.sizes, length)
        if index == len(self.sizes):
            raise LengthError(
                f"length {length} is over the largest bucket {self.sizes[-1]}: "
                f"fit the buckets on lengths that include it, or shorten the sample"
            )
        return self.sizes[index]

    def assign(self, lengths: Iterable[int]) -> np.ndarray:
        """The size of every length, int64 [n]. Raises `LengthError` for the first length that is over-long."""
        lengths = _checked_lengths(lengths)
        index = np.searchsorted(self.sizes, lengths)
        if (index == len(self.sizes)).any():
            self(int(lengths[index == len(self.sizes)][0]))
        return np.asarray(self.sizes, dtype=np.int64)[index]

    def waste(self, lengths: Iterable[int]) -> float:
        """Padding over content: 0.25 means that 100 tokens are padded to 125.

        Raises:
            LengthError: for an over-long length.
            SizesError: where the lengths hold nothing at all.
        """
        lengths = _checked_lengths(lengths)
        content = int(lengths.sum())
        if content == 0:
            raise SizesError("lengths hold no token at all, so the share of padding is undefined; pass real lengths")
        return float(self.assign(lengths).sum() / content - 1.0)

    def grown(self, length: int) -> Buckets:
        """These buckets and one more that holds ``length``: the largest one doubled until it does."""
        size = self.sizes[-1]
        while size < length:
            size *= 2
        return Buckets((*self.sizes, size))

    def truncated(self, length: int) -> int:
        """The size that ``length`` is padded, or else cut, to."""
        return self(min(length, self.sizes[-1]))

    def __iter__(self) -> Iterator[int]:
        return iter(self.sizes)

    def __len__(self) -> int:
        return len(self.sizes)


def _checked_sizes(sizes: Iterable[int]) -> tuple[int, ...]:
    values = list(sizes)
    for size in values:
        if isinstance(size, bool) or not isinstance(size, (int, np.integer)) or size < 1:
            raise SizesError(f"sizes contain {size!r}; every size is a positive integer")
    if not values:
        raise SizesError("sizes is empty; pass at least one positive integer")
    return tuple(sorted({int(size) for size in values}))


def _checked_lengths(lengths: Iterable[int]) -> np.ndarray:
    """int64 [n], n >= 1, none negative."""
    array = np.asarray(lengths if isinstance(lengths, np.ndarray) else list(lengths))
    if array.ndim != 1 or array.size == 0:
        raise SizesError(f"lengths has shape {array.shape}; pass a flat, non-empty sequence of integers")
    if not np.issubdtype(array.dtype, np.integer):
        raise SizesError(f"lengths has dtype {array.dtype}; pass integers")
    if array.min() < 0:
        raise SizesError(f"lengths contain {int(array.min())}; a length cannot be negative")
    return array.astype(np.int64, copy=False)


def _histogram(lengths: Iterable[int], multiple_of: int) -> tuple[list[int], list[int]]:
    """The candidate sizes (lengths rounded up, ascending, at least one unit) and how many lengths each has."""
    if multiple_of < 1:
        raise SizesError(f"multiple_of={multiple_of} is no alignment; pass a positive integer")
    distinct, counts = np.unique(_checked_lengths(lengths), return_counts=True)
    sizes, place = np.unique(np.maximum(-(-distinct // multiple_of), 1) * multiple_of, return_inverse=True)
    merged = np.zeros(len(sizes), dtype=np.int64)
    np.add.at(merged, place, counts)
    return sizes.tolist(), merged.tolist()


def _costs(sizes: list[int], cost: Cost, name: str = "cost") -> list[Any]:
    """Cost of one sample at each size: exact integers for the built-in costs, floats for a function."""
    if cost is None or cost == "tokens":
        return list(sizes)
    if cost == "quadratic":
        return [size * size for size in sizes]
    if not callable(cost):
        raise SizesError(f'{name}={cost!r} is not a cost; pass "tokens", "quadratic" or a function of the size')
    values = [float(cost(size)) for size in sizes]
    for size, value in zip(sizes, values):
        if not np.isfinite(value):
            raise SizesError(f"{name}({size}) is {value}; a cost is a finite number")
    return values


def _cheapest_from_here(costs: list[Any]) -> list[int]:
    """For each index the cheapest index at or after it, the nearest among equals."""
    cheapest = list(range(len(costs)))
    for i in range(len(costs) - 2, -1, -1):
        if costs[cheapest[i + 1]] < costs[i]:
            cheapest[i] = cheapest[i + 1]
    return cheapest


def _cheapest_run(steps: np.ndarray, compiles: np.ndarray, total: np.ndarray, limit: int | None) -> list[int]:
    """The ends of the groups, 1 .. n, whose steps and compilations cost least; at most ``limit`` groups.

    best[j] is the least cost of the first j candidates with candidate j as their largest size. Without a limit one
    pass finds it from its own earlier values; with one there is a pass for each number of groups.
    """
    count = len(steps)
    passes = [np.zeros(count + 1)] if limit is None else [np.r_[0.0, np.full(count, np.inf)]]
    came_from: list[np.ndarray] = []
    for _ in range(1 if limit is None else min(limit, count)):
        before = passes[-1]
        best = before if limit is None else np.full(count + 1, np.inf)
        previous = np.zeros(count + 1, dtype=np.int64)
        for j in range(1, count + 1):
            choices = before[:j] + steps[j - 1] * (total[j] - total[:j])
            previous[j] = int(np.argmin(choices))
            best[j] = choices[previous[j]] + compiles[j - 1]
        passes.append(best)
        came_from.append(previous)
    ends, j = [], count
    layer = min(range(len(came_from)), key=lambda i: passes[i + 1][count])
    while j > 0:
        ends.append(j)
        j = int(came_from[layer][j])
        layer = layer if limit is None else layer - 1
    return ends


def _round_up(size: int, multiple_of: int) -> int:
    if multiple_of < 1:
        raise SizesError(f"multiple_of={multiple_of} is no alignment; pass a positive integer")
    return -(-size // multiple_of) * multiple_of
