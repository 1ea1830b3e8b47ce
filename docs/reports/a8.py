"""`AllReduce(MAX)` does not exist on CPU: ranks cannot tell each other of an overflow. Two ranks on this machine."""

import os
import subprocess
import sys
from pathlib import Path

import mindspore as ms
from mindspore import Tensor, nn, ops
from mindspore.communication import get_rank, init


class Flag(nn.Cell):
    def __init__(self):
        super().__init__()
        self.reduce = ops.AllReduce(ops.ReduceOp.MAX)

    def construct(self, flag):
        return self.reduce(flag)


if "rank" in sys.argv:
    ms.set_context(mode=ms.GRAPH_MODE)
    ms.set_device("CPU")
    init()
    print("FLAG", Flag()(Tensor(float(get_rank() == 1), ms.float32)))
else:
    folder = os.path.dirname(sys.executable)  # msrun starts the first `python` of PATH
    command = [sys.executable, "-m", "mindspore.parallel.cluster.run", "--worker_num=2", "--local_worker_num=2"]
    command += [f"--master_port={10000 + os.getpid() % 20000}", "--log_dir=ranks", "--join=True", __file__, "rank"]
    environment = {**os.environ, "PATH": folder + os.pathsep + os.environ["PATH"]}
    subprocess.run(command, env=environment, capture_output=True)
    said = "".join(path.read_text(errors="replace") for path in Path("ranks").glob("worker_*.log"))
    lines = [line for line in said.splitlines() if line.startswith("FLAG") or "only support" in line]
    if sum(line.startswith("FLAG") for line in lines) != 2:
        lines.append("no rank answered")
        raise SystemExit(f"WRONG: {lines[0].strip()}")
