"""The layers that BERT and ALBERT share: word, place and segment vectors; self-attention; a feed-forward block.

Devlin et al. 2019, https://arxiv.org/abs/1810.04805, and Lan et al. 2020, https://arxiv.org/abs/1909.11942: each block's
output is added to its input and then normalised (epsilon 1e-12). With ``safe`` the layers are those of `ascend_fixes.fusion`;
without, what a newcomer to MindSpore writes, -1e9 on masked scores included. Parameters have the same names either way.

Dropout masks are inputs: the host draws them (see `examples.common.randomness`), so that a resumed run repeats them.
"""

from __future__ import annotations

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops

from ascend_fixes import fusion

EPSILON = 1e-12


def norm(width: int, safe: bool) -> nn.Cell:
    """Layer normalisation over the last axis."""
    return (fusion.LayerNorm if safe else nn.LayerNorm)((width,), epsilon=EPSILON)


def dropped(x: Tensor, keep: Tensor | None) -> Tensor:
    """``x`` times a dropout mask, if there is one."""
    return x if keep is None else x * keep.astype(x.dtype)


class Around(nn.Cell):
    """A cell around a network, whose parameters keep their names: its loss, a part of it."""

    def __init__(self, network: nn.Cell) -> None:
        super().__init__(auto_prefix=False)
        self.network = network


class AddedMask(nn.Cell):
    """Softmax over the last axis as a newcomer writes it: -1e9 is added where the mask is zero."""

    def construct(self, scores: Tensor, mask: Tensor) -> Tensor:
        return ops.softmax(scores + (mask.astype(scores.dtype) - 1) * 1e9, -1)


class Embeddings(nn.Cell):
    """The sum of a word's, its place's and its segment's vector, normalised.

    ``ids``, ``segments`` and, where several samples share a row, ``positions`` (batch, length) int32, and a dropout mask or
    None -> (batch, length, width).
    """

    def __init__(self, words: int, width: int, places: int, segments: int, safe: bool) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(words, width), nn.Embedding(places, width)
        self.segments = nn.Embedding(segments, width)
        self.norm = norm(width, safe)

    def construct(
        self, ids: Tensor, segments: Tensor, keep: Tensor | None = None, positions: Tensor | None = None
    ) -> Tensor:
        places = self.places.embedding_table[: ids.shape[1]] if positions is None else self.places(positions)
        return dropped(self.norm(self.words(ids) + self.segments(segments) + places), keep)


class PlainAttention(nn.Cell):
    """What a newcomer writes of products and a softmax; as `fusion.Attention` takes it."""

    def __init__(self) -> None:
        super().__init__()
        self.softmax = AddedMask()

    def construct(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor, keep: Tensor | None = None) -> Tensor:
        scores = ops.matmul(query * query.shape[-1] ** -0.5, key.transpose(0, 1, 3, 2))
        weights = self.softmax(scores, mask.expand_dims(1).expand_dims(1) if mask.ndim == 2 else mask)
        return ops.matmul(dropped(weights, keep), value)


class _Attention(nn.Cell):
    """Self-attention with several heads (Vaswani et al. 2017), its output projected."""

    def __init__(self, width: int, heads: int, safe: bool) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value, self.output = (nn.Dense(width, width) for _ in range(4))
        self.attend = fusion.Attention() if safe else PlainAttention()

    def split(self, x: Tensor) -> Tensor:
        """(batch, length, width) to (batch, heads, length, width / heads)."""
        return x.reshape(x.shape[0], x.shape[1], self.heads, -1).transpose(0, 2, 1, 3)

    def construct(self, x: Tensor, mask: Tensor, keep: Tensor | None = None) -> Tensor:
        query, key, value = self.split(self.query(x)), self.split(self.key(x)), self.split(self.value(x))
        return self.output(self.attend(query, key, value, mask, keep).transpose(0, 2, 1, 3).reshape(x.shape))


class Block(nn.Cell):
    """Self-attention and a feed-forward layer, each added to its input and normalised.

    ``approximate`` takes GELU's tanh form, which ALBERT uses, instead of the exact function, BERT's.
    """

    def __init__(self, width: int, heads: int, inner: int, approximate: bool, safe: bool) -> None:
        super().__init__()
        self.attention, self.norm = _Attention(width, heads, safe), norm(width, safe)
        self.inner, self.outer = nn.Dense(width, inner), nn.Dense(inner, width)
        self.gelu = (fusion.GELU if safe else nn.GELU)(approximate)
        self.last_norm = norm(width, safe)

    def construct(self, x: Tensor, mask: Tensor, keep: tuple | None = None) -> Tensor:
        """``x`` (batch, length, width) to the same, with dropout masks of the attention weights and both sub-layers' outputs, or None.

        ``mask`` is (batch, length), 1 for words and 0 for padding; or (batch, 1, length, length), 1 where the second of two places may
        be looked at from the first.
        """
        weights, attended, output = (None, None, None) if keep is None else keep
        x = self.norm(x + dropped(self.attention(x, mask, weights), attended))
        return self.last_norm(x + dropped(self.outer(self.gelu(self.inner(x))), output))


def initialise(network: nn.Cell, random: np.random.Generator, deviation: float = 0.02) -> None:
    """Normal weights (BERT's deviation), zero biases; norms stay the identity."""
    for parameter in network.get_parameters():
        name, shape = parameter.name, tuple(parameter.shape)
        if "gamma" not in name and "beta" not in name:
            value = np.zeros(shape) if len(shape) == 1 else random.normal(0.0, deviation, shape)
            parameter.set_data(Tensor(value, ms.float32))


def sinusoids(places: int, width: int) -> np.ndarray:
    """Vectors of places, (places, width) float32: sines and cosines (Vaswani et al. 2017) between -1 and 1.

    Wave lengths go from 6 to 600 places instead of 60,000, so that near places differ more.
    """
    angles = np.arange(places)[:, None] / 100.0 ** (2 * np.arange((width + 1) // 2) / width)
    return np.concatenate([np.sin(angles), np.cos(angles)], 1)[:, :width].astype(np.float32)
