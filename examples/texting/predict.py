"""Label typed text: ``python -m examples.texting.predict RUN "plot never boring"``, or without the text, line by line.

A trained variant's folder holds ``model.json``: the words that have a vector, the labels, the width of the vectors.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from mindspore import Tensor

from ascend_fixes import host, shapes
from examples.common import checkpoint, typed
from examples.common.errors import CheckpointError, DataError
from examples.common.files import load_record, save_record
from examples.common.pretrained import assign
from examples.texting.data import collate
from examples.texting.graphs import build
from examples.texting.model import TextING

__all__ = ["Model", "Predictor", "main", "split"]

_FILE = "model.json"


@dataclass(frozen=True)
class Model:
    """What has to be known of a trained network, besides its parameters.

    Attributes:
        words: those that have a vector; that of word i is row i + 1 (row 0 is for the others).
        labels: their names.
        width: of the vectors.
    """

    words: tuple[str, ...]
    labels: tuple[str, ...]
    width: int

    def save(self, folder: Path) -> None:
        """Write ``model.json``."""
        save_record(folder / _FILE, "texting model", asdict(self))

    @classmethod
    def load(cls, folder: Path) -> Model:
        """Read it back; `CheckpointError` where it is damaged."""
        stored = load_record(folder / _FILE, "texting model")
        try:
            return cls(tuple(stored["words"]), tuple(stored["labels"]), int(stored["width"]))
        except (ValueError, KeyError, TypeError) as error:
            raise CheckpointError(f"{folder / _FILE}: damaged ({type(error).__name__})") from None


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
        folder = checkpoint.variant(folder, _FILE)
        self.model = Model.load(folder)
        self._rows = host.Table(self.model.words, np.arange(1, len(self.model.words) + 1), default=0)
        vectors = np.zeros((len(self.model.words) + 1, self.model.width), np.float32)
        network = TextING(vectors, len(self.model.labels), np.random.default_rng(0))
        assign(network, checkpoint.best(folder))
        network.set_train(False)
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
        return dict(zip(self.model.labels, (shares / shares.sum()).tolist()))

    def show(self, text: str) -> str:
        """The likeliest label and its probability."""
        found = self.probabilities(text)
        label = max(found, key=found.__getitem__)
        return f"{label} ({found[label]:.1%})"


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    return typed.main("texting", "Label a text.", "text", Predictor, arguments)


if __name__ == "__main__":
    sys.exit(main())
