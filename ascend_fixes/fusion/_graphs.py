"""The gated graph layer of TextING (Zhang et al., ACL 2020; after Li et al., https://arxiv.org/abs/1511.05493).

Every node gathers its neighbours' states and updates its own through a gated
recurrent unit.
"""

from __future__ import annotations

import mindspore
from mindspore import Tensor, nn, ops

from ascend_fixes.fusion._functions import Gate, Tanh
from ascend_fixes.fusion._guarding import safe
from ascend_fixes.fusion._layers import LayerError

__all__ = ["GatedGraph"]


class GatedGraph(nn.Cell):
    """``steps`` rounds of gathering and updating; gates in float32, products in the dtype of the states.

    Args:
        hidden: the width of a node's state.
        steps: the rounds.

    Raises:
        LayerError: ``hidden`` or ``steps`` is not a positive integer.
    """

    def __init__(self, hidden: int, steps: int = 2) -> None:
        super().__init__()
        for name, value in (("hidden", hidden), ("steps", steps)):
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise LayerError(f"{name} must be a positive integer, not {value!r}")
        self.hidden, self.steps = hidden, steps
        self.gathered, self.own = nn.Dense(hidden, 3 * hidden), nn.Dense(hidden, 2 * hidden, has_bias=False)
        self.kept = nn.Dense(hidden, hidden, has_bias=False)
        self.gate, self.tanh, self.product = Gate(), Tanh(), ops.BatchMatMul()
        safe(safe(self), keep_out=["cluster:Cast"])  # for the reason that `recurrent` gives

    def construct(self, x: Tensor, adjacency: Tensor, mask: Tensor) -> Tensor:
        """The nodes' new states, zero where the mask is False.

        Args:
            x: (batch, nodes, hidden).
            adjacency: (batch, nodes, nodes), row i the weights with which node i gathers.
            mask: (batch, nodes), True for a node that exists.
        """
        size, counts = self.hidden, mask.astype(mindspore.float32).expand_dims(-1)
        links = adjacency.astype(x.dtype)
        h = x.astype(mindspore.float32) * counts
        for _ in range(self.steps):
            state = h.astype(x.dtype)
            around = self.gathered(self.product(links, state)).astype(mindspore.float32)
            own = self.own(state).astype(mindspore.float32)
            update = self.gate(around[..., :size] + own[..., :size])
            reset = self.gate(around[..., size : 2 * size] + own[..., size:])
            memory = self.kept((reset * h).astype(x.dtype)).astype(mindspore.float32)
            candidate = self.tanh(around[..., 2 * size :] + memory)
            h = (h + update * (candidate - h)) * counts
        return h.astype(x.dtype)
