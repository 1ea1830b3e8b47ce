"""Factories of everything public that becomes a graph, small enough to compile for Ascend in seconds.

Each returns a cell and its inputs, as `ascend_fixes.dryrun.cell` takes them. `ROWS` names them, and beside each the
same computation in MindSpore's own words where there is one: what a tool adds in kernels is the difference.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops

import ascend_fixes
from ascend_fixes import amp, fusion, host, shapes

__all__ = ["AMP_ROWS", "ROWS", "Row"]

Made = tuple[Any, ...]
BATCH, LENGTH, WIDTH, TAGS = 4, 12, 32, 5


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        family: the toolbox.
        name: what is compiled.
        factory: of the tool's cell, in this module.
        plain: the factory of the same in MindSpore's own words; "" where there is nothing to compare with.
    """

    family: str
    name: str
    factory: str
    plain: str = ""


def _random(*shape: int) -> Tensor:
    return Tensor(np.random.default_rng(0).standard_normal(shape).astype(np.float32))


def _ids(most: int, *shape: int) -> Tensor:
    return Tensor(np.random.default_rng(0).integers(0, most, shape).astype(np.int32))


def _mask(*shape: int) -> Tensor:
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


# --- shapes ----------------------------------------------------------------------------------------


class Tagger(nn.Cell):
    """Ids (batch, length) to scores (batch, length, 5)."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.dense = nn.Embedding(50, WIDTH), nn.Dense(WIDTH, TAGS)

    def construct(self, ids):
        return self.dense(ops.tanh(self.embedding(ids)))


class TaggerLoss(nn.Cell):
    """Ids (batch, length) to a loss."""

    def __init__(self) -> None:
        super().__init__()
        self.tagger = Tagger()

    def construct(self, ids):
        return (self.tagger(ids) ** 2).mean()


def tagger() -> Made:
    return Tagger(), _ids(50, BATCH, LENGTH)


def tagger_step() -> Made:
    loss = TaggerLoss()
    return nn.TrainOneStepCell(loss, nn.SGD(loss.trainable_params(), 0.1)), _ids(50, BATCH, LENGTH)


def bucketed() -> Made:
    cell, ids = tagger()
    return shapes.bucketed(cell, {"ids": 1}, shapes.Buckets([16]), outputs=1), ids


def bucketed_step() -> Made:
    cell, ids = tagger_step()
    return shapes.bucketed(cell, {0: 1}, shapes.Buckets([16])), ids


def bucketed_dynamic() -> Made:
    cell, ids = tagger()
    return shapes.bucketed(cell, {"ids": 1}, shapes.Buckets([16]), outputs=1, tier="auto"), ids


# --- host ------------------------------------------------------------------------------------------


class Embedded(nn.Cell):
    """Rows kept on the host and a layer on the device."""

    def __init__(self, embedding: nn.Cell) -> None:
        super().__init__()
        self.embedding, self.dense = embedding, nn.Dense(WIDTH, TAGS)

    def construct(self, ids):
        return (self.dense(self.embedding(ids)) ** 2).mean()


def _step_of(loss: nn.Cell, *inputs: Tensor) -> Made:
    return (nn.TrainOneStepCell(loss, nn.SGD(loss.trainable_params(), 0.1)), *inputs)


def host_embedding() -> Made:
    return _step_of(Embedded(host.Embedding(50, WIDTH, optimizer="sgd")), _ids(50, BATCH, LENGTH))


def plain_embedding() -> Made:
    return _step_of(Embedded(nn.Embedding(50, WIDTH)), _ids(50, BATCH, LENGTH))


class Called(nn.Cell):
    """A host function between two operators."""

    def __init__(self) -> None:
        super().__init__()
        self.function = host.callback(_sorted, lambda x: x, ms.float32, gradient=_unsorted)

    def construct(self, x):
        return self.function(x * 2.0) + 1.0


def _sorted(x: np.ndarray) -> np.ndarray:
    return np.sort(x)


def _unsorted(x: np.ndarray, out: np.ndarray, dout: np.ndarray) -> np.ndarray:
    gradient = np.empty_like(dout)
    gradient[np.argsort(x)] = dout
    return gradient


def host_callback() -> Made:
    return Called(), _random(LENGTH)


def host_callback_gradient() -> Made:
    return Gradients(Called()), _random(LENGTH)


class Static(nn.Cell):
    """One static operator of `host`."""

    def __init__(self, name: str, check: bool = False) -> None:
        super().__init__()
        self.name, self.check = name, check

    def construct(self, x):
        if self.name == "unique":
            return host.unique(x, 8, check=self.check)
        if self.name == "nonzero":
            return host.nonzero(x, 8, check=self.check)
        if self.name == "masked_select":
            return host.masked_select(x, x > 0, 8, check=self.check)
        if self.name == "where":
            return host.where(x > 0, 8, check=self.check)
        return host.top_k(x, 3, 5, check=self.check)


def host_unique() -> Made:
    return Static("unique"), _ids(5, LENGTH)


def host_unique_float() -> Made:
    return Static("unique"), _random(LENGTH)


def host_nonzero() -> Made:
    return Static("nonzero"), _ids(2, BATCH, LENGTH)


def host_masked_select() -> Made:
    return Static("masked_select"), _random(BATCH, LENGTH)


def host_masked_select_gradient() -> Made:
    return Gradients(Static("masked_select")), _random(BATCH, LENGTH)


def host_where() -> Made:
    return Static("where"), _random(BATCH, LENGTH)


def host_top_k() -> Made:
    return Static("top_k"), _random(BATCH, LENGTH)


def host_unique_checked() -> Made:
    return Static("unique", True), _ids(5, LENGTH)


def host_nonzero_checked() -> Made:
    return Static("nonzero", True), _ids(2, BATCH, LENGTH)


def host_top_k_checked() -> Made:
    return Static("top_k", True), _random(BATCH, LENGTH)


class PlainStatic(nn.Cell):
    """The same by `mindspore.ops`."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def construct(self, x):
        if self.name == "unique":
            return ops.unique(x)
        if self.name == "nonzero":
            return ops.nonzero(x)
        if self.name == "masked_select":
            return ops.masked_select(x, x > 0)
        return ops.topk(x, 5)


def plain_unique() -> Made:
    return PlainStatic("unique"), _ids(5, LENGTH)


def plain_nonzero() -> Made:
    return PlainStatic("nonzero"), _ids(2, BATCH, LENGTH)


def plain_masked_select() -> Made:
    return PlainStatic("masked_select"), _random(BATCH, LENGTH)


def plain_top_k() -> Made:
    return PlainStatic("top_k"), _random(BATCH, LENGTH)


def host_place() -> Made:
    cell = PlainStatic("top_k")
    host.place(cell, ["TopK"])
    return cell, _random(BATCH, LENGTH)


class DecodingStep(nn.Cell):
    """One step of a language model: tokens (rows,), state (rows, width)."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.cell, self.out = nn.Embedding(50, WIDTH), nn.GRUCell(WIDTH, WIDTH), nn.Dense(WIDTH, 50)

    def construct(self, tokens, state):
        state = self.cell(self.embedding(tokens), state)
        return self.out(state), state


def beam_step() -> Made:
    return DecodingStep(), _ids(50, BATCH * 3), _random(BATCH * 3, WIDTH)


class Joined(nn.Cell):
    """More pieces than Ascend's kernels take, put together in groups."""

    def construct(self, x):
        return host.concat((x,) * 200, 0), host.stack((x,) * 200, 0)


def host_concat() -> Made:
    return Joined(), _random(2, 3)


# --- fusion ----------------------------------------------------------------------------------------


def _made(cell: nn.Cell, *inputs: Any, gradient: bool = True) -> Made:
    return (Gradients(cell) if gradient else cell, *inputs)


class _Masked(nn.Cell):
    def __init__(self, layer: nn.Cell) -> None:
        super().__init__()
        self.layer = layer

    def construct(self, x, mask):
        return self.layer(x, mask)


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
    return _made(fusion.Softmax(), _random(BATCH, LENGTH, WIDTH))


def plain_softmax() -> Made:
    return _made(nn.Softmax(), _random(BATCH, LENGTH, WIDTH))


def fusion_masked_softmax() -> Made:
    return _made(fusion.Softmax(), _random(BATCH, LENGTH, WIDTH), _mask(BATCH, LENGTH, WIDTH))


def plain_masked_softmax() -> Made:
    return _made(PlainMaskedSoftmax(), _random(BATCH, LENGTH, WIDTH), _mask(BATCH, LENGTH, WIDTH))


def fusion_logsumexp() -> Made:
    return _made(fusion.LogSumExp(), _random(BATCH, LENGTH, WIDTH))


def plain_logsumexp() -> Made:
    return _made(PlainLogSumExp(), _random(BATCH, LENGTH, WIDTH))


def fusion_layer_norm() -> Made:
    return _made(fusion.LayerNorm([WIDTH]), _random(BATCH, LENGTH, WIDTH))


def plain_layer_norm() -> Made:
    return _made(nn.LayerNorm([WIDTH]), _random(BATCH, LENGTH, WIDTH))


def fusion_gelu() -> Made:
    return _made(fusion.GELU(), _random(BATCH, LENGTH, WIDTH))


def plain_gelu() -> Made:
    return _made(nn.GELU(), _random(BATCH, LENGTH, WIDTH))


def fusion_gelu_exact() -> Made:
    return _made(fusion.GELU(approximate=False), _random(BATCH, LENGTH, WIDTH))


def plain_gelu_exact() -> Made:
    return _made(nn.GELU(approximate=False), _random(BATCH, LENGTH, WIDTH))


def fusion_gru_cell() -> Made:
    return _made(fusion.GRUCell(WIDTH, WIDTH), _random(BATCH, WIDTH), _random(BATCH, WIDTH))


def plain_gru_cell() -> Made:
    return _made(nn.GRUCell(WIDTH, WIDTH), _random(BATCH, WIDTH), _random(BATCH, WIDTH))


def fusion_gru() -> Made:
    return _made(fusion.GRU(WIDTH, WIDTH, batch_first=True), _random(BATCH, LENGTH, WIDTH))


def fusion_gru_forward() -> Made:
    return _made(fusion.GRU(WIDTH, WIDTH, batch_first=True), _random(BATCH, LENGTH, WIDTH), gradient=False)


def plain_gru() -> Made:
    return _made(nn.GRU(WIDTH, WIDTH, batch_first=True), _random(BATCH, LENGTH, WIDTH))


def plain_gru_forward() -> Made:
    return _made(nn.GRU(WIDTH, WIDTH, batch_first=True), _random(BATCH, LENGTH, WIDTH), gradient=False)


def fusion_gru_odd() -> Made:
    return _made(fusion.GRU(WIDTH, 20, batch_first=True), _random(BATCH, LENGTH, WIDTH))


def plain_gru_odd() -> Made:
    return _made(nn.GRU(WIDTH, 20, batch_first=True), _random(BATCH, LENGTH, WIDTH))


class _WithLengths(nn.Cell):
    def __init__(self, layer: nn.Cell) -> None:
        super().__init__()
        self.layer = layer

    def construct(self, x, lengths):
        return self.layer(x, None, lengths)


def fusion_gru_bidirectional() -> Made:
    layer = fusion.GRU(WIDTH, WIDTH, batch_first=True, bidirectional=True)
    return _made(_WithLengths(layer), _random(BATCH, LENGTH, WIDTH), _ids(LENGTH, BATCH) + 1)


def plain_gru_bidirectional() -> Made:
    layer = nn.GRU(WIDTH, WIDTH, batch_first=True, bidirectional=True)
    return _made(_WithLengths(layer), _random(BATCH, LENGTH, WIDTH), _ids(LENGTH, BATCH) + 1)


def fusion_crf() -> Made:
    return _made(fusion.CRF(TAGS), _random(BATCH, LENGTH, TAGS), _ids(TAGS, BATCH, LENGTH), _ids(LENGTH, BATCH) + 1)


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
    return Marginals(), _random(BATCH, LENGTH, TAGS), _ids(LENGTH, BATCH) + 1


def fusion_gated_graph() -> Made:
    return _made(
        fusion.GatedGraph(WIDTH), _random(BATCH, LENGTH, WIDTH), _random(BATCH, LENGTH, LENGTH), _mask(BATCH, LENGTH)
    )


def fusion_masked_mean() -> Made:
    return _made(fusion.MaskedMean(), _random(BATCH, LENGTH, WIDTH), _mask(BATCH, LENGTH))


def plain_masked_mean() -> Made:
    return _made(PlainMaskedMean(), _random(BATCH, LENGTH, WIDTH), _mask(BATCH, LENGTH))


def fusion_masked_max() -> Made:
    return _made(fusion.MaskedMax(), _random(BATCH, LENGTH, WIDTH), _mask(BATCH, LENGTH))


def plain_masked_max() -> Made:
    return _made(PlainMaskedMax(), _random(BATCH, LENGTH, WIDTH), _mask(BATCH, LENGTH))


# --- amp -------------------------------------------------------------------------------------------


class Layers(nn.Cell):
    """Two layers and a normalisation to a loss: float32 (batch, width) to ()."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.second = nn.Dense(WIDTH, WIDTH), nn.LayerNorm((WIDTH,)), nn.Dense(WIDTH, TAGS)

    def construct(self, x):
        return (self.second(ops.tanh(self.norm(self.first(x)))) ** 2).sum()


_HALF = "params=float32,compute=float16,output=float32"


def _train_step(**options: Any) -> Made:
    loss = Layers()
    return amp.TrainStep(loss, nn.Adam(loss.trainable_params()), **options), _random(BATCH, WIDTH)


def amp_step() -> Made:
    return _train_step(scaler=amp.LossScaler.off())


def amp_step_scaled() -> Made:
    return _train_step(scaler=amp.LossScaler())


def amp_step_half() -> Made:
    return _train_step(scaler=amp.LossScaler(), policy=amp.Policy(_HALF))


def amp_step_clipped() -> Made:
    return _train_step(scaler=amp.LossScaler(), policy=amp.Policy(_HALF), clip_norm=1.0)


def amp_step_accumulating() -> Made:
    return _train_step(scaler=amp.LossScaler(), policy=amp.Policy(_HALF), accumulate=2)


def plain_step() -> Made:
    loss = Layers()
    return nn.TrainOneStepCell(loss, nn.Adam(loss.trainable_params())), _random(BATCH, WIDTH)


def plain_step_scaled() -> Made:
    loss = Layers()
    update = nn.DynamicLossScaleUpdateCell(2**16, 2, 1000)
    step = nn.TrainOneStepWithLossScaleCell(loss, nn.Adam(loss.trainable_params()), update)
    return step, _random(BATCH, WIDTH)


def plain_step_half() -> Made:
    step, x = plain_step_scaled()
    step.network.to_float(ms.float16)
    return step, x


def amp_autocast() -> Made:
    return Gradients(amp.autocast(Layers(), amp.Policy(_HALF))), _random(BATCH, WIDTH)


def amp_saturating() -> Made:
    return Gradients(amp.saturating(amp.autocast(Layers(), amp.Policy(_HALF)))), _random(BATCH, WIDTH)


def plain_layers() -> Made:
    return Gradients(Layers()), _random(BATCH, WIDTH)


def _level(level: str) -> Made:
    return Gradients(ms.amp.auto_mixed_precision(Layers(), level)), _random(BATCH, WIDTH)


def _patched_level(level: str) -> Made:
    ascend_fixes.patch("amp")
    return _level(level)


def plain_level_1() -> Made:
    return _level("O1")


def plain_level_2() -> Made:
    return _level("O2")


def plain_level_3() -> Made:
    return _level("O3")


def plain_level_auto() -> Made:
    return _level("auto")


def amp_level_1() -> Made:
    return _patched_level("O1")


def amp_level_2() -> Made:
    return _patched_level("O2")


def amp_level_3() -> Made:
    return _patched_level("O3")


def amp_level_auto() -> Made:
    return _patched_level("auto")


AMP_ROWS = (
    Row("amp", "TrainStep, no scaling", "amp_step", "plain_step"),
    Row("amp", "TrainStep, scaled", "amp_step_scaled", "plain_step_scaled"),
    Row("amp", "TrainStep, float16", "amp_step_half", "plain_step_half"),
    Row("amp", "TrainStep, float16, clip_norm", "amp_step_clipped", "plain_step_half"),
    Row("amp", "TrainStep, float16, accumulate", "amp_step_accumulating", "plain_step_half"),
    Row("amp", "autocast", "amp_autocast", "plain_layers"),
    Row("amp", "saturating", "amp_saturating", "plain_layers"),
    Row("amp", "level O1, patched", "amp_level_1", "plain_level_1"),
    Row("amp", "level O2, patched", "amp_level_2", "plain_level_2"),
    Row("amp", "level O3, patched", "amp_level_3", "plain_level_3"),
    Row("amp", "level auto, patched", "amp_level_auto", "plain_level_auto"),
)
ROWS = (
    Row("shapes", "a cell, forward", "bucketed", "tagger"),
    Row("shapes", "a training step", "bucketed_step", "tagger_step"),
    Row("shapes", "tier=auto", "bucketed_dynamic", "tagger"),
    Row("host", "Embedding, training step", "host_embedding", "plain_embedding"),
    Row("host", "callback", "host_callback"),
    Row("host", "callback, gradient", "host_callback_gradient"),
    Row("host", "unique, int32", "host_unique", "plain_unique"),
    Row("host", "unique, float32", "host_unique_float", "plain_unique"),
    Row("host", "unique, checked", "host_unique_checked", "plain_unique"),
    Row("host", "nonzero", "host_nonzero", "plain_nonzero"),
    Row("host", "nonzero, checked", "host_nonzero_checked", "plain_nonzero"),
    Row("host", "masked_select", "host_masked_select", "plain_masked_select"),
    Row("host", "masked_select, gradient", "host_masked_select_gradient"),
    Row("host", "where", "host_where"),
    Row("host", "top_k", "host_top_k", "plain_top_k"),
    Row("host", "top_k, checked", "host_top_k_checked", "plain_top_k"),
    Row("host", "place", "host_place", "plain_top_k"),
    Row("host", "beam_search, its step", "beam_step"),
    Row("host", "concat and stack of 200", "host_concat"),
    Row("fusion", "Softmax", "fusion_softmax", "plain_softmax"),
    Row("fusion", "Softmax, masked", "fusion_masked_softmax", "plain_masked_softmax"),
    Row("fusion", "LogSumExp", "fusion_logsumexp", "plain_logsumexp"),
    Row("fusion", "LayerNorm", "fusion_layer_norm", "plain_layer_norm"),
    Row("fusion", "GELU", "fusion_gelu", "plain_gelu"),
    Row("fusion", "GELU, exact", "fusion_gelu_exact", "plain_gelu_exact"),
    Row("fusion", "GRUCell", "fusion_gru_cell", "plain_gru_cell"),
    Row("fusion", "GRU", "fusion_gru", "plain_gru"),
    Row("fusion", "GRU, forward", "fusion_gru_forward", "plain_gru_forward"),
    Row("fusion", "GRU, hidden size 20", "fusion_gru_odd", "plain_gru_odd"),
    Row("fusion", "GRU, both directions, lengths", "fusion_gru_bidirectional", "plain_gru_bidirectional"),
    Row("fusion", "CRF", "fusion_crf"),
    Row("fusion", "CRF.marginals", "fusion_crf_marginals"),
    Row("fusion", "GatedGraph", "fusion_gated_graph"),
    Row("fusion", "MaskedMean", "fusion_masked_mean", "plain_masked_mean"),
    Row("fusion", "MaskedMax", "fusion_masked_max", "plain_masked_max"),
    *AMP_ROWS,
)
