"""`nn.EmbeddingLookup(target="DEVICE")` has no kernel on CPU. Wanted: a CPU kernel of SparseGatherV2, as Gather has."""

import mindspore as ms
import numpy as np
from mindspore import nn

ms.set_context(mode=ms.GRAPH_MODE)
net = nn.EmbeddingLookup(50, 8, target="DEVICE")
print(net(ms.Tensor(np.array([3, 1, 3, 0], np.int32))))
