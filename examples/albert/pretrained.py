"""Hugging Face's ALBERT checkpoints: ``config.json`` and ``model.safetensors``, with or without a span head."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ascend_fixes import files
from examples.albert.model import Config
from examples.common.errors import CheckpointError
from examples.common.pretrained import dense, norm, optional, read_arrays, read_config, read_counts
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


@dataclass(frozen=True)
class Checkpoint:
    """A pre-trained ALBERT: its sizes, float32 arrays by parameter name, and whether the span head is among them."""

    config: Config
    arrays: Mapping[str, np.ndarray]
    has_span: bool


def read(folder: Path) -> Checkpoint:
    """Read a checkpoint. The pooler and the heads of other tasks are left unread.

    Raises:
        CheckpointError: a file is missing, damaged, of another kind of model, or contradicts the other.
        UsageError: the package safetensors is not installed.
    """
    config = _config(read_config(folder, "albert"), folder / "config.json")
    stored = _names(folder)
    has_span = f"{_SPAN}.weight" in stored
    names, shapes = {}, {}
    for name, key, shape in parameters(config):
        if key.startswith(_SPAN):
            keys = [key] if has_span else []
        else:
            keys = [f"albert.{key}", key]
        if keys:
            names[name], shapes[name] = keys, shape
    return Checkpoint(config, read_arrays(folder, names, shapes), has_span)


def _names(folder: Path) -> set[str]:
    """The names of the stored arrays; none where the file cannot be read, which `read_arrays` then reports."""
    safetensors = optional("safetensors", "reading a checkpoint")
    try:
        files.open_regular(folder / "model.safetensors").close()
        with safetensors.safe_open(str(folder / "model.safetensors"), framework="numpy") as file:
            return set(file.keys())
    except (safetensors.SafetensorError, OSError):
        return set()


def _config(stored: Mapping[str, Any], path: Path) -> Config:
    counts = read_counts(stored, path, _COUNTS, _FIXED, "ALBERT")
    activation = stored.get("hidden_act", "gelu_new")
    if activation not in _APPROXIMATE:
        raise CheckpointError(f"{path}: hidden_act is {activation!r}, this ALBERT has {' or '.join(_APPROXIMATE)}")
    return Config(**counts, approximate=_APPROXIMATE[activation])


def parameters(config: Config) -> Iterator[tuple[str, str, tuple[int, ...]]]:
    """(name here, name there without ``albert.``, shape) of every parameter."""
    embedding, width, inner = config.embedding, config.width, config.inner
    for name, key, rows in (
        ("words", "word", config.words),
        ("places", "position", config.length),
        ("segments", "token_type", config.segments),
    ):
        yield f"embeddings.{name}.embedding_table", f"embeddings.{key}_embeddings.weight", (rows, embedding)
    yield from norm("embeddings.norm", "embeddings.LayerNorm", embedding)
    yield from dense("widen", "encoder.embedding_hidden_mapping_in", width, embedding)
    there = "encoder.albert_layer_groups.0.albert_layers.0"
    for name in ("query", "key", "value"):
        yield from dense(f"block.attention.{name}", f"{there}.attention.{name}", width, width)
    yield from dense("block.attention.output", f"{there}.attention.dense", width, width)
    yield from norm("block.norm", f"{there}.attention.LayerNorm", width)
    yield from dense("block.inner", f"{there}.ffn", inner, width)
    yield from dense("block.outer", f"{there}.ffn_output", width, inner)
    yield from norm("block.last_norm", f"{there}.full_layer_layer_norm", width)
    yield from dense("span", _SPAN, 2, width)
