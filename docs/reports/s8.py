"""On CPU a graph keeps 8 bytes for every element and argument of an operator that broadcasts or divides.

They are freed with the cell alone, so memory grows with the number of shapes. Wanted: shared by all graphs, as results are.
"""

import os

import mindspore as ms
import numpy as np
from mindspore import nn


class Divided(nn.Cell):
    def construct(self, x):
        return x / (x + 1.0)


def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


ms.set_context(mode=ms.GRAPH_MODE)
net, sizes, lengths = nn.SequentialCell([Divided() for _ in range(6)]), [], (8000, 7996, 7992, 7988)
for length in lengths:
    net(ms.Tensor(np.ones((length, 512), np.float32))).asnumpy()
    sizes.append(resident())
kept = float(np.median(np.diff(sizes))) / (lengths[-1] * 512 * 6)
if kept > 8:
    raise SystemExit(f"WRONG: every further graph keeps {kept:.0f} bytes for each element of each of 6 divisions")
