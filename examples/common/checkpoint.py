"""Weights: those of a run's checkpoint, and those of a published one.

A checkpoint is a NumPy .npz archive of arrays and a JSON description, with a digest of its members (`ascend_fixes.files`):
no pickle, replaced as a whole, and believed whole or not at all. Beside it ``model.json`` says what the network is built
from and fed with. Of Hugging Face's folders ``config.json`` and ``model.safetensors`` are read, without torch.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Callable, NamedTuple

import numpy as np
from mindspore import Parameter, Tensor, nn

from ascend_fixes import files
from examples.common.files import ExampleError, expect, read_record

FILE = "checkpoint.npz"
_KIND, _MODEL_KIND = "ascend_fixes.examples checkpoint 1", "ascend_fixes.examples {} model 1"
_DESCRIPTION, _MODEL, _CONFIG, _WEIGHTS = "description.json", "model.json", "config.json", "model.safetensors"
Values = Mapping[str, np.ndarray]


class Checkpoint(NamedTuple):
    """What is saved: ``arrays`` by name, and a ``description`` that JSON can express."""

    arrays: Values
    description: Mapping[str, Any]


def save(path: Path, checkpoint: Checkpoint) -> None:
    """Replace the checkpoint at ``path``, all or nothing; `FileError` where it cannot be written."""
    text = np.frombuffer(json.dumps(checkpoint.description).encode(), np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    files.write_arrays(path, _KIND, {_DESCRIPTION: text, **checkpoint.arrays})


def load(path: Path) -> Checkpoint:
    """Read the checkpoint at ``path``; `ExampleError` where there is none, or it is damaged or none of this program."""
    try:
        arrays = files.read_arrays(path, _KIND, (_DESCRIPTION,))
        description = files.parse_json(arrays.pop(_DESCRIPTION).tobytes().decode("utf-8", "replace"), path)
    except files.FileError as error:
        raise ExampleError(f"{error}{', or remove it to start afresh' if path.exists() else ''}") from None
    expect(isinstance(description, dict), f"{path}: damaged (its description is no object); remove it to start afresh")
    return Checkpoint(arrays, description)


def group(arrays: Values, path: Path, name: str, parameters: Iterable[Parameter]) -> Values:
    """The values of parameters by name, which are ``name``/... in ``arrays``; `ExampleError` where one is missing or does not fit."""
    found = {}
    for parameter in parameters:
        value, shape = arrays.get(f"{name}/{parameter.name}"), tuple(parameter.shape)
        there = "missing" if value is None else f"of shape {value.shape}"
        same = value is not None and value.shape == shape
        expect(same, f"{path}: {name}/{parameter.name} is {there}, expected {shape}")
        found[parameter.name] = value
    return found


def assign(parameters: Iterable[Parameter], values: Values, prefix: str = "") -> None:
    """Give parameters ``prefix`` + name the values of their names; those without one are left as they are."""
    for parameter in parameters:
        if (name := parameter.name[len(prefix) :]) in values and parameter.name.startswith(prefix):
            parameter.set_data(Tensor(values[name]))


def describe(folder: Path, example: str, content: Mapping[str, Any]) -> None:
    """Write ``model.json`` of the variant in ``folder``."""
    files.write_record(folder / _MODEL, _MODEL_KIND.format(example), content)


def described(folder: Path, example: str) -> tuple[Path, dict[str, Any]]:
    """A variant's folder, and its ``model.json``; `ExampleError` where there is none, or it is damaged.

    ``folder`` is that of a variant, or of a run; of its variants that with the fixes in float32 is preferred.
    """
    found = [path.parent for path in (*folder.glob(_MODEL), *folder.glob(f"*/{_MODEL}"))]
    expect(found, f"{folder}: holds no run (no {_MODEL})")
    folder = min(found, key=lambda path: (not path.name.startswith("fixed"), not path.name.endswith("float32"), path))
    return folder, read_record(folder / _MODEL, _MODEL_KIND.format(example))


def trained(
    folder: Path, example: str, make: Callable[[Mapping[str, Any]], tuple[nn.Cell, Any]]
) -> tuple[nn.Cell, Any]:
    """The network that ``make`` makes of a variant's ``model.json``, with its best parameters; and what else it makes of it.

    Raises as `described` and `load`, and `ExampleError` where no epoch was finished, or the checkpoint is of another network.
    """
    folder, stored = described(folder, example)
    try:
        network, rest = make(stored)
    except ExampleError:
        raise
    except Exception as error:  # tokenizers raises bare Exception
        raise ExampleError(f"{folder / _MODEL}: damaged ({type(error).__name__})") from None
    arrays, parameters = load(folder / FILE).arrays, list(network.get_parameters())
    expect(any(name.startswith("best/") for name in arrays), f"{folder}: no epoch was finished; go on with --resume")
    assign(parameters, group(arrays, folder / FILE, "best", parameters))
    return network.set_train(False), rest


Named = list[tuple[str, str, tuple[int, ...]]]  # name here, name there, shape
# What every checkpoint calls otherwise than the layers of `transformer`; what is called otherwise by one model comes first.
_NAMES = {
    "embeddings.words.embedding_table": "embeddings.word_embeddings.weight",
    "embeddings.places.embedding_table": "embeddings.position_embeddings.weight",
    "embeddings.segments.embedding_table": "embeddings.token_type_embeddings.weight",
    "embeddings.norm": "embeddings.LayerNorm",
    ".gamma": ".weight",
    ".beta": ".bias",
}
# What both models call alike in ``config.json``.
SIZES = {
    "words": "vocab_size",
    "width": "hidden_size",
    "layers": "num_hidden_layers",
    "heads": "num_attention_heads",
    "inner": "intermediate_size",
    "places": "max_position_embeddings",
    "segments": "type_vocab_size",
}


def named(network: nn.Cell, names: Mapping[str, str]) -> Named:
    """The parameters of a network, and what checkpoints call them; ``names`` are what else they call otherwise."""
    found = []
    for parameter in network.get_parameters():
        there = parameter.name
        for part, other in {**names, **_NAMES}.items():
            there = there.replace(part, other)
        found.append((parameter.name, there, tuple(parameter.shape)))
    return found


def read_sizes(
    folder: Path, kind: str, counts: Mapping[str, str], fixed: Mapping[str, Any]
) -> tuple[dict[str, int], dict[str, Any]]:
    """The sizes of a model by the keys in ``counts``, and all of its ``config.json``.

    Raises `FileError` where the file is missing or damaged, `ExampleError` where its ``model_type`` is not ``kind``, a size is no
    positive integer, the heads do not divide the width, or it says anything else than ``fixed``, which is what ours computes.
    """
    expect(folder.is_dir(), f"{folder}: no such checkpoint folder")
    path = folder / _CONFIG
    config = read_object(path)
    there = config.get("model_type")
    expect(there == kind, f"{path}: model_type is {there!r}, expected {kind!r}")
    found = {name: config.get(key) for name, key in counts.items()}
    for name, value in found.items():
        expect(type(value) is int and value > 0, f"{path}: {counts[name]} is {value!r}, expected a positive integer")
    for key, expected in fixed.items():
        value = config.get(key, expected)
        expect(value == expected, f"{path}: {key} is {value!r}, this {kind.upper()} has {expected!r}")
    width, heads = found["width"], found["heads"]
    expect(width % heads == 0, f"{path}: {heads} attention heads do not divide hidden_size {width}")
    return found, config


def read_arrays(folder: Path, kind: str, parameters: Named, head: str | None = None) -> dict[str, np.ndarray]:
    """The wanted ``parameters`` of ``model.safetensors``, as float32, by their names here; what begins with ``head`` may be absent.

    ``kind``, ``bert``, stands before the encoder's names in checkpoints with a head. Raises `ExampleError` where the
    file is missing or damaged, or an array is missing, of another shape, or neither float32 nor float16.
    """
    import safetensors

    path = folder / _WEIGHTS
    other = any((*folder.glob("*.bin"), *folder.glob(f"{_WEIGHTS}.index.json")))
    expect(path.exists(), f"{path}: no such file{'; save it again as one safetensors file' if other else ''}")
    files.open_regular(path).close()
    arrays = {}
    try:
        with safetensors.safe_open(str(path), framework="numpy") as file:
            stored = set(file.keys())
            for name, wanted, shape in parameters:
                if head and wanted.startswith(head) and not any(key.startswith(head) for key in stored):
                    continue
                # Those converted from TensorFlow say gamma and beta.
                old = wanted.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")
                key = next((one for one in (f"{kind}.{wanted}", wanted, f"{kind}.{old}", old) if one in stored), None)
                expect(key, f"{path}: has no {wanted}; is it a checkpoint of another model?")
                found, type_ = tuple(file.get_slice(key).get_shape()), file.get_slice(key).get_dtype()
                expect(found == shape, f"{path}: {key} is of shape {found}, {_CONFIG} asks for {shape}")
                expect(type_ in ("F32", "F16"), f"{path}: {key} is of type {type_}; save the checkpoint in float32")
                arrays[name] = file.get_tensor(key).astype(np.float32)
    except (safetensors.SafetensorError, OSError) as error:
        raise ExampleError(f"{path}: damaged ({str(error).splitlines()[0]})") from None
    return arrays


def read_object(path: Path) -> dict[str, Any]:
    """The object in a JSON file; `ExampleError` or `FileError` where it cannot be read, or holds none."""
    value = files.read_json(path)
    expect(isinstance(value, dict), f"{path}: damaged (not an object)")
    return value
