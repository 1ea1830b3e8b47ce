"""Runs in processes of their own: one that is killed and resumed, two ranks, and one with graph-kernel fusion on.

python amp_runs.py train FOLDER STEPS     resumes from FOLDER, saves after every step, prints "STEP n" and "STATE ..."
python amp_runs.py rank FOLDER            one of two ranks under msrun
python amp_runs.py weighed FOLDER         the same, with calls weighed by their rows
python amp_runs.py written FOLDER         the same, with batch statistics and averages that each rank writes
python amp_runs.py fused FOLDER
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import mindspore as ms
import numpy as np
from amp_cells import Injected, MeanOver, Writing
from mindspore import Tensor, nn

from ascend_fixes.amp import LossScaler, TrainStep

IDS = Tensor(np.array([[1, 2], [3, 3]]), ms.int32)
OVERFLOWS = {1: (0, np.inf), 4: (2, np.nan), 5: (1, np.inf), 9: (0, -np.inf)}


def faults(step: int, overflows=OVERFLOWS) -> Tensor:
    factors = np.ones(3, np.float32)
    if step in overflows:
        where, value = overflows[step]
        factors[where] = value
    return Tensor(factors)


def state(step: TrainStep) -> str:
    """Every weight, slot and counter, to the last bit."""
    return repr([(p.name, p.asnumpy().tobytes().hex()) for p in sorted(step.get_parameters(), key=lambda p: p.name)])


def build(**options) -> TrainStep:
    ms.set_seed(0)
    net = Injected()
    scaler = LossScaler(2.0**10, growth_interval=3, hysteresis=2)
    return TrainStep(net, nn.Adam(net.trainable_params(), 0.1), scaler, **options).set_train()


def train(folder: Path, steps: int) -> str:
    step, done = build(clip_norm=0.5, accumulate=2), 0
    saved = sorted(folder.glob("*.ckpt"), key=lambda file: int(file.stem))
    if saved:
        done = int(saved[-1].stem)
        ms.load_param_into_net(step, ms.load_checkpoint(str(saved[-1])), strict_load=True)
    for number in range(done, steps):
        step(IDS, faults(number))
        ms.save_checkpoint(step, str(folder / "unfinished"))
        os.replace(folder / "unfinished.ckpt", folder / f"{number + 1}.ckpt")
        print("STEP", number + 1, flush=True)
    return "STATE " + state(step)


def rank(folder: Path) -> str:
    """One rank overflows, then the other, then a window of an accumulation; weights, slots and scale stay equal."""
    from mindspore.communication import get_rank, init

    ms.set_auto_parallel_context(parallel_mode="data_parallel", gradients_mean=True)
    init()
    events = []
    step = build(accumulate=2)
    plan = {2: (0, (0, np.inf)), 5: (1, (2, np.nan)), 6: (1, (1, np.inf)), 7: (0, (2, np.inf))}  # call: rank, fault
    for call in range(12):
        who, fault = plan.get(call, (-1, None))
        result = step(IDS, faults(0, {0: fault} if who == get_rank() else {}))
        if call % 2:  # between updates an event is the rank's own
            events.append(result.event)
    return f"ANSWER {events} {state(step)}"


def ragged_batches() -> list[list[np.ndarray]]:
    """Rows with labels, cut into calls of unequal sizes: what two ranks take in turn."""
    random = np.random.default_rng(3)
    rows = random.normal(size=(12, 3)).astype(np.float32)
    labels = random.uniform(0, 3, 12).astype(np.float32)
    return [[rows[a:b], labels[a:b]] for a, b in ((0, 1), (1, 6), (6, 8), (8, 12))]


def weighed_step(**options) -> TrainStep:
    net = MeanOver()
    return TrainStep(net, nn.SGD(net.trainable_params(), 0.1), LossScaler(8.0), weight_output=1, **options).set_train()


def weighed(folder: Path) -> str:
    """Two ranks, two calls each: an update by the mean over all twelve rows."""
    from mindspore.communication import get_rank, init

    ms.set_auto_parallel_context(parallel_mode="data_parallel", gradients_mean=True)
    init()
    step = weighed_step(accumulate=2)
    for rows, labels in ragged_batches()[get_rank() :: 2]:
        result = step(Tensor(rows), Tensor(labels))
    weight = step.weights[0].asnumpy().ravel().tolist()
    alone = weighed_step()  # without accumulation: one call on each rank
    rows, labels = ragged_batches()[get_rank()]
    alone(Tensor(rows), Tensor(labels))
    return f"ANSWER {bool(result.updated)} {weight} {alone.weights[0].asnumpy().ravel().tolist()}"


def written(folder: Path) -> str:
    """One rank's batch is bad, in the first or the last call of a window: what both have written is put back on both."""
    from mindspore.communication import get_rank, init

    ms.set_auto_parallel_context(parallel_mode="data_parallel", gradients_mean=True)
    init()
    good = np.random.default_rng(get_rank()).normal(size=(6, 4)).astype(np.float32)
    bad = np.where(np.arange(24).reshape(6, 4) == 5, np.nan, good).astype(np.float32)
    answers = []
    for calls, faulty in ((1, [(0, 0), (1, 0)]), (2, [(0, 0), (1, 1)])):
        ms.set_seed(0)
        net = Writing()
        step = TrainStep(net, nn.SGD(net.trainable_params(), 0.01), LossScaler(4.0), accumulate=calls).set_train()
        held = {p.name: p for p in net.get_parameters()}
        for who, at in [(None, None), *faulty, (None, None)]:
            before = {name: p.asnumpy().copy() for name, p in held.items()}
            for call in range(calls):
                result = step(Tensor(bad if (who, at) == (get_rank(), call) else good))
            changed = [name for name, p in held.items() if not np.array_equal(p.asnumpy(), before[name])]
            assert bool(result.updated) == (who is None), result
            assert not changed if who is not None else {"norm.moving_mean", "average", "count"} <= set(changed), changed
            assert all(np.isfinite(p.asnumpy()).all() for p in held.values())
        answers.append(held["norm.moving_mean"].asnumpy().tolist())
    return f"ANSWER {answers}"


def fused(folder: Path) -> str:
    ms.set_context(enable_graph_kernel=True, graph_kernel_flags="--opt_level=2")
    step, events = build(clip_norm=0.5), []
    for number in range(8):
        before = {p.name: p.asnumpy().copy() for p in step.weights}
        result = step(IDS, faults(number))
        same = all(np.array_equal(before[p.name], p.asnumpy()) for p in step.weights)
        assert same == (number in OVERFLOWS), (number, same)
        events.append(bool(result.updated))
    return f"ANSWER {events} {float(result.loss):.6f}"


if __name__ == "__main__":
    ms.set_device("CPU")
    ms.set_context(mode=ms.GRAPH_MODE)
    kind, folder, *rest = sys.argv[1:]
    print(
        {"train": train, "rank": rank, "weighed": weighed, "written": written, "fused": fused}[kind](
            Path(folder), *map(int, rest)
        ),
        flush=True,
    )
