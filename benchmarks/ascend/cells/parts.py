"""What the factories share: sizes, inputs, and a cell with its gradients."""

from __future__ import annotations

from typing import Any

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn

__all__ = [
    "BATCH",
    "LENGTH",
    "TAGS",
    "WIDTH",
    "Gradients",
    "Made",
    "made",
    "random_ids",
    "random_mask",
    "random_values",
    "step_of",
]

Made = tuple[Any, ...]
BATCH, LENGTH, WIDTH, TAGS = 4, 12, 32, 5


def random_values(*shape: int) -> Tensor:
    return Tensor(np.random.default_rng(0).standard_normal(shape).astype(np.float32))


def random_ids(most: int, *shape: int) -> Tensor:
    return Tensor(np.random.default_rng(0).integers(0, most, shape).astype(np.int32))


def random_mask(*shape: int) -> Tensor:
    return Tensor(np.arange(shape[-1]) < np.random.default_rng(0).integers(1, shape[-1] + 1, (*shape[:-1], 1)))


class Gradients(nn.Cell):
    """The sum of a cell's first output, and its gradients by the first input and by all parameters."""

    def __init__(self, cell: nn.Cell) -> None:
        super().__init__(auto_prefix=False)
        self.cell, self.weights = cell, ms.ParameterTuple(cell.trainable_params())
        self.loss = _Sum(cell)
        self.both = ms.value_and_grad(self.loss, 0, self.weights if len(self.weights) else None)

    def construct(self, *inputs):
        return self.both(*inputs)


class _Sum(nn.Cell):
    def __init__(self, cell: nn.Cell) -> None:
        super().__init__(auto_prefix=False)
        self.cell = cell

    def construct(self, *inputs):
        output = self.cell(*inputs)
        if isinstance(output, tuple):
            output = output[0]
        return (output.astype(ms.float32) * 1.5).sum()


def step_of(loss: nn.Cell, *inputs: Tensor) -> Made:
    return (nn.TrainOneStepCell(loss, nn.SGD(loss.trainable_params(), 0.1)), *inputs)


def made(cell: nn.Cell, *inputs: Any, gradient: bool = True) -> Made:
    return (Gradients(cell) if gradient else cell, *inputs)
