"""The cells that `benchmarks.fusion` compiles: MindSpore reads their source, so they live in a module."""

from __future__ import annotations

from typing import Any

from mindspore import ParameterTuple, Tensor, nn, ops

from ascend_fixes.defects.f1_transpose_gradient import Attention


class Block(nn.Cell):
    """Attention and a GELU layer, each added to its input and normalised: ``(batch, length, 64)`` to the same."""

    def __init__(self) -> None:
        super().__init__()
        self.attention, self.norm = Attention(), nn.LayerNorm((64,))
        self.wide, self.narrow, self.last = nn.Dense(64, 256), nn.Dense(256, 64), nn.LayerNorm((64,))

    def construct(self, x: Tensor) -> Tensor:
        x = self.norm(x + self.attention(x))
        return self.last(x + self.narrow(ops.gelu(self.wide(x), approximate="tanh")))


class Blocks(nn.Cell):
    """A stack of blocks."""

    def __init__(self, layers: int) -> None:
        super().__init__()
        self.blocks = nn.SequentialCell(*(Block() for _ in range(layers)))

    def construct(self, x: Tensor) -> Tensor:
        return self.blocks(x)


class _Loss(nn.Cell):
    def __init__(self, net: nn.Cell) -> None:
        super().__init__()
        self.net = net

    def construct(self, x: Tensor, y: Tensor) -> Tensor:
        difference = self.net(x) - y
        return (difference * difference).mean()


class TrainStep(nn.Cell):
    """One step of training on the mean square error; returns the loss."""

    def __init__(self, net: nn.Cell, optimizer: nn.Optimizer) -> None:
        super().__init__()
        self.loss, self.optimizer = _Loss(net), optimizer
        self.weights, self.gradient = optimizer.parameters, ops.GradOperation(get_by_list=True)

    def construct(self, x: Tensor, y: Tensor) -> Tensor:
        loss = self.loss(x, y)
        return ops.depend(loss, self.optimizer(self.gradient(self.loss, self.weights)(x, y)))


class _Sum(nn.Cell):
    def __init__(self, layer: nn.Cell) -> None:
        super().__init__()
        self.layer = layer

    def construct(self, *inputs: Tensor) -> Tensor:
        outputs = self.layer(*inputs)
        if isinstance(outputs, tuple):
            outputs = outputs[0]
        return outputs.sum()


class Gradient(nn.Cell):
    """The gradients of the sum of a layer's first output by its parameters."""

    def __init__(self, layer: nn.Cell) -> None:
        super().__init__()
        self.sum, self.gradient = _Sum(layer), ops.GradOperation(get_by_list=True)
        self.weights = ParameterTuple(layer.trainable_params())

    def construct(self, *inputs: Tensor) -> Any:
        return self.gradient(self.sum, self.weights)(*inputs)
