"""`MapParameter`, a hash table as a parameter, has no kernel on CPU. Wanted: MapTensorGet, -Put and -Erase there."""

import mindspore as ms
import numpy as np
from mindspore import nn
from mindspore.experimental import MapParameter


class Lookup(nn.Cell):
    def __init__(self):
        super().__init__()
        self.table = MapParameter(key_dtype=ms.int32, value_dtype=ms.float32, value_shape=(4,), default_value="ones")

    def construct(self, keys):
        return self.table[keys]


ms.set_context(mode=ms.GRAPH_MODE)
print(Lookup()(ms.Tensor(np.array([3, 1, 3, 0], np.int32))))
