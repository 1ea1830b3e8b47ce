"""Hugging Face checkpoints: ``config.json`` and ``model.safetensors`` of a folder, read without torch.

Nothing is unpickled: a folder that has only ``pytorch_model.bin`` is refused.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from mindspore import Tensor, nn

from ascend_fixes import files
from examples.common.files import CheckpointError, UsageError, reading

__all__ = ["Named", "assign", "named", "optional", "read_arrays", "read_object", "read_sizes"]

Named = list[tuple[str, str, tuple[int, ...]]]  # name here, name there, shape
_CONFIG, _WEIGHTS = "config.json", "model.safetensors"
# What every checkpoint calls otherwise than the layers of `transformer`; what is called otherwise by one model comes first.
_NAMES = {
    "embeddings.words.embedding_table": "embeddings.word_embeddings.weight",
    "embeddings.places.embedding_table": "embeddings.position_embeddings.weight",
    "embeddings.segments.embedding_table": "embeddings.token_type_embeddings.weight",
    "embeddings.norm": "embeddings.LayerNorm",
    ".gamma": ".weight",
    ".beta": ".bias",
}


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


def named(network: nn.Cell, names: Mapping[str, str]) -> Named:
    """The parameters of a network, and what checkpoints call them.

    Args:
        network: which has them.
        names: by parts of the names here, what stands in their place there, besides what is common.
    """
    found = []
    for parameter in network.get_parameters():
        there = parameter.name
        for part, other in {**names, **_NAMES}.items():
            there = there.replace(part, other)
        found.append((parameter.name, there, tuple(parameter.shape)))
    return found


def read_sizes(
    folder: Path, kind: str, model: str, counts: Mapping[str, str], fixed: Mapping[str, Any]
) -> tuple[dict[str, int], dict[str, Any]]:
    """The sizes of a model, and all of its ``config.json``.

    Args:
        folder: of the checkpoint.
        kind: the ``model_type`` that it has to have.
        model: its name, for the errors.
        counts: where each size stands; "width" and "heads" are among them.
        fixed: what the configuration must say where it says anything: what the model here computes.

    Raises:
        CheckpointError: the folder or the file is missing or damaged, it describes another kind of model, a size is no
            positive integer, or the heads do not divide the width.
    """
    if not folder.is_dir():
        raise CheckpointError(f"{folder}: no such checkpoint folder")
    path = folder / _CONFIG
    config = read_object(path)
    if config.get("model_type") != kind:
        raise CheckpointError(f"{path}: model_type is {config.get('model_type')!r}, expected {kind!r}")
    found = {name: config.get(key) for name, key in counts.items()}
    for name, value in found.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise CheckpointError(f"{path}: {counts[name]} is {value!r}, expected a positive integer")
    for key, expected in fixed.items():
        if config.get(key, expected) != expected:
            raise CheckpointError(f"{path}: {key} is {config[key]!r}, this {model} has {expected!r}")
    if found["width"] % found["heads"]:
        raise CheckpointError(f"{path}: {found['heads']} attention heads do not divide hidden_size {found['width']}")
    return found, config


def read_arrays(folder: Path, prefix: str, parameters: Named, head: str | None = None) -> dict[str, np.ndarray]:
    """Arrays of ``model.safetensors``, as float32, by their names here.

    Args:
        folder: of the checkpoint.
        prefix: what stands before the encoder's names in checkpoints with a head, ``bert.``.
        parameters: what is wanted. What else the file holds is left unread.
        head: what begins with it may be absent as a whole.

    Raises:
        CheckpointError: the file is missing or damaged, or an array is missing, of another shape or not of
            float32 or float16.
        UsageError: the package safetensors is not installed.
    """
    safetensors = optional("safetensors", "reading a checkpoint")
    path = folder / _WEIGHTS
    if not path.exists():
        found = [*folder.glob("*.bin"), *folder.glob(f"{_WEIGHTS}.index.json")]
        raise CheckpointError(f"{path}: no such file{'; save it again as one safetensors file' if found else ''}")
    with reading(CheckpointError):
        files.open_regular(path).close()
    arrays = {}
    try:
        with safetensors.safe_open(str(path), framework="numpy") as file:
            stored = set(file.keys())
            for name, wanted, shape in parameters:
                if head and wanted.startswith(head) and not any(key.startswith(head) for key in stored):
                    continue
                key = next((one for one in _spellings(wanted, prefix) if one in stored), None)
                if key is None:
                    raise CheckpointError(f"{path}: has no {wanted}; is it a checkpoint of another model?")
                found_shape, kind = tuple(file.get_slice(key).get_shape()), file.get_slice(key).get_dtype()
                if found_shape != shape:
                    raise CheckpointError(f"{path}: {key} is of shape {found_shape}, {_CONFIG} asks for {shape}")
                if kind not in ("F32", "F16"):
                    raise CheckpointError(f"{path}: {key} is of type {kind}; save the checkpoint in float32")
                arrays[name] = file.get_tensor(key).astype(np.float32)
    except (safetensors.SafetensorError, OSError) as error:
        raise CheckpointError(f"{path}: damaged ({str(error).splitlines()[0]})") from None
    return arrays


def _spellings(name: str, prefix: str) -> Iterable[str]:
    """How checkpoints may call an array: with or without the prefix; those converted from TensorFlow say gamma and beta."""
    old = name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")
    return (prefix + name, name, prefix + old, old)


def read_object(path: Path) -> dict[str, Any]:
    """The object in a JSON file; `CheckpointError` where it cannot be read, or holds none."""
    with reading(CheckpointError):
        value = files.read_json(path)
    if not isinstance(value, dict):
        raise CheckpointError(f"{path}: damaged (not an object)")
    return value
