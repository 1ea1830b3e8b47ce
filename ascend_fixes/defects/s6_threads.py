"""S6: two threads that call cells for the first time fail, or hang later.

The compiler and the runner of graphs are one object per process and not re-entrant.
The patch lets one thread at a time compile or run: taking turns only to compile was
tried and is not enough ("Nested execution during JIT execution", or a hang).
"""

from __future__ import annotations

import json
import os
import threading
import time

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops

from ascend_fixes.compiling import turns
from ascend_fixes.defects import Defect, Finding, Patch, first_line
from ascend_fixes.defects._apart import begun, run_apart
from ascend_fixes.processes import ended

TIME_LIMIT = 12.0  # seconds, at least
TIMES_ALONE = 10  # as long as one thread takes for the same calls: the machine may be slow


class Layers(nn.Cell):
    """A few layers, so that two compilations overlap."""

    def __init__(self):
        super().__init__()
        self.layers = nn.SequentialCell([nn.Dense(16, 16) for _ in range(6)])

    def construct(self, x):
        return ops.softmax(self.layers(x), -1).sum(1)


def _call(cell: nn.Cell, lengths: range) -> None:
    for length in lengths:
        cell(Tensor(np.ones((2, length, 16)), ms.float32)).asnumpy()


def run() -> list[str]:
    """Two threads call one cell, each with lengths of its own: how they ended."""
    ms.set_context(mode=ms.GRAPH_MODE)
    cell, ends = Layers(), []
    start = time.monotonic()
    _call(Layers(), range(3, 10))
    limit = max(TIME_LIMIT, TIMES_ALONE * (time.monotonic() - start))

    def call(lengths: range) -> None:
        try:
            _call(cell, lengths)
            ends.append("ok")
        except Exception as error:  # whatever the compiler makes of it is the evidence: the text varies
            ends.append(first_line(error))

    threads = [threading.Thread(target=call, args=(range(n, n + 6, 2),), daemon=True) for n in (3, 4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(limit / len(threads))
    return ends + ["did not return"] * sum(thread.is_alive() for thread in threads)


def probe() -> Finding:
    """Run both threads in a process of their own, which they may crash: present if one fails or does not return."""
    done = run_apart(__name__, "S6")
    if done.returncode < 0:
        return Finding(True, f"the process {ended(done.returncode, 0.0)}")
    if done.returncode:
        raise RuntimeError(f"the process {ended(done.returncode, 0.0)}: {done.stderr[-500:]}")
    ends = json.loads(done.stdout.splitlines()[-1])
    return Finding(ends != ["ok", "ok"], "; ".join(ends))


DEFECT = Defect(
    id="S6",
    family="shapes",
    symptom="two threads calling a cell for the first time fail, or hang later",
    symptom_zh="两个线程同时第一次调用一个单元，当场失败，或者后来挂住",
    error="RuntimeError: Detect recursion when converting python object.",
    cause=(
        "The graph compiler and the graph runner are one object per process, without a lock. The patch serialises "
        "compilation and calls of cells and jit functions over all threads."
    ),
    seen="3 of 3 runs of one cell fail at once, others with 'Current function call depth is already 0' or a hang",
    upstream="none found",
    removal="when the probe passes without the patch ten times in a row",
    probe=probe,
    patch=Patch(turns()),
)


if __name__ == "__main__":  # the probe's process
    begun(DEFECT)
    print("\n" + json.dumps(run()), flush=True)
    os._exit(0)  # a thread that hangs would keep it
