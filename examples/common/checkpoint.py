"""One file that holds a whole run: arrays (parameters, optimizer slots, best parameters) and a JSON description.

The file is a NumPy .npz archive with a digest of its members (`ascend_fixes.files`): no pickle, replaced as a
whole, so that a run killed at any moment leaves the previous checkpoint or the new one, and believed whole or not at all.
Beside it a trained model's folder holds ``model.json``: what its network is built from and fed with.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, TypeVar

import numpy as np
from mindspore import nn

from ascend_fixes import files
from examples.common.files import CheckpointError, ExampleError, load_record, reading, save_record
from examples.common.pretrained import assign

__all__ = ["Checkpoint", "describe", "described", "load", "restore", "save"]

FILE = "checkpoint.npz"
_KIND = "ascend_fixes.examples checkpoint 1"
_DESCRIPTION = "description.json"
_MODEL = "model.json"
Made = TypeVar("Made")


@dataclass(frozen=True)
class Checkpoint:
    """What is saved: ``arrays`` by name, and a ``description`` that JSON can express."""

    arrays: Mapping[str, np.ndarray]
    description: Mapping[str, Any]


def save(path: Path, checkpoint: Checkpoint) -> None:
    """Replace the checkpoint at ``path``, all or nothing.

    Raises:
        FileError: it cannot be written; the one before is unchanged.
    """
    text = np.frombuffer(json.dumps(checkpoint.description).encode(), np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    files.write_arrays(path, _KIND, {_DESCRIPTION: text, **checkpoint.arrays})


def load(path: Path) -> Checkpoint:
    """Read the checkpoint at ``path``.

    Raises:
        CheckpointError: it does not exist, is damaged, is not a checkpoint of this program, or is one of the version that
            wrote none of the checksums.
    """
    with reading(CheckpointError, ", or remove it to start afresh" if path.exists() else ""):
        arrays = files.read_arrays(path, _KIND, (_DESCRIPTION,))
        description = files.parse_json(arrays.pop(_DESCRIPTION).tobytes().decode("utf-8", "replace"), path)
    if not isinstance(description, dict):
        raise CheckpointError(f"{path}: damaged (its description is no object); remove it to start afresh")
    return Checkpoint(arrays, description)


# --- trained models ----------------------------------------------------------------------------


def describe(folder: Path, example: str, content: Mapping[str, Any]) -> None:
    """Write ``model.json`` of the variant in ``folder``."""
    save_record(folder / _MODEL, f"{example} model", content)


def described(folder: Path, example: str, make: Callable[[Mapping[str, Any]], Made]) -> tuple[Path, Made]:
    """A variant's folder, and what ``make`` makes of its ``model.json``.

    Args:
        folder: of a variant, or of a run; of its variants that with the fixes in float32 is preferred.
        example: which wrote it.
        make: is given the content.

    Raises:
        CheckpointError: there is none, or it is damaged.
    """
    found = [path.parent for path in (*folder.glob(_MODEL), *folder.glob(f"*/{_MODEL}"))]
    if not found:
        raise CheckpointError(f"{folder}: holds no run (no {_MODEL})")
    folder = min(found, key=lambda path: (not path.name.startswith("fixed"), not path.name.endswith("float32"), path))
    stored = load_record(folder / _MODEL, f"{example} model")
    try:
        return folder, make(stored)
    except ExampleError:
        raise
    except Exception as error:  # tokenizers raises bare Exception
        raise CheckpointError(f"{folder / _MODEL}: damaged ({type(error).__name__})") from None


def restore(network: nn.Cell, folder: Path) -> dict[str, np.ndarray]:
    """Give a network the best parameters of the variant in ``folder``, and return them by name.

    Raises:
        CheckpointError: none of its epochs was finished, the checkpoint is damaged, or it is that of another network.
    """
    arrays = load(folder / FILE).arrays
    best = {name[len("best/") :]: value for name, value in arrays.items() if name.startswith("best/")}
    if not best:
        raise CheckpointError(f"{folder}: no epoch was finished; go on with --resume")
    missing = {parameter.name for parameter in network.get_parameters()} - set(best)
    if missing:
        raise CheckpointError(f"{folder}: the checkpoint has no best/{min(missing)}")
    assign(network, best)
    network.set_train(False)
    return best
