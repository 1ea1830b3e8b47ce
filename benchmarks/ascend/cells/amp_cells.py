"""Training steps and precisions of `amp`, and MindSpore's own."""

from __future__ import annotations

from typing import Any

import mindspore as ms
from mindspore import nn, ops

import ascend_fixes
from ascend_fixes import amp
from benchmarks.ascend.cells.parts import (
    BATCH,
    TAGS,
    WIDTH,
    Gradients,
    Made,
    random_values,
)


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
    return amp.TrainStep(loss, nn.Adam(loss.trainable_params()), **options), random_values(BATCH, WIDTH)


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
    return nn.TrainOneStepCell(loss, nn.Adam(loss.trainable_params())), random_values(BATCH, WIDTH)


def plain_step_scaled() -> Made:
    loss = Layers()
    update = nn.DynamicLossScaleUpdateCell(2**16, 2, 1000)
    step = nn.TrainOneStepWithLossScaleCell(loss, nn.Adam(loss.trainable_params()), update)
    return step, random_values(BATCH, WIDTH)


def plain_step_half() -> Made:
    step, x = plain_step_scaled()
    step.network.to_float(ms.float16)
    return step, x


def amp_autocast() -> Made:
    return Gradients(amp.autocast(Layers(), amp.Policy(_HALF))), random_values(BATCH, WIDTH)


def amp_saturating() -> Made:
    return Gradients(amp.saturating(amp.autocast(Layers(), amp.Policy(_HALF)))), random_values(BATCH, WIDTH)


def plain_layers() -> Made:
    return Gradients(Layers()), random_values(BATCH, WIDTH)


def _level(level: str) -> Made:
    return Gradients(ms.amp.auto_mixed_precision(Layers(), level)), random_values(BATCH, WIDTH)


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
