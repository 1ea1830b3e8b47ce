"""Every length of a sequence compiles the whole graph again, and nothing says so. Wanted: one graph, or a message."""

import mindspore as ms
import numpy as np
from mindspore import nn

ms.set_context(mode=ms.GRAPH_MODE)
net = nn.SequentialCell(nn.Embedding(100, 32), nn.Dense(32, 32), nn.Dense(32, 5))
for length in (5, 6, 7, 8):
    net(ms.Tensor(np.ones((2, length), np.int32)))
if len(net.compile_cache) > 1:
    raise SystemExit(f"WRONG: 4 lengths compiled {len(net.compile_cache)} graphs")
