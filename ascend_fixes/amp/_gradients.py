"""Whether gradients are finite, and their norm: a handful of kernels for all of them, exact up to the largest float32.

A sum is finite only where all its terms are, and infinity and NaN reach it whatever their sign. Terms are multiplied
by 2**-64 first, so that finite ones cannot add up to infinity. Small gradients are laid end to end and looked at as
one, for each of them a kernel of its own would cost more than its work; large ones are not copied.

What is done to every gradient alike is a `MultitypeFuncGraph` for `HyperMap`: a loop over them takes MindSpore many
times as long to compile.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import mindspore
from mindspore import Parameter, mint, ops

from ascend_fixes import _mindspore

__all__ = ["Gradients", "added", "multiplied", "unscaled"]

LARGE = 2**16  # elements of a gradient that is looked at by itself
TOGETHER = 128  # gradients laid end to end by one Concat; on Ascend it is documented for fewer than 192
SUM_SHRINK = 2.0**-64  # 2**60 float32 numbers times this still have a finite sum
SQUARE_SHRINK = 2.0**-80  # and 2**30 of their squares, times this before

multiplied = ops.MultitypeFuncGraph("multiplied")
"""A gradient in float32, times a number."""

unscaled = ops.MultitypeFuncGraph("unscaled")
"""The same in the type of its weight."""

added = ops.MultitypeFuncGraph("added")
"""The sum of what was added up before, and a gradient in float32."""

flattened = ops.MultitypeFuncGraph("flattened")
"""The gradient at a place among all, in float32 and with one axis."""


@multiplied.register("Tensor", "Tensor")
def _multiplied(factor: Any, grad: Any) -> Any:
    return ops.cast(grad, mindspore.float32) * factor


@unscaled.register("Tensor", "Tensor", "Tensor")
def _unscaled(factor: Any, grad: Any, weight: Any) -> Any:
    return ops.cast(ops.cast(grad, mindspore.float32) * factor, weight.dtype)


@added.register("Tensor", "Tensor")
def _added(total: Any, grad: Any) -> Any:
    return total + ops.cast(grad, mindspore.float32)


@flattened.register("Tuple", "Number")
def _flattened(grads: Any, place: Any) -> Any:
    return ops.reshape(ops.cast(grads[place], mindspore.float32), (-1,))


@mindspore.jit_class
class Gradients:
    """Looks at gradients of ``weights``, in their order. Methods work inside a graph and outside.

    Args:
        weights: the Parameters that gradients belong to.
    """

    def __init__(self, weights: Sequence[Parameter]) -> None:
        self.groups = tuple(_groups([weight.size for weight in weights]))
        self.widths = tuple(_width(group, weights) for group in self.groups)
        self.by_rows = _mindspore.backend() == "CPU"
        self.map = ops.HyperMap()
        self.sums = mint.sum  # SumExt, which needs no compilation per shape on Ascend; ReduceSum does

    def rows(self, grads: Any) -> Any:
        """The gradients in float32, as few matrices."""
        found: Any = ()
        for group, width in zip(self.groups, self.widths):
            found = found + (self.laid_out(grads, group).reshape(-1, width),)
        return found

    def laid_out(self, grads: Any, group: Any) -> Any:
        if len(group) == 1:
            return grads[group[0]].astype(mindspore.float32)
        return ops.concat(self.map(ops.partial(flattened, grads), group))

    def probe(self, rows: Any) -> Any:
        """A float32 number that is finite only where all of `rows` is."""
        total = self.sum_of(rows[0] * SUM_SHRINK)
        for part in rows[1:]:
            total = total + self.sum_of(part * SUM_SHRINK)
        return total

    def norm(self, rows: Any) -> Any:
        """The Euclidean norm of `rows`, float32; finite only where all of them is (and the norm is in range).

        Squares leave float32's range long before their terms do, so there are two sums: of squares, and of squares
        of numbers made small, which is taken where the first is infinite.
        """
        small = rows[0] * SQUARE_SHRINK
        plain, shrunk = self.sum_of(rows[0] * rows[0]), self.sum_of(small * small)
        for part in rows[1:]:
            small = part * SQUARE_SHRINK
            plain, shrunk = plain + self.sum_of(part * part), shrunk + self.sum_of(small * small)
        return ops.select(ops.isfinite(plain), ops.sqrt(plain), ops.sqrt(shrunk) / SQUARE_SHRINK), shrunk

    def largest(self, rows: Any) -> Any:
        """The largest absolute value of `rows`, float32; undefined where one is NaN."""
        found = ops.abs(rows[0]).max()
        for part in rows[1:]:
            found = ops.maximum(found, ops.abs(part).max())
        return found

    def sum_of(self, rows: Any) -> Any:
        """The sum of a matrix. On CPU, where a sum over all axes is not vectorized, rows come first, which is faster."""
        if self.by_rows:
            rows = self.sums(rows, -1)
        return self.sums(rows)


def _groups(sizes: Sequence[int]) -> Iterator[tuple[int, ...]]:
    """Positions of gradients that are looked at together."""
    small = [index for index, size in enumerate(sizes) if size < LARGE]
    for start in range(0, len(small), TOGETHER):
        yield tuple(small[start : start + TOGETHER])
    for index, size in enumerate(sizes):
        if size >= LARGE:
            yield (index,)


def _width(group: tuple[int, ...], weights: Sequence[Parameter]) -> int:
    """Of the rows that a group's elements are seen as: their last axis, or the divisor nearest to a square's side."""
    count = sum(weights[index].size for index in group)
    if len(group) == 1 and weights[group[0]].ndim > 1:
        return weights[group[0]].shape[-1]
    return next(width for width in range(max(1, math.isqrt(count)), 0, -1) if count % width == 0)
