"""A decoding loop whose state is a tuple of Tensors compiles at every step.

Wanted: Tensors in containers are data by default, or the message that `mutable` is missing.
"""

import mindspore as ms
import numpy as np
from mindspore import nn


class Step(nn.Cell):
    def construct(self, x, state):
        total, count = state
        return (total + x, count + 1)


ms.set_context(mode=ms.GRAPH_MODE)
step, x = Step(), ms.Tensor(np.ones(3, np.float32))
state = (x, x)
for _ in range(4):
    state = step(x, state)
if len(step.compile_cache) > 1:
    raise SystemExit(f"WRONG: 4 steps of one shape compiled {len(step.compile_cache)} graphs")
