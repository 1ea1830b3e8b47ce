"""Gradients of either kind, dense Tensors and MindSpore's sparse RowTensors, handled alike inside a graph.

A RowTensor is what an embedding lookup with ``sparse=True`` gives: the rows that were looked up, and their gradients.
"""

from __future__ import annotations

from typing import Any

from mindspore import ops

from ascend_fixes import _mindspore

__all__ = ["dense", "values", "with_values"]

values = ops.MultitypeFuncGraph("values")
with_values = ops.MultitypeFuncGraph("with_values")
dense = ops.MultitypeFuncGraph("dense")

RowTensor = _mindspore.row_tensor_class()


@values.register("Tensor")
def _tensor_values(grad: Any) -> Any:
    return grad


@values.register("RowTensor")
def _row_values(grad: Any) -> Any:
    return grad.values


@with_values.register("Tensor", "Tensor")
def _tensor_with_values(grad: Any, new: Any) -> Any:
    return new


@with_values.register("RowTensor", "Tensor")
def _row_with_values(grad: Any, new: Any) -> Any:
    return RowTensor(grad.indices, new, grad.dense_shape)


@dense.register("Tensor")
def _tensor_dense(grad: Any) -> Any:
    return grad


@dense.register("RowTensor")
def _row_dense(grad: Any) -> Any:
    zeros = ops.zeros(grad.dense_shape, grad.values.dtype)
    return ops.tensor_scatter_add(zeros, grad.indices.reshape(-1, 1), grad.values)
