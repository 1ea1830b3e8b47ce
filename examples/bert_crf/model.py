"""BERT-CRF in MindSpore: a BERT encoder, one vector per word, tag scores, and a linear-chain CRF over them.

Devlin et al. 2019, https://arxiv.org/abs/1810.04805, section 5.3: the vector of a word is that of its first
WordPiece. The CRF is that of Lafferty, McCallum and Pereira 2001.

With ``safe`` the layers are those of `ascend_fixes.fusion`, `fusion.CRF` among them; without, what a newcomer to
MindSpore writes: `LoopCRF`, whose graph grows with the sentence. Parameters have the same names either way.

Dropout masks are inputs: the host draws them (see `examples.common.randomness`), so that a resumed run repeats them.
"""

from __future__ import annotations

from dataclasses import dataclass

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, nn, ops
from mindspore.common.initializer import initializer

from ascend_fixes import fusion
from examples.common.transformer import Block, Embeddings, initialise, sinusoids

__all__ = ["BERT", "BertCRF", "LoopCRF", "Loss", "Sizes"]


@dataclass(frozen=True)
class Sizes:
    """What a BERT is built from: entries of the vocabulary, width, layers, heads, feed-forward width, places, segments."""

    words: int
    width: int
    layers: int
    heads: int
    inner: int
    places: int
    segments: int = 2


class BERT(nn.Cell):
    """The encoder.

    Args:
        sizes: of the model.
        safe: use the layers of `ascend_fixes.fusion`.
    """

    def __init__(self, sizes: Sizes, safe: bool) -> None:
        super().__init__()
        self.embeddings = Embeddings(sizes.words, sizes.width, sizes.places, sizes.segments, safe)
        blocks = [Block(sizes.width, sizes.heads, sizes.inner, False, safe) for _ in range(sizes.layers)]
        self.blocks = nn.CellList(blocks)

    def construct(
        self,
        ids: Tensor,
        segments: Tensor,
        mask: Tensor,
        keep_hidden: Tensor | None = None,
        keep_weights: Tensor | None = None,
        positions: Tensor | None = None,
    ) -> Tensor:
        """Encode a batch.

        Args:
            ids, segments: (batch, pieces) int32.
            mask: (batch, pieces), 1 for pieces and 0 for padding; or as `Block.construct` takes it for packed sentences.
            keep_hidden: dropout masks (1 + 2 layers, batch, pieces, width), of the embeddings and of every block's
                two sub-layers, or None; further ones are not used.
            keep_weights: dropout masks of the attention weights (layers, batch, heads, pieces, pieces), or None.
            positions: (batch, pieces) int32, of packed sentences the places in each; else None.

        Returns:
            (batch, pieces, width).
        """
        if keep_hidden is None:
            x = self.embeddings(ids, segments, None, positions)
            for block in self.blocks:
                x = block(x, mask)
            return x
        x = self.embeddings(ids, segments, keep_hidden[0], positions)
        for i in range(len(self.blocks)):
            x = self.blocks[i](x, mask, keep_weights[i], keep_hidden[2 * i + 1], keep_hidden[2 * i + 2])
        return x


class LoopCRF(nn.Cell):
    """A conditional random field as MindSpore's own tutorial on sequence labelling builds it: a loop over the steps.

    The graph holds every step, so compiling takes as long as the longest sentence demands.

    Args:
        num_tags: the number of tags.

    Attributes:
        transitions, start, end: as `fusion.CRF`.
    """

    def __init__(self, num_tags: int) -> None:
        super().__init__()
        self.transitions = Parameter(initializer("zeros", (num_tags, num_tags)), name="transitions")
        self.start = Parameter(initializer("zeros", (num_tags,)), name="start")
        self.end = Parameter(initializer("zeros", (num_tags,)), name="end")

    def construct(self, emissions: Tensor, tags: Tensor, lengths: Tensor) -> Tensor:
        """As `fusion.CRF.construct`: the negative log-likelihood of each sequence, (batch,)."""
        rows = ops.arange(emissions.shape[0])
        forward = self.start + emissions[:, 0]
        score = self.start[tags[:, 0]] + emissions[rows, 0, tags[:, 0]]
        for step in range(1, emissions.shape[1]):
            inside = step < lengths
            through = forward.expand_dims(2) + self.transitions + emissions[:, step].expand_dims(1)
            forward = ops.where(inside.expand_dims(1), ops.logsumexp(through, 1), forward)
            gained = self.transitions[tags[:, step - 1], tags[:, step]] + emissions[rows, step, tags[:, step]]
            score = ops.where(inside, score + gained, score)
        last = tags[rows, ops.maximum(lengths - 1, 0)]
        return ops.logsumexp(forward + self.end, 1) - score - self.end[last]


class BertCRF(nn.Cell):
    """Scores of the tags of words, and how unlikely the given tags are.

    Args:
        sizes: of the encoder.
        num_tags: the number of tags.
        random: where the initial weights come from, with a deviation that suits narrow encoders; places start
            as sinusoids (Vaswani et al. 2017), from which neighbours are soon found.
        safe: use the layers of `ascend_fixes.fusion`.
    """

    def __init__(self, sizes: Sizes, num_tags: int, random: np.random.Generator, safe: bool = True) -> None:
        super().__init__()
        self.encoder = BERT(sizes, safe)
        self.classify = nn.Dense(sizes.width, num_tags)
        self.crf = (fusion.CRF if safe else LoopCRF)(num_tags)
        initialise(self, random, 0.8 * sizes.width**-0.5)
        self.encoder.embeddings.places.embedding_table.set_data(Tensor(0.3 * sinusoids(sizes.places, sizes.width)))

    def construct(
        self,
        ids: Tensor,
        mask: Tensor,
        firsts: Tensor,
        lengths: Tensor,
        tags: Tensor,
        keep_hidden: Tensor | None = None,
        keep_weights: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Run the model.

        Args:
            ids: (batch, pieces) int32.
            mask: (batch, pieces), 1 for pieces and 0 for padding.
            firsts: (batch, words) int32, the place of every word's first piece; 0 past the end.
            lengths: (batch,) int32, how many words a sentence has.
            tags: (batch, words) int32; what stands past the end does not matter.
            keep_hidden, keep_weights: dropout masks as `BERT.construct` takes them, with one more of
                ``keep_hidden`` for the encoder's output; or None.

        Returns:
            Emissions (batch, words, tags) and the negative log-likelihood of each sentence's tags, (batch,).
        """
        x = self.encoder(ids, ops.zeros_like(ids), mask, keep_hidden, keep_weights)
        if keep_hidden is not None:
            x = x * keep_hidden[-1].astype(x.dtype)
        batch, pieces, width = x.shape
        places = firsts + (ops.arange(batch) * pieces).astype(ms.int32).expand_dims(1)
        emissions = self.classify(ops.gather(x.reshape(-1, width), places, 0))
        return emissions, self.crf(emissions, tags, lengths)


class Loss(nn.Cell):
    """The mean negative log-likelihood of a batch; a sentence of weight 0 (a filled-up last batch) does not count."""

    def __init__(self, network: BertCRF) -> None:
        super().__init__(auto_prefix=False)
        self.network = network

    def construct(
        self,
        ids: Tensor,
        mask: Tensor,
        firsts: Tensor,
        lengths: Tensor,
        tags: Tensor,
        weights: Tensor,
        keep_hidden: Tensor | None = None,
        keep_weights: Tensor | None = None,
    ) -> Tensor:
        """As `BertCRF.construct`, with ``weights`` (batch,) float32 -> float32 scalar."""
        _, losses = self.network(ids, mask, firsts, lengths, tags, keep_hidden, keep_weights)
        return (losses.astype(ms.float32) * weights).sum() / weights.sum()
