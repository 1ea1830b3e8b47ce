"""Bytes that a further compiled graph keeps for every element of an operator's result (S8).

    python -m benchmarks.shapes.memory [--json FILE]

Each operator is applied four times in a row to float32 (rows, 512), in graphs of four slightly different numbers of rows; each
operator has a process of its own. Counted is the growth of the resident size from one graph to the next, the median.
"""

from __future__ import annotations

import argparse
import gc
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import records

RESULT = records.RESULTS / "shapes_memory.json"
ROWS, WIDTH, TIMES = (8000, 7996, 7992, 7988), 512, 4
KINDS = (
    "x + row",
    "x - row",
    "x * row",
    "x * column",
    "x / row",
    "x / x",
    "x * number",
    "x * broadcast_to(row)",
    "1 / x",
    "transpose",
    "bias_add",
    "softmax",
    "layer_norm",
    "sum",
    "select",
    "exp",
)


def kept(kind: str) -> float:
    """In this process."""
    import mindspore as ms
    from mindspore import Tensor, nn, ops

    class Net(nn.Cell):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.LayerNorm([WIDTH])

        def construct(self, x: Any) -> Any:
            for _ in range(TIMES):
                if kind == "x + row":
                    x = x + x[0]
                elif kind == "x - row":
                    x = x - x[0]
                elif kind == "x * row":
                    x = x * x[0]
                elif kind == "x * column":
                    x = x * x[:, :1]
                elif kind == "x / row":
                    x = x / x[0]
                elif kind == "x / x":
                    x = x / (x * 2.0)
                elif kind == "x * number":
                    x = x * 0.5
                elif kind == "x * broadcast_to(row)":
                    x = x * ops.broadcast_to(x[0], x.shape)
                elif kind == "1 / x":
                    x = 1.0 / x
                elif kind == "transpose":
                    x = x.reshape(-1, 4, 8, 16).swapaxes(1, 2).reshape(x.shape)
                elif kind == "bias_add":
                    x = ops.bias_add(x, x[0])
                elif kind == "softmax":
                    x = ops.softmax(x, -1)
                elif kind == "layer_norm":
                    x = self.norm(x)
                elif kind == "sum":
                    x = ops.broadcast_to(x.sum(1, keepdims=True), x.shape)
                elif kind == "select":
                    x = ops.select(x > 0, x, -x)
                else:
                    x = ops.exp(x)
            return x

    ms.set_context(mode=ms.GRAPH_MODE)
    net, sizes = Net(), []
    for rows in ROWS:
        net(Tensor(np.ones((rows, WIDTH), np.float32))).asnumpy()
        gc.collect()
        sizes.append(int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE"))
    return float(np.median(np.diff(sizes) / (np.array(ROWS[1:]) * WIDTH))) / TIMES


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--json", type=Path, default=RESULT)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(kept(options.child))
        return
    found = {}
    for kind in KINDS:
        command = [sys.executable, "-m", "benchmarks.shapes.memory", "--child", kind]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        found[kind] = round(float(done.stdout.splitlines()[-1]), 1)
        print(f"{kind:24}{found[kind]:6.1f} bytes an element", flush=True)
    records.write(options.json, found)


if __name__ == "__main__":
    main()
