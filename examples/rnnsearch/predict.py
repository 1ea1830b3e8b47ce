"""Translating: by beam search through `host.beam_search`, or word by word as a newcomer would.

``python -m examples.rnnsearch.predict RUN "the 3rd of March 1998"`` translates typed text, or without the text, line by line.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import Tensor
from tokenizers import Tokenizer

from ascend_fixes import host, shapes
from examples.common import checkpoint, typed
from examples.common.files import DataError
from examples.common.randomness import padded
from examples.rnnsearch import data
from examples.rnnsearch.model import RNNSearch, Sizes, Start, Step

__all__ = ["BEAM", "Predictor", "Translator", "decode", "main"]

LONGEST = 128  # tokens of a sentence, the end token included
BATCH = 64
BEAM = 5
PENALTY = 1.0  # exponent of the length normalisation (Wu et al. 2016)


class Translator:
    """Translates batches of token lists with the network's present parameters.

    Args:
        network: the model.
        widths: sizes that sources are padded to; None pads to the longest of the batch, a graph for every length.
        longest: tokens of a translation at most.
        batch: sentences at a time.
    """

    def __init__(
        self, network: RNNSearch, widths: shapes.Buckets | None, longest: int = 60, batch: int = BATCH
    ) -> None:
        self.start, self.step = Start(network), Step(network)
        self.start.set_train(False)
        self.step.set_train(False)
        self.widths, self.longest, self.batch = widths, longest, batch

    def __call__(self, sentences: Sequence[Sequence[int]], beam: int = BEAM) -> list[list[int]]:
        """The best translation of every sentence, without start and end tokens.

        Args:
            sentences: tokens of each, the end token included.
            beam: hypotheses kept for a sentence; 1 takes the best token at every step.
        """
        order = sorted(range(len(sentences)), key=lambda number: len(sentences[number]))
        found: dict[int, list[int]] = {}
        for start in range(0, len(order), self.batch):
            chunk = order[start : start + self.batch]
            for number, tokens in zip(chunk, self._batch([sentences[number] for number in chunk], beam)):
                found[number] = tokens
        return [found[number] for number in range(len(sentences))]

    def tokens(self, sentences: Sequence[Sequence[int]], beam: int) -> tuple[np.ndarray, np.ndarray]:
        """Tokens of the best translations of at most a batch of sentences, (batch, length), and how many count, (batch,)."""
        longest = max(map(len, sentences))
        width = longest if self.widths is None else self.widths(longest)
        filled = [*sentences, *[[data.END]] * (self.batch - len(sentences))]  # one batch size, one graph
        source, mask = map(Tensor, padded(filled, width))
        state = self.start(source, mask)
        start = np.full(self.batch, data.START, np.int32)
        if beam == 1:
            return self._greedy(start, state)
        best = host.beam_search(self.step, state, beam, self.longest, start=start, end=data.END, length_penalty=PENALTY)
        return best.tokens[:, 0], best.lengths[:, 0]

    def _batch(self, sentences: Sequence[Sequence[int]], beam: int) -> Iterator[list[int]]:
        tokens, lengths = self.tokens(sentences, beam)
        for row, length in zip(tokens[: len(sentences)], lengths):
            words = row[:length].tolist()
            yield words[:-1] if words and words[-1] == data.END else words

    def _greedy(self, token: np.ndarray, state: tuple) -> tuple[np.ndarray, np.ndarray]:
        """Always the best token, until every sentence has ended."""
        tokens = []
        ended = np.zeros(len(token), bool)
        while len(tokens) < self.longest and not ended.all():
            scores, state = self.step(Tensor(token), ms.mutable(tuple(state)))
            token = np.where(ended, data.END, scores.asnumpy().argmax(1)).astype(np.int32)
            ended |= token == data.END
            tokens.append(token)
        rows = np.stack(tokens, 1)
        ends = rows == data.END
        lengths = np.where(ends.any(1), ends.argmax(1) + 1, rows.shape[1])
        return rows, lengths


def decode(tokenizer: Tokenizer, tokens: Sequence[Sequence[int]]) -> list[str]:
    """Texts of token lists."""
    return [text.strip() for text in tokenizer.decode_batch([list(sentence) for sentence in tokens])]


class Predictor:
    """A trained network for single sentences; a few sizes of the source are a graph each.

    Args:
        folder: of a run, or of one of its variants.

    Raises:
        CheckpointError: the folder holds no finished epoch, or its files do not fit together.
    """

    def __init__(self, folder: Path) -> None:
        folder, (self.source, self.target, sizes) = checkpoint.described(folder, "rnnsearch", _model)
        words = (side.get_vocab_size() for side in (self.source, self.target))
        network = RNNSearch(*words, np.random.default_rng(0), sizes)
        checkpoint.restore(network, folder)
        self.translator = Translator(network, shapes.Buckets.geometric(8, LONGEST, 5))

    def show(self, text: str) -> str:
        """The translation of a typed sentence.

        Raises:
            DataError: it is empty or too long.
        """
        tokens = self.source.encode(text.strip()).ids
        if not tokens:
            raise DataError("the sentence is empty; type at least one word")
        if len(tokens) >= LONGEST:
            raise DataError(f"{len(tokens)} tokens, at most {LONGEST - 1} can be translated; split the sentence")
        return decode(self.target, self.translator([(*tokens, data.END)]))[0]


def _model(stored: Mapping[str, Any]) -> tuple[Tokenizer, Tokenizer, Sizes]:
    return *(Tokenizer.from_str(stored[side]) for side in data.SIDES), Sizes(**stored["sizes"])


main = functools.partial(typed.main, "rnnsearch", "Translate a sentence.", "sentence", Predictor)

if __name__ == "__main__":
    sys.exit(main())
