"""`ops.DynamicRNN` for every device.

MindSpore's operator has a kernel on Ascend only, in float16: a model written with it can be neither run nor debugged
elsewhere. `DynamicRNN` takes the same arguments and inputs, and gives the same eight results, by the loop of `LSTM`.
"""

from __future__ import annotations

import mindspore
from mindspore import Tensor, ops

from ascend_fixes.fusion._blocks import Recurrence
from ascend_fixes.fusion._functions import Gate, Tanh
from ascend_fixes.fusion._guarding import safe
from ascend_fixes.fusion._layers import LayerError
from ascend_fixes.fusion._lstm import Steps

__all__ = ["DynamicRNN"]

_ONLY = {
    "cell_type": "LSTM",
    "direction": "UNIDIRECTIONAL",
    "cell_depth": 1,
    "use_peephole": False,
    "keep_prob": 1.0,
    "cell_clip": -1.0,
    "num_proj": 0,
    "time_major": True,
    "activation": "tanh",
}
"""What MindSpore documents its operator to compute, whatever else may be passed."""


class DynamicRNN(Recurrence):
    """`mindspore.ops.DynamicRNN` on CPU and Ascend, in float16 and float32, with the same arguments.

    ``construct(x, w, b, seq_length, init_h, init_c)`` with ``x`` (length, batch, input), ``w`` (input + hidden, 4 hidden) and ``b``
    (4 hidden,), gates in the operator's order: input, candidate, forget, output; ``init_h`` and ``init_c`` (1, batch,
    hidden). ``seq_length`` is None, or (batch,) int32, which MindSpore's operator does not take: past its end a row's state and
    cell are frozen and ``y`` is zero.

    Returns ``y``, every state and every cell, and of every step the gates i, j, f, o and the tanh of the cell, each (length,
    batch, hidden); states in x's type, all else in b's. Products are in x's type, all else in float32.

    Raises:
        LayerError: an argument that MindSpore documents as not supported.
    """

    def __init__(
        self,
        cell_type: str = "LSTM",
        direction: str = "UNIDIRECTIONAL",
        cell_depth: int = 1,
        use_peephole: bool = False,
        keep_prob: float = 1.0,
        cell_clip: float = -1.0,
        num_proj: int = 0,
        time_major: bool = True,
        activation: str = "tanh",
        forget_bias: float = 0.0,
        is_training: bool = True,
    ) -> None:
        given = (cell_type, direction, cell_depth, use_peephole, keep_prob, cell_clip, num_proj, time_major, activation)
        for (name, only), value in zip(_ONLY.items(), given):
            if value != only:
                raise LayerError(f"{name}={value!r} is not supported, nor by mindspore.ops.DynamicRNN; pass {only!r}")
        super().__init__(Steps())
        self.gate, self.tanh = Gate(), Tanh()
        self.extra = Tensor([[0.0], [float(forget_bias)], [0.0], [0.0]], mindspore.float32)
        safe(self)

    def construct(
        self, x: Tensor, w: Tensor, b: Tensor, seq_length: Tensor | None, init_h: Tensor, init_c: Tensor
    ) -> tuple[Tensor, ...]:
        """The eight results."""
        length, batch, width = x.shape
        size, kind = init_h.shape[-1], b.dtype
        weights = _as_in_layers(w.astype(x.dtype).swapaxes(0, 1), size)
        bias = _as_in_layers(b.astype(mindspore.float32), size) + ops.broadcast_to(self.extra, (4, size)).reshape(-1)
        nothing, own = ops.zeros_like(bias), weights[:, width:]
        going, shares, _ = self.prepared(x, seq_length, weights[:, :width], bias, nothing)
        first = ops.concat((init_h.reshape(batch, size), init_c.reshape(batch, size)), -1).astype(mindspore.float32)
        found = self.steps(shares, first, own, nothing, going)
        states, cells = found[..., :size], found[..., size:]
        before = ops.concat((first[:, :size].expand_dims(0), states), 0)[:length].reshape(length * batch, size)
        gates = shares + self.product(before.astype(x.dtype), own).astype(mindspore.float32).reshape(shares.shape)
        opened, forget = self.gate(gates[..., :size]), self.gate(gates[..., size : 2 * size])
        candidate, shown = self.tanh(gates[..., 2 * size : 3 * size]), self.gate(gates[..., 3 * size :])
        return (
            (states * going).astype(kind),
            states.astype(x.dtype),
            cells.astype(kind),
            opened.astype(kind),
            candidate.astype(kind),
            forget.astype(kind),
            shown.astype(kind),
            self.tanh(cells).astype(kind),
        )


def _as_in_layers(values: Tensor, size: int) -> Tensor:
    """(4 hidden, ...) in the order of `nn.LSTM`'s gates: input, forget, candidate, output."""
    return ops.concat((values[:size], values[2 * size : 3 * size], values[size : 2 * size], values[3 * size :]), 0)
