"""TextING in MindSpore: gated graph layers over a document's words, then a soft-attention readout.

Zhang et al. 2020, ACL, equations 1 to 8, with the choices of the authors' code:
tanh everywhere, one weight set shared by the steps, no self-loops.

Two things differ from the paper's code, both on purpose. Word vectors are
parameters. Dropout masks are inputs: the host draws them (see
`examples.common.randomness`), so that a resumed run repeats them.
"""

from __future__ import annotations

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, nn, ops

__all__ = ["Loss", "TextING"]

HIDDEN = 96
STEPS = 2


def _glorot(random: np.random.Generator, fan_in: int, fan_out: int) -> np.ndarray:
    limit = np.sqrt(6.0 / (fan_in + fan_out))
    return random.uniform(-limit, limit, (fan_out, fan_in)).astype(np.float32)


def _dense(random: np.random.Generator, fan_in: int, fan_out: int, gates: int = 1, bias: bool = True) -> nn.Dense:
    """A Dense layer of ``gates`` Glorot-initialised blocks (Glorot and Bengio 2010), each fan_in x fan_out."""
    weight = np.concatenate([_glorot(random, fan_in, fan_out) for _ in range(gates)])
    return nn.Dense(fan_in, gates * fan_out, weight_init=Tensor(weight), bias_init="zeros", has_bias=bias)


class GatedGraph(nn.Cell):
    """Message passing with a gated recurrent unit (Li et al. 2016), ``STEPS`` times with the same weights."""

    def __init__(self, random: np.random.Generator, hidden: int, steps: int) -> None:
        super().__init__()
        self.steps = steps
        self.from_neighbours = _dense(random, hidden, hidden, gates=3)
        self.from_itself = _dense(random, hidden, hidden, gates=2, bias=False)
        self.from_reset = _dense(random, hidden, hidden, bias=False)

    def construct(self, x: Tensor, adjacency: Tensor, mask: Tensor) -> Tensor:
        """``x`` (batch, nodes, hidden), ``adjacency`` (batch, nodes, nodes), ``mask`` (batch, nodes, 1) -> as ``x``."""
        for _ in range(self.steps):
            update, reset, candidate = ops.chunk(self.from_neighbours(ops.bmm(adjacency, x)), 3, -1)
            own_update, own_reset = ops.chunk(self.from_itself(x), 2, -1)
            update = ops.sigmoid(update + own_update)
            reset = ops.sigmoid(reset + own_reset)
            candidate = ops.tanh(mask * (candidate + self.from_reset(reset * x)))
            x = candidate * update + x * (1 - update)
        return x


class TextING(nn.Cell):
    """Logits (batch, labels) of a batch of word graphs.

    Args:
        vectors: (words, width) float32, the initial word vectors.
        labels: number of labels.
        random: where the other initial weights come from.
        finite_masks: take the maximum over real nodes by selecting -1, the lower bound of what is
            maximised, instead of adding -1e9, which float16 turns into -inf times 0, NaN.
    """

    def __init__(
        self,
        vectors: np.ndarray,
        labels: int,
        random: np.random.Generator,
        hidden: int = HIDDEN,
        steps: int = STEPS,
        finite_masks: bool = True,
    ) -> None:
        super().__init__()
        self.finite_masks = finite_masks
        self.vectors = Parameter(Tensor(vectors), name="vectors")
        self.encode = _dense(random, vectors.shape[1], hidden)
        self.layers = GatedGraph(random, hidden, steps)
        self.attention = _dense(random, hidden, 1)
        self.embed = _dense(random, hidden, hidden)
        self.classify = _dense(random, hidden, labels)

    def construct(
        self,
        nodes: Tensor,
        adjacency: Tensor,
        mask: Tensor,
        keep_features: Tensor | None = None,
        keep_readout: Tensor | None = None,
    ) -> Tensor:
        """Run the model.

        Args:
            nodes: (batch, nodes) int32, rows of the word vectors.
            adjacency: (batch, nodes, nodes), normalised, zero where there is no edge or no node.
            mask: (batch, nodes, 1), 1 for nodes and 0 for padding.
            keep_features, keep_readout: dropout masks (batch, nodes, width) and (batch, hidden), or None.
        """
        x = ops.gather(self.vectors, nodes, 0)
        if keep_features is not None:
            x = x * keep_features
        x = mask * ops.tanh(self.encode(x))
        x = self.layers(x, adjacency, mask)
        x = mask * ops.sigmoid(self.attention(x)) * ops.tanh(self.embed(x))
        if self.finite_masks:
            largest = ops.select(ops.broadcast_to(mask > 0, x.shape), x, ops.full_like(x, -1)).max(1)
        else:
            largest = (x + (mask - 1) * 1e9).max(1)
        x = x.sum(1) / ops.clamp(mask.sum(1), 1) + largest
        if keep_readout is not None:
            x = x * keep_readout
        return self.classify(x)


class Loss(nn.Cell):
    """Mean cross entropy of a batch, in which a row of weight 0 (a filled-up last batch) does not count."""

    def __init__(self, network: TextING) -> None:
        super().__init__(auto_prefix=False)
        self.network = network

    def construct(
        self,
        nodes: Tensor,
        adjacency: Tensor,
        mask: Tensor,
        keep_features: Tensor,
        keep_readout: Tensor,
        labels: Tensor,
        weights: Tensor,
    ) -> Tensor:
        """As `TextING.construct`, with ``labels`` (batch,) int32 and ``weights`` (batch,) float32 -> float32 scalar."""
        logits = self.network(nodes, adjacency, mask, keep_features, keep_readout).astype(ms.float32)
        losses = ops.cross_entropy(logits, labels, reduction="none")
        return (losses * weights).sum() / weights.sum()
