"""GRU layers that give the same result fused and unfused.

`GRUCell` and `GRU` are `mindspore.nn`'s with the same arguments and parameters
(Cho et al., https://arxiv.org/abs/1406.1078). Gates are computed in float32 by
functions that fusion leaves accurate; the two products of a step stay two, as
fusing their concatenation is what goes wrong; and what is left, the transposes of
the gradient, is kept out of fusion by `ascend_fixes.fusion.safe`.

`GRU` runs its steps in a loop with a gradient of its own, so neither its graph nor
the time to compile it grows with the length; a gradient of that gradient cannot be
taken.
"""

from __future__ import annotations

from typing import Any

import mindspore
import numpy as np
from mindspore import ParameterTuple, Tensor, nn, ops

from ascend_fixes import _mindspore
from ascend_fixes.fusion._blocks import Blocks, Recurrence
from ascend_fixes.fusion._functions import Gate, Tanh, tanh_of_half
from ascend_fixes.fusion._guarding import safe

__all__ = ["GRU", "GRUCell"]


class _Step(nn.Cell):
    """One step: the input's share ``gi`` and the state's share ``gh``, both (batch, 3 hidden), to the next state."""

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.hidden_size, self.gate, self.tanh = hidden_size, Gate(), Tanh()

    def construct(self, gi: Tensor, gh: Tensor, h: Tensor) -> Tensor:
        """Reset, update and candidate gates, in MindSpore's order; float32."""
        size = self.hidden_size
        reset = self.gate(gi[:, :size] + gh[:, :size])
        update = self.gate(gi[:, size : 2 * size] + gh[:, size : 2 * size])
        candidate = self.tanh(gi[:, 2 * size :] + reset * gh[:, 2 * size :])
        return candidate + update * (h - candidate)


class GRUCell(nn.GRUCell):
    """`mindspore.nn.GRUCell`, same arguments and parameters.

    ``x`` (batch, input) and ``hx`` (batch, hidden) to the next state, (batch, hidden).
    """

    def __init__(
        self, input_size: int, hidden_size: int, has_bias: bool = True, dtype: Any = mindspore.float32
    ) -> None:
        super().__init__(input_size, hidden_size, has_bias, dtype=dtype)
        self.step, self.product = _Step(hidden_size), ops.MatMul(False, True)
        safe(self)

    def construct(self, x: Tensor, hx: Tensor) -> Tensor:
        """The next state, of x's dtype."""
        gi = self.product(x, self.weight_ih.astype(x.dtype)).astype(mindspore.float32)
        gh = self.product(hx, self.weight_hh.astype(hx.dtype)).astype(mindspore.float32)
        if self.bias_ih is not None:
            gi = gi + self.bias_ih.astype(mindspore.float32)
            gh = gh + self.bias_hh.astype(mindspore.float32)
        return self.step(gi, gh, hx.astype(mindspore.float32)).astype(x.dtype)


class _Recurrence(Recurrence):
    """One direction of one layer."""

    def __init__(self, hidden_size: int) -> None:
        super().__init__(_Steps(hidden_size))

    def construct(
        self,
        x: Tensor,
        h_0: Tensor,
        seq_length: Tensor | None,
        w_ih: Tensor,
        w_hh: Tensor,
        b_ih: Tensor | None,
        b_hh: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        """``x`` (length, batch, input), ``h_0`` (batch, hidden): every output and the last state."""
        length, batch, _ = x.shape
        going, shares, bias = self.prepared(x, seq_length, w_ih, b_ih, b_hh)
        h = h_0.reshape(batch, w_hh.shape[1]).astype(mindspore.float32)
        states = self.steps(shares, h, w_hh.astype(x.dtype), bias, going)
        return (states * going).astype(x.dtype), states[length - 1].astype(x.dtype).expand_dims(0)


class _Steps(Blocks):
    """Every state of one direction, in a graph whose size does not depend on the length.

    The gradient is stated: the gates of all steps are computed again at once from the states, and what is left to loop
    over, backwards, is one product a step (backpropagation through time: Werbos, Proceedings of the IEEE 78(10), 1990).

    What a step takes is the time of its operators more than of its arithmetic, so the sign that makes of the update gate
    what is left of it, and the half of `Tanh`, are moved out of the loop, into the shares of the input and the weights.
    """

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.hidden_size, self.tanh = hidden_size, Tanh()
        self.product, self.back_product = ops.MatMul(False, True), ops.MatMul(False, False)
        self.over_rows = ops.MatMul(True, False)
        # x for the sigmoid of reset, -x for 1 less that of update, x / 2 for the tanh of the candidate
        self.factors = Tensor(np.repeat([1.0, -1.0, 0.5], hidden_size), mindspore.float32)

    def construct(self, gi: Tensor, h: Tensor, w_hh: Tensor, b_hh: Tensor, going: Tensor) -> Tensor:
        """The states, (length, batch, hidden) float32, each row frozen where it is not going.

        Args:
            gi: (length, batch, 3 hidden) float32, the input's shares of the gates.
            h: (batch, hidden) float32, the state before the first step.
            w_hh, b_hh: (3 hidden, hidden) of the dtype of products, and (3 hidden,) float32.
            going: (length, batch, 1) float32, ones and zeros.
        """
        size = self.hidden_size
        shares, bias = gi * self.factors, b_hh * self.factors
        weights = w_hh * self.factors.astype(w_hh.dtype).expand_dims(-1)
        sequences = shares[..., : 2 * size], shares[..., 2 * size :], going
        return self.ahead_all(h, sequences, (weights, bias), h.shape)

    def bprop(
        self, gi: Tensor, h: Tensor, w_hh: Tensor, b_hh: Tensor, going: Tensor, out: Tensor, dout: Tensor
    ) -> tuple[Tensor, ...]:
        """The gradients of the five inputs; that of ``going`` is zero."""
        length, batch, gates = gi.shape
        size = self.hidden_size
        before = ops.concat((h.expand_dims(0), out[:-1]), 0) if length > 1 else h.expand_dims(0)
        rows = before.reshape(length * batch, size).astype(w_hh.dtype)
        gh = (self.product(rows, w_hh).astype(mindspore.float32) + b_hh).reshape(length, batch, gates)
        reset = ops.sigmoid(gi[..., :size] + gh[..., :size])
        update = ops.sigmoid(gi[..., size : 2 * size] + gh[..., size : 2 * size])
        candidate = self.tanh(gi[..., 2 * size :] + reset * gh[..., 2 * size :])
        # What the gradient of a state is multiplied by to give those of the arguments of the three gates.
        moved = going * (1.0 - update)
        to_candidate = moved * (1.0 - candidate * candidate)
        to_update = (before - candidate) * moved * update
        to_reset = to_candidate * gh[..., 2 * size :] * reset * (1.0 - reset)
        to_gh = ops.concat((to_reset, to_update, to_candidate * reset), -1)
        totals, dh = self.back_all(h * 0.0, (dout, 1.0 - moved, to_gh), (w_hh,), h.shape)
        thrice = ops.concat((totals, totals, totals), -1)
        dgi, dgh = thrice * ops.concat((to_reset, to_update, to_candidate), -1), thrice * to_gh
        dw = self.over_rows(dgh.reshape(length * batch, gates).astype(w_hh.dtype), rows)
        return dgi, dh, dw, dgh.reshape(length * batch, gates).sum(0), going * 0.0

    def ahead(
        self, h: Tensor, gates: Any, candidates: Any, going: Any, weights: Tensor, bias: Tensor
    ) -> tuple[Tensor, Tensor]:
        """A few steps: their states and the last of them."""
        size, states = self.hidden_size, []
        for t in range(len(gates)):
            gh = self.product(h.astype(weights.dtype), weights).astype(mindspore.float32) + bias
            opened = ops.sigmoid(gates[t] + gh[:, : 2 * size])
            candidate = tanh_of_half(candidates[t] + opened[:, :size] * gh[:, 2 * size :])
            h = h + opened[:, size:] * going[t] * (candidate - h)
            states.append(h)
        return ops.stack(states, 0), h

    def back(self, dh: Tensor, dout: Any, kept: Any, to_gh: Any, w_hh: Tensor) -> tuple[Tensor, Tensor]:
        """A few steps, last first: the gradients of their states, in order, and of the state before them."""
        totals = []
        for t in range(len(dout) - 1, -1, -1):
            total = dh + dout[t]
            dgh = ops.concat((total, total, total), -1) * to_gh[t]
            dh = total * kept[t] + self.back_product(dgh.astype(w_hh.dtype), w_hh).astype(mindspore.float32)
            totals.append(total)
        return ops.stack(totals[::-1], 0), dh


class GRU(nn.GRU):
    """`mindspore.nn.GRU`, same arguments and parameters.

    ``construct(x, hx=None, seq_length=None)`` with ``seq_length`` (batch,) int32: past its end a row's state is
    frozen and its output zero, in both directions. On Ascend any hidden size will do, where MindSpore's own takes
    multiples of 16 (H8).
    """

    def __init__(self, input_size: int, hidden_size: int, *args: Any, **kwargs: Any) -> None:
        super().__init__(input_size, _mindspore.free_gru_size(hidden_size), *args, **kwargs)
        self.hidden_size = hidden_size
        self.rnn = _Recurrence(self.hidden_size)
        self.read_first = ParameterTuple(list(self.get_parameters()))
        safe(self)

    def construct(self, x: Tensor, hx: Tensor | None = None, seq_length: Tensor | None = None) -> Any:
        """``x`` as `mindspore.nn.GRU` takes it; every output and the last states."""
        # A graph that first reads a Parameter behind a loop keeps the value that it had when the graph was compiled (A9).
        return super().construct(ops.depend(x, self.read_first), hx, seq_length)
