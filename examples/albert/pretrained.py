"""Hugging Face's ALBERT checkpoints: ``config.json`` and ``model.safetensors``, with or without a span head."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from examples.albert.model import Albert, Config
from examples.common.files import CheckpointError
from examples.common.pretrained import Named, named, read_arrays, read_sizes
from examples.common.transformer import EPSILON

__all__ = ["Checkpoint", "parameters", "read"]

_COUNTS = {
    "words": "vocab_size",
    "embedding": "embedding_size",
    "width": "hidden_size",
    "layers": "num_hidden_layers",
    "heads": "num_attention_heads",
    "inner": "intermediate_size",
    "length": "max_position_embeddings",
    "segments": "type_vocab_size",
}
# What this ALBERT computes; a checkpoint that was trained otherwise would give other results without a word.
_FIXED = {
    "num_hidden_groups": 1,
    "inner_group_num": 1,
    "layer_norm_eps": EPSILON,
    "position_embedding_type": "absolute",
}
_APPROXIMATE = {"gelu": False, "gelu_new": True, "gelu_pytorch_tanh": True}
_SPAN = "qa_outputs"
_LAYER = "encoder.albert_layer_groups.0.albert_layers.0"
_NAMES = {
    "widen.": "encoder.embedding_hidden_mapping_in.",
    "span.": f"{_SPAN}.",
    "block.attention.output.": f"{_LAYER}.attention.dense.",
    "block.inner.": f"{_LAYER}.ffn.",
    "block.outer.": f"{_LAYER}.ffn_output.",
    "block.norm.": f"{_LAYER}.attention.LayerNorm.",
    "block.last_norm.": f"{_LAYER}.full_layer_layer_norm.",
    "block.": f"{_LAYER}.",
}


@dataclass(frozen=True)
class Checkpoint:
    """A pre-trained ALBERT: its sizes, float32 arrays by parameter name, and whether the span head is among them."""

    config: Config
    arrays: Mapping[str, np.ndarray]

    @property
    def has_span(self) -> bool:
        """Whether the span head is among the arrays."""
        return "span.weight" in self.arrays


def read(folder: Path) -> Checkpoint:
    """Read a checkpoint. The pooler and the heads of other tasks are left unread.

    Raises:
        CheckpointError: a file is missing, damaged, of another kind of model, or contradicts the other.
        UsageError: the package safetensors is not installed.
    """
    counts, stored = read_sizes(folder, "albert", "ALBERT", _COUNTS, _FIXED)
    activation = stored.get("hidden_act", "gelu_new")
    if activation not in _APPROXIMATE:
        known = " or ".join(_APPROXIMATE)
        raise CheckpointError(f"{folder / 'config.json'}: hidden_act is {activation!r}, this ALBERT has {known}")
    config = Config(**counts, approximate=_APPROXIMATE[activation])
    return Checkpoint(config, read_arrays(folder, "albert.", parameters(config), head=_SPAN))


def parameters(config: Config) -> Named:
    """(name here, name there without ``albert.``, shape) of every parameter."""
    return named(Albert(config, np.random.default_rng(0)), _NAMES)
