"""What each rank of a data-parallel run does: train an embedding on its own ids, and print what it holds.

Run by `msrun`; argument: a folder that the ranks write their rows to.
"""

from __future__ import annotations

import sys

import mindspore
import numpy as np
from embedding_cells import FIRST, WithWeight
from mindspore import Tensor, nn
from mindspore.communication import get_rank, init

from ascend_fixes.amp import LossScaler, TrainStep
from ascend_fixes.host import Embedding

IDS = np.random.default_rng(3).integers(0, 10, (5, 2, 6))  # step, rank, batch
SKIPPED = 3  # the step in which the second rank's loss is infinite


class Net(WithWeight):
    """A mean loss over looked-up rows, with a weight of its own."""

    def construct(self, ids, factor):
        return ((self.embedding(ids) * self.weight) ** 2 * factor).mean()


def train(ids_of, factor_of):
    """The embedding and its network after a step for each row of IDS."""
    embedding = Embedding(10, 4, None, "adam", FIRST, learning_rate=0.05)
    net = Net(embedding)
    step = TrainStep(net, nn.SGD(net.trainable_params(), 0.05), LossScaler(8.0, minimum=1.0))
    for number in range(len(IDS)):
        result = step(Tensor(ids_of(number), mindspore.int32), Tensor(factor_of(number), mindspore.float32))
        assert embedding.follow(result) == (number != SKIPPED)
    return embedding, net


def main():
    mindspore.set_device("CPU")
    mindspore.set_context(mode=mindspore.GRAPH_MODE)
    init()
    mindspore.set_auto_parallel_context(
        parallel_mode=mindspore.ParallelMode.DATA_PARALLEL, gradients_mean=True, device_num=2
    )
    rank = get_rank()
    bad = np.inf if rank == 1 else 1.0
    embedding, net = train(lambda number: IDS[number, rank], lambda number: bad if number == SKIPPED else 1.0)
    np.savez(f"{sys.argv[1]}/{rank}.npz", rows=embedding.rows(range(10)), weight=net.weight.asnumpy())


if __name__ == "__main__":
    main()
