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
from examples.common import checkpoint, typed
from examples.common.files import DataError
from examples.texting.data import build, collate
from examples.texting.model import TextING

__all__ = ["Predictor", "main", "split"]


def split(text: str) -> list[str]:
    """Lower-case words and punctuation marks; ``'s``, ``n't`` and the like apart, as in the published corpora (Kim 2014)."""
    return re.findall(r"n't|'(?:s|ve|re|d|ll)\b|\w+?(?=n't)|\w+|[(),!?]", text.lower())


class Predictor:
    """A trained network for single texts.

    Args:
        folder: of a run, or of one of its variants.

    Raises:
        CheckpointError: there is no trained model, or it is damaged.
    """

    def __init__(self, folder: Path) -> None:
        folder, (words, self.labels, width) = checkpoint.described(folder, "texting", _model)
        self._rows = host.Table(words, np.arange(1, len(words) + 1), default=0)
        network = TextING(np.zeros((len(words) + 1, width), np.float32), len(self.labels), np.random.default_rng(0))
        checkpoint.restore(network, folder)
        axes = {"nodes": 1, "adjacency": (1, 2), "mask": 1}
        self._network = shapes.bucketed(network, axes=axes, buckets=shapes.Buckets.geometric(16, 1024, 7))

    def probabilities(self, text: str) -> dict[str, float]:
        """Of every label.

        Raises:
            DataError: the text has no word, or none that the model knows, or more than 1,024 different ones.
        """
        words = split(text)
        if not words:
            raise DataError("the text is empty; type at least one word")
        rows = self._rows(words)
        if not rows.any():
            raise DataError(f"no word of {' '.join(words)[:60]!r} was in the training documents")
        _, first, ids = np.unique(words, return_index=True, return_inverse=True)
        graphs = build(ids, np.array([len(ids)]))
        if int(graphs.sizes[0]) > 1024:
            raise DataError(
                f"the text has {int(graphs.sizes[0]):,} different words, at most 1,024 can be read; shorten it"
            )
        arrays = collate(graphs, rows[first], np.arange(1))
        logits = self._network(*map(Tensor, arrays)).asnumpy()[0].astype(np.float64)
        shares = np.exp(logits - logits.max())
        return dict(zip(self.labels, (shares / shares.sum()).tolist()))

    def show(self, text: str) -> str:
        """The likeliest label and its probability."""
        found = self.probabilities(text)
        label = max(found, key=found.__getitem__)
        return f"{label} ({found[label]:.1%})"


def _model(stored: Mapping[str, Any]) -> tuple[list[str], list[str], int]:
    """The words that have a vector, of word i row i + 1 (row 0 is for the others); the labels; the vectors' width."""
    return list(stored["words"]), list(stored["labels"]), int(stored["width"])


main = functools.partial(typed.main, "texting", "Label a text.", "text", Predictor)

if __name__ == "__main__":
    sys.exit(main())
