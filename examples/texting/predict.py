"""Label typed text: ``python -m examples.texting.predict RUN "plot never boring"``, or without the text, line by line."""

from __future__ import annotations

import functools
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from mindspore import Tensor

from ascend_fixes import host, shapes
from examples.common import checkpoint, command_line
from examples.common.files import expect
from examples.texting.data import build, collate
from examples.texting.model import TextING

MOST = 1024  # different words of a text


def split(text: str) -> list[str]:
    """Lower-case words and punctuation marks; ``'s``, ``n't`` and the like apart, as in the published corpora (Kim 2014)."""
    return re.findall(r"n't|'(?:s|ve|re|d|ll)\b|\w+?(?=n't)|\w+|[(),!?]", text.lower())


class Predictor:
    """A trained network for single texts, of a run or of one of its variants; `ExampleError` where there is none."""

    def __init__(self, folder: Path) -> None:
        network, (self._rows, self.labels) = checkpoint.trained(folder, "texting", _model)
        axes = {"nodes": 1, "adjacency": (1, 2), "mask": 1}
        self._network = shapes.bucketed(network, axes=axes, buckets=shapes.Buckets.geometric(16, MOST, 7))

    def probabilities(self, text: str) -> dict[str, float]:
        """Of every label; `ExampleError` where the text has no word that the model knows, or too many."""
        words = split(text)
        expect(words, "the text is empty; type at least one word")
        rows = self._rows(words)
        expect(rows.any(), f"no word of {' '.join(words)[:60]!r} was in the training documents")
        _, first, ids = np.unique(words, return_index=True, return_inverse=True)
        many = f"the text has {len(first):,} different words, at most {MOST:,} can be read; shorten it"
        expect(len(first) <= MOST, many)
        arrays = collate(build(ids, np.array([len(ids)])), rows[first], np.arange(1))
        logits = self._network(*map(Tensor, arrays)).asnumpy()[0].astype(np.float64)
        shares = np.exp(logits - logits.max())
        return dict(zip(self.labels, (shares / shares.sum()).tolist()))

    def show(self, text: str) -> str:
        """The likeliest label and its probability."""
        found = self.probabilities(text)
        label = max(found, key=found.__getitem__)
        return f"{label} ({found[label]:.1%})"


def _model(stored: Mapping[str, Any]) -> tuple[TextING, tuple[host.Table, list[str]]]:
    """The network; the rows of the words that have a vector, 0 for the others; the labels."""
    words, labels = stored["words"], stored["labels"]
    vectors = np.zeros((len(words) + 1, stored["width"]), np.float32)
    rows = host.Table(words, np.arange(1, len(words) + 1), default=0)
    return TextING(vectors, len(labels), np.random.default_rng(0)), (rows, labels)


main = functools.partial(command_line.predict, "texting", "Label a text.", "text", Predictor)

if __name__ == "__main__":
    sys.exit(main())
