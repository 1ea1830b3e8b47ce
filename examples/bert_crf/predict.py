"""Find names in typed text: ``python -m examples.bert_crf.predict RUN "we met Ada Lovelace"``, or without the text, line by line."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from dataclasses import astuple
from pathlib import Path

import numpy as np
from mindspore import Tensor

from ascend_fixes import shapes
from examples.bert_crf import data
from examples.bert_crf.decoding import Transitions, best_tags, names
from examples.bert_crf.model import BertCRF
from examples.bert_crf.saved import load
from examples.common import typed
from examples.common.errors import DataError
from examples.common.pretrained import assign

__all__ = ["Predictor", "main", "split"]


def split(text: str) -> tuple[str, ...]:
    """Words and punctuation marks; ``@user``, ``#topic`` and ``don't`` stay whole."""
    return tuple(re.findall(r"[@#]?\w+(?:['’.-]\w+)*|[^\w\s]", text))


class Predictor:
    """A trained network for single sentences; every power of two of pieces is one graph.

    Args:
        folder: of a run, see `examples.bert_crf.saved.load`.

    Raises:
        CheckpointError: there is no trained model, or it is damaged.
    """

    def __init__(self, folder: Path) -> None:
        self.model, arrays = load(folder)
        network = BertCRF(self.model.sizes, len(self.model.tags), np.random.default_rng(0))
        assign(network, arrays)
        self._transitions = Transitions(*(arrays[f"crf.{name}"] for name in ("transitions", "start", "end")))
        places = self.model.sizes.places
        buckets = shapes.Buckets([*(size for size in (16, 32, 64, 128, 256) if size < places), places])
        axes = {"ids": 1, "mask": 1, "firsts": 1, "tags": 1}
        self._network = shapes.bucketed(network, axes=axes, buckets=buckets, outputs={0: 1})

    def tags(self, words: Sequence[str]) -> list[str]:
        """The tag of every word.

        Raises:
            DataError: there is no word, or the sentence has more pieces than the model has places.
        """
        if not words:
            raise DataError("the sentence is empty; type at least one word")
        sentence = data.Sentence(tuple(words), ())
        encoded = data.encode([sentence], self.model.wordpieces, self.model.tags, self.model.sizes.places)
        pieces = int(encoded.sizes[0])
        batch = data.collate(encoded, np.arange(1), pieces, pieces)
        emissions, _ = self._network(*map(Tensor, astuple(batch)))
        return [self.model.tags[tag] for tag in best_tags(emissions.asnumpy(), self._transitions, batch.lengths)[0]]

    def show(self, text: str) -> str:
        """One line for every name of a typed sentence, ``type: words``; ``no names`` where there are none."""
        words = split(text)
        found = names(self.tags(words))
        return "\n".join(f"{name.kind}: {' '.join(words[name.start : name.end])}" for name in found) or "no names"


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    return typed.main("bert_crf", "Find names in a sentence.", "sentence", Predictor, arguments)


if __name__ == "__main__":
    sys.exit(main())
