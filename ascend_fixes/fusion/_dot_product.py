"""Attention by products, as transformers have it: nothing is transposed, masks are exact, and on CPU its gradient takes half the time.

Vaswani et al. 2017, https://arxiv.org/abs/1706.03762, section 3.2.1. Of the gradient that MindSpore derives for ``matmul`` and
``softmax``, two parts take longer on CPU than the products of matrices: the scores' gradient is transposed, and a sum over each of its
rows is taken and subtracted by operators that are slow at it. `BatchMatMul` takes its arguments as they are; the sum is a product with
ones, and its subtraction a bias.
"""

from __future__ import annotations

import math

import mindspore
from mindspore import Tensor, nn, ops

from ascend_fixes import _mindspore
from ascend_fixes.fusion._guarding import safe
from ascend_fixes.fusion._layers import LayerError, spread

__all__ = ["Attention"]

Shape = tuple[int, ...]

_LOW = -1e30  # a float32 score whose exponential is 0 beside any other's


class Attention(nn.Cell):
    """``softmax(scale query key^T) value``, over the keys that a mask lets count.

    Products are in the query's type, the softmax is in float32. A query for which no key counts gets zeros, and has no gradient.
    Several heads of the query may share a key and a value, which are not repeated for it (grouped-query attention: Ainslie et al.
    2023, https://arxiv.org/abs/2305.13245).

    Args:
        scale: what the query is multiplied with; by default one by the root of its size.

    Raises:
        LayerError: ``scale`` is no positive number, or shapes do not fit each other.
    """

    def __init__(self, scale: float | None = None) -> None:
        super().__init__()
        if scale is not None and not _positive(scale):
            raise LayerError(f"scale must be a positive number or None, not {scale!r}")
        self.scale = scale
        self.softmax = _SoftmaxOnCPU() if _mindspore.backend() == "CPU" else _Softmax()
        self.scores, self.product = ops.BatchMatMul(False, True), ops.BatchMatMul()
        safe(self)

    def construct(
        self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None, keep: Tensor | None = None
    ) -> Tensor:
        """What every query finds, (batch, heads, queries, size of a value), of the query's type.

        Args:
            query: (batch, heads, queries, size).
            key: (batch, heads, keys, size), or fewer heads, of which each serves as many of the query's that follow each other.
            value: (batch, as many heads, keys, size of a value).
            mask: true, or above 0, where a key counts. Of shape (batch, keys): what stands in the other keys and values may be
                anything. Or what broadcasts to (batch, heads, queries, keys): they have to be finite.
            keep: what the weights are multiplied with, as dropout does, (batch, heads, queries, keys).
        """
        _fit(
            query.shape,
            key.shape,
            value.shape,
            None if mask is None else mask.shape,
            None if keep is None else keep.shape,
        )
        kind, shape, outputs = query.dtype, (*query.shape[:3], key.shape[2]), (*query.shape[:3], value.shape[3])
        query = query * (query.shape[3] ** -0.5 if self.scale is None else self.scale)
        key, value, hidden = key.astype(kind), value.astype(kind), Tensor(False)
        if mask is not None:
            hidden = mask.astype(mindspore.float32) <= 0
        if hidden.ndim == 2:
            key, value = _emptied(key, hidden), _emptied(value, hidden)
            hidden = hidden.reshape(shape[0], 1, 1, shape[3])
        # The queries of those heads that share a key are rows of one product.
        grouped = (*key.shape[:2], query.shape[1] * query.shape[2] // key.shape[1])
        scores = self.scores(query.reshape(*grouped, -1), key).reshape(shape).astype(mindspore.float32)
        weights = self.softmax(scores, spread(hidden, shape) if hidden.ndim > 0 else hidden).astype(kind)
        weights = weights if keep is None else weights * keep.astype(kind)
        found = self.product(weights.reshape(*grouped, -1), value).reshape(outputs)
        if mask is None or mask.ndim == 2:  # where nothing is hidden, or values are empty where it is
            return found
        counting = ops.logical_not(hidden).astype(mindspore.float32).sum(-1, keepdims=True)
        return ops.masked_fill(found, spread(counting <= 0, found.shape), Tensor(0.0, kind))


class _Softmax(nn.Cell):
    """Over the last axis of float32 scores, 0 where hidden; ``hidden`` is of their shape, or a scalar where nothing is.

    MindSpore's: the layer is kept out of the graph kernel, and unfused that is quicker than `fusion.Softmax`.
    """

    def construct(self, scores: Tensor, hidden: Tensor) -> Tensor:
        if hidden.ndim > 0:
            scores = ops.masked_fill(scores, hidden, Tensor(_LOW, mindspore.float32))
        return ops.softmax(scores, -1)


class _SoftmaxOnCPU(_Softmax):
    """The same, with a gradient of operators that are quick there."""

    def __init__(self) -> None:
        super().__init__()
        self.product = ops.MatMul()

    def bprop(self, scores: Tensor, hidden: Tensor, out: Tensor, dout: Tensor) -> tuple[Tensor, Tensor]:
        """``p * (d - sum(p * d))``; where hidden, p is 0."""
        keys = out.shape[3]
        sums = self.product((out * dout).reshape(-1, keys), ops.ones((keys, 1), mindspore.float32))
        slopes = ops.bias_add(dout.reshape(1, -1, keys), -sums.reshape(-1))
        return out * slopes.reshape(out.shape), hidden


@ops.constexpr
def _fit(query: Shape, key: Shape, value: Shape, mask: Shape | None, keep: Shape | None) -> None:
    """Shapes are known when a graph is compiled; MindSpore's own errors would name an operator of it."""
    for name, shape in (("query", query), ("key", key), ("value", value)):
        if len(shape) != 4:
            raise LayerError(
                f"{name} must be (batch, heads, length, size), not {shape}; reshape it, one head is an axis of 1"
            )
    batch, heads, queries, size = query
    if (key[0], key[3]) != (batch, size) or key[1] < 1 or heads % key[1]:
        raise LayerError(
            f"key must be ({batch}, {heads}, keys, {size}) as the query is {query}, or have a number of heads that "
            f"divides {heads}, not {key}"
        )
    if value[:3] != key[:3]:
        raise LayerError(f"value must be {key[:3]} and a size, as the key is {key}, not {value}")
    weights = (batch, heads, queries, key[2])
    if mask is not None and mask != (batch, key[2]) and not _broadcasts(mask, weights):
        raise LayerError(
            f"mask must be (batch, keys), {(batch, key[2])}, or broadcast to {weights}, not {mask}; expand_dims adds axes"
        )
    if keep is not None and keep != weights:
        raise LayerError(f"keep must be (batch, heads, queries, keys), {weights}, not {keep}; broadcast_to repeats it")


def _broadcasts(shape: Shape, to: Shape) -> bool:
    return len(shape) == len(to) and all(one in (1, other) for one, other in zip(shape, to))


def _emptied(x: Tensor, hidden: Tensor) -> Tensor:
    """(batch, heads, keys, size) with zeros where (batch, keys) is true."""
    places = hidden.reshape(hidden.shape[0], 1, hidden.shape[1], 1)
    return ops.masked_fill(x, spread(places, x.shape), Tensor(0.0, x.dtype))


def _positive(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < math.inf
