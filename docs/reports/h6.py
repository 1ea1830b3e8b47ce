"""`ops.Custom` believes a Python function about the size of its result. Wanted: an error with both sizes."""

import mindspore as ms
import numpy as np
from mindspore import nn, ops


class Doubled(nn.Cell):
    def __init__(self):
        super().__init__()
        self.function = ops.Custom(
            lambda x: np.ones(2, np.float32), out_shape=lambda x: x, out_dtype=lambda x: x, func_type="pyfunc"
        )

    def construct(self, x):
        return self.function(x)


ms.set_context(mode=ms.GRAPH_MODE)
found = Doubled()(ms.Tensor(np.ones(64, np.float32))).asnumpy()
raise SystemExit(
    f"WRONG: 2 numbers came back as {found.size}, of which {(found != 1).sum()} are whatever was in memory"
)
