"""Blocks of self-attention, the model whose kernels `benchmarks.amp.kernels` counts. In a file of its own: MindSpore reads it."""

from __future__ import annotations

from typing import Any

from mindspore import nn, ops

__all__ = ["Blocks"]


class Block(nn.Cell):
    """Attention with one head and a feed-forward layer, each with a residual and a layer norm."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.project, self.out, self.norm = nn.Dense(width, 3 * width), nn.Dense(width, width), nn.LayerNorm([width])
        self.inner, self.outer, self.last = (
            nn.Dense(width, 2 * width),
            nn.Dense(2 * width, width),
            nn.LayerNorm([width]),
        )

    def construct(self, x: Any) -> Any:
        query, key, value = ops.chunk(self.project(x), 3, -1)
        weights = ops.softmax(ops.matmul(query, key.swapaxes(1, 2)) / 8, -1)
        x = self.norm(x + self.out(ops.matmul(weights, value)))
        return self.last(x + self.outer(ops.gelu(self.inner(x))))


class Blocks(nn.Cell):
    """The mean cube of what so many blocks return."""

    def __init__(self, width: int, count: int) -> None:
        super().__init__()
        self.blocks = nn.CellList([Block(width) for _ in range(count)])

    def construct(self, x: Any) -> Any:
        for block in self.blocks:
            x = block(x)
        return (x * x * x).mean()
