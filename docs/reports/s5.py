"""A Python int compiles a graph for every value, and nothing says which argument it was. Wanted: a warning with its name."""

import warnings

import mindspore as ms
import numpy as np
from mindspore import nn


class Scaled(nn.Cell):
    def construct(self, x, step):
        return x * step


ms.set_context(mode=ms.GRAPH_MODE)
net, x = Scaled(), ms.Tensor(np.ones((2, 3), np.float32))
with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always")
    for step in range(1, 11):
        net(x, step)
if len(net.compile_cache) > 1 and not any("step" in str(warning.message) for warning in said):
    raise SystemExit(f"WRONG: 10 values of step compiled {len(net.compile_cache)} graphs without a word")
