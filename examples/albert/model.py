"""ALBERT in MindSpore, with a span head: for every piece of a text, how well an answer begins and ends there.

Lan et al. 2020, https://arxiv.org/abs/1909.11942: word vectors are narrow and mapped to the layers' width by
one matrix (factorised embedding), and all layers share one set of weights. There is no dropout, as in the
paper's second version (section 4.9). Layer normalisation follows each sum, as in BERT.

With ``safe`` the layers are those of `ascend_fixes.fusion`; with ``finite_masks`` padding is masked by selection.
Without them the model is what a newcomer to MindSpore writes. Parameters have the same names either way.
"""

from __future__ import annotations

from dataclasses import dataclass

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops

from examples.common.transformer import Block, Embeddings, initialise, sinusoids

__all__ = ["Albert", "Config", "SpanLoss"]


@dataclass(frozen=True)
class Config:
    """Sizes of an ALBERT.

    Attributes:
        words: size of the vocabulary.
        embedding: width of the word vectors.
        width: of the layers.
        layers: how often the shared layer is applied.
        heads: of the attention; they divide the width.
        inner: width of the feed-forward layer.
        length: the longest input.
        segments: kinds of segments.
        approximate: whether GELU is its tanh form, as in the published models.
    """

    words: int
    embedding: int = 128
    width: int = 768
    layers: int = 12
    heads: int = 12
    inner: int = 3072
    length: int = 512
    segments: int = 2
    approximate: bool = True


class Albert(nn.Cell):
    """Logits of an answer's first and last piece, each (batch, length).

    Args:
        config: its sizes.
        random: where the initial weights come from.
        safe: use the layers of `ascend_fixes.fusion`, which also mask finitely.
    """

    def __init__(self, config: Config, random: np.random.Generator, safe: bool = True) -> None:
        super().__init__()
        self.config, self.layers = config, config.layers
        self.embeddings = Embeddings(config.words, config.embedding, config.length, config.segments, safe)
        self.widen = nn.Dense(config.embedding, config.width)
        self.block = Block(config.width, config.heads, config.inner, config.approximate, safe)
        self.span = nn.Dense(config.width, 2)
        _initialise(self, config, random)

    def construct(
        self, ids: Tensor, segments: Tensor, mask: Tensor, positions: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Run the model.

        Args:
            ids: (batch, length) int32, pieces of the vocabulary.
            segments: (batch, length) int32, 0 for the question and 1 for the passage.
            mask: (batch, length), 1 for pieces and 0 for padding, where the logits mean nothing; of packed windows
                `ascend_fixes.shapes.segment_mask`, as numbers.
            positions: (batch, length) int32, of packed windows the places in each; else None.
        """
        x = self.widen(self.embeddings(ids, segments, None, positions))
        for _ in range(self.layers):
            x = self.block(x, mask)
        logits = self.span(x)
        return logits[:, :, 0], logits[:, :, 1]


def _initialise(network: Albert, config: Config, random: np.random.Generator) -> None:
    """Weights for training from nothing: of a deviation that fits the width, and places as sinusoids.

    BERT's deviation of 0.02 suits wide models. Where places start as noise, a small model needs much patience to learn to
    look beside a word; in sinusoids a step to the side is a rotation.
    """
    initialise(network, random, config.width**-0.5)
    tables = network.embeddings
    for table in (tables.words, tables.segments):
        _set(table.embedding_table, random.normal(0.0, 0.5, table.embedding_table.shape))
    _set(tables.places.embedding_table, sinusoids(config.length, config.embedding))


def _set(parameter: ms.Parameter, value: np.ndarray) -> None:
    parameter.set_data(Tensor(value.astype(np.float32)))


class SpanLoss(nn.Cell):
    """Mean cross entropy of the first and the last piece, as Devlin et al. 2019 train SQuAD; padding is no candidate.

    Args:
        network: returns the logits.
        finite_masks: leave padding out by selection, instead of adding -1e9, which float16 turns into NaN.
    """

    def __init__(self, network: Albert, finite_masks: bool = True) -> None:
        super().__init__(auto_prefix=False)
        self.network, self.finite_masks = network, finite_masks

    def masked(self, logits: Tensor, mask: Tensor) -> Tensor:
        """Logits in which padding cannot win."""
        if self.finite_masks:
            logits = logits.astype(ms.float32)
            return ops.select(mask > 0, logits, ops.full_like(logits, -1e9))
        return logits + (mask.astype(logits.dtype) - 1) * 1e9

    def construct(
        self, ids: Tensor, segments: Tensor, mask: Tensor, first: Tensor, last: Tensor, weights: Tensor
    ) -> Tensor:
        """As `Albert.construct`, with places ``first`` and ``last`` and ``weights``, each (batch,) -> float32 scalar.

        A row of weight 0, which fills up a batch, does not count.
        """
        starts, ends = self.network(ids, segments, mask)
        losses = ops.cross_entropy(self.masked(starts, mask), first, reduction="none")
        losses = losses + ops.cross_entropy(self.masked(ends, mask), last, reduction="none")
        return (losses.astype(ms.float32) * weights).sum() / (2 * weights.sum())
