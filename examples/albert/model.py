"""ALBERT in MindSpore, with a span head: for every piece of a text, how well an answer begins and ends there.

Lan et al. 2020, https://arxiv.org/abs/1909.11942: factorised embedding, all layers share one set of weights, no dropout, as in
the paper's second version (section 4.9). With ``safe`` the layers are those of `ascend_fixes.fusion`; with ``finite_masks``
padding is masked by selection. Without them the model is what a newcomer to MindSpore writes. Parameters have the same names.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops

from examples.common.checkpoint import SIZES, Named, named, read_arrays, read_sizes
from examples.common.files import expect
from examples.common.transformer import EPSILON, Around, Block, Embeddings, initialise, sinusoids


@dataclass(frozen=True)
class Config:
    """Sizes of an ALBERT: the vocabulary, widths of word vectors and layers, how often the shared layer is applied, heads of its
    attention, width of its feed-forward layer, the longest input, kinds of segments; whether GELU is its tanh form, as published.
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
    """Logits of an answer's first and last piece, each (batch, length); initial weights come from ``random``.

    They are of a deviation that fits the width, and places start as sinusoids. BERT's deviation of 0.02 suits wide models;
    where places start as noise, a small model needs much patience to learn to look beside a word.
    """

    def __init__(self, config: Config, random: np.random.Generator, safe: bool = True) -> None:
        super().__init__()
        self.config, self.layers = config, config.layers
        self.embeddings = Embeddings(config.words, config.embedding, config.length, config.segments, safe)
        self.widen = nn.Dense(config.embedding, config.width)
        self.block = Block(config.width, config.heads, config.inner, config.approximate, safe)
        self.span = nn.Dense(config.width, 2)
        initialise(self, random, config.width**-0.5)
        for table in (self.embeddings.words, self.embeddings.segments):
            value = random.normal(0.0, 0.5, table.embedding_table.shape)
            table.embedding_table.set_data(Tensor(value, ms.float32))
        self.embeddings.places.embedding_table.set_data(Tensor(sinusoids(config.length, config.embedding)))

    def construct(
        self, ids: Tensor, segments: Tensor, mask: Tensor, positions: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """``ids`` (batch, length) int32 and ``segments``, 0 for the question and 1 for the passage, with a ``mask``.

        It is 1 for pieces and 0 for padding, where the logits mean nothing; of packed windows `ascend_fixes.shapes.segment_mask`, as
        numbers, with ``positions``, (batch, length) int32 places in each.
        """
        x = self.widen(self.embeddings(ids, segments, None, positions))
        for _ in range(self.layers):
            x = self.block(x, mask)
        logits = self.span(x)
        return logits[:, :, 0], logits[:, :, 1]


class SpanLoss(Around):
    """Mean cross entropy of the first and the last piece, as Devlin et al. 2019 train SQuAD; padding is no candidate.

    With ``finite_masks`` padding is left out by selection, instead of adding -1e9, which float16 turns into NaN.
    """

    def __init__(self, network: Albert, finite_masks: bool = True) -> None:
        super().__init__(network)
        self.finite_masks = finite_masks

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


# What this ALBERT computes; a checkpoint that was trained otherwise would give other results without a word.
_FIXED = {
    "num_hidden_groups": 1,
    "inner_group_num": 1,
    "layer_norm_eps": EPSILON,
    "position_embedding_type": "absolute",
}
_APPROXIMATE = {"gelu": False, "gelu_new": True, "gelu_pytorch_tanh": True}
_SPAN, _LAYER = "qa_outputs", "encoder.albert_layer_groups.0.albert_layers.0"
_NAMES = {
    "widen.": "encoder.embedding_hidden_mapping_in.",
    "span.": f"{_SPAN}.",
    "block.attention.output.": f"{_LAYER}.attention.dense.",
    "block.inner.": f"{_LAYER}.ffn.",
    "block.outer.": f"{_LAYER}.ffn_output.",
    "block.norm.": f"{_LAYER}.attention.LayerNorm.",
    "block.last_norm.": f"{_LAYER}.full_layer_layer_norm.",
    "block.": f"{_LAYER}.",
}


def read(folder: Path) -> tuple[Config, dict[str, np.ndarray]]:
    """The sizes of a checkpoint, and its float32 arrays by parameter name, those of the span head among them or not.

    The pooler and the heads of other tasks are left unread. Raises `ExampleError` or `FileError` where a file is missing, damaged,
    of another kind of model, or contradicts the other.
    """
    counts, stored = read_sizes(folder, "albert", {**SIZES, "embedding": "embedding_size"}, _FIXED)
    activation = stored.get("hidden_act", "gelu_new")
    known = f"hidden_act is {activation!r}, this ALBERT has {' or '.join(_APPROXIMATE)}"
    expect(activation in _APPROXIMATE, f"{folder / 'config.json'}: {known}")
    config = Config(length=counts.pop("places"), **counts, approximate=_APPROXIMATE[activation])
    return config, read_arrays(folder, "albert", parameters(config), head=_SPAN)


def parameters(config: Config) -> Named:
    """(name here, name there without ``albert.``, shape) of every parameter."""
    return named(Albert(config, np.random.default_rng(0)), _NAMES)
