"""What guarding costs, what fusion brings, and how compile times of GRU and CRF grow with the length.

    python -m benchmarks.fusion [--steps 30] [--layers 4] [--lengths 16,32,64,128,256]
                                [--only step,compile,drift] [--json FILE]

Parts: ``step`` (seconds of a training step of stacked attention blocks, unfused, fused and fused with the
safe guard), ``drift`` (the largest difference of loss and parameters from the unfused run after those
steps), ``compile`` (seconds to compile the gradient of `fusion.GRU` and `fusion.CRF`). Times are wall time on
whatever else the machine does; run it alone. Every variant runs in a process of its own, with an empty
folder for compiled kernels, so the first compilation is a cold one.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

PARTS = ("step", "drift", "compile")
VARIANTS = ("unfused", "fused", "fused, safe")


def train(variant: str, layers: int, steps: int) -> dict[str, Any]:
    """Losses, the last parameters and the median seconds of a step of one variant."""
    import mindspore as ms
    from mindspore import Tensor, nn

    import ascend_fixes
    from benchmarks.fusion_model import Blocks, TrainStep

    ms.set_device("CPU")
    ms.set_context(mode=ms.GRAPH_MODE, enable_graph_kernel=variant != "unfused")
    if variant == "fused, safe":
        ascend_fixes.patch("fusion")
    ms.set_seed(0)
    net = Blocks(layers)
    step = TrainStep(net, nn.SGD(net.trainable_params(), 1e-2))
    rng = np.random.default_rng(0)
    x, y = (Tensor(rng.standard_normal((16, 24, 64)).astype(np.float32)) for _ in range(2))
    start = time.perf_counter()
    losses = [float(step(x, y))]
    compiled = time.perf_counter() - start
    taken = []
    for _ in range(steps - 1):
        start = time.perf_counter()
        losses.append(float(step(x, y)))
        taken.append(time.perf_counter() - start)
    weights = {parameter.name: parameter.asnumpy().tolist() for parameter in net.trainable_params()}
    return {"compile": compiled, "step": float(np.median(taken)), "losses": losses, "weights": weights}


def compile_seconds(layer: str, length: int) -> float:
    """Seconds to compile and run the gradient of a layer once, unfused."""
    import mindspore as ms
    from mindspore import Tensor

    from ascend_fixes import fusion
    from benchmarks.fusion_model import Gradient

    ms.set_device("CPU")
    ms.set_context(mode=ms.GRAPH_MODE)
    rng = np.random.default_rng(0)
    if layer == "GRU":
        inputs = [rng.standard_normal((length, 8, 32)).astype(np.float32), np.zeros((1, 8, 64), np.float32)]
        net: Any = fusion.GRU(32, 64)
    else:
        inputs = [rng.standard_normal((8, length, 9)).astype(np.float32), np.zeros((8, length), np.int32)]
        net = fusion.CRF(9)
    gradient, tensors = Gradient(net), [Tensor(value) for value in inputs]
    start = time.perf_counter()
    gradient(*tensors)
    return time.perf_counter() - start


def in_process(*arguments: Any) -> Any:
    """One measurement in a process and a folder of its own."""
    root = str(Path(__file__).resolve().parent.parent)
    with tempfile.TemporaryDirectory() as folder:
        paths = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
        env = {**os.environ, "PYTHONPATH": paths, "XDG_CACHE_HOME": folder}
        command = [sys.executable, "-m", "benchmarks.fusion", "--child", *map(str, arguments)]
        done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(map(str, arguments))} failed: {done.stderr.strip()[-500:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def differences(run: dict[str, Any], reference: dict[str, Any]) -> dict[str, float]:
    """How far a run has gone from the unfused one, relative to the largest value."""
    losses, wanted = np.array(run["losses"]), np.array(reference["losses"])
    parts = []
    for name, value in reference["weights"].items():
        exact = np.array(value)
        parts.append(np.abs(np.array(run["weights"][name]) - exact).max() / max(np.abs(exact).max(), 1e-30))
    return {"loss": float(np.max(np.abs(losses - wanted) / np.abs(wanted))), "parameters": float(max(parts))}


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Every part asked for."""
    found: dict[str, Any] = {}
    if {"step", "drift"} & set(options.only):
        runs = {variant: in_process("train", variant, options.layers, options.steps) for variant in VARIANTS}
        if "step" in options.only:
            found["step"] = {name: {"compile": run["compile"], "step": run["step"]} for name, run in runs.items()}
        if "drift" in options.only:
            found["drift"] = {name: differences(run, runs["unfused"]) for name, run in runs.items()}
    if "compile" in options.only:
        found["compile"] = {
            layer: {f"length {length}": in_process("compile", layer, length) for length in options.lengths}
            for layer in ("GRU", "CRF")
        }
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument(
        "--lengths", type=lambda text: [int(part) for part in text.split(",")], default=[16, 32, 64, 128, 256]
    )
    parser.add_argument("--only", type=lambda text: text.split(","), default=list(PARTS))
    parser.add_argument("--json")
    parser.add_argument("--child", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        kind, *rest = options.child
        result = train(rest[0], *map(int, rest[1:])) if kind == "train" else compile_seconds(rest[0], int(rest[1]))
        print(json.dumps(result))
        return
    unknown = set(options.only) - set(PARTS)
    if unknown:
        parser.error(f"--only takes {', '.join(PARTS)}, not {', '.join(sorted(unknown))}")
    found = measure(options)
    for part, rows in found.items():
        print(f"\n{part}")
        for name, row in rows.items():
            print(f"  {name:14s}" + "   ".join(f"{key} {value:.4g}" for key, value in row.items()))
    if options.json:
        Path(options.json).write_text(json.dumps(found, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
