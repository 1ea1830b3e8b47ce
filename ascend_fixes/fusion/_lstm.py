"""An LSTM that gives the same result fused and unfused.

`LSTM` is `mindspore.nn.LSTM` with the same arguments and parameters (Hochreiter and Schmidhuber, Neural Computation 9(8),
1997; with the forget gate of Gers et al. 2000). It is built as `GRU` is: gates in float32 by functions that fusion leaves
accurate, steps in a loop with a gradient of its own, so that neither its graph nor the time to compile it grows with the
length; a gradient of that gradient cannot be taken.
"""

from __future__ import annotations

from typing import Any

import mindspore
from mindspore import ParameterTuple, Tensor, nn, ops

from ascend_fixes.fusion._blocks import Blocks, Recurrence
from ascend_fixes.fusion._functions import Tanh, tanh_of_half
from ascend_fixes.fusion._guarding import safe

__all__ = ["LSTM", "Steps"]


class _Recurrence(Recurrence):
    """One direction of one layer."""

    def __init__(self) -> None:
        super().__init__(Steps())

    def construct(
        self,
        x: Tensor,
        hx: tuple[Tensor, Tensor],
        seq_length: Tensor | None,
        w_ih: Tensor,
        w_hh: Tensor,
        b_ih: Tensor | None,
        b_hh: Tensor | None,
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """``x`` (length, batch, input), ``hx`` two of (batch, hidden): every output, and the last state and cell."""
        length, batch, _ = x.shape
        size = w_hh.shape[1]
        going, shares, bias = self.prepared(x, seq_length, w_ih, b_ih, b_hh)
        first = ops.concat((hx[0].reshape(batch, size), hx[1].reshape(batch, size)), -1).astype(mindspore.float32)
        states = self.steps(shares, first, w_hh.astype(x.dtype), bias, going)
        last = states[length - 1].astype(x.dtype).expand_dims(0)
        return (states[..., :size] * going).astype(x.dtype), (last[..., :size], last[..., size:])


class Steps(Blocks):
    """Every state and cell of one direction, in a graph whose size does not depend on the length; see the GRU's.

    The half of `tanh_of_half` is moved out of the loop, into the candidate's shares of the input and the weights.
    """

    def __init__(self) -> None:
        super().__init__()
        self.tanh = Tanh()
        self.product, self.back_product = ops.MatMul(False, True), ops.MatMul(False, False)
        self.over_rows = ops.MatMul(True, False)
        # input, forget, cell and output gates, in the order of MindSpore's layer
        self.factors = Tensor([[1.0], [1.0], [0.5], [1.0]], mindspore.float32)

    def construct(self, gi: Tensor, first: Tensor, w_hh: Tensor, b_hh: Tensor, going: Tensor) -> Tensor:
        """The states, with the cells behind them, (length, batch, 2 hidden) float32; frozen where a row is not going.

        Args:
            gi: (length, batch, 4 hidden) float32, the input's shares of the gates.
            first: (batch, 2 hidden) float32, state and cell before the first step.
            w_hh, b_hh: (4 hidden, hidden) of the dtype of products, and (4 hidden,) float32.
            going: (length, batch, 1) float32, ones and zeros.
        """
        factors = ops.broadcast_to(self.factors, (4, w_hh.shape[1])).reshape(-1)
        shares, bias = gi * factors, b_hh * factors
        weights = w_hh * factors.astype(w_hh.dtype).expand_dims(-1)
        return self.ahead_all(first, (shares, going), (weights, bias), first.shape)

    def bprop(
        self, gi: Tensor, first: Tensor, w_hh: Tensor, b_hh: Tensor, going: Tensor, out: Tensor, dout: Tensor
    ) -> tuple[Tensor, ...]:
        """The gradients of the five inputs; that of ``going`` is zero."""
        length, batch, gates = gi.shape
        size = w_hh.shape[1]
        before = ops.concat((first.expand_dims(0), out[:-1]), 0) if length > 1 else first.expand_dims(0)
        rows = before[..., :size].reshape(length * batch, size).astype(w_hh.dtype)
        arguments = gi + (self.product(rows, w_hh).astype(mindspore.float32) + b_hh).reshape(length, batch, gates)
        opened, forget = ops.sigmoid(arguments[..., :size]), ops.sigmoid(arguments[..., size : 2 * size])
        candidate, shown = self.tanh(arguments[..., 2 * size : 3 * size]), ops.sigmoid(arguments[..., 3 * size :])
        old = before[..., size:]
        bent = self.tanh(forget * old + opened * candidate)
        # What the gradients of a new cell, and of a state, are multiplied by to give those of the gates' arguments.
        to_gates = ops.concat(
            (
                candidate * opened * (1.0 - opened),
                old * forget * (1.0 - forget),
                opened * (1.0 - candidate * candidate),
                going * bent * shown * (1.0 - shown),
            ),
            -1,
        )
        to_cell = going * shown * (1.0 - bent * bent)
        factors = ops.concat((to_gates, to_cell, forget), -1)
        pairs, dfirst = self.back_all(first * 0.0, (dout, factors, going), (w_hh,), first.shape)
        dgates = _spread(pairs, size) * to_gates
        dw = self.over_rows(dgates.reshape(length * batch, gates).astype(w_hh.dtype), rows)
        return dgates, dfirst, dw, dgates.reshape(length * batch, gates).sum(0), going * 0.0

    def ahead(self, state: Tensor, shares: Any, going: Any, weights: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        """A few steps: states and cells of each, and the last of them."""
        size, states = weights.shape[1], []
        for t in range(len(shares)):
            gh = self.product(state[:, :size].astype(weights.dtype), weights).astype(mindspore.float32) + bias
            arguments = shares[t] + gh
            gates, candidate = ops.sigmoid(arguments), tanh_of_half(arguments[:, 2 * size : 3 * size])
            cell = gates[:, size : 2 * size] * state[:, size:] + gates[:, :size] * candidate
            new = ops.concat((gates[:, 3 * size :] * tanh_of_half(0.5 * cell), cell), -1)
            state = going[t] * new + (1.0 - going[t]) * state
            states.append(state)
        return ops.stack(states, 0), state

    def back(self, after: Tensor, dout: Any, factors: Any, going: Any, w_hh: Tensor) -> tuple[Tensor, Tensor]:
        """A few steps, last first: the gradients of their new cells and states, in order, and of what was before them."""
        size, pairs = w_hh.shape[1], []
        for t in range(len(dout) - 1, -1, -1):
            total = after + dout[t]
            to_gates, to_cell, forget = (
                factors[t][:, : 4 * size],
                factors[t][:, 4 * size : 5 * size],
                factors[t][:, 5 * size :],
            )
            dcell = going[t] * total[:, size:] + to_cell * total[:, :size]
            pair = ops.concat((dcell, total[:, :size]), -1)
            dgates = (_spread(pair, size) * to_gates).astype(w_hh.dtype)
            through = ops.concat((self.back_product(dgates, w_hh).astype(mindspore.float32), forget * dcell), -1)
            after = (1.0 - going[t]) * total + through
            pairs.append(pair)
        return ops.stack(pairs[::-1], 0), after


def _spread(pairs: Tensor, size: int) -> Tensor:
    """Gradients of a cell and of a state, (..., 2 hidden), each beside the gates that it reaches: (..., 4 hidden)."""
    cell = pairs[..., :size]
    return ops.concat((cell, cell, cell, pairs[..., size:]), -1)


class LSTM(nn.LSTM):
    """`mindspore.nn.LSTM`, same arguments and parameters.

    ``construct(x, hx=None, seq_length=None)`` with ``hx`` state and cell, and ``seq_length`` (batch,) int32: past its end a
    row's state and cell are frozen and its output is zero, in both directions.
    """

    def __init__(self, input_size: int, hidden_size: int, *args: Any, **kwargs: Any) -> None:
        super().__init__(input_size, hidden_size, *args, **kwargs)
        self.rnn = _Recurrence()
        self.read_first = ParameterTuple(list(self.get_parameters()))
        safe(self)

    def construct(self, x: Tensor, hx: tuple | None = None, seq_length: Tensor | None = None) -> Any:
        """``x`` as `mindspore.nn.LSTM` takes it; every output, and the last states and cells."""
        # A graph that first reads a Parameter behind a loop keeps the value that it had when the graph was compiled (A9).
        return super().construct(ops.depend(x, self.read_first), hx, seq_length)
