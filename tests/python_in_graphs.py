"""Run by `test_python_in_graphs`: compiles every graph of the table on CPU and says which hold a call of Python."""

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn

from benchmarks.ascend import cells

_CALL = re.compile(r"= (PyExecute|PyInterpret)\(")


class Branching(nn.Cell):
    """What makes one: None on both sides of a branch that a Tensor decides."""

    def construct(self, x):
        nothing, y = None, x
        if x.sum() > 0:
            nothing, y = None, x * 2
        return y, nothing


def branching():
    return Branching(), Tensor(np.ones((2, 2), np.float32))


def main(graphs: Path) -> None:
    ms.set_context(mode=ms.GRAPH_MODE)
    factories = {row.name: getattr(cells, row.factory) for row in cells.ROWS if row.family != "amp"}
    for name, factory in {"None across a branch": branching, **factories}.items():
        cell, *inputs = factory()
        cell.compile(*inputs)
        saved = list(graphs.rglob("graph_build_*.ir"))
        calls = sum(len(_CALL.findall(path.read_text(encoding="utf-8", errors="replace"))) for path in saved)
        print("\n" + json.dumps([name, len(saved), calls]), flush=True)
        shutil.rmtree(graphs)
        graphs.mkdir()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
