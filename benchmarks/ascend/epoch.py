"""One cold epoch of an example, compiled for Ascend and not run: ``epoch.py NAME DATA SAMPLE FILE``.

For a dry run. Counts the shapes of an epoch's batches, each padded to its own longest, and those they are padded to by the
plan; compiles at most ``SAMPLE`` of the latter, spread over their sizes, and writes what it found to ``FILE`` as JSON.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from mindspore import Tensor, nn

from ascend_fixes.shapes._bucketed import bucketing_of
from benchmarks.ascend.example import request
from examples.common import training
from examples.common.command_line import FIXES

__all__ = ["own_shape"]

Shape = tuple[tuple[int, ...], ...]


def own_shape(arrays: Iterable[np.ndarray]) -> Shape:
    """The shapes of the arrays of ids, without what is padding in all rows (zeros at the end of an axis)."""
    found = []
    for array in arrays:
        if array.dtype.kind == "i" and array.ndim > 1:
            filled = [
                np.flatnonzero(array.any(tuple(k for k in range(array.ndim) if k != axis)))
                for axis in range(array.ndim)
            ]
            found.append(tuple(int(places.max(initial=0)) + 1 for places in filled))
    return tuple(found)


def batches(name: str, fixes: tuple[str, ...], data: str, folder: Path) -> list[tuple[nn.Cell, list[np.ndarray]]]:
    """The step's cell and the arrays of every batch of an epoch."""
    made = training.load(name)(request(fixes, "float16", folder, data=data), folder)
    return [(made.cell, list(made.inputs(batch))) for batch in made.batches(0)]


def padded_shape(cell: nn.Cell, arrays: Iterable[np.ndarray]) -> Shape:
    """The shapes that a bucketed cell gives them."""
    padded, _ = bucketing_of(cell).padded_call(tuple(map(Tensor, arrays)), {})
    return tuple(tuple(value.shape) for value in padded)


def main(name: str, data: str, sample: str, file: str) -> None:
    os.environ.pop("MS_DEV_SAVE_GRAPHS", None)  # what a dry run saves for its report takes longer than the compilation
    with tempfile.TemporaryDirectory() as folder:
        plain, planned = (batches(name, fixes, data, Path(folder)) for fixes in ((), FIXES))
    own = {own_shape(arrays) for _, arrays in plain}
    by_shape: dict[Shape, tuple[nn.Cell, list[np.ndarray]]] = {}
    for cell, arrays in planned:
        by_shape.setdefault(padded_shape(cell, arrays), (cell, arrays))
    shapes = sorted(by_shape, key=lambda shape: sum(int(np.prod(one)) for one in shape))
    chosen = sorted({round(place) for place in np.linspace(0, len(shapes) - 1, min(int(sample), len(shapes)))})
    result: dict[str, Any] = {
        "batches": len(plain),
        "own_shapes": len(own),
        "planned_shapes": len(shapes),
        "seconds": [],
    }
    for place in chosen:
        cell, arrays = by_shape[shapes[place]]
        start = time.perf_counter()
        cell.compile(*map(Tensor, arrays))
        result["seconds"].append(round(time.perf_counter() - start, 2))
        Path(file).write_text(json.dumps(result), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
