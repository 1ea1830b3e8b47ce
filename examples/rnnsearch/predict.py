"""Translate typed text: ``python -m examples.rnnsearch.predict RUN "the 3rd of March 1998"``, or without the text, line by line."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from tokenizers import Tokenizer

from ascend_fixes import shapes
from examples.common import checkpoint, typed
from examples.common.errors import CheckpointError, DataError
from examples.common.files import load_record
from examples.common.pretrained import assign
from examples.common.randomness import Stream, generator
from examples.rnnsearch import data
from examples.rnnsearch.model import RNNSearch, Sizes
from examples.rnnsearch.translate import Translator, decode

__all__ = ["Predictor", "main"]

LONGEST = 128  # tokens of a sentence, the end token included


class Predictor:
    """A trained network for single sentences; a few sizes of the source are a graph each.

    Args:
        folder: of a run, or of one of its variants.

    Raises:
        CheckpointError: the folder holds no finished epoch, or its files do not fit together.
    """

    def __init__(self, folder: Path) -> None:
        folder = checkpoint.variant(folder, "source.json")
        arrays = checkpoint.best(folder)
        stored = [load_record(folder / f"{side}.json", "tokenizer") for side in data.SIDES]
        try:
            self.source, self.target = (Tokenizer.from_str(record["tokenizer"]) for record in stored)
            sizes = Sizes(**checkpoint.load(folder / "checkpoint.npz").description["settings"]["sizes"])
        except Exception as error:  # tokenizers raises bare Exception
            raise CheckpointError(f"{folder}: no trained translator ({error})") from None
        words = (side.get_vocab_size() for side in (self.source, self.target))
        network = RNNSearch(*words, generator(0, Stream.WEIGHTS), sizes)
        missing = {parameter.name for parameter in network.get_parameters()} - arrays.keys()
        if missing:
            raise CheckpointError(f"{folder}: the checkpoint has no best/{min(missing)}")
        assign(network, arrays)
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


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    return typed.main("rnnsearch", "Translate a sentence.", "sentence", Predictor, arguments)


if __name__ == "__main__":
    sys.exit(main())
