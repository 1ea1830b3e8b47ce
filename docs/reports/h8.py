"""On Ascend `nn.GRU` refuses a hidden size that is no multiple of 16. Wanted: padded inside, as on CPU any size runs."""

import mindspore as ms
import numpy as np
from mindspore import nn

ms.set_context(mode=ms.GRAPH_MODE)
nn.GRU(8, 20, batch_first=True).compile(ms.Tensor(np.ones((2, 6, 8), np.float32)))
