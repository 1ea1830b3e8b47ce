"""One file that holds a whole run: arrays (parameters, optimizer slots, best parameters) and a JSON description.

The file is a NumPy .npz archive: no pickle, a checksum on every member. It is
replaced as a whole (`examples.common.files.write_atomically`), so that a run killed at any moment
leaves the previous checkpoint or the new one, never something between.
"""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from examples.common.errors import CheckpointError
from examples.common.files import write_atomically

__all__ = ["Checkpoint", "best", "load", "save", "variant"]

_DESCRIPTION = "description.json"
# Whatever reading a broken archive, or something that is none, can raise.
_UNREADABLE = (OSError, ValueError, KeyError, EOFError, TypeError, AttributeError, zipfile.BadZipFile, zlib.error)


@dataclass(frozen=True)
class Checkpoint:
    """What is saved: ``arrays`` by name, and a ``description`` that JSON can express."""

    arrays: Mapping[str, np.ndarray]
    description: Mapping[str, Any]


def save(path: Path, checkpoint: Checkpoint) -> None:
    """Replace the checkpoint at ``path``, all or nothing."""
    text = np.frombuffer(json.dumps(checkpoint.description).encode(), np.uint8)
    write_atomically(path, lambda file: np.savez(file, **{_DESCRIPTION: text, **checkpoint.arrays}))


def load(path: Path) -> Checkpoint:
    """Read the checkpoint at ``path``.

    Raises:
        CheckpointError: it does not exist, is damaged, or is not a checkpoint of this program.
    """
    try:
        with np.load(path, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
        description = json.loads(arrays.pop(_DESCRIPTION).tobytes())
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such checkpoint") from None
    except _UNREADABLE as error:
        raise CheckpointError(
            f"{path}: damaged, or not a checkpoint ({type(error).__name__}); remove it to start afresh"
        ) from None
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
