"""The loss cell of `benchmarks.shapes.learning`. In a file of its own: MindSpore reads it."""

from __future__ import annotations

from typing import Any

from mindspore import nn

__all__ = ["Weighed"]


class Weighed(nn.Cell):
    """A loss times the last argument, a float32 scalar."""

    def __init__(self, loss: nn.Cell) -> None:
        super().__init__(auto_prefix=False)
        self.loss = loss

    def construct(self, *inputs: Any) -> Any:
        return self.loss(*inputs[:-1]) * inputs[-1]
