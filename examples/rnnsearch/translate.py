"""Translating with a trained RNNSearch: beam search through `host.beam_search`, or word by word as a newcomer would.

``python -m examples.rnnsearch.translate RUN`` reads sentences from standard input and prints
translations; RUN is what a training wrote, ``runs/rnnsearch-built-in-seed0``.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Optional

import mindspore as ms
import numpy as np
from mindspore import Tensor
from tokenizers import Tokenizer

from ascend_fixes import host, shapes
from examples.common import checkpoint
from examples.common.errors import CheckpointError, DataError, ExampleError
from examples.common.randomness import Stream, generator
from examples.rnnsearch import data
from examples.rnnsearch.model import RNNSearch, Sizes, Start, Step

__all__ = ["Translator", "main"]

BATCH = 64
BEAM = 5
PENALTY = 1.0  # exponent of the length normalisation (Wu et al. 2016)


class Translator:
    """Translates batches of token lists with the network's present parameters.

    Args:
        network: the model.
        widths: sizes that sources are padded to; None pads to the longest of the batch, a graph for every length.
        longest: tokens of a translation at most.
    """

    def __init__(self, network: RNNSearch, widths: Optional[shapes.Buckets], longest: int = 60) -> None:
        self.start, self.step = Start(network), Step(network)
        self.start.set_train(False)
        self.step.set_train(False)
        self.widths, self.longest = widths, longest

    def __call__(self, sentences: Sequence[Sequence[int]], beam: int = BEAM) -> list[list[int]]:
        """The best translation of every sentence, without start and end tokens.

        Args:
            sentences: tokens of each, the end token included.
            beam: hypotheses kept for a sentence; 1 takes the best token at every step.
        """
        order = sorted(range(len(sentences)), key=lambda number: len(sentences[number]))
        found: dict[int, list[int]] = {}
        for start in range(0, len(order), BATCH):
            chunk = order[start : start + BATCH]
            for number, tokens in zip(chunk, self._batch([sentences[number] for number in chunk], beam)):
                found[number] = tokens
        return [found[number] for number in range(len(sentences))]

    def _batch(self, sentences: Sequence[Sequence[int]], beam: int) -> Iterator[list[int]]:
        longest = max(map(len, sentences))
        width = longest if self.widths is None else self.widths(longest)
        filled = [*sentences, *[[data.END]] * (BATCH - len(sentences))]  # one batch size, one graph
        source, mask = map(Tensor, data.collate(filled, width))
        state = self.start(source, mask)
        start = np.full(BATCH, data.START, np.int32)
        if beam == 1:
            tokens, lengths = self._greedy(start, state)
        else:
            best = host.beam_search(
                self.step, state, beam, self.longest, start=start, end=data.END, length_penalty=PENALTY
            )
            tokens, lengths = best.tokens[:, 0], best.lengths[:, 0]
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


def load(folder: Path) -> tuple[Translator, Tokenizer, Tokenizer]:
    """The translator of a run or of one of its variants, with the source's and the target's tokenizer.

    Raises:
        CheckpointError: the folder holds no finished epoch, or its files do not fit together.
    """
    folder = checkpoint.variant(folder, "source.json")
    stored = checkpoint.load(folder / "checkpoint.npz")
    try:
        source, target = (Tokenizer.from_file(str(folder / f"{side}.json")) for side in ("source", "target"))
        sizes = Sizes(**stored.description["settings"]["sizes"])
    except Exception as error:  # tokenizers raises bare Exception
        raise CheckpointError(f"{folder}: no trained translator ({error})") from None
    network = RNNSearch(source.get_vocab_size(), target.get_vocab_size(), generator(0, Stream.WEIGHTS), sizes)
    for parameter in network.get_parameters():
        value = stored.arrays.get(f"best/{parameter.name}")
        if value is None or value.shape != tuple(parameter.shape):
            found = "is missing" if value is None else f"has shape {value.shape}, expected {tuple(parameter.shape)}"
            raise CheckpointError(f"{folder}: best/{parameter.name} {found}; has an epoch been finished?")
        parameter.set_data(Tensor(value))
    return Translator(network, shapes.Buckets.geometric(8, 128, 5)), source, target


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m examples.rnnsearch.translate", description=__doc__.split("\n")[0])
    parser.add_argument("run", type=Path, help="output folder of python -m examples.rnnsearch")
    parser.add_argument("--beam", type=int, default=BEAM, metavar="N", help=f"hypotheses kept (default: {BEAM})")
    options = parser.parse_args(arguments)
    try:
        if options.beam < 1:
            raise DataError(f"--beam {options.beam}: must be at least 1")
        ms.set_context(mode=ms.GRAPH_MODE)
        translator, source, target = load(options.run)
        for number, line in enumerate(sys.stdin, start=1):
            tokens = source.encode(line.strip()).ids
            if not tokens:
                print("", flush=True)
                continue
            if len(tokens) >= 128:
                raise DataError(f"line {number}: {len(tokens)} tokens, at most 127 can be translated; split it")
            print(*decode(target, translator([(*tokens, data.END)], options.beam)), flush=True)
    except ExampleError as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
