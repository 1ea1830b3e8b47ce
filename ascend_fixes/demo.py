"""``ascend-fixes demo``: one overflow in float16, in MindSpore's own O3 step and in `amp.TrainStep`. Some seconds.

A regression of 8 numbers to 1 is trained on five equal batches, but for the third, which is 1e30 times as large: what a
damaged sample, or an unlucky one at a high loss scale, does to a long training.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops

from ascend_fixes import amp

__all__ = ["Step", "steps", "table"]

_SCALES = (1.0, 1.0, 1e30, 1.0, 1.0)
_SEED = 1


@dataclass(frozen=True)
class Step:
    """One batch, in both trainings.

    Attributes:
        plain_loss, guarded_loss: the loss that each step returned; NaN or infinite where it overflowed.
        plain_finite, guarded_finite: are all weights finite after the step?
        event: what `amp.TrainStep` says of it.
    """

    plain_loss: float
    plain_finite: bool
    guarded_loss: float
    guarded_finite: bool
    event: str


class _Loss(nn.Cell):
    """Mean squared error of one dense layer: x ``(n, 8)`` and y ``(n, 1)`` to a scalar."""

    def __init__(self, weight: np.ndarray) -> None:
        super().__init__()
        self.net = nn.Dense(8, 1, weight_init=Tensor(weight), bias_init="zeros")

    def construct(self, x: Tensor, y: Tensor) -> Tensor:
        return ops.square(self.net(x) - y).mean()

    def finite(self) -> bool:
        """Are all weights finite?"""
        return bool(np.isfinite(self.net.weight.asnumpy()).all())


def steps() -> Iterator[Step]:
    """Train both, in graph mode, which stays set; one `Step` a batch."""
    ms.set_context(mode=ms.GRAPH_MODE)
    weight = np.random.default_rng(_SEED).standard_normal((1, 8)).astype(np.float32)
    x, y = Tensor(np.ones((4, 8), np.float32)), Tensor(np.zeros((4, 1), np.float32))
    plain, guarded = _Loss(weight), _Loss(weight)
    lowered = ms.amp.auto_mixed_precision(plain, "O3")
    plain_step = nn.TrainOneStepCell(lowered, nn.Adam(lowered.trainable_params(), 0.01))
    optimizer = nn.Adam(guarded.trainable_params(), 0.01)
    guarded_step = amp.TrainStep(guarded, optimizer, amp.LossScaler(1024), amp.Policy("compute=float16"))
    for scale in _SCALES:
        loss, result = plain_step(x * scale, y), guarded_step(x * scale, y)
        yield Step(
            float(loss.asnumpy()), plain.finite(), float(result.loss.asnumpy()), guarded.finite(), str(result.event)
        )


def table(found: list[Step]) -> str:
    """The steps for a terminal."""
    words = {True: "whole", False: "NaN"}
    lines = [("batch", "MindSpore's O3", "weights", "amp.TrainStep", "weights", "what it did")]
    for number, step in enumerate(found, 1):
        lines.append(
            (
                str(number),
                f"loss {step.plain_loss:.3f}",
                words[step.plain_finite],
                f"loss {step.guarded_loss:.3f}",
                words[step.guarded_finite],
                step.event,
            )
        )
    widths = [max(map(len, column)) + 2 for column in zip(*lines)]
    return "\n".join("".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() for line in lines)
