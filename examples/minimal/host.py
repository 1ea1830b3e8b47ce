"""`nonzero` leaves every later shape unknown, and strings have no operator; a table and fixed sizes need neither."""

import mindspore as ms
from mindspore import nn, ops

from ascend_fixes import host

ms.set_context(mode=ms.GRAPH_MODE)


class Known(nn.Cell):
    """The places of known words, doubled."""

    def __init__(self, size=None):
        super().__init__()
        self.size = size

    def construct(self, ids):
        if self.size is None:
            return ops.nonzero(ids) * 2
        places, count = host.nonzero(ids, self.size, fill=-1)  # as many rows as asked for, and how many are real
        return places * 2, count


words = host.Table(["the", "film", "was", "fine"], default=0)  # also saved, loaded, and read back: words.keys(ids)
ids = ms.Tensor(words("a fine film it was".split()))
places, count = Known(size=5)(ids)
print(f"ids: {ids}")
print(f"nonzero as it is: {Known()(ids).shape}, known only when it has run")
print(f"nonzero of host: {places.shape}, known to the compiler; real ones: {count}, {places[:, 0]}")
