"""What `amp.TrainStep` costs, how scalers recover, and what float16 does to four small models.

    python -m benchmarks.amp.costs [--only step,scaler,recover,train] [--models bert,attention,...] [--rounds 40] [--json FILE]

Parts:
    step     seconds of a step of `TrainStep` with dynamic scaling over those of `nn.TrainOneStepCell` on the same cell in the
             same precision without scaling. Both live in one process and take turns in random order; reported are medians,
             quartiles, their ratio, and the ratio of `nn.TrainOneStepCell` to a second one of itself: what the
             machine alone makes of two equal steps.
    scaler   microseconds of one update of the scale: ours in a graph of its own, MindSpore's, torch's on CPU, jmp's.
    recover  steps from a scale 2**20 times too large to the first finite step, and what the scale does on 2000 good ones.
    train    four small models, 300 steps: float32, float16 by the default policy, and MindSpore's own levels.

``--json`` merges into the file, so that parts can be run one by one. Run it alone on the machine.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Callable

import numpy as np

from benchmarks import records

PARTS = ("step", "scaler", "recover", "train")
BERT = {"bert": (16, 64), "bert-short": (16, 32), "bert-long": (16, 128)}
SMALL = ("attention", "translation", "tagger", "graph")
LEVELS = ("O1", "O2", "O3", "auto")
STEPS = 300


# --- step ---------------------------------------------------------------------------------------


def workload(name: str) -> tuple[Callable[[], Any], tuple]:
    """How to make a model with its loss, and a batch."""
    import mindspore as ms
    from mindspore import Tensor

    if name not in BERT:
        from benchmarks.amp import models as amp_models

        return (lambda: amp_models.network(name)), next(amp_models.batches(name))
    from benchmarks.shapes import bert as shapes_bert

    random, (rows, length) = np.random.default_rng(0), BERT[name]
    arrays = (
        random.integers(1, shapes_bert.VOCABULARY, (rows, length)).astype(np.int32),
        np.tile(np.arange(length, dtype=np.int32), (rows, 1)),
        np.ones((rows, length), np.float32),
        random.integers(0, 8, rows).astype(np.int32),
        np.ones(rows, np.float32),
    )
    ms.set_seed(0)
    return shapes_bert.Classifier, tuple(map(Tensor, arrays))


def step_times(model: str, precision: str, rounds: int) -> dict[str, Any]:
    """Medians, in milliseconds, of steps that take turns."""
    import mindspore as ms
    from mindspore import nn

    from ascend_fixes.amp import LossScaler, Policy, TrainStep, autocast

    graph_mode(ms)
    make, batch = workload(model)
    policy = Policy(f"compute={precision}")

    def plain() -> Any:
        net = make()
        return nn.TrainOneStepCell(autocast(net, policy), nn.Adam(net.trainable_params(), 1e-4)).set_train()

    def ours(**options: Any) -> Any:
        net = make()
        scaler = options.pop("scaler", None) or LossScaler(1024.0)
        return TrainStep(net, nn.Adam(net.trainable_params(), 1e-4), scaler, policy=policy, **options).set_train()

    steps = {"plain": plain(), "plain again": plain(), "TrainStep": ours()}
    if model not in BERT or model == "bert":
        steps["TrainStep, clip_norm=1"] = ours(clip_norm=1.0)

    def run(step: Any) -> float:
        start = time.perf_counter()
        output = step(*batch)
        float(output[0] if isinstance(output, tuple) else output)  # waits for the step
        return (time.perf_counter() - start) * 1e3

    for step in steps.values():
        for _ in range(3):
            run(step)
    random, taken = np.random.default_rng(0), {name: [] for name in steps}
    for _ in range(rounds):
        for name in random.permutation(list(steps)):
            taken[name].append(run(steps[name]))
    plain_ms = np.median(taken["plain"])
    return {
        name: {
            "ms": float(np.median(ms_)),
            "quartiles": [float(np.quantile(ms_, q)) for q in (0.25, 0.75)],
            "ratio": float(np.median(ms_) / plain_ms),
            "median of paired ratios": float(np.median(np.array(ms_) / np.array(taken["plain"]))),
        }
        for name, ms_ in taken.items()
    }


# --- scaler and recover -------------------------------------------------------------------------


def scaler_updates(rounds: int) -> dict[str, Any]:
    """Microseconds of one update; the median of ``rounds`` times 50."""
    import mindspore as ms
    from mindspore import Tensor, amp

    from ascend_fixes.amp import LossScaler
    from benchmarks.amp.scalers import Update

    graph_mode(ms)
    found: dict[str, Any] = {}
    finite = Tensor(True)
    for name, scaler in {
        "ascend_fixes LossScaler, graph": Update(LossScaler()),
        "mindspore DynamicLossScaler, graph": Update(amp.DynamicLossScaler(2.0**16, 2, 2000)),
    }.items():
        found[name] = median_us(lambda cell=scaler: cell(finite).asnumpy(), rounds)
    # The floor: a graph that does nothing but return its argument's opposite.
    smallest = Update(None)
    found["mindspore, graph of one operator"] = median_us(lambda: smallest(finite).asnumpy(), rounds)
    if missing("torch"):
        found["torch GradScaler, CPU"] = missing("torch")
    else:
        import torch

        scaler, weight = torch.amp.GradScaler("cpu"), torch.nn.Parameter(torch.ones(1))
        optimizer = torch.optim.SGD([weight], 0.0)

        def torch_update() -> None:
            scaler.scale(weight.sum()).backward()
            scaler.step(optimizer)
            scaler.update()

        def torch_base() -> None:
            weight.sum().backward()
            optimizer.step()

        found["torch GradScaler, CPU"] = median_us(torch_update, rounds) - median_us(torch_base, rounds)
    if missing("jmp") or missing("jax"):
        found["jmp DynamicLossScale, jit"] = missing("jmp") or missing("jax")
    else:
        import jax
        import jax.numpy as jnp
        import jmp

        state = [jmp.DynamicLossScale(jnp.float32(2.0**16))]
        adjust = jax.jit(lambda scale, finite: scale.adjust(finite))

        def jmp_update() -> None:
            state[0] = adjust(state[0], jnp.array(True))
            jax.block_until_ready(state[0].loss_scale)

        found["jmp DynamicLossScale, jit"] = median_us(jmp_update, rounds)
    return found


def median_us(call: Callable[[], Any], rounds: int) -> float:
    for _ in range(20):
        call()
    taken = []
    for _ in range(rounds):
        start = time.perf_counter()
        for _ in range(50):
            call()
        taken.append((time.perf_counter() - start) / 50 * 1e6)
    return float(np.median(taken))


def recovery() -> dict[str, Any]:
    """Steps until a scale fits that starts 2**20 too high, where gradients are finite up to a scale of 2**limit."""
    import mindspore as ms
    from mindspore import Tensor, amp

    from ascend_fixes.amp import LossScaler

    graph_mode(ms)
    ms.set_context(mode=ms.PYNATIVE_MODE)

    def ours(start: float) -> tuple[Callable, Callable]:
        scaler = LossScaler(start, maximum=2.0**127)
        return (lambda: scaler.value), (lambda finite: scaler.update(Tensor(finite)))

    def mindspore_(start: float) -> tuple[Callable, Callable]:
        scaler = amp.DynamicLossScaler(start, 2, 2000)
        return (lambda: float(scaler.scale_value)), (lambda finite: scaler.adjust(Tensor(finite)))

    def torch_(start: float) -> tuple[Callable, Callable]:
        import torch

        scaler, weight = torch.amp.GradScaler("cpu", init_scale=start), torch.nn.Parameter(torch.ones(1))
        optimizer = torch.optim.SGD([weight], 0.0)

        def update(finite: bool) -> None:
            scaler.scale(weight.sum()).backward()
            weight.grad.fill_(1.0 if finite else float("inf"))
            scaler.step(optimizer)
            scaler.update()

        return scaler.get_scale, update

    def jmp_(start: float) -> tuple[Callable, Callable]:
        import jax.numpy as jnp
        import jmp

        state = [jmp.DynamicLossScale(jnp.float32(start), min_loss_scale=jnp.float32(2.0**-14))]

        def update(finite: bool) -> None:
            state[0] = state[0].adjust(jnp.array(finite))

        return (lambda: float(state[0].loss_scale)), update

    makers = {"ascend_fixes": ours, "mindspore": mindspore_, "torch": torch_, "jmp": jmp_}
    found = {}
    for name, make in makers.items():
        absent = missing(name) if name in ("torch", "jmp") else ""
        found[name] = absent or {f"limit 2**{limit}": steps_to_recover(make, limit) for limit in (8, -6)}
    return found


def steps_to_recover(make: Callable, limit: int) -> Any:
    scale, update = make(2.0 ** (limit + 20))
    for step in range(60):
        if scale() <= 2.0**limit:
            return step
        update(False)
    return f"never: the scale stays at {scale():g}"


# --- train --------------------------------------------------------------------------------------


def train(model: str, kind: str) -> dict[str, Any]:
    """The losses of a run: "float32", "policy", or one of MindSpore's levels."""
    import mindspore as ms
    from mindspore import nn

    from ascend_fixes.amp import LossScaler, Policy, TrainStep
    from benchmarks.amp import models as amp_models

    graph_mode(ms)
    net, losses, skipped = amp_models.network(model), [], 0
    optimizer = nn.Adam(net.trainable_params(), 2e-3)
    if kind in ("float32", "policy"):
        policy = Policy("compute=float32" if kind == "float32" else "compute=float16")
        scaler = LossScaler.off() if kind == "float32" else LossScaler(1024.0)
        step: Any = TrainStep(net, optimizer, scaler, policy=policy)
    else:
        # Without a loss scale manager: with one, the training cell does not run on CPU at all (A5).
        step = ms.amp.build_train_network(net, optimizer, level=kind, loss_scale_manager=None)
    step.set_train()
    for _, batch in zip(range(STEPS), amp_models.batches(model)):
        output = step(*batch)
        losses.append(float(output[0] if isinstance(output, tuple) else output))
        skipped += isinstance(output, tuple) and not bool(output.updated)
    weights_finite = all(np.isfinite(p.asnumpy()).all() for p in net.trainable_params())
    return {
        "final loss": float(np.mean(losses[-20:])),
        "first loss": losses[0],
        "not finite": int(np.sum(~np.isfinite(losses))),
        "weights finite": bool(weights_finite),
        "skipped": int(skipped),
    }


def graph_mode(ms: Any) -> None:
    ms.set_device("CPU")
    ms.set_context(mode=ms.GRAPH_MODE)


def missing(package: str) -> str:
    return "" if importlib.util.find_spec(package) else f"skipped: {package} is not installed"


# --- all ----------------------------------------------------------------------------------------


def in_process(*arguments: Any) -> Any:
    """One measurement in a process and a folder of its own; a failure is recorded by its first line."""
    import os

    with tempfile.TemporaryDirectory() as folder:
        paths = os.pathsep.join(filter(None, (str(records.ROOT), os.environ.get("PYTHONPATH"))))
        command = [sys.executable, "-m", "benchmarks.amp.costs", "--child", *map(str, arguments)]
        done = subprocess.run(
            command, cwd=folder, env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True, check=False
        )
    if done.returncode:
        errors = [line for line in done.stderr.splitlines() if "Error: " in line and not line.startswith((" ", "["))]
        return {"failed": errors[-1][:300] if errors else f"status {done.returncode}: {done.stderr.strip()[-200:]}"}
    return json.loads(done.stdout.strip().splitlines()[-1])


def child(kind: str, *rest: str) -> Any:
    if kind == "step":
        return step_times(rest[0], rest[1], int(rest[2]))
    if kind == "scaler":
        return scaler_updates(int(rest[0]))
    return recovery() if kind == "recover" else train(*rest)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if "step" in options.only:
        found["step"] = {
            f"{model}, {precision}": in_process("step", model, precision, options.rounds)
            for model in options.models
            for precision in options.precisions
        }
    for part in {"scaler", "recover"} & set(options.only):
        found[part] = in_process(part, options.rounds)
    if "train" in options.only:
        found["train"] = {}
        for model in [model for model in options.models if model in SMALL]:
            rows = {kind: in_process("train", model, kind) for kind in ("float32", "policy", *LEVELS)}
            reference = rows["float32"]["final loss"]
            for row in rows.values():
                if "final loss" in row:
                    row["off float32 by"] = abs(row["final loss"] - reference) / reference
            found["train"][model] = rows
    return found


def main() -> None:
    def listed(text: str) -> list[str]:
        return text.split(",")

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", type=listed, default=list(PARTS))
    parser.add_argument("--models", type=listed, default=[*BERT, *SMALL])
    parser.add_argument("--precisions", type=listed, default=["float16", "float32"])
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--json")
    parser.add_argument("--child", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(child(*options.child)))
        return
    wrong = {*options.only} - {*PARTS} or {*options.models} - {*BERT, *SMALL}
    if wrong:
        parser.error(f"there is no {', '.join(sorted(wrong))}")
    found = measure(options)
    print(json.dumps(found, indent=1))
    if options.json:
        file = Path(options.json)
        before = records.read(file)
        for part, rows in found.items():
            before[part] = {**before.get(part, {}), **rows}
        records.write(file, before)


if __name__ == "__main__":
    main()
