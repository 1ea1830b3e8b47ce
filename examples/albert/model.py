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

from examples.common.transformer import Block, Embeddings, initialise

__all__ = ["Albert", "Config", "SpanLoss", "places"]


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

    def construct(self, ids: Tensor, segments: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Run the model.

        Args:
            ids: (batch, length) int32, pieces of the vocabulary.
            segments: (batch, length) int32, 0 for the question and 1 for the passage.
            mask: (batch, length), 1 for pieces and 0 for padding, where the logits mean nothing.
        """
        x = self.widen(self.embeddings(ids, segments))
        for _ in range(self.layers):
            x = self.block(x, mask)
        logits = self.span(x)
        return logits[:, :, 0], logits[:, :, 1]


def places(length: int, width: int) -> np.ndarray:
    """The sinusoids of Vaswani et al. 2017, (length, width) float32, with unit variance.

    Wave lengths go up to 600 places instead of 60,000: near places differ more.
    """
    rates = 100.0 ** -(np.arange(width) // 2 * 2 / width)
    angles = np.arange(length)[:, None] * rates + np.pi / 2 * (np.arange(width) % 2)
    return (np.sqrt(2) * np.sin(angles)).astype(np.float32)


def _initialise(network: Albert, config: Config, random: np.random.Generator) -> None:
    """Weights with which a small model, trained from nothing on little, soon begins to compare words.

    Attention that is random at first takes thousands of steps to find that a word of the passage is one of the question,
    and that another stands beside it. Therefore (Trockman and Kolter 2023, https://arxiv.org/abs/2305.09828) queries and
    keys of every other head start as the identity, like attending to like; words start in the first half of a vector and
    places, as sinusoids, in the second, so that some of these heads compare words and others look nearby.
    """
    initialise(network, random, config.width**-0.5)
    half = config.embedding // 2
    words = random.normal(0.0, 1.0, (config.words, config.embedding))
    words[:, half:] *= 0.1
    table = np.zeros((config.length, config.embedding))
    table[:, half:] = places(config.length, config.embedding - half)
    segments = random.normal(0.0, 1.0, (config.segments, config.embedding))
    alike = np.arange(config.width) // (config.width // config.heads) % 2 == 0
    attention = network.block.attention
    _set(network.embeddings.words.embedding_table, words)
    _set(network.embeddings.places.embedding_table, table)
    _set(network.embeddings.segments.embedding_table, segments)
    _set(network.widen.weight, _near_identity(random, config.width, config.embedding))
    for weight in (attention.query.weight, attention.key.weight):
        identity = 1.4 * _near_identity(random, config.width, config.width)
        _set(weight, np.where(alike[:, None], identity, weight.asnumpy()))


def _near_identity(random: np.random.Generator, rows: int, columns: int) -> np.ndarray:
    return np.eye(rows, columns) + random.normal(0.0, 0.02, (rows, columns))


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
