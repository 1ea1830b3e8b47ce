"""What `benchmarks.fusion` trains and compiles: MindSpore reads the source of cells, so they live in a module."""

from __future__ import annotations

from typing import Any

import numpy as np
from mindspore import ParameterTuple, Tensor, nn, ops

from ascend_fixes.defects.f1_transpose_gradient import Attention
from ascend_fixes.defects.f2_gru_nan import UnrolledGRU
from benchmarks.shapes import bert as shapes_bert
from examples.rnnsearch.model import Loss, RNNSearch, Sizes


def bert(batch: int = 16, length: int = 24, adam: Any = None) -> tuple[nn.Cell, tuple[Tensor, ...]]:
    """A training step of the 4-layer BERT of the shapes benchmark, and its inputs: a batch of full rows.

    With Adam at the rate ``adam``, a number or a schedule; without, with momentum.
    """
    rng = np.random.default_rng(0)
    loss = shapes_bert.Classifier()
    _seed_weights(loss, rng)
    weights = loss.trainable_params()
    step = nn.TrainOneStepCell(loss, nn.Adam(weights, adam) if adam else nn.Momentum(weights, 1e-2, 0.9)).set_train()
    places = np.tile(np.arange(length, dtype=np.int32), (batch, 1))
    return step, (
        _ids(rng, shapes_bert.VOCABULARY, batch, length),
        Tensor(places),
        _ones(batch, length),
        _ids(rng, 8, batch),
        _ones(batch),
    )


def rnnsearch(batch: int = 16, source: int = 12, target: int = 10) -> tuple[nn.Cell, tuple[Tensor, ...]]:
    """A training step of RNNSearch as a newcomer writes it, with MindSpore's own GRU, and a batch of ragged rows."""
    rng = np.random.default_rng(0)
    network = RNNSearch(200, 200, rng, Sizes(32, 64, 32, 32), safe=False)
    step = nn.TrainOneStepCell(Loss(network), nn.Momentum(network.trainable_params(), 0.1, 0.9)).set_train()
    lengths = rng.integers(3, source + 1, batch)
    mask = (np.arange(source) < lengths[:, None]).astype(np.float32)
    words, before, after = _ids(rng, 200, batch, source), _ids(rng, 200, batch, target), _ids(rng, 200, batch, target)
    return step, (words, Tensor(mask), before, after, _ones(batch, target))


class Copy(nn.Cell):
    """The mean square distance of an attention block's output from a target."""

    def __init__(self) -> None:
        super().__init__(auto_prefix=False)
        self.block = Attention()

    def construct(self, x: Tensor, y: Tensor) -> Tensor:
        difference = self.block(x) - y
        return (difference * difference).mean()


def attention() -> tuple[nn.Cell, tuple[Tensor, ...]]:
    """A training step of the attention block of F1, the smallest that drifts."""
    rng = np.random.default_rng(1)
    loss = Copy()
    x, y = (Tensor(rng.standard_normal((4, 10, 64)).astype(np.float32)) for _ in range(2))
    return nn.TrainOneStepCell(loss, nn.SGD(loss.trainable_params(), 0.5)).set_train(), (x, y)


class LastState(nn.Cell):
    """The mean square distance of a float16 GRU's last state from a target, float16."""

    def __init__(self) -> None:
        super().__init__(auto_prefix=False)
        self.gru = UnrolledGRU()

    def construct(self, x: Tensor, y: Tensor) -> Tensor:
        difference = self.gru(x) - y
        return (difference * difference).mean()


def float16_gru(batch: int = 4, length: int = 10) -> tuple[nn.Cell, tuple[Tensor, ...]]:
    """A training step of the unrolled float16 GRU of F2, and its inputs."""
    rng = np.random.default_rng(2)
    loss = LastState()
    x, y = (Tensor(rng.standard_normal(shape).astype(np.float16)) for shape in ((batch, length, 16), (batch, 32)))
    return nn.TrainOneStepCell(loss, nn.SGD(loss.trainable_params(), 0.1)).set_train(), (x, y)


MODELS = {
    "attention": attention,
    "bert": bert,
    "bert/Adam": lambda: bert(adam=1e-4),
    "bert/Adam warm-up": lambda: bert(adam=[1e-4 * min(1.0, (step + 1) / 8) for step in range(100)]),
    "rnnsearch": rnnsearch,
    "float16 GRU": float16_gru,
}


def _seed_weights(network: nn.Cell, rng: np.random.Generator) -> None:
    for parameter in network.trainable_params():
        if len(parameter.shape) > 1:
            parameter.set_data(Tensor((rng.standard_normal(parameter.shape) * 0.05).astype(np.float32)))


def _ids(rng: np.random.Generator, count: int, *shape: int) -> Tensor:
    return Tensor(rng.integers(1, count, shape).astype(np.int32))


def _ones(*shape: int) -> Tensor:
    return Tensor(np.ones(shape, np.float32))


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
