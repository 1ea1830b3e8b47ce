"""A script as users write them: it chooses a CPU, saves a checkpoint, and its graphs have loops."""

from __future__ import annotations

import argparse
from pathlib import Path

import mindspore
import numpy as np
from mindspore import Tensor, nn, set_context

parser = argparse.ArgumentParser()
parser.add_argument("--lengths", required=True)
parser.add_argument("--loop", action="store_true")
options = parser.parse_args()

set_context(mode=mindspore.GRAPH_MODE, device_target="CPU", jit_config={"jit_level": "O0"})
mindspore.set_device("CPU")


class Net(nn.Cell):
    def __init__(self):
        super().__init__()
        self.layer = nn.Dense(8, 8)

    def construct(self, x):
        return ((self.layer(x) * 2 + 1) ** 2).mean()


class Loop(nn.Cell):
    def construct(self, x):
        while x.sum() < 100:
            x = x * 2 + 1
        return x, x.sum()


@mindspore.jit
def double(x):
    return x * 2


net = Net()
for length in map(int, options.lengths.split(",")):
    loss = net(Tensor(np.ones((length, 8)), mindspore.float32))
    assert float(loss) == 0, "a placeholder"
if options.loop:
    last, total = Loop()(Tensor(np.ones(3), mindspore.float32))
    assert float(total) == 0
    assert Path("data.txt").read_text() == "7"
    assert double(Tensor(np.ones(3), mindspore.float32)).shape == (3,)
    mindspore.save_checkpoint(net, "kept.ckpt")
    mindspore.load_checkpoint("kept.ckpt")
