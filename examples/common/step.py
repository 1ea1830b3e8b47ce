"""The training step of every example: MindSpore's own, or with the amp family `amp.TrainStep`, in either precision."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, nn

from ascend_fixes import amp, shapes
from examples.common import ranks
from examples.common.training import Step

__all__ = ["HALF", "Cells", "cells", "learning_rates", "padded_to", "run", "slots"]

HALF = "params=float32,compute=float16,output=float32"


@dataclass(frozen=True)
class Cells:
    """What one variant runs.

    Attributes:
        step: takes a batch and trains on it.
        network: takes a batch without labels and evaluates it, in the variant's precision.
        scaler: of the loss; None where the step is MindSpore's own.
    """

    step: nn.Cell
    network: nn.Cell
    scaler: amp.LossScaler | None


def cells(
    loss: nn.Cell,
    network: nn.Cell,
    optimizer: nn.Optimizer,
    request: Mapping[str, Any],
    policy: amp.Policy | None = None,
    scaler: amp.LossScaler | None = None,
) -> Cells:
    """The cells of the variant that ``request`` describes.

    Args:
        loss: the network with its loss; holds ``network``.
        network: whose ``to_float`` is plain float16.
        optimizer: of the network's parameters.
        request: its "fixes" and "precision" count.
        policy, scaler: for float16 with the amp family; by default `HALF` and ``LossScaler()``.
    """
    half = request["precision"] == "float16"
    if "amp" not in request["fixes"]:
        if half:
            network.to_float(ms.float16)
        return Cells(nn.TrainOneStepCell(loss, optimizer), network, None)
    if not half:
        scaler = amp.LossScaler.off()
        return Cells(amp.TrainStep(loss, optimizer, scaler), network, scaler)
    policy, scaler = policy or amp.Policy(HALF), scaler or amp.LossScaler()
    return Cells(amp.TrainStep(loss, optimizer, scaler, policy=policy), amp.autocast(network, policy), scaler)


def padded_to(buckets: shapes.Buckets, request: Mapping[str, Any]) -> shapes.Buckets:
    """The sizes that batches are padded to: those by which they were grouped, or the largest alone (``--unbucketed``)."""
    return shapes.Buckets([buckets.sizes[-1]]) if request["unbucketed"] else buckets


def run(step: nn.Cell, arrays: Iterable[np.ndarray], axes: Mapping[int, int] | None = None) -> Step:
    """Train on one batch, of which each rank of a data-parallel run takes its share (``axes``: see `ranks.share`).

    Without a loss scaler a loss that is not finite counts as an overflow.
    """
    result = step(*map(Tensor, ranks.share(arrays, axes)))
    if isinstance(result, amp.StepResult):
        return Step(ranks.mean(float(result.loss)), overflowed=not bool(result.finite))
    loss = ranks.mean(float(result))
    return Step(loss, overflowed=not math.isfinite(loss))


def slots(optimizer: nn.Optimizer) -> list[Parameter]:
    """The optimizer's own parameters: moments, counters, learning rates."""
    trained = {id(parameter) for parameter in optimizer.parameters}
    return [parameter for parameter in optimizer.get_parameters() if id(parameter) not in trained]


def learning_rates(height: float, steps: int, warm_up: float = 0.1) -> list[float]:
    """Of every step: up from zero in a share of the steps, down to zero in the others (Devlin et al. 2019, A.2)."""
    rising = max(1, int(warm_up * steps))
    return [height * min((step + 1) / rising, (steps - step) / max(1, steps - rising)) for step in range(steps)]
