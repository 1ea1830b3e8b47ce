"""Which gradient overflowed: a graph of its own, compiled when somebody asks, and no part of the training step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import mindspore
from mindspore import Tensor, nn, ops

__all__ = ["Call", "Culprit"]


class Call(NamedTuple):
    """One call of a step: its inputs, and the scale of its gradients (a scalar Tensor)."""

    inputs: tuple[Any, ...]
    named: Mapping[str, Any]
    scale: Any


class Culprit(nn.Cell):
    """Computes the gradients of a call of a `TrainStep` again, with its weights as they are now.

    Args:
        step: the `TrainStep`.
    """

    def __init__(self, step: Any) -> None:
        super().__init__(auto_prefix=False)
        self.cell, self.weights = step.cell, step.weights
        self.saturating, self.limit = step.saturating, step.limit
        self.gradients = ops.value_and_grad(self.scaled_loss, None, self.weights, has_aux=True)
        object.__setattr__(self, "_written", step.written)

    def search(self, call: Call, training: bool) -> int | None:
        """The position of the last weight whose gradient is not finite, their number for the loss; None where all is finite.

        What the forward pass writes is put back.
        """
        self.set_train(training)
        before = [parameter.asnumpy().copy() for parameter in self._written]
        flags = self(call.scale, call.inputs, dict(call.named)).asnumpy()
        for parameter, value in zip(self._written, before):
            parameter.set_data(Tensor(value))
        bad = [index for index, finite in enumerate(flags) if not finite]
        return bad[-1] if bad else None

    def scaled_loss(self, scale: Any, inputs: Any, named: Any) -> Any:
        output = self.cell(*inputs, **named)
        loss = output[0] if isinstance(output, (tuple, list)) else output
        return (ops.cast(loss, mindspore.float32) * scale).sum(), loss

    def construct(self, scale: Any, inputs: Any, named: Any) -> Any:
        """bool, one for each weight and one for the loss."""
        (_, loss), grads = self.gradients(scale, inputs, named)
        flags: Any = ()
        for grad in grads:
            finite = ops.isfinite(grad).all()
            if self.saturating:
                finite = ops.logical_and(finite, ops.abs(grad.astype(mindspore.float32)).max() < self.limit)
            flags = flags + (finite.astype(mindspore.float32),)
        return ops.stack((*flags, ops.isfinite(loss).all().astype(mindspore.float32)))
