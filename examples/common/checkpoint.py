"""One file that holds a whole run: arrays (parameters, optimizer slots, best parameters) and a JSON description.

The file is a NumPy .npz archive with a digest of its members (`ascend_fixes.files`): no pickle, replaced as a
whole, so that a run killed at any moment leaves the previous checkpoint or the new one, and believed whole or not at all.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ascend_fixes import files
from examples.common.errors import CheckpointError
from examples.common.files import reading

__all__ = ["Checkpoint", "best", "load", "save", "variant"]

_KIND = "ascend_fixes.examples checkpoint 1"
_DESCRIPTION = "description.json"


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


def variant(folder: Path, file: str) -> Path:
    """``folder`` if it holds ``file``, else the variant below it that does; that with the fixes in float32 is preferred.

    Raises:
        CheckpointError: there is none.
    """
    found = [path.parent for path in (*folder.glob(file), *folder.glob(f"*/{file}"))]
    if not found:
        raise CheckpointError(f"{folder}: holds no run (no {file})")
    return min(found, key=lambda path: (not path.name.startswith("fixed"), not path.name.endswith("float32"), path))


def best(folder: Path) -> dict[str, np.ndarray]:
    """The best parameters, by name, of the variant in ``folder``.

    Raises:
        CheckpointError: none of its epochs was finished, or the checkpoint is damaged.
    """
    arrays = load(folder / "checkpoint.npz").arrays
    found = {name[len("best/") :]: value for name, value in arrays.items() if name.startswith("best/")}
    if not found:
        raise CheckpointError(f"{folder}: no epoch was finished; go on with --resume")
    return found
