"""S2: the persistent compile cache hands out graphs by the order of compilation."""

from __future__ import annotations

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn

from ascend_fixes.defects import Defect, Finding, Patch
from ascend_fixes.defects._apart import begun, run_apart
from ascend_fixes.shapes._compile_cache import NATIVE

FIRST, SECOND = (20, 24), (24, 20)


class Net(nn.Cell):
    """A graph that differs with the length in its constants."""

    def __init__(self):
        super().__init__()
        self.embedding, self.head = nn.Embedding(100, 16), nn.Dense(16, 4)

    def construct(self, ids):
        return self.head(self.embedding(ids)).sum(1)


def run(lengths: list[int]) -> None:
    """Compile the lengths in this order with the cache in the working directory switched on."""
    ms.set_device("CPU")
    ms.set_context(mode=ms.GRAPH_MODE, enable_compile_cache=True, compile_cache_path="graphs")
    net = Net()
    for length in lengths:
        print(length, net(Tensor(np.ones((2, length)), ms.int32)).asnumpy().shape, flush=True)


def probe() -> Finding:
    """Two processes compile the same two lengths in opposite orders: present if the second one fails."""
    ends = []
    for lengths in (FIRST, SECOND):
        done = run_apart(__name__, "S2", *lengths)
        errors = [line for line in done.stderr.splitlines() if "Error:" in line]
        ends.append("ok" if done.returncode == 0 else errors[-1] if errors else f"exit status {done.returncode}")
    if ends[0] != "ok":
        raise RuntimeError(f"the first process failed: {ends[0]}")
    return Finding(ends[1] != "ok", f"lengths {FIRST}, then in a second process {SECOND}: {ends[1]}")


DEFECT = Defect(
    id="S2",
    family="shapes",
    symptom="the persistent compile cache is keyed by compile order: in another order, lengths get each other's graphs",
    symptom_zh="持久编译缓存按编译先后编号：次序一变，不同的长度就拿到彼此的图",
    error=(
        "RuntimeError: For 'Reshape', the size of 'input_x': {264} is not equal to the size of the first output: {248}"
    ),
    cause=(
        "The n-th compilation of a process reads compile_cache_<n>.mindir, whatever was compiled; only the hash of "
        "source files is compared. After one missing file the cache is off for the rest of the process. The patch "
        "keys every entry by shapes, dtypes, values, sources and settings, in a sub-folder of the same folder."
    ),
    seen="",
    upstream="none found",
    removal="when the second process of the probe succeeds without the patch",
    probe=probe,
    patch=Patch(hooks=(NATIVE,), backends=("CPU",)),
)


if __name__ == "__main__":  # one of the probe's processes: MindSpore's cache wants a script that is a file
    run([int(length) for length in begun(DEFECT)])
