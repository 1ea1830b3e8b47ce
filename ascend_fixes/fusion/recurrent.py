"""GRU layers that give the same result fused and unfused.

`GRUCell` and `GRU` are `mindspore.nn`'s with the same arguments and parameters
(Cho et al., https://arxiv.org/abs/1406.1078). Gates are computed in float32 by
functions that fusion leaves accurate; the two products of a step stay two, as
fusing their concatenation is what goes wrong; and what is left, the transposes of
the gradient, is kept out of fusion by `ascend_fixes.fusion.safe`.

The steps of `GRU` are unrolled, so its graph grows with the length: neither
backend-independent kernels nor MindSpore's own loops differentiate everywhere.
"""

from __future__ import annotations

from typing import Any, Optional

import mindspore
from mindspore import Tensor, nn, ops

from ascend_fixes.fusion.functions import Sigmoid, Tanh
from ascend_fixes.fusion.guarding import safe

__all__ = ["GRU", "GRUCell"]

# A float16 GRU whose casts fuse does not compile on CPU: AKG ends in "Check failed: attr->IsInstance<StringImm>()".
_CASTS = ("cluster:Cast",)


class _Step(nn.Cell):
    """One step: the input's share ``gi`` and the state's share ``gh``, both (batch, 3 hidden), to the next state."""

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.hidden_size, self.sigmoid, self.tanh = hidden_size, Sigmoid(), Tanh()

    def construct(self, gi: Tensor, gh: Tensor, h: Tensor) -> Tensor:
        """Reset, update and candidate gates, in MindSpore's order; float32."""
        size = self.hidden_size
        reset = self.sigmoid(gi[:, :size] + gh[:, :size])
        update = self.sigmoid(gi[:, size : 2 * size] + gh[:, size : 2 * size])
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
        safe(safe(self), keep_out=_CASTS)

    def construct(self, x: Tensor, hx: Tensor) -> Tensor:
        """The next state, of x's dtype."""
        gi = self.product(x, self.weight_ih.astype(x.dtype)).astype(mindspore.float32)
        gh = self.product(hx, self.weight_hh.astype(hx.dtype)).astype(mindspore.float32)
        if self.bias_ih is not None:
            gi = gi + self.bias_ih.astype(mindspore.float32)
            gh = gh + self.bias_hh.astype(mindspore.float32)
        return self.step(gi, gh, hx.astype(mindspore.float32)).astype(x.dtype)


class _Recurrence(nn.Cell):
    """One direction of one layer, with the signature of MindSpore's own."""

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.hidden_size = hidden_size
        self.step, self.product = _Step(hidden_size), ops.MatMul(False, True)

    def construct(
        self, x: Tensor, h_0: Tensor, seq_length: Optional[Tensor], w_ih: Tensor, w_hh: Tensor,
        b_ih: Optional[Tensor], b_hh: Optional[Tensor],
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        """``x`` (length, batch, input), ``h_0`` (batch, hidden): every state and the last, frozen past the end."""
        length, batch, width = x.shape
        shares = self.product(x.reshape(length * batch, width), w_ih.astype(x.dtype)).astype(mindspore.float32)
        if b_ih is not None:
            shares = shares + b_ih.astype(mindspore.float32)
        shares = shares.reshape(length, batch, 3 * self.hidden_size)
        h = h_0.reshape(batch, self.hidden_size).astype(mindspore.float32)
        outputs = []
        for t in range(length):
            gh = self.product(h.astype(x.dtype), w_hh.astype(x.dtype)).astype(mindspore.float32)
            if b_hh is not None:
                gh = gh + b_hh.astype(mindspore.float32)
            following = self.step(shares[t], gh, h)
            if seq_length is None:
                h = following
                outputs.append(h)
            else:
                going = (seq_length > t).astype(mindspore.float32).reshape(batch, 1)
                h = going * following + (1.0 - going) * h
                outputs.append(going * h)
        return _stacked(outputs).astype(x.dtype), h.astype(x.dtype).expand_dims(0)


def _stacked(parts: list[Tensor]) -> Tensor:
    """`stack` in groups: a device takes fewer than 192 inputs."""
    groups = [ops.stack(parts[start : start + 128], 0) for start in range(0, len(parts), 128)]
    return ops.concat(groups, 0) if len(groups) > 1 else groups[0]


class GRU(nn.GRU):
    """`mindspore.nn.GRU`, same arguments and parameters.

    ``construct(x, hx=None, seq_length=None)`` with ``seq_length`` (batch,) int32: past its end a row's state is
    frozen and its output zero, in both directions.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.rnn = _Recurrence(self.hidden_size)
        safe(safe(self), keep_out=_CASTS)
