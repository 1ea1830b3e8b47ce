"""Find names in typed text: ``python -m examples.bert_crf.predict RUN "we met Ada Lovelace"``, or without the text, line by line."""

from __future__ import annotations

import functools
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mindspore import Tensor

from ascend_fixes import shapes
from examples.bert_crf import data
from examples.bert_crf.model import BertCRF, Sizes, Transitions, best_tags, names
from examples.common import checkpoint, command_line
from examples.common.files import expect


def split(text: str) -> tuple[str, ...]:
    """Words and punctuation marks; ``@user``, ``#topic`` and ``don't`` stay whole."""
    return tuple(re.findall(r"[@#]?\w+(?:['’.-]\w+)*|[^\w\s]", text))


class Predictor:
    """A trained network for single sentences, of a run or of one of its variants; every power of two of pieces is one graph."""

    def __init__(self, folder: Path) -> None:
        network, (self._sizes, self._tags, self._wordpieces) = checkpoint.trained(folder, "bert_crf", _model)
        self._transitions = Transitions.of(network.crf)
        places = self._sizes.places
        buckets = shapes.Buckets([*(size for size in (16, 32, 64, 128, 256) if size < places), places])
        axes = {"ids": 1, "mask": 1, "firsts": 1, "tags": 1}
        self._network = shapes.bucketed(network, axes=axes, buckets=buckets, outputs={0: 1})

    def tags(self, words: Sequence[str]) -> list[str]:
        """The tag of every word; `ExampleError` where there is no word, or more pieces than the model has places."""
        expect(words, "the sentence is empty; type at least one word")
        sentence = data.Sentence(tuple(words), ())
        encoded = data.encode([sentence], self._wordpieces, self._tags, self._sizes.places)
        pieces = int(encoded.sizes[0])
        batch = data.collate(encoded, np.arange(1), pieces, pieces)
        emissions, _ = self._network(*map(Tensor, batch))
        return [self._tags[tag] for tag in best_tags(emissions.asnumpy(), self._transitions, batch.lengths)[0]]

    def show(self, text: str) -> str:
        """One line for every name of a typed sentence, ``type: words``; ``no names`` where there are none."""
        words = split(text)
        found = names(self.tags(words))
        return "\n".join(f"{name.kind}: {' '.join(words[name.start : name.end])}" for name in found) or "no names"


def _model(stored: Mapping[str, Any]) -> tuple[BertCRF, tuple[Sizes, tuple[str, ...], data.WordPieces]]:
    wordpieces = data.WordPieces(tuple(stored["vocabulary"]), bool(stored["lowercase"]))
    sizes, tags = Sizes(**stored["sizes"]), tuple(stored["tags"])
    return BertCRF(sizes, len(tags), np.random.default_rng(0)), (sizes, tags, wordpieces)


main = functools.partial(command_line.predict, "bert_crf", "Find names in a sentence.", "sentence", Predictor)

if __name__ == "__main__":
    sys.exit(main())
