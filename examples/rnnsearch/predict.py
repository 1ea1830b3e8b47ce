"""Translating: by beam search through `host.beam_search`, or word by word as a newcomer would.

``python -m examples.rnnsearch.predict RUN "the 3rd of March 1998"`` translates typed text, or without the text, line by line.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import Tensor
from tokenizers import Tokenizer

from ascend_fixes import host, shapes
from examples.common import checkpoint, command_line
from examples.common.files import expect
from examples.common.randomness import padded
from examples.rnnsearch.data import END, SIDES, START
from examples.rnnsearch.model import RNNSearch, Sizes, Start, Step

LONGEST = 128  # tokens of a sentence, the end token included
BATCH, BEAM = 64, 5
PENALTY = 1.0  # exponent of the length normalisation (Wu et al. 2016)


class Translator:
    """Translates batches of token lists with the network's present parameters.

    Sources are padded to one of ``widths``; a translation has at most ``longest`` tokens; ``batch`` sentences go at a time.
    """

    def __init__(self, network: RNNSearch, widths: shapes.Buckets, longest: int = 60, batch: int = BATCH) -> None:
        self.start, self.step = Start(network).set_train(False), Step(network).set_train(False)
        self.widths, self.longest, self.batch = widths, longest, batch

    def __call__(self, sentences: Sequence[Sequence[int]], beam: int = BEAM) -> list[list[int]]:
        """The best translation of every sentence, without start and end tokens.

        Sentences are tokens, the end token included; ``beam`` hypotheses are kept for each, 1 takes the best token always.
        """
        order = sorted(range(len(sentences)), key=lambda number: len(sentences[number]))
        found: dict[int, list[int]] = {}
        for start in range(0, len(order), self.batch):
            chunk = order[start : start + self.batch]
            for number, row, length in zip(chunk, *self.tokens([sentences[number] for number in chunk], beam)):
                words = row[:length].tolist()
                found[number] = words[:-1] if words and words[-1] == END else words
        return [found[number] for number in range(len(sentences))]

    def tokens(self, sentences: Sequence[Sequence[int]], beam: int) -> tuple[np.ndarray, np.ndarray]:
        """Tokens of the best translations of at most a batch of sentences, (batch, length), and how many count, (batch,)."""
        filled = [*sentences, *[[END]] * (self.batch - len(sentences))]  # one batch size, one graph
        source, mask = map(Tensor, padded(filled, self.widths(max(map(len, sentences)))))
        state, start = self.start(source, mask), np.full(self.batch, START, np.int32)
        if beam == 1:
            return self._greedy(start, state)
        best = host.beam_search(self.step, state, beam, self.longest, start=start, end=END, length_penalty=PENALTY)
        return best.tokens[:, 0], best.lengths[:, 0]

    def _greedy(self, token: np.ndarray, state: tuple) -> tuple[np.ndarray, np.ndarray]:
        """Always the best token, until every sentence has ended."""
        tokens = []
        ended = np.zeros(len(token), bool)
        while len(tokens) < self.longest and not ended.all():
            scores, state = self.step(Tensor(token), ms.mutable(tuple(state)))
            token = np.where(ended, END, scores.asnumpy().argmax(1)).astype(np.int32)
            ended |= token == END
            tokens.append(token)
        rows = np.stack(tokens, 1)
        ends = rows == END
        return rows, np.where(ends.any(1), ends.argmax(1) + 1, rows.shape[1])


def decode(tokenizer: Tokenizer, tokens: Sequence[Sequence[int]]) -> list[str]:
    """Texts of token lists."""
    return [text.strip() for text in tokenizer.decode_batch([list(sentence) for sentence in tokens])]


class Predictor:
    """A trained network for single sentences, of a run or of one of its variants; a few sizes of the source are a graph each."""

    def __init__(self, folder: Path) -> None:
        network, (self.source, self.target) = checkpoint.trained(folder, "rnnsearch", _model)
        self.translator = Translator(network, shapes.Buckets.geometric(8, LONGEST, 5))

    def show(self, text: str) -> str:
        """The translation of a typed sentence; `ExampleError` where it is empty or too long."""
        tokens = self.source.encode(text.strip()).ids
        expect(tokens, "the sentence is empty; type at least one word")
        most = f"at most {LONGEST - 1} can be translated; split the sentence"
        expect(len(tokens) < LONGEST, f"{len(tokens)} tokens, {most}")
        return decode(self.target, self.translator([(*tokens, END)]))[0]


def _model(stored: Mapping[str, Any]) -> tuple[RNNSearch, list[Tokenizer]]:
    sides = [Tokenizer.from_str(stored[side]) for side in SIDES]
    words = (side.get_vocab_size() for side in sides)
    return RNNSearch(*words, np.random.default_rng(0), Sizes(**stored["sizes"])), sides


main = functools.partial(command_line.predict, "rnnsearch", "Translate a sentence.", "sentence", Predictor)

if __name__ == "__main__":
    sys.exit(main())
