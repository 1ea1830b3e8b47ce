"""`StepResult`: what a training step says it did."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

__all__ = ["StepResult"]


class StepResult(NamedTuple):
    """What a training step did. Fields are Tensors on the device; reading one waits for the step.

    Attributes:
        loss: the loss as the cell returned it, not scaled; the first element where it returned several. None of `flush`.
        finite: bool; whether loss and gradients were finite. With accumulation: all of them since the last update.
        scale: float32; the scale the gradients were computed with.
        grad_norm: float32; the global norm of the gradients before clipping, infinite or NaN where they were not
            finite; with accumulation, of their mean so far. None without ``clip_norm``: measuring it costs a pass over
            all gradients. ``clip_norm=math.inf`` measures and clips nothing.
        new_scale: float32; the scale of the next step: larger after growth, smaller after backing off.
        updated: bool; whether the optimizer ran. False for a skipped step, and between updates with accumulation.
    """

    loss: Any
    finite: Any
    scale: Any
    grad_norm: Any
    new_scale: Any
    updated: Any

    @property
    def loss_finite(self) -> bool:
        """Whether the loss itself, which no scale has touched, is finite. Where it is not, the scale stays as it is."""
        return self.loss is None or bool(np.isfinite(self.loss.asnumpy()).all())

    @property
    def event(self) -> str:
        """``"updated"``, ``"accumulated"`` or ``"skipped"``, and why: ``"skipped, scale backed off to 512"``,
        ``"skipped, the loss is nan"``."""
        what = "updated" if bool(self.updated) else "accumulated" if bool(self.finite) else "skipped"
        before, after = float(self.scale), float(self.new_scale)
        if before != after:
            return f"{what}, scale {'grew' if after > before else 'backed off'} to {after:g}"
        if what == "skipped" and not self.loss_finite:
            return f"skipped, the loss is {float(self.loss.asnumpy().sum()):g}"
        return what
