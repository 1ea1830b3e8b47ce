"""Layers of `fusion`, forward and backward."""

from __future__ import annotations

from typing import Any

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, nn, ops

from ascend_fixes import fusion
from benchmarks.ascend.cells.parts import (
    BATCH,
    LENGTH,
    TAGS,
    WIDTH,
    Made,
    made,
    random_ids,
    random_mask,
    random_values,
)
from benchmarks.fusion.attention import Transposed
from examples.rnnsearch.model import AttentionGRU


class PlainMaskedSoftmax(nn.Cell):
    def construct(self, x, mask):
        return ops.softmax(ops.masked_fill(x, ops.logical_not(mask), Tensor(-1e9, ms.float32)), -1)


class PlainLogSumExp(nn.Cell):
    def construct(self, x):
        return ops.logsumexp(x, -1)


class PlainMaskedMean(nn.Cell):
    def construct(self, x, mask):
        weight = mask.astype(ms.float32).expand_dims(-1)
        return (x * weight).sum(-2) / ops.maximum(weight.sum(-2), Tensor(1.0, ms.float32))


class PlainMaskedMax(nn.Cell):
    def construct(self, x, mask):
        return ops.masked_fill(x, ops.logical_not(mask).expand_dims(-1), Tensor(-1e9, ms.float32)).max(-2)


def fusion_softmax() -> Made:
    return made(fusion.Softmax(), random_values(BATCH, LENGTH, WIDTH))


def plain_softmax() -> Made:
    return made(nn.Softmax(), random_values(BATCH, LENGTH, WIDTH))


def fusion_masked_softmax() -> Made:
    return made(fusion.Softmax(), random_values(BATCH, LENGTH, WIDTH), random_mask(BATCH, LENGTH, WIDTH))


def plain_masked_softmax() -> Made:
    return made(PlainMaskedSoftmax(), random_values(BATCH, LENGTH, WIDTH), random_mask(BATCH, LENGTH, WIDTH))


def fusion_logsumexp() -> Made:
    return made(fusion.LogSumExp(), random_values(BATCH, LENGTH, WIDTH))


def plain_logsumexp() -> Made:
    return made(PlainLogSumExp(), random_values(BATCH, LENGTH, WIDTH))


def fusion_layer_norm() -> Made:
    return made(fusion.LayerNorm([WIDTH]), random_values(BATCH, LENGTH, WIDTH))


def plain_layer_norm() -> Made:
    return made(nn.LayerNorm([WIDTH]), random_values(BATCH, LENGTH, WIDTH))


def fusion_gelu() -> Made:
    return made(fusion.GELU(), random_values(BATCH, LENGTH, WIDTH))


def plain_gelu() -> Made:
    return made(nn.GELU(), random_values(BATCH, LENGTH, WIDTH))


def fusion_gelu_exact() -> Made:
    return made(fusion.GELU(approximate=False), random_values(BATCH, LENGTH, WIDTH))


def plain_gelu_exact() -> Made:
    return made(nn.GELU(approximate=False), random_values(BATCH, LENGTH, WIDTH))


def fusion_gru_cell() -> Made:
    return made(fusion.GRUCell(WIDTH, WIDTH), random_values(BATCH, WIDTH), random_values(BATCH, WIDTH))


def plain_gru_cell() -> Made:
    return made(nn.GRUCell(WIDTH, WIDTH), random_values(BATCH, WIDTH), random_values(BATCH, WIDTH))


def fusion_gru() -> Made:
    return made(fusion.GRU(WIDTH, WIDTH, batch_first=True), random_values(BATCH, LENGTH, WIDTH))


def fusion_gru_forward() -> Made:
    return made(fusion.GRU(WIDTH, WIDTH, batch_first=True), random_values(BATCH, LENGTH, WIDTH), gradient=False)


def plain_gru() -> Made:
    return made(nn.GRU(WIDTH, WIDTH, batch_first=True), random_values(BATCH, LENGTH, WIDTH))


def plain_gru_forward() -> Made:
    return made(nn.GRU(WIDTH, WIDTH, batch_first=True), random_values(BATCH, LENGTH, WIDTH), gradient=False)


def fusion_gru_odd() -> Made:
    return made(fusion.GRU(WIDTH, 20, batch_first=True), random_values(BATCH, LENGTH, WIDTH))


def plain_gru_odd() -> Made:
    return made(nn.GRU(WIDTH, 20, batch_first=True), random_values(BATCH, LENGTH, WIDTH))


def fusion_lstm() -> Made:
    return made(fusion.LSTM(WIDTH, WIDTH, batch_first=True), random_values(BATCH, LENGTH, WIDTH))


def plain_lstm() -> Made:
    return made(nn.LSTM(WIDTH, WIDTH, batch_first=True), random_values(BATCH, LENGTH, WIDTH))


def _by_heads(attention: nn.Cell, shared: int = 1) -> Made:
    heads = [random_values(BATCH, number, LENGTH, WIDTH) for number in (2, 2 // shared, 2 // shared)]
    return made(attention, *heads, Tensor(np.tri(BATCH, LENGTH, dtype=np.float32)))


def fusion_attention() -> Made:
    return _by_heads(fusion.Attention())


def plain_attention() -> Made:
    return _by_heads(Transposed())


class _Repeated(nn.Cell):
    """Grouped queries as ports have them: the heads of keys and values are repeated."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = Transposed()

    def construct(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> Tensor:
        return self.attention(query, ops.repeat_interleave(key, 2, 1), ops.repeat_interleave(value, 2, 1), mask)


def fusion_attention_grouped() -> Made:
    return _by_heads(fusion.Attention(), shared=2)


def plain_attention_grouped() -> Made:
    return _by_heads(_Repeated(), shared=2)


class _Attending(nn.Cell):
    """A decoder's recurrence over a source; what is returned are its states."""

    def __init__(self, recurrence: nn.Cell) -> None:
        super().__init__()
        self.recurrence = recurrence

    def construct(self, x: Tensor, state: Tensor, annotations: Tensor, keys: Tensor, mask: Tensor) -> Tensor:
        return self.recurrence(x, state, annotations, keys, mask)[0]


def _attending(recurrence: nn.Cell) -> Made:
    source, mask = random_values(BATCH, LENGTH, WIDTH), Tensor(np.ones((BATCH, LENGTH), np.float32))
    state = random_values(BATCH, WIDTH)
    return made(_Attending(recurrence), random_values(BATCH, LENGTH, WIDTH), state, source, source, mask)


def fusion_attention_gru() -> Made:
    return _attending(fusion.AttentionGRU(WIDTH, WIDTH, WIDTH, WIDTH))


def plain_attention_gru() -> Made:
    return _attending(AttentionGRU(WIDTH, WIDTH, WIDTH, WIDTH))


class _Operator(nn.Cell):
    """`ops.DynamicRNN`, or what stands for it, with its weights, in float16."""

    def __init__(self, rnn: Any) -> None:
        super().__init__()
        draw = np.random.default_rng(0).standard_normal
        self.rnn, self.empty = rnn, Tensor(np.zeros((1, BATCH, WIDTH), np.float16))
        self.w = Parameter(Tensor(draw((2 * WIDTH, 4 * WIDTH)).astype(np.float16)), name="w")
        self.b = Parameter(Tensor(np.zeros(4 * WIDTH, np.float16)), name="b")

    def construct(self, x: Tensor) -> Tensor:
        return self.rnn(x.astype(ms.float16), self.w, self.b, None, self.empty, self.empty)[0]


def fusion_dynamic_rnn() -> Made:
    return made(_Operator(fusion.DynamicRNN()), random_values(LENGTH, BATCH, WIDTH))


def plain_dynamic_rnn() -> Made:
    return made(_Operator(ops.DynamicRNN()), random_values(LENGTH, BATCH, WIDTH))


class _WithLengths(nn.Cell):
    def __init__(self, layer: nn.Cell) -> None:
        super().__init__()
        self.layer = layer

    def construct(self, x, lengths):
        return self.layer(x, None, lengths)


def fusion_gru_bidirectional() -> Made:
    layer = fusion.GRU(WIDTH, WIDTH, batch_first=True, bidirectional=True)
    return made(_WithLengths(layer), random_values(BATCH, LENGTH, WIDTH), random_ids(LENGTH, BATCH) + 1)


def plain_gru_bidirectional() -> Made:
    layer = nn.GRU(WIDTH, WIDTH, batch_first=True, bidirectional=True)
    return made(_WithLengths(layer), random_values(BATCH, LENGTH, WIDTH), random_ids(LENGTH, BATCH) + 1)


def fusion_crf() -> Made:
    return made(
        fusion.CRF(TAGS),
        random_values(BATCH, LENGTH, TAGS),
        random_ids(TAGS, BATCH, LENGTH),
        random_ids(LENGTH, BATCH) + 1,
    )


class Marginals(nn.Cell):
    """The graph of `CRF.marginals`: the gradient of the partition function by the emissions."""

    def __init__(self) -> None:
        super().__init__()
        self.partition = Partition()

    def construct(self, x, lengths):
        return ms.grad(self.partition)(x, lengths)


class Partition(nn.Cell):
    """The logarithm of the sum over all tag sequences."""

    def __init__(self) -> None:
        super().__init__()
        self.crf = fusion.CRF(TAGS)

    def construct(self, x, lengths):
        return self.crf.log_partition(x, lengths)


def fusion_crf_marginals() -> Made:
    return Marginals(), random_values(BATCH, LENGTH, TAGS), random_ids(LENGTH, BATCH) + 1


def fusion_gated_graph() -> Made:
    return made(
        fusion.GatedGraph(WIDTH),
        random_values(BATCH, LENGTH, WIDTH),
        random_values(BATCH, LENGTH, LENGTH),
        random_mask(BATCH, LENGTH),
    )


def fusion_masked_mean() -> Made:
    return made(fusion.MaskedMean(), random_values(BATCH, LENGTH, WIDTH), random_mask(BATCH, LENGTH))


def plain_masked_mean() -> Made:
    return made(PlainMaskedMean(), random_values(BATCH, LENGTH, WIDTH), random_mask(BATCH, LENGTH))


def fusion_masked_max() -> Made:
    return made(fusion.MaskedMax(), random_values(BATCH, LENGTH, WIDTH), random_mask(BATCH, LENGTH))


def plain_masked_max() -> Made:
    return made(PlainMaskedMax(), random_values(BATCH, LENGTH, WIDTH), random_mask(BATCH, LENGTH))
