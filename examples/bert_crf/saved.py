"""What a finished run leaves for prediction: sizes, tags and vocabulary in ``model.json``, weights in the checkpoint."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from examples.bert_crf.wordpiece import WordPieces
from examples.common import checkpoint
from examples.common.errors import CheckpointError
from examples.common.files import load_record, save_record
from examples.common.pretrained import Sizes

__all__ = ["Model", "load"]

_FILE = "model.json"


@dataclass(frozen=True)
class Model:
    """What a network is built from and fed with.

    Attributes:
        sizes: of the encoder.
        tags: all tags; ids are positions.
        wordpieces: how words are split.
    """

    sizes: Sizes
    tags: tuple[str, ...]
    wordpieces: WordPieces

    def _description(self) -> str:
        pieces = {"vocabulary": self.wordpieces.vocabulary, "lowercase": self.wordpieces.lowercase}
        return json.dumps({"sizes": asdict(self.sizes), "tags": self.tags, **pieces}, ensure_ascii=False)

    def digest(self) -> str:
        """A hash of all of it."""
        return hashlib.sha256(self._description().encode()).hexdigest()

    def save(self, folder: Path) -> None:
        """Write ``model.json``."""
        save_record(folder / _FILE, "bert_crf model", json.loads(self._description()))


def load(folder: Path) -> tuple[Model, dict[str, np.ndarray]]:
    """The model of a run, and its best parameters by name.

    Args:
        folder: of one variant, or of a run; of its variants that with the fixes in float32 is preferred.

    Raises:
        CheckpointError: there is no run, none of its variants has come to the end of an epoch, or a file is damaged.
    """
    folder = checkpoint.variant(folder, _FILE)
    stored = load_record(folder / _FILE, "bert_crf model")
    try:
        wordpieces = WordPieces(tuple(stored["vocabulary"]), bool(stored["lowercase"]))
        model = Model(Sizes(**stored["sizes"]), tuple(stored["tags"]), wordpieces)
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{folder / _FILE}: damaged ({type(error).__name__})") from None
    return model, checkpoint.best(folder)
