"""TextING in MindSpore: gated graph layers over a document's words, then a soft-attention readout.

Zhang et al. 2020, ACL, equations 1 to 8, with the choices of the authors' code: tanh everywhere, one weight set shared by the
steps, no self-loops. Two things differ from it, both on purpose. Word vectors are parameters. Dropout masks are inputs: the
host draws them (see `examples.common.randomness`), so that a resumed run repeats them.
"""

from __future__ import annotations

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, nn, ops

from ascend_fixes import fusion
from examples.common.transformer import Around

HIDDEN = 96
STEPS = 2


class GatedGraph(nn.Cell):
    """Message passing with a gated recurrent unit (Li et al. 2016) as a newcomer writes it; parameters as `fusion.GatedGraph`."""

    def __init__(self, hidden: int, steps: int) -> None:
        super().__init__()
        self.steps = steps
        self.gathered, self.own = nn.Dense(hidden, 3 * hidden), nn.Dense(hidden, 2 * hidden, has_bias=False)
        self.kept = nn.Dense(hidden, hidden, has_bias=False)

    def construct(self, x: Tensor, adjacency: Tensor, mask: Tensor) -> Tensor:
        for _ in range(self.steps):
            update, reset, candidate = ops.chunk(self.gathered(ops.bmm(adjacency, x)), 3, -1)
            own_update, own_reset = ops.chunk(self.own(x), 2, -1)
            update, reset = ops.sigmoid(update + own_update), ops.sigmoid(reset + own_reset)
            candidate = ops.tanh(mask.expand_dims(-1) * (candidate + self.kept(reset * x)))
            x = candidate * update + x * (1 - update)
        return x


class AddedMax(nn.Cell):
    """The maximum over the words as a newcomer writes it: -1e9, which float16 turns into NaN, is added to padding."""

    def construct(self, x: Tensor, mask: Tensor) -> Tensor:
        return (x + (mask.expand_dims(-1) - 1) * 1e9).max(1)


class FiniteMax(nn.Cell):
    """The maximum over the words of what is above -1, which is selected for padding; `fusion.MaskedMax` takes any, a little slower."""

    def construct(self, x: Tensor, mask: Tensor) -> Tensor:
        return ops.select(ops.broadcast_to(mask.expand_dims(-1) > 0, x.shape), x, ops.full_like(x, -1)).max(1)


class TextING(nn.Cell):
    """Logits (batch, labels) of a batch of word graphs, from ``vectors`` (words, width) float32 and other weights at random.

    With ``finite_masks`` the maximum is `FiniteMax`, and with ``safe`` the layers are `fusion.GatedGraph`; parameters have the same
    names either way.
    """

    def __init__(
        self,
        vectors: np.ndarray,
        labels: int,
        random: np.random.Generator,
        hidden: int = HIDDEN,
        finite_masks: bool = True,
        safe: bool = True,
    ) -> None:
        super().__init__()
        self.vectors = Parameter(Tensor(vectors), name="vectors")
        self.encode = nn.Dense(vectors.shape[1], hidden)
        self.layers = (fusion.GatedGraph if safe else GatedGraph)(hidden, STEPS)
        self.attention, self.embed = nn.Dense(hidden, 1), nn.Dense(hidden, hidden)
        self.classify = nn.Dense(hidden, labels)
        self.largest = FiniteMax() if finite_masks else AddedMax()
        for parameter in self.trainable_params()[1:]:
            gates = parameter.shape[0] // hidden if parameter.name.startswith("layers") else 1
            limit = np.sqrt(6.0 / (parameter.shape[0] / gates + parameter.shape[-1]))  # Glorot and Bengio 2010
            value = random.uniform(-limit, limit, parameter.shape) if parameter.ndim > 1 else np.zeros(parameter.shape)
            parameter.set_data(Tensor(value, ms.float32))

    def construct(
        self,
        nodes: Tensor,
        adjacency: Tensor,
        mask: Tensor,
        keep_features: Tensor | None = None,
        keep_readout: Tensor | None = None,
    ) -> Tensor:
        """``nodes`` (batch, nodes) int32, rows of the word vectors; ``mask`` (batch, nodes, 1), 1 for nodes and 0 for padding.

        ``adjacency`` (batch, nodes, nodes) is normalised, zero where there is no edge or no node. Dropout masks ``keep_features``
        (batch, nodes, width) and ``keep_readout`` (batch, hidden), or None.
        """
        x = ops.gather(self.vectors, nodes, 0)
        if keep_features is not None:
            x = x * keep_features
        real = mask.squeeze(-1)
        x = self.layers(mask * ops.tanh(self.encode(x)), adjacency, real)
        x = mask * ops.sigmoid(self.attention(x)) * ops.tanh(self.embed(x))
        x = x.sum(1) / ops.clamp(mask.sum(1), 1) + self.largest(x, real)
        if keep_readout is not None:
            x = x * keep_readout
        return self.classify(x)


class Loss(Around):
    """Mean cross entropy of a batch, in which a row of weight 0 (a filled-up last batch) does not count.

    As `TextING.construct`, with ``labels`` (batch,) int32 and ``weights`` (batch,) float32 -> float32 scalar.
    """

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
        logits = self.network(nodes, adjacency, mask, keep_features, keep_readout).astype(ms.float32)
        losses = ops.cross_entropy(logits, labels, reduction="none")
        return (losses * weights).sum() / weights.sum()
