"""Fusion as it is, fusion under `patch("fusion")`, and no fusion: drift, step times, and compile times of GRU and CRF.

    python -m benchmarks.fusion [--only train,steps,flags,cures,compile,bisect] [--steps 32] [--rounds 2]
                                [--models bert,rnnsearch] [--lengths 16,32,64,128,256] [--json FILE]

Parts:

* ``train``: the models of `benchmarks.fusion.model` are trained for so many steps unfused, fused and fused with the
  cures. Drift is the largest difference from the unfused run: of a loss, and of a parameter over the parameter's
  largest value (NaN: 1e300). ``nudged`` is a control: unfused, from weights that differ by 1e-7 of their
  value; drift as large as its own is rounding and no defect. Step times are medians of all steps but the first, the
  smaller of the rounds, which take turns.
* ``steps``: one process per model holds it unfused, fused and patched, and the three take turns, step by step: median
  seconds, and the median and quartiles of a patched step over the fused one before it.
* ``flags``: the error of F1's gradient under other flags.
* ``cures``: a BERT training step under those that give the right gradient.
* ``compile``: seconds to compile and run once the gradient of `fusion.GRU`, `mindspore.nn.GRU` and `fusion.CRF`,
  unfused, and the median seconds of the runs after it.
* ``bisect``: what `fusion.bisect` finds, in how many compilations and seconds.

Every run is a process of its own with an empty folder for compiled kernels. Times are wall time on whatever else
the machine does; run it alone. ``--json`` adds to what the file holds, so the parts may be run one by one.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import records

PARTS = ("train", "steps", "flags", "cures", "compile", "bisect")
VARIANTS = ("unfused", "nudged", "fused", "patched")
FLAGS = {
    "no Transpose": "--disable_cluster_ops=Transpose",
    "no Reshape": "--disable_cluster_ops=Reshape",
    "opt_level 1": "--opt_level=1",
}
PASSES = ("transform_op_optimizer", "graph_kernel_splitter", "transpose_matmul_fusion")
SEARCHES = {
    "attention": ("benchmarks.fusion.searches:attention", {}),
    "BERT loss": ("benchmarks.fusion.searches:bert_loss", {}),
    "BERT training step": ("benchmarks.fusion.searches:bert_step", {"grad": False}),
    "healthy": ("benchmarks.fusion.searches:healthy", {}),
    "two guilty": ("benchmarks.fusion.searches:two_guilty", {"rtol": 1e-5}),
    "float16 GRU": ("benchmarks.fusion.searches:float16_gru", {}),
    "lowered casts": ("benchmarks.fusion.searches:lowered_casts", {}),
    "scheduled Adam": ("benchmarks.fusion.searches:scheduled_adam", {"grad": False}),
}


# --- in a process of its own ---------------------------------------------------------------------


def train(model: str, variant: str, steps: int, weights: str) -> dict[str, Any]:
    """Losses and step times of one run; the last parameters go to the file ``weights``."""
    import mindspore as ms
    from mindspore import Tensor

    import ascend_fixes
    from benchmarks.fusion.model import MODELS

    ms.set_device("CPU")
    ms.set_context(mode=ms.GRAPH_MODE, enable_graph_kernel=variant not in ("unfused", "nudged"))
    if variant in FLAGS:
        os.environ["MS_DEV_GRAPH_KERNEL_FLAGS"] = FLAGS[variant]
    if variant == "patched":
        ascend_fixes.patch("fusion")
    ms.set_seed(0)
    np.random.seed(0)
    step, inputs = MODELS[model]()
    trained = step.optimizer.parameters
    if variant == "nudged":
        for parameter in trained:
            value = parameter.asnumpy()
            parameter.set_data(
                Tensor((value * (1 + 1e-7 * np.cos(np.arange(value.size))).reshape(value.shape)).astype(value.dtype))
            )
    losses, seconds = [], []
    for _ in range(steps):
        start = time.perf_counter()
        losses.append(float(step(*inputs)))
        seconds.append(time.perf_counter() - start)
    np.savez(weights, **{parameter.name: parameter.asnumpy() for parameter in trained})
    return {"first": seconds[0], "step": float(np.median(seconds[1:])), "losses": losses}


def turns(model: str, rounds: int) -> dict[str, Any]:
    """Seconds of a step unfused, fused and patched, taken in turns, and patched over fused."""
    import mindspore as ms

    import ascend_fixes
    from benchmarks.fusion.model import MODELS

    ms.set_device("CPU")
    ms.set_context(mode=ms.GRAPH_MODE)
    made = {}
    for variant in ("unfused", "fused", "patched"):  # what holds when a graph is compiled is what it keeps
        ms.set_context(enable_graph_kernel=variant != "unfused")
        if variant == "patched":
            ascend_fixes.patch("fusion")
        step, inputs = MODELS[model]()
        float(step(*inputs))
        made[variant] = step, inputs
    taken: dict[str, list[float]] = {variant: [] for variant in made}
    for _ in range(rounds):
        for variant, (step, inputs) in made.items():
            start = time.perf_counter()
            float(step(*inputs))
            taken[variant].append(time.perf_counter() - start)
    ratios = np.array(taken["patched"]) / np.array(taken["fused"])
    low, middle, high = np.quantile(ratios, (0.25, 0.5, 0.75))
    medians = {variant: float(np.median(seconds)) for variant, seconds in taken.items()}
    return {**medians, "patched over fused": float(middle), "quartiles": [float(low), float(high)]}


def compile_seconds(layer: str, length: int) -> dict[str, float]:
    """Seconds to compile and run the gradient of a layer once, and to run it again, unfused."""
    import mindspore as ms
    from mindspore import Tensor, nn

    from ascend_fixes import fusion
    from benchmarks.fusion.model import Gradient

    ms.set_device("CPU")
    ms.set_context(mode=ms.GRAPH_MODE)
    rng = np.random.default_rng(0)
    if layer == "CRF":
        inputs = [rng.standard_normal((8, length, 9)).astype(np.float32), np.zeros((8, length), np.int32)]
        net: Any = fusion.CRF(9)
    else:
        inputs = [rng.standard_normal((length, 8, 32)).astype(np.float32), np.zeros((1, 8, 64), np.float32)]
        net = (fusion.GRU if layer == "GRU" else nn.GRU)(32, 64)
    gradient, tensors = Gradient(net), [Tensor(value) for value in inputs]
    seconds = []
    for _ in range(11):
        start = time.perf_counter()
        gradient(*tensors)[0].asnumpy()
        seconds.append(time.perf_counter() - start)
    return {"compile": seconds[0], "run": float(np.median(seconds[1:]))}


def key_error(flags: str) -> float:
    """How far F1's fused gradient is off under these flags, over its largest value."""
    import mindspore as ms

    from ascend_fixes.defects.f1_transpose_gradient import key_gradient

    ms.set_device("CPU")
    ms.set_context(mode=ms.GRAPH_MODE)
    right = key_gradient()
    os.environ["MS_DEV_GRAPH_KERNEL_FLAGS"] = flags
    ms.set_context(enable_graph_kernel=True)
    return float(np.abs(key_gradient() - right).max() / np.abs(right).max())


def search(factory: str, options: dict[str, Any]) -> dict[str, Any]:
    """A search's report."""
    from ascend_fixes import fusion

    return json.loads(fusion.bisect(factory, **options).to_json())


# --- the parts -----------------------------------------------------------------------------------


def in_process(function: str, *arguments: Any) -> Any:
    """One call of a function above in a process and a folder of its own."""
    root = str(records.ROOT)
    with tempfile.TemporaryDirectory() as folder:
        paths = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
        env = {**os.environ, "PYTHONPATH": paths, "XDG_CACHE_HOME": folder}
        command = [sys.executable, "-m", "benchmarks.fusion", "--child", function, json.dumps(arguments)]
        done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{function}{arguments} failed: {done.stderr.strip()[-500:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def train_part(options: argparse.Namespace) -> dict[str, Any]:
    """Drift and step times of every model."""
    found: dict[str, Any] = {}
    for model in options.models:
        runs: dict[str, list[dict[str, Any]]] = {variant: [] for variant in VARIANTS}
        weights = {}
        with tempfile.TemporaryDirectory() as folder:
            for _ in range(options.rounds):
                for variant in VARIANTS:
                    path = f"{folder}/{variant}.npz"
                    runs[variant].append(in_process("train", model, variant, options.steps, path))
                    with np.load(path) as stored:
                        weights[variant] = {name: stored[name].astype(np.float64) for name in stored.files}
        found[model] = {
            variant: {
                "step": min(run["step"] for run in rounds),
                "first": min(run["first"] for run in rounds),
                "loss drift": drift(np.array(rounds[-1]["losses"]), np.array(runs["unfused"][-1]["losses"]), 1.0),
                "parameter drift": max(
                    drift(weights[variant][name], value, np.abs(value).max())
                    for name, value in weights["unfused"].items()
                ),
                "last loss": rounds[-1]["losses"][-1],
                "NaN": sum(int(np.isnan(value).sum()) for value in weights[variant].values()),
            }
            for variant, rounds in runs.items()
        }
    return found


def steps_part(options: argparse.Namespace) -> dict[str, Any]:
    """Steps in turns."""
    return {model: in_process("turns", model, 40) for model in options.models}


def drift(got: np.ndarray, wanted: np.ndarray, scale: float) -> float:
    """The largest difference over ``scale``; 1e300 where there is NaN."""
    largest = float(np.max(np.abs(got - wanted)) / max(scale, 1e-30))
    return largest if math.isfinite(largest) else 1e300


def flags_part(options: argparse.Namespace) -> dict[str, Any]:
    """F1's error under every flag."""
    tried = {"fused": "", **FLAGS, **{f"no pass {name}": f"--disable_pass={name}" for name in PASSES}}
    return {"F1 error": {name: in_process("key_error", flags) for name, flags in tried.items()}}


def cures_part(options: argparse.Namespace) -> dict[str, Any]:
    """Step times under flags that cure F1."""
    runs: dict[str, list[float]] = {name: [] for name in ("fused", *FLAGS)}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(options.rounds):
            for name, seconds in runs.items():
                seconds.append(in_process("train", "bert", name, options.steps, f"{folder}/weights.npz")["step"])
    return {"BERT step": {name: min(seconds) for name, seconds in runs.items()}}


def compile_part(options: argparse.Namespace) -> dict[str, Any]:
    """Compile and run times by length; `nn.GRU` only up to 128, as its graph grows."""
    return {
        layer: {
            str(length): in_process("compile_seconds", layer, length)
            for length in options.lengths
            if layer != "nn.GRU" or length <= 128
        }
        for layer in ("GRU", "nn.GRU", "CRF")
    }


def bisect_part(options: argparse.Namespace) -> dict[str, Any]:
    """The searches."""
    return {name: in_process("search", *arguments) for name, arguments in SEARCHES.items()}


# --- command line ----------------------------------------------------------------------------------


def show(found: dict[str, Any], indent: str = "") -> None:
    """Nested results as indented lines."""
    for name, value in found.items():
        if isinstance(value, dict) and any(isinstance(item, dict) for item in value.values()):
            print(f"{indent}{name}")
            show(value, indent + "  ")
        elif isinstance(value, dict):
            row = "   ".join(
                f"{key} {item:.4g}" if isinstance(item, float) else f"{key} {item}" for key, item in value.items()
            )
            print(f"{indent}{name:20s} {row}")
        else:
            print(f"{indent}{name:20s} {value}")


def merged(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """Part by part and model by model, the newer result."""
    return {**old, **{part: {**old.get(part, {}), **rows} for part, rows in new.items()}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = {"type": lambda text: text.split(",")}
    parser.add_argument("--only", default=list(PARTS), **names)
    parser.add_argument(
        "--models", default=["bert", "bert/Adam", "bert/Adam warm-up", "rnnsearch", "float16 GRU"], **names
    )
    parser.add_argument("--steps", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--lengths", type=lambda text: [*map(int, text.split(","))], default=[16, 32, 64, 128, 256])
    parser.add_argument("--json")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        function, arguments = options.child
        print(
            json.dumps(
                {f.__name__: f for f in (train, turns, key_error, compile_seconds, search)}[function](
                    *json.loads(arguments)
                )
            )
        )
        return
    unknown = set(options.only) - set(PARTS)
    if unknown:
        parser.error(f"--only takes {', '.join(PARTS)}, not {', '.join(sorted(unknown))}")
    parts = {
        "train": train_part,
        "steps": steps_part,
        "flags": flags_part,
        "cures": cures_part,
        "compile": compile_part,
        "bisect": bisect_part,
    }
    for part in options.only:
        found = {part: parts[part](options)}
        show(found)
        if options.json:  # after every part: a run that is stopped keeps what it has
            path = Path(options.json)
            old = records.read(path)
            records.write(path, merged(old, found))


if __name__ == "__main__":
    main()
