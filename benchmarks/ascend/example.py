"""The first training step of an example, compiled and not run: ``example.py NAME FIXES PRECISION RANKS [ROWS FILE]``.

For a dry run. ``FIXES`` is ``none`` or ``all``; what the example does up to its first step is done, on its built-in data.
With ``ROWS`` the batch has so many rows, all padded to the longest sentence, and the step is called as well (which computes
nothing): the device memory that was taken for it is written to ``FILE``, in bytes.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

import mindspore
from mindspore import Tensor

from examples.common import training
from examples.common.command_line import parse_fixes

__all__ = ["request"]


def request(fixes: tuple[str, ...], precision: str, folder: Path, **options: Any) -> dict[str, Any]:
    """What a training is asked for, as the examples' command lines put it."""
    defaults = {
        **{"data": None, "embeddings": None, "vocabulary": None, "pretrained": None, "width": None, "limit": None},
        **{"length": None, "stride": None, "source": None, "target": None, "test": None},
        **{"fused": False, "unbucketed": False, "distributed": 1, "seed": 0, "epochs": 1, "variant": "dry"},
    }
    return {**defaults, "fixes": fixes, "precision": precision, **options}


def main(name: str, fixes: str, precision: str, count: str, rows: str = "", file: str = "") -> None:
    if int(count) > 1:
        training.start(int(count))
    more = {"batch": int(rows), "unbucketed": True} if rows else {}
    with tempfile.TemporaryDirectory() as folder:
        asked = request(parse_fixes(fixes), precision, Path(folder), distributed=int(count), **more)
        made = training.load(name)(asked, Path(folder))
        batch = made.batches(0)[0]
        if rows:
            made.step(batch)
        else:  # compiled only: a loop's condition is never computed in a dry run, and a call would not end
            made.cell.compile(*map(Tensor, training.share(made.inputs(batch), made.row_axes)))
    if file:
        Path(file).write_text(str(mindspore.runtime.max_memory_allocated()))


if __name__ == "__main__":
    main(*sys.argv[1:])
