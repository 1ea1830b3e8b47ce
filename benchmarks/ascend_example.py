"""The first training step of an example, compiled and not run: ``ascend_example.py NAME FIXES PRECISION RANKS [ROWS FILE]``.

For a dry run. ``FIXES`` is ``none`` or ``all``; what the example does up to its first step is done, on its built-in data.
With ``ROWS`` the batch has so many rows, all padded to the longest sentence, and the step is called as well (which computes
nothing): the device memory that was taken for it is written to ``FILE``, in bytes.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from unittest import mock

import mindspore
import numpy as np
from mindspore import Tensor, nn

from examples.common import ranks, step, training
from examples.common.command_line import parse_fixes

__all__ = ["captured", "compile_only", "request"]


class _Captured(Exception):
    """The training that an example was about to begin."""


def request(fixes: tuple[str, ...], precision: str, **options: Any) -> dict[str, Any]:
    """What a training is asked for, as the examples' command lines put it."""
    defaults = {
        **{"data": None, "embeddings": None, "vocabulary": None, "pretrained": None, "width": None, "limit": None},
        **{"length": None, "stride": None, "source": "en", "target": "de", "test": None},
        **{"fused": False, "unbucketed": False, "distributed": 1, "seed": 0, "epochs": 1, "variant": "dry"},
    }
    return {**defaults, "fixes": fixes, "precision": precision, **options}


def captured(name: str, asked: Mapping[str, Any], folder: Path) -> training.Task:
    """The training of an example, made ready and not begun."""
    module = importlib.import_module(f"examples.{name}.train")

    def capture(task: training.Task, *rest: Any) -> None:
        raise _Captured(task)

    with mock.patch.object(training, "train", capture):
        try:
            module.train({"cache": str(folder / "graphs.npz"), **asked}, folder, False)
        except _Captured as caught:
            return caught.args[0]
    raise RuntimeError(f"examples.{name}.train began no training")


def compile_only(cell: nn.Cell, arrays: Iterable[np.ndarray], axes: Mapping[int, int] | None = None) -> training.Step:
    """`step.run` without running: a loop's condition is never computed in a dry run, and the call would not end."""
    cell.compile(*map(Tensor, ranks.share(arrays, axes)))
    return training.Step(0.0, overflowed=False)


def main(name: str, fixes: str, precision: str, count: str, rows: str = "", file: str = "") -> None:
    if int(count) > 1:
        ranks.start(int(count))
    asked = request(parse_fixes(fixes), precision, distributed=int(count), unbucketed=bool(rows))
    module = importlib.import_module(f"examples.{name}.train")
    if rows:
        module.BATCH = module.SMALL_BATCH = int(rows)
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as patches:
        task = captured(name, asked, Path(folder))
        if not rows:
            patches.enter_context(mock.patch.object(step, "run", compile_only))
        task.step(task.batches(0)[0])
    if file:
        Path(file).write_text(str(mindspore.runtime.max_memory_allocated()))


if __name__ == "__main__":
    main(*sys.argv[1:])
