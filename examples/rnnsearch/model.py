"""RNNSearch in MindSpore: a bidirectional GRU encoder, additive attention, and a GRU decoder with a maxout output.

Bahdanau, Cho and Bengio 2015, https://arxiv.org/abs/1409.0473, appendix A. The decoder starts from the backward state at the
first word; an output looks at the new state, the word before it and the context. Everything here honours lengths: annotations
past a sentence's end are zero and get no attention, so padding changes nothing. A published port for Ascend took the decoder's
first state from the last padded step. With ``safe`` the layers are `fusion.GRU` and `fusion.AttentionGRU`;
without, MindSpore's, and -1e9 added to masked scores. Dropout masks are inputs: the host draws them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops

from ascend_fixes import fusion
from examples.common.transformer import AddedMask, Around, dropped


@dataclass(frozen=True)
class Sizes:
    """How wide the model is: word vectors, states, the attention's hidden layer and the maxout output."""

    embedding: int = 256
    hidden: int = 256
    attention: int = 256
    maxout: int = 256


class Encoder(nn.Cell):
    """Annotations of the source words."""

    def __init__(self, words: int, sizes: Sizes, safe: bool) -> None:
        super().__init__()
        gru = fusion.GRU if safe else nn.GRU
        self.embedding = nn.Embedding(words, sizes.embedding)
        self.gru = gru(sizes.embedding, sizes.hidden, batch_first=True, bidirectional=True)
        self.keys = nn.Dense(2 * sizes.hidden, sizes.attention, has_bias=False)
        self.start = nn.Dense(sizes.hidden, sizes.hidden)

    def construct(
        self, source: Tensor, source_mask: Tensor, keep: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Encode ``source`` (batch, words) int32; ``source_mask`` is 1 for words, 0 for the padding that follows; ``keep`` may drop.

        Returns annotations (batch, words, 2 hidden), their attention keys (batch, words, attention), and the decoder's first state
        (batch, hidden).
        """
        x = dropped(self.embedding(source), keep)
        lengths = source_mask.astype(ms.float32).sum(1).astype(ms.int32)
        annotations, states = self.gru(x, None, lengths)
        return annotations, self.keys(annotations), ops.tanh(self.start(states[1]))


class AttentionGRU(nn.Cell):
    """The recurrence as a newcomer writes it, step by step; parameters as `fusion.AttentionGRU`."""

    def __init__(self, width: int, hidden: int, context: int, attention: int) -> None:
        super().__init__()
        self.cell = nn.GRUCell(width + context, hidden)
        self.query, self.score = nn.Dense(hidden, attention), nn.Dense(attention, 1, has_bias=False)
        self.softmax = AddedMask()

    def construct(
        self, x: Tensor, state: Tensor, annotations: Tensor, keys: Tensor, mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        states, contexts = [], []
        for step in range(x.shape[1]):
            scores = self.score(ops.tanh(keys + self.query(state).expand_dims(1))).squeeze(-1)
            context = ops.bmm(self.softmax(scores, mask).expand_dims(1), annotations).squeeze(1)
            state = self.cell(ops.concat((x[:, step], context), -1), state)
            states.append(state)
            contexts.append(context)
        return ops.stack(states, 1), ops.stack(contexts, 1)


class Decoder(nn.Cell):
    """The words before, what the steps see and give, and the scores of the words."""

    def __init__(self, words: int, sizes: Sizes, safe: bool) -> None:
        super().__init__()
        self.embedding = nn.Embedding(words, sizes.embedding)
        recurrence = fusion.AttentionGRU if safe else AttentionGRU
        self.recurrence = recurrence(sizes.embedding, sizes.hidden, 2 * sizes.hidden, sizes.attention)
        self.readout = nn.Dense(3 * sizes.hidden + sizes.embedding, 2 * sizes.maxout)
        self.output = nn.Dense(sizes.maxout, words)

    def logits(self, x: Tensor, states: Tensor, contexts: Tensor, keep: Tensor | None = None) -> Tensor:
        """Scores of the words (..., words) from what steps saw and gave, each (..., width)."""
        both = self.readout(ops.concat((states, x, contexts), -1))
        size = both.shape[-1] // 2
        return self.output(dropped(ops.maximum(both[..., :size], both[..., size:]), keep))


class RNNSearch(nn.Cell):
    """Scores of the target words (batch, target words, vocabulary), given the source and the target words before them."""

    def __init__(
        self, source_words: int, target_words: int, random: np.random.Generator, sizes: Sizes, safe: bool = True
    ) -> None:
        super().__init__()
        self.encoder = Encoder(source_words, sizes, safe)
        self.decoder = Decoder(target_words, sizes, safe)
        _initialise(self, random)

    def construct(
        self,
        source: Tensor,
        source_mask: Tensor,
        before: Tensor,
        keep_source: Tensor | None = None,
        keep_target: Tensor | None = None,
        keep_output: Tensor | None = None,
    ) -> Tensor:
        """Run the model with the right words fed in (teacher forcing): the start token, then the target without its last.

        ``source`` and ``before`` (batch, words) int32, ``source_mask`` as `Encoder.construct`; dropout masks of both sides' word
        vectors (batch, words, embedding) and of the maxout output (batch, target words, maxout), or None.
        """
        annotations, keys, state = self.encoder(source, source_mask, keep_source)
        x = dropped(self.decoder.embedding(before), keep_target)
        states, contexts = self.decoder.recurrence(x, state, annotations, keys, source_mask)
        return self.decoder.logits(x, states, contexts, keep_output)


class Loss(Around):
    """Cross entropy per target word, float32, with label smoothing (Szegedy et al. 2016); padding does not count.

    As `RNNSearch.construct`, with ``target`` (batch, words) int32 and ``weights``, 0 for padding. ``counted`` gives the number of
    words as well.
    """

    def __init__(self, network: RNNSearch, smoothing: float = 0.1, counted: bool = False) -> None:
        super().__init__(network)
        self.smoothing, self.counted = smoothing, counted

    def construct(
        self,
        source: Tensor,
        source_mask: Tensor,
        before: Tensor,
        target: Tensor,
        weights: Tensor,
        keep_source: Tensor | None = None,
        keep_target: Tensor | None = None,
        keep_output: Tensor | None = None,
    ) -> Any:
        logits = self.network(source, source_mask, before, keep_source, keep_target, keep_output).astype(ms.float32)
        scores = ops.log_softmax(logits.reshape(-1, logits.shape[-1]), -1)
        # Not `ops.cross_entropy`: on CPU a graph keeps 16 bytes for every element that it broadcasts over the words.
        losses = -ops.gather_elements(scores, 1, target.reshape(-1, 1)).squeeze(1)
        if self.smoothing:
            losses = (1 - self.smoothing) * losses - self.smoothing / scores.shape[-1] * scores.sum(-1)
        counts = weights.reshape(-1).astype(ms.float32)
        total = counts.sum()
        loss = (losses * counts).sum() / ops.maximum(total, Tensor(1.0, ms.float32))
        return (loss, total) if self.counted else loss


class Start(Around):
    """What `host.beam_search` starts from: annotations, keys, mask and first state."""

    def construct(self, source: Tensor, source_mask: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        annotations, keys, state = self.network.encoder(source, source_mask)
        return annotations, keys, source_mask, state


class Step(Around):
    """One step of decoding for `host.beam_search`: tokens (rows,) and state to scores (rows, words) and state."""

    def construct(self, tokens: Tensor, state: tuple) -> tuple[Tensor, tuple]:
        annotations, keys, mask, hidden = state
        x = self.network.decoder.embedding(tokens).expand_dims(1)
        hidden, context = self.network.decoder.recurrence(x, hidden, annotations, keys, mask)
        scores = self.network.decoder.logits(x, hidden, context).squeeze(1)
        return scores.astype(ms.float32), (annotations, keys, mask, hidden.squeeze(1))


def _initialise(network: nn.Cell, random: np.random.Generator) -> None:
    """Glorot for products, orthogonal for recurrent ones (Saxe et al. 2014), 0.1-normal word vectors, zero biases."""
    for parameter in network.get_parameters():
        shape, name = tuple(parameter.shape), parameter.name
        if len(shape) == 1:
            value = np.zeros(shape)
        elif "embedding" in name:
            value = random.normal(0.0, 0.1, shape)
        elif "weight_hh" in name:
            blocks = [np.linalg.qr(random.normal(size=(shape[1], shape[1])))[0] for _ in range(shape[0] // shape[1])]
            value = np.concatenate(blocks)
        else:
            limit = np.sqrt(6.0 / (shape[0] // (3 if "weight_ih" in name else 1) + shape[1]))
            value = random.uniform(-limit, limit, shape)
        parameter.set_data(Tensor(value.astype(np.float32)))
