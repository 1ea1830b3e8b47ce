"""A8: ``AllReduce(MAX)``, the natural way to tell all ranks of an overflow, does not exist on CPU.

Ranks that do not agree drift apart: one skips a step, the others update. `amp.TrainStep` sums the flags, which
every backend can.

Run as a script by `msrun`, this file is what each rank does.
"""

from __future__ import annotations

import glob
import os
import re
import socket
import subprocess
import sys

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops
from mindspore.communication import get_rank, init

from ascend_fixes.amp import LossScaler, TrainStep
from ascend_fixes.defects import Defect, Finding, Tool, first_line

__all__ = ["DEFECT", "Flag", "Mean", "cured", "probe"]


class Flag(nn.Cell):
    """The largest of all ranks' overflow flags."""

    def __init__(self) -> None:
        super().__init__()
        self.reduce = ops.AllReduce(ops.ReduceOp.MAX)

    def construct(self, flag):
        return self.reduce(flag)


class Mean(nn.Cell):
    """The mean of a Dense layer's output, as a loss; weights start at one."""

    def __init__(self) -> None:
        super().__init__()
        self.dense = nn.Dense(3, 2, weight_init="ones")

    def construct(self, x):
        return self.dense(x).mean()


def probe() -> Finding:
    """One rank overflowed: tell all by the maximum of the flags."""
    answers = _on_two_ranks("maximum")
    return Finding(answers != ["flag 1", "flag 1"], "; ".join(f"rank {i}: {text}" for i, text in enumerate(answers)))


def cured() -> Finding:
    """One rank overflows: `TrainStep` skips on both."""
    answers = _on_two_ranks("step")
    # The rank that overflowed says more of it.
    skipped = all(re.fullmatch("updated, then skipped.*, weights kept", answer) for answer in answers)
    return Finding(not skipped, "; ".join(f"rank {i}: {text}" for i, text in enumerate(answers)))


def _on_two_ranks(scenario: str) -> list[str]:
    """What each rank answered, by rank. Needs no device: two processes on this machine.

    Raises:
        RuntimeError: a rank gave no answer.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folder = os.path.dirname(sys.executable)  # msrun starts the first `python` of PATH
    environment = {**os.environ, "PATH": folder + os.pathsep + os.environ.get("PATH", "")}
    environment.pop("GLOG_v", None)
    command = [
        *(sys.executable, "-m", "mindspore.parallel.cluster.run", "--worker_num=2", "--local_worker_num=2"),
        *(f"--master_port={port}", "--log_dir=ranks", "--join=True", os.path.abspath(__file__), scenario),
    ]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    answers = []
    for path in sorted(glob.glob("ranks/worker_*.log")):
        with open(path, encoding="utf-8", errors="replace") as log:
            answers += re.findall(r"^ANSWER (.*)$", log.read(), re.MULTILINE)
    if len(answers) != 2:
        raise RuntimeError(f"msrun: {len(answers)} of 2 ranks answered: {(run.stderr or run.stdout)[-300:]}")
    return answers


def _rank(scenario: str) -> str:
    """What one rank does."""
    ms.set_context(mode=ms.GRAPH_MODE)
    ms.set_device("CPU")
    ms.set_auto_parallel_context(parallel_mode="data_parallel", gradients_mean=True)
    init()
    overflowed = get_rank() == 1
    if scenario == "maximum":
        try:
            return f"flag {float(Flag()(Tensor(float(overflowed), ms.float32)).asnumpy()):g}"
        except RuntimeError as raised:
            return first_line(raised)
    net = Mean()
    step = TrainStep(net, nn.SGD(net.trainable_params(), 0.1), LossScaler(2.0**10)).set_train()
    x = np.ones((2, 3), np.float32)
    first = step(Tensor(x)).event
    before = net.dense.weight.asnumpy().copy()
    second = step(Tensor(x * np.inf if overflowed else x)).event
    kept = bool(np.array_equal(before, net.dense.weight.asnumpy()))
    return f"{first}, then {second}, weights {'kept' if kept else 'changed'}"


DEFECT = Defect(
    id="A8",
    family="amp",
    symptom="AllReduce(MAX) does not exist on CPU: ranks cannot agree on an overflow by the maximum of their flags",
    symptom_zh="CPU 上没有 AllReduce(MAX)：各个 rank 无法用最大值对溢出达成一致",
    error="AllReduce only support reduce sum on CPU, but got max",
    cause="the CPU backend's collective library reduces by sum only",
    seen="two ranks started by msrun",
    upstream="none found",
    removal="the probe's ranks both get the flag 1",
    probe=probe,
    tool=Tool("amp.TrainStep", cured),
)

if __name__ == "__main__":
    print("ANSWER", _rank(sys.argv[1]), flush=True)
