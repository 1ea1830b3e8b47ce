"""Models with the length written in: a cell for every size, or one size; and ragged members of containers."""

from __future__ import annotations

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, nn, ops
from shapes_leaks import WIDTH, Body, MaskedMean

from ascend_fixes import amp
from ascend_fixes.shapes import AxesError, Buckets, CellTypeError, GraphLimitError, bucketed, graphs

AXES = {"ids": 1, "mask": 1}
BUCKETS = Buckets([4, 8])


class Placed(nn.Cell):
    """Positions are added at the width that the cell was made for."""

    def __init__(self, body, length):
        super().__init__()
        self.body, self.pool = body, MaskedMean()
        self.places = Tensor(np.linspace(0, 1, length * WIDTH, dtype=np.float32).reshape(length, WIDTH))

    def construct(self, ids, mask):
        return self.pool(self.body(ids) + self.places[:, :1], mask).sum()


def batch(length):
    ids = np.arange(2 * length, dtype=np.int32).reshape(2, length) % 29
    return ids, np.ones((2, length), np.float32)


def test_one_cell_for_all_sizes_fails_and_a_cell_for_each_does_not():
    body = Body()
    with pytest.raises(ValueError, match="broadcast"):
        bucketed(Placed(body, 8), AXES, BUCKETS)(*batch(3))
    net = bucketed(lambda length: Placed(body, length), AXES, BUCKETS, max_graphs=2)
    for length in (3, 4, 7, 8, 2):
        net(*batch(length))
    assert len(graphs(net)) == 2
    assert {p.name for p in net.get_parameters()} == {p.name for p in body.get_parameters()}
    np.testing.assert_allclose(net(*batch(4)).asnumpy(), Placed(body, 4)(*map(Tensor, batch(4))).asnumpy(), rtol=1e-5)
    alone = bucketed(Placed(body, 8), AXES, Buckets([8]))
    alone(*batch(3)), alone(*batch(7))
    assert len(graphs(alone)) == 1


def test_steps_made_for_each_size_train_the_same_parameters():
    body = Body()
    optimizer, scaler = nn.SGD(body.trainable_params(), 0.1), amp.LossScaler.off()
    step = bucketed(lambda length: amp.TrainStep(Placed(body, length), optimizer, scaler), AXES, BUCKETS)
    before = body.dense.weight.asnumpy().copy()
    for length in (3, 8):
        assert np.isfinite(float(step(*batch(length)).loss))
    assert not np.array_equal(before, body.dense.weight.asnumpy())


def test_wrong_use_is_refused():
    with pytest.raises(AxesError, match="made parameter .* anew for .4,.; make layers, optimizer and scaler once"):
        bucketed(lambda length: Placed(Body(), length), AXES, BUCKETS)(*batch(3))
    with pytest.raises(CellTypeError, match="makes a int for .8,.; return a cell"):
        bucketed(lambda length: length, AXES, BUCKETS)
    with pytest.raises(AxesError, match="needs one cell for all sizes"):
        bucketed(lambda length: Placed(Body(), length), AXES, BUCKETS, tier="auto")
    body = Body()
    net = bucketed(lambda length: Placed(body, length), AXES, BUCKETS, max_graphs=1)
    net(*batch(8))
    with pytest.raises(GraphLimitError, match="would be graph 2 of at most 1"):
        net(*batch(3))


class Held(nn.Cell):
    """Everything comes in a dict, and a state in a tuple."""

    def construct(self, batch, states):
        return (batch["ids"] * batch["mask"]).sum() + states[0].sum() + states[1].sum(), batch["ids"]


def test_ragged_members_of_containers_are_padded_and_compile_once_a_size():
    axes = {"batch.ids": 1, "batch.mask": 1, "states.0": 1}
    net = bucketed(Held(), axes, BUCKETS, pad={"batch.ids": 7}, outputs={1: 1})
    for turn, length in enumerate((3, 4, 2, 6, 7)):
        ids, mask = (ops.ones((2, length), ms.float32) * (turn + 1)), Tensor(np.ones((2, length), np.float32))
        given = {"ids": ids, "mask": mask}
        total, back = net(given, (Tensor(np.ones((2, length), np.float32)), Tensor(float(turn))))
        assert float(total) == 2 * length * (turn + 1) + 2 * length + turn
        assert back.shape == (2, length) and given["ids"].shape == (2, length)
    assert len(graphs(net)) == 2
    with pytest.raises(AxesError, match="axes= names 'bach', but construct takes batch, states"):
        bucketed(Held(), {"bach.ids": 1}, BUCKETS)
