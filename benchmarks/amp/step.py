"""What `amp.TrainStep` costs on CPU: seconds of compilation and milliseconds of a step, over `nn.TrainOneStepCell`.

    python -m benchmarks.amp.step [--models attention,tagger,...] [--precisions float32,float16] [--rounds 100] [--json FILE]

Both train the same cell under the same `amp.Policy`, ours with a dynamic scale. Steps live in one process and take turns
in random order; reported are medians and quartiles of paired ratios, and beside them the ratio of `nn.TrainOneStepCell`
to a second one of itself: what the machine alone makes of two equal steps. The first cell of a process is not counted: MindSpore
runs it quicker than a second one of the same kind. Compilations take turns too, each of a cell made
anew, after one that is not counted. Models: the three small ones of `benchmarks.amp.models` and a BERT of four layers
for steps; for compilation the four examples as well (their first batch, built-in data). Run it alone on the machine;
the load that was found is in the result.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from typing import Any, Callable

import numpy as np

from benchmarks import records

SMALL = ("attention", "graph", "tagger")
LARGER = {"float32": 256, "float16": 64}  # rows with which a step takes 4 to 6 ms on two cores
EXAMPLES = ("albert", "bert_crf", "rnnsearch", "texting")
MODELS = (*SMALL, *(f"larger {name}" for name in SMALL), "bert", *EXAMPLES)
KINDS = ("plain", "plain again", "TrainStep", "TrainStep, clip_norm=1")
COMPILATIONS = 3


def workload(name: str, precision: str) -> tuple[Callable[[], Any], tuple]:
    """How to make a model with its loss, and a batch."""
    import mindspore as ms
    from mindspore import Tensor

    kind = name.removeprefix("larger ")
    if kind in SMALL:
        from benchmarks.amp import models as amp_models

        rows = amp_models.BATCH if kind == name else LARGER[precision]
        return (lambda: amp_models.network(kind)), next(amp_models.batches(kind, rows=rows))
    from benchmarks.shapes import bert as shapes_bert

    random, rows, length = np.random.default_rng(0), 16, 64
    arrays = (
        random.integers(1, shapes_bert.VOCABULARY, (rows, length)).astype(np.int32),
        np.tile(np.arange(length, dtype=np.int32), (rows, 1)),
        np.ones((rows, length), np.float32),
        random.integers(0, 8, rows).astype(np.int32),
        np.ones(rows, np.float32),
    )
    ms.set_seed(0)
    return shapes_bert.Classifier, tuple(map(Tensor, arrays))


def maker(model: str, precision: str) -> tuple[Callable[[str], Any], tuple]:
    """How to make a training step of a kind, and a batch."""
    from mindspore import nn

    from ascend_fixes.amp import LossScaler, Policy, TrainStep, autocast
    from benchmarks.amp import kernels as amp_kernels

    if model in EXAMPLES:
        batch = amp_kernels.example(model)[3]
    else:
        network, batch = workload(model, precision)

    def make(kind: str) -> Any:
        if model in EXAMPLES:
            net, optimizer, _, _ = amp_kernels.example(model)
        else:
            net = network()
            optimizer = nn.Adam(net.trainable_params(), 1e-4)
        policy = Policy(f"compute={precision}")
        if kind.startswith(("plain", "not")):
            return nn.TrainOneStepCell(autocast(net, policy), optimizer).set_train()
        clip_norm = 1.0 if "clip" in kind else None
        return TrainStep(net, optimizer, LossScaler(1024.0), policy=policy, clip_norm=clip_norm).set_train()

    return make, batch


def steps(model: str, precision: str, rounds: int) -> dict[str, Any]:
    """Milliseconds of steps that take turns."""
    make, batch = maker(model, precision)
    cells = {kind: make(kind) for kind in ("not counted", *KINDS)}

    def run(step: Any) -> float:
        start = time.perf_counter()
        output = step(*batch)
        float(output[0] if isinstance(output, tuple) else output)  # waits for the step
        return (time.perf_counter() - start) * 1e3

    for step in cells.values():
        for _ in range(5):
            run(step)
    del cells["not counted"]
    return interleaved({kind: (lambda step=step: run(step)) for kind, step in cells.items()}, rounds)


def compilations(model: str, precision: str, rounds: int = COMPILATIONS) -> dict[str, Any]:
    """Seconds of compilations that take turns."""
    make, batch = maker(model, precision)

    def compiled(kind: str) -> float:
        step = make(kind)
        start = time.perf_counter()
        step.compile(*batch)
        return time.perf_counter() - start

    for kind in KINDS:
        compiled(kind)
    return interleaved({kind: (lambda kind=kind: compiled(kind)) for kind in KINDS}, rounds)


def interleaved(runs: dict[str, Callable[[], float]], rounds: int) -> dict[str, Any]:
    """The median of each run, and median and quartiles of its ratios to "plain" of the same round."""
    random, taken = np.random.default_rng(0), {name: [] for name in runs}
    for _ in range(rounds):
        for name in random.permutation(list(runs)):
            taken[name].append(runs[name]())
    plain = np.array(taken["plain"])
    return {
        name: {
            "median": float(np.median(values)),
            "ratio": float(np.median(np.array(values) / plain)),
            "quartiles of the ratio": [float(np.quantile(np.array(values) / plain, q)) for q in (0.25, 0.75)],
        }
        for name, values in taken.items()
    }


def in_process(what: str, model: str, precision: str, rounds: int) -> Any:
    """One measurement in a process and a folder of its own; a failure is recorded by its last line."""
    paths = os.pathsep.join(filter(None, (str(records.ROOT), os.environ.get("PYTHONPATH"))))
    command = [sys.executable, "-m", "benchmarks.amp.step", "--child", what, model, precision, str(rounds)]
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "PYTHONPATH": paths}
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        return {"failed": done.stderr.strip()[-300:] or f"status {done.returncode}"}
    return json.loads(done.stdout.strip().splitlines()[-1])


def child(what: str, model: str, precision: str, rounds: str) -> Any:
    import mindspore as ms

    ms.set_device("CPU")
    ms.set_context(mode=ms.GRAPH_MODE)
    found = (steps if what == "step" else compilations)(model, precision, int(rounds))
    return {"load": os.getloadavg()[0], **found}


def main() -> None:
    def listed(text: str) -> list[str]:
        return text.split(",")

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", type=listed, default=["step", "compile"])
    parser.add_argument("--models", type=listed, default=list(MODELS))
    parser.add_argument("--precisions", type=listed, default=["float32", "float16"])
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--json")
    parser.add_argument("--child", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(child(*options.child)))
        return
    wrong = {*options.models} - {*MODELS} or {*options.only} - {"step", "compile"}
    if wrong:
        parser.error(f"there is no {', '.join(sorted(wrong))}")
    file = options.json
    found = records.read(file)
    for what in options.only:
        for model in options.models:
            if what == "step" and model in EXAMPLES:
                continue
            for precision in options.precisions:
                rounds = options.rounds if what == "step" else COMPILATIONS
                row = in_process(what, model, precision, rounds)
                found.setdefault(what, {})[f"{model}, {precision}"] = row
                print(what, model, precision, json.dumps(row), file=sys.stderr, flush=True)
                records.write(file, found)
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
