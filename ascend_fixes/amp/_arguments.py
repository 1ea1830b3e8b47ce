"""What `TrainStep` accepts, checked before anything is changed."""

from __future__ import annotations

from typing import Any

from mindspore import nn

from ascend_fixes.amp._policy import ArgumentTypeError
from ascend_fixes.amp._scaler import LossScaler
from ascend_fixes.errors import AscendFixesError

__all__ = ["StepError", "check"]


class StepError(AscendFixesError, ValueError):
    """An argument of `TrainStep` that is out of range or contradicts another."""


def check(cell: Any, optimizers: tuple, scaler: Any, clip_norm: Any, accumulate: Any, weight_output: Any) -> None:
    """Refuse what cannot work.

    Raises:
        ArgumentTypeError, StepError: the message names the argument.
    """
    if not isinstance(cell, nn.Cell):
        raise ArgumentTypeError(f"cell={cell!r} is no mindspore.nn.Cell; pass the network together with its loss")
    if not optimizers or not all(isinstance(one, nn.Cell) and hasattr(one, "parameters") for one in optimizers):
        raise ArgumentTypeError(f"optimizer={optimizers!r}: pass a MindSpore optimizer, or a list of them")
    if not isinstance(scaler, LossScaler):
        raise ArgumentTypeError(
            f"scaler={scaler!r} is no LossScaler; use LossScaler(), LossScaler.static(1024) or LossScaler.off()"
        )
    for path, inner in cell.cells_and_names():
        if isinstance(inner, nn.EmbeddingLookup) and inner.sparse:
            raise StepError(
                f"cell: {path or type(inner).__name__} has sparse=True; make it with sparse=False: MindSpore's compiler "
                "crashes on sparse gradients inside a branch (segmentation fault, 2.10.0)"
            )
    seen: set = set()
    for weight in (weight for one in optimizers for weight in one.parameters):
        if id(weight) in seen:
            raise StepError(f"optimizer: two of them update {weight.name}; give each parameter to one")
        seen.add(id(weight))
    if clip_norm is not None and not (isinstance(clip_norm, (int, float)) and clip_norm > 0):
        raise StepError(f"clip_norm={clip_norm!r} is no norm; use a number above 0, or None")
    if isinstance(accumulate, bool) or not isinstance(accumulate, int) or accumulate < 1:
        raise StepError(f"accumulate={accumulate!r} is no number of calls; use an integer of at least 1")
    if weight_output is not None and not (isinstance(weight_output, int) and weight_output > 0):
        raise StepError(
            f"weight_output={weight_output!r} is no position after the loss; use an integer of at least 1, or None"
        )
