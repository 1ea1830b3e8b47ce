"""What `amp.TrainStep` adds to a training step on Ascend: kernels and seconds of compilation, by dry run.

    python -m benchmarks.amp.kernels [--models attention,albert,...] [--levels O0,O1] [--steps plain,scaled,...]
        [--rounds 5] [--json FILE]

Four attention blocks, and the four examples with the families amp, fusion and host, in float16 under the same
`amp.Policy`. Each is compiled by MindSpore's Ascend back end (`ascend_fixes.dryrun`); nothing is executed. Steps:

    plain       nn.TrainOneStepCell
    scaled      nn.TrainOneStepWithLossScaleCell with a dynamic scale, MindSpore's own safe step
    ours        amp.TrainStep
    clipped     amp.TrainStep with clip_norm=1

Reported are the kernels before fusion, how many kernel graphs MindSpore made of the step, the seconds of the compilation,
and the ratios: of kernels to those of ``scaled``, of seconds to those of ``plain``. With more than one round the steps take
turns; seconds are then medians, and their ratio is the median, with quartiles, of the rounds' own. ``--json`` merges into
the file.
"""

from __future__ import annotations

import argparse
import collections
import functools
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest import mock

from benchmarks import records

STEPS = ("plain", "scaled", "ours", "clipped")
EXAMPLES = ("albert", "bert_crf", "rnnsearch", "texting")
MODELS = ("attention", *EXAMPLES)
WIDTH = 64


# --- factories, which run in the dry run's own process ------------------------------------------


def attention() -> tuple[Any, Any, Any, tuple]:
    """The loss of four attention blocks, its optimizer, its policy and a batch of 4 rows of 12."""
    import mindspore as ms
    import numpy as np
    from mindspore import Tensor, nn

    from ascend_fixes.amp import Policy
    from benchmarks.amp.blocks import Blocks

    ms.set_seed(0)
    net = Blocks(WIDTH, 4)
    batch = (Tensor(np.ones((4, 12, WIDTH), np.float32)),)
    return net, nn.Adam(net.trainable_params(), 1e-3), Policy("compute=float16"), batch


def example(name: str) -> tuple[Any, Any, Any, tuple]:
    """The loss, the optimizer, the policy and the first batch of an example."""
    from mindspore import Tensor

    import ascend_fixes
    from examples.common import training

    request: dict[str, Any] = collections.defaultdict(
        lambda: None
    )  # no corpus, no checkpoint, no cache: what is built in
    request.update(seed=0, epochs=1, variant="kernels", distributed=1, fused=False, unbucketed=False)
    request.update(fixes=["host", "fusion", "amp"], precision="float16")
    found: dict[str, Any] = {}

    def build(self: Any, loss: Any, network: Any, optimizer: Any, policy: Any = None, scaler: Any = None) -> None:
        from ascend_fixes.amp import Policy

        found.update(loss=loss, optimizer=optimizer, policy=policy or Policy(training.HALF))
        self.cell, self.network = loss, network

    with (
        mock.patch.object(ascend_fixes, "patch", lambda *names: None),  # the step is what is looked at
        mock.patch.object(training.Trainer, "build", build),
        tempfile.TemporaryDirectory() as folder,
    ):
        request["cache"] = folder
        ready = training.load(name)(request, Path(folder))
        batch = tuple(map(Tensor, ready.inputs(ready.batches(0)[0])))
    return found["loss"], found["optimizer"], found["policy"], batch


def made(model: str, kind: str) -> tuple[Any, ...]:
    """A training step and its inputs, as `dryrun.cell` takes them."""
    from mindspore import nn

    from ascend_fixes.amp import LossScaler, TrainStep, autocast

    loss, optimizer, policy, batch = attention() if model == "attention" else example(model)
    if kind == "plain":
        step: Any = nn.TrainOneStepCell(autocast(loss, policy), optimizer)
    elif kind == "scaled":
        manager = nn.DynamicLossScaleUpdateCell(2.0**16, 2, 2000)
        step = nn.TrainOneStepWithLossScaleCell(autocast(loss, policy), optimizer, manager)
    else:
        clip_norm = 1.0 if kind == "clipped" else None
        step = TrainStep(loss, optimizer, LossScaler(), policy=policy, clip_norm=clip_norm)
    return step.set_train(), batch


for _model in MODELS:
    for _kind in STEPS:
        globals()[f"{_model}_{_kind}"] = functools.partial(made, _model, _kind)


# --- measuring ----------------------------------------------------------------------------------


def measured(model: str, kind: str, level: str, soc: str) -> dict[str, Any]:
    """What the dry run reports of one step."""
    from ascend_fixes import dryrun

    report = dryrun.cell(f"benchmarks.amp.kernels:{model}_{kind}", soc=soc, jit_level=level, timeout=1800)
    if report.verdict != "compiled":
        return {"verdict": report.verdict, "reason": [graph.reason for graph in report.graphs] or report.failure}
    graph = report.graphs[-1]
    before_fusion = {name: count for name, count in graph.kernels.items() if name != "fused"}
    return {
        "verdict": report.verdict,
        "kernels": sum(before_fusion.values()),
        **{"by kind": graph.kernels, "kernel graphs": graph.kernel_graphs, "seconds": graph.seconds},
        **{"aclop": sorted(graph.operators["aclop"]), "peak memory": graph.peak_memory_bytes},
    }


def rounds(model: str, kinds: Sequence[str], level: str, soc: str, count: int) -> dict[str, dict[str, Any]]:
    """The steps of a model, compiled in turns."""
    rows: dict[str, dict[str, Any]] = {}
    seconds: dict[str, list[float]] = {kind: [] for kind in kinds}
    for turn in range(count):
        for kind in kinds if turn % 2 == 0 else reversed(kinds):
            rows[kind] = measured(model, kind, level, soc)
            seconds[kind].append(rows[kind].get("seconds", float("nan")))
            print(model, level, kind, turn, json.dumps(rows[kind]), file=sys.stderr, flush=True)
    for kind, row in rows.items():
        if "seconds" in row:
            row["seconds"], row["rounds"] = round(statistics.median(seconds[kind]), 2), count
            if "plain" in rows and kind != "plain" and count > 2:
                paired = [own / plain for own, plain in zip(seconds[kind], seconds["plain"])]
                row["seconds over plain, quartiles"] = [round(q, 3) for q in statistics.quantiles(paired, n=4)]
    return rows


def ratios(rows: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The rows with their ratios."""
    for row in rows.values():
        for what, base in (("kernels", "scaled"), ("seconds", "plain")):
            if what in row and rows.get(base, {}).get(what):
                row[f"{what} over {base}"] = round(row[what] / rows[base][what], 3)
        if "seconds over plain, quartiles" in row:
            row["seconds over plain"] = row["seconds over plain, quartiles"][1]
    return rows


def main() -> None:
    def listed(text: str) -> list[str]:
        return text.split(",")

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=listed, default=list(MODELS))
    parser.add_argument("--levels", type=listed, default=["O0", "O1"])
    parser.add_argument("--steps", type=listed, default=list(STEPS))
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--soc", default="Ascend910B")
    parser.add_argument("--json")
    options = parser.parse_args()
    wrong = {*options.models} - {*MODELS} or {*options.steps} - {*STEPS}
    if wrong:
        parser.error(f"there is no {', '.join(sorted(wrong))}")
    file = options.json
    found = records.read(file)
    found["load when it began"] = round(os.getloadavg()[0], 2)
    for level in options.levels:
        for model in options.models:
            rows = found.setdefault(f"{model}, {options.soc}, {level}", {})
            rows.update(rounds(model, options.steps, level, options.soc, options.rounds))
            ratios(rows)
            records.write(file, found)
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
