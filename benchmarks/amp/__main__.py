"""What an update of the loss scale costs, how scalers recover, and what float16 does to four small models.

    python -m benchmarks.amp [--only scaler,recover,train] [--models attention,...] [--rounds 40] [--json FILE]

Parts:
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

PARTS = ("scaler", "recover", "train")
SMALL = ("attention", "translation", "tagger", "graph")
LEVELS = ("O1", "O2", "O3", "auto")
STEPS = 300


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
        command = [sys.executable, "-m", "benchmarks.amp", "--child", *map(str, arguments)]
        done = subprocess.run(
            command, cwd=folder, env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True, check=False
        )
    if done.returncode:
        errors = [line for line in done.stderr.splitlines() if "Error: " in line and not line.startswith((" ", "["))]
        return {"failed": errors[-1][:300] if errors else f"status {done.returncode}: {done.stderr.strip()[-200:]}"}
    return json.loads(done.stdout.strip().splitlines()[-1])


def child(kind: str, *rest: str) -> Any:
    if kind == "scaler":
        return scaler_updates(int(rest[0]))
    return recovery() if kind == "recover" else train(*rest)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for part in {"scaler", "recover"} & set(options.only):
        found[part] = in_process(part, options.rounds)
    if "train" in options.only:
        found["train"] = {}
        for model in options.models:
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
    parser.add_argument("--models", type=listed, default=list(SMALL))
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--json")
    parser.add_argument("--child", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(child(*options.child)))
        return
    wrong = {*options.only} - {*PARTS} or {*options.models} - {*SMALL}
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
