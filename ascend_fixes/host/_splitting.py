"""Concatenation and stacking of any number of Tensors.

On Ascend an operator takes fewer than 192 inputs, and an unrolled RNN or CRF that
stacks its steps passes that (defect H5). `concat` and `stack` join in groups, and
the groups again, until no operator has more inputs than the limit. The result and
its gradient are the same, bit for bit: the data are only copied.
"""

from __future__ import annotations

from collections.abc import Sequence

from mindspore import Tensor, ops

from ascend_fixes.errors import AscendFixesError

__all__ = ["InputsError", "concat", "stack"]

_LIMIT = 191


class InputsError(AscendFixesError, ValueError):
    """Nothing to join, or a limit that joins nothing."""


def concat(tensors: Sequence[Tensor], axis: int = 0, limit: int = _LIMIT) -> Tensor:
    """`mindspore.ops.concat` of any number of Tensors, in graphs and eagerly.

    Args:
        tensors: a tuple or list of at least one Tensor, of one dtype, equal in all axes but ``axis``.
        axis: joined along.
        limit: inputs of one operator at most, at least 2.

    Raises:
        InputsError: no Tensors, or a limit below 2.
    """
    _check(len(tensors), limit)
    while len(tensors) > limit:
        joined = []
        for begin in range(0, len(tensors), limit):
            joined.append(ops.concat(tensors[begin : begin + limit], axis))
        tensors = joined
    return ops.concat(tensors, axis)


def stack(tensors: Sequence[Tensor], axis: int = 0, limit: int = _LIMIT) -> Tensor:
    """`mindspore.ops.stack` of any number of Tensors, in graphs and eagerly.

    Args:
        tensors: a tuple or list of at least one Tensor, of one dtype and shape.
        axis: the new axis.
        limit: inputs of one operator at most, at least 2.

    Raises:
        InputsError: no Tensors, or a limit below 2.
    """
    _check(len(tensors), limit)
    if len(tensors) <= limit:
        return ops.stack(tensors, axis)
    groups = []
    for begin in range(0, len(tensors), limit):
        groups.append(ops.stack(tensors[begin : begin + limit], axis))
    return concat(groups, axis, limit)


@ops.constexpr
def _check(count: int, limit: int) -> None:
    if count < 1:
        raise InputsError("there are no tensors to join; pass at least one")
    if limit < 2:
        raise InputsError(f"limit={limit} joins nothing; pass at least 2")
